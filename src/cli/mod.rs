//! The command line: one file a command, and what commands share. Translates what people write to
//! settings, and what happened to sentences and exit codes; decides nothing else.

mod accept;
mod background;
mod check;
mod config;
mod daily;
mod decode;
mod dry_run;
mod given;
mod helper;
mod holders;
mod init;
mod journal;
mod left;
mod listed;
mod log;
mod mount;
mod mounts;
mod pause;
mod preflight;
mod prepare;
mod progress;
mod push;
mod reload;
mod restore;
mod retry;
mod service;
mod status;
mod tree;
mod unmount;
mod usage;
mod variables;
mod verify;
mod watch;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::status::one_line;

/// Something is left or failed.
const FAILED: u8 = 1;
/// The command line is wrong, or what it asks for was refused before anything was done.
const REFUSED: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  outboxfs mount ~/Pictures
      Everything written to ~/Pictures is delivered to a directory on this machine.
  outboxfs mount /srv/rig \\
      --remote 's3://rig-7/raw?endpoint=https://s3.example.org'
      The same, to an S3 bucket.
  cat ~/Pictures/.upload/status
      How far it is, and whether it is safe to unplug.
  outboxfs unmount ~/Pictures --timeout 10m
      Deliver the rest, wait for it ten minutes at most.
  outboxfs push ~/Pictures
      Deliver what is there, without a mount.

Exit codes:
  0  done
  1  something is left to deliver, or something failed
  2  wrong usage, or refused before anything was changed";

/// A filesystem that syncs on write: mount a directory, let any program write into it, and every
/// file that is closed is delivered, with thumbnails of pictures and rows of statistics.
#[derive(Debug, Parser)]
#[command(name = "outboxfs", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(Box<mount::MountArgs>),
    #[command(visible_alias = "umount")]
    Unmount(unmount::UnmountArgs),
    Status(status::StatusArgs),
    Push(Box<push::PushArgs>),
    Retry(retry::RetryArgs),
    Accept(accept::AcceptArgs),
    Restore(Box<restore::RestoreArgs>),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Reload(reload::ReloadArgs),
    Verify(Box<verify::VerifyArgs>),
    Check(Box<check::CheckArgs>),
    Init(Box<init::InitArgs>),
    Config(Box<config::ConfigArgs>),
    #[command(hide = true)]
    Prepare(Box<prepare::PrepareArgs>),
    #[command(hide = true)]
    Decode(decode::DecodeArgs),
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    crate::journal::count_no_memory();
    keep_memory_private();
    let arguments = match helper::called(std::env::args_os().collect()) {
        Ok(helper::Called::Itself(arguments)) => arguments,
        Ok(helper::Called::Unmount(asked)) => return exit(helper::unmount(&asked)),
        Err(error) => return exit(Err(error)),
    };
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| {
            let cli = Cli::from_arg_matches(&matches)?;
            Ok((cli, matches))
        });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage::report(error),
    };
    if !matches!(cli.command, Command::Prepare(_) | Command::Decode(_)) {
        variables::warn_of_unknown(&command());
    }
    let result = match cli.command {
        Command::Mount(args) => mount::run(*args),
        Command::Unmount(args) => unmount::run(args),
        Command::Status(args) => status::run(args),
        Command::Push(args) => push::run(*args),
        Command::Retry(args) => retry::run(args),
        Command::Accept(args) => accept::run(args),
        Command::Restore(args) => restore::run(*args),
        Command::Pause(args) => pause::pause(args),
        Command::Resume(args) => pause::resume(args),
        Command::Reload(args) => reload::run(args),
        Command::Verify(args) => verify::run(*args),
        Command::Check(args) => check::run(*args),
        Command::Init(args) => init::run(*args),
        Command::Config(args) => config::run(*args, &matches),
        Command::Prepare(args) => prepare::run(*args),
        Command::Decode(args) => decode::run(args),
    };
    exit(result)
}

/// Secrets are in our memory and environment: neither core dumps nor other processes of the same user
/// get to see them (PR_SET_DUMPABLE of prctl(2)). Commands that we start are theirs again.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // It cannot fail on Linux, and nothing could be done.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn exit(result: Result<ExitCode, Error>) -> ExitCode {
    result.unwrap_or_else(|error| {
        complain(&error.to_string());
        error.exit_code()
    })
}

/// Why a command did not do what it was asked: a sentence and an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Error {
    Failed(String),
    Refused(String),
}

impl Error {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => FAILED,
            Self::Refused(_) => REFUSED,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(message) | Self::Refused(message)) = self;
        f.write_str(message)
    }
}

impl From<DaemonError> for Error {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Failed(why) => Self::Failed(why),
            DaemonError::Refused(why) => Self::Refused(why),
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One line on standard error.
fn complain(message: &str) {
    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "outboxfs: {}", one_line(message));
}

/// Text on standard output; a reader that has had enough (`| head`) is not an error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
