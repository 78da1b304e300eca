//! `outboxfs pause` and `outboxfs resume`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::journal::with_journal;
use super::tree;
use super::{Error, say};
use crate::control::{self, Request};

const EXAMPLES: &str = "\
Examples:
  outboxfs pause ~/Pictures
      What is on its way arrives, nothing else is sent, until:
  outboxfs resume ~/Pictures

Exit codes:
  0  done (also if it was so already)
  1  the journal cannot be reached
  2  wrong usage, or never mounted or pushed";

/// Deliver nothing more, until 'outboxfs resume'; also over unmounts and restarts.
///
/// Writing goes on as before; what is to be delivered waits in the journal.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Which,
}

// Its comment would be taken for the commands' own.
#[derive(Debug, clap::Args)]
struct Which {
    /// A directory that was mounted or pushed, or anything in it.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,

    /// The journal, if the mount or push was given one.
    #[arg(long, value_name = "PATH", env = "OUTBOXFS_JOURNAL", hide_env = true)]
    journal: Option<PathBuf>,
}

/// Go on delivering after 'outboxfs pause'.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

pub fn pause(args: PauseArgs) -> Result<ExitCode, Error> {
    set(&args.which.path, args.which.journal.as_deref(), true)?;
    say("paused; nothing more is delivered until 'outboxfs resume'\n");
    Ok(ExitCode::SUCCESS)
}

pub fn resume(args: ResumeArgs) -> Result<ExitCode, Error> {
    say(
        match set(&args.which.path, args.which.journal.as_deref(), false)? {
            true => "goes on\n",
            false => "the next mount or push goes on\n",
        },
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody has the directory.
pub fn set(path: &Path, journal: Option<&Path>, paused: bool) -> Result<bool, Error> {
    let tree = tree::find(path, journal)?;
    let Some(journal) = tree.journal.as_ref().filter(|journal| journal.exists()) else {
        return Err(tree::unknown(path));
    };
    match control::ask(journal, &Request::Pause { paused }) {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => Err(Error::Failed(error)),
        None => with_journal(&tree, journal, |journal| journal.pause(paused)).map(|()| false),
    }
}
