//! `outboxfs mount`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::background::{Child, Reporter, Side, Word, detach};
use super::given::Given;
use super::{Error, FAILED, complain, helper, left, log, preflight, say, service};
use crate::config::{self, LogFormat, MountSettings, Places};
use crate::daemon::{self, Ready, Reread};
use crate::mount::Restriction;
use crate::status::Snapshot;

const EXAMPLES: &str = "\
Examples:
  outboxfs mount ~/Pictures
      Over itself: what is in ~/Pictures stays visible and stays where it is.
  outboxfs mount /srv/rig /mnt/rig
      Written at /mnt/rig, kept in /srv/rig.
  outboxfs mount /srv/rig --remote file:///mnt/nas/rig
  outboxfs mount rig
      What the configuration file calls [mounts.rig]; 'outboxfs init rig' writes that.
  AWS_PROFILE=rig outboxfs mount /srv/rig \\
      --remote 's3://rig-7/raw?endpoint=https://s3.example.org&region=eu-1'

Each setting is also an environment variable (OUTBOXFS_MAX_RETRIES for --max-retries) and a key of
the configuration file (max-retries = 3). Flags win over variables, variables over the file.

Exit codes:
  0  mounted (with --foreground: unmounted again, and all is delivered)
  1  the mount failed (with --foreground: something is left to deliver)
  2  wrong usage, or refused before anything was changed";

/// Mount a directory; what is written into it is delivered.
///
/// Returns once the mount is ready; a daemon in the background delivers. What an earlier mount of
/// the directory left undelivered is delivered too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MountArgs {
    /// The directory where the files are kept, or the name of a mount in the configuration file.
    #[arg(value_name = "DIR|NAME", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,

    /// An empty directory where they are written and read. [default: what the file says for the
    /// mount, else DIR itself]
    #[arg(value_hint = clap::ValueHint::DirPath)]
    mountpoint: Option<PathBuf>,

    /// Stay in the foreground and log to standard error.
    #[arg(short, long)]
    foreground: bool,

    /// What /etc/fstab calls it.
    #[arg(long, hide = true, value_name = "NAME")]
    source: Option<String>,

    /// What /etc/fstab forbids there.
    #[arg(long, hide = true, value_name = "OPTION")]
    restrict: Vec<Restriction>,

    #[command(flatten)]
    given: Given,
}

pub fn run(args: MountArgs) -> Result<ExitCode, Error> {
    let found = args.given.at(&args.directory)?;
    let reread = args.given.reread(&found)?;
    let log_format = found.settings.log_format;
    let places = Places::from_env()?;
    let configured = found.mount.and_then(|mount| mount.mountpoint);
    let mountpoint = args.mountpoint.or(configured);
    let device = service::device();
    let target = match (&device, mountpoint) {
        (Some(_), Some(mountpoint)) => preflight::target_of_device(&found.path, mountpoint)?,
        (_, mountpoint) => preflight::target(&found.path, mountpoint.as_deref())?,
    };
    let resolved = config::resolve(found.settings, target.directory, target.mountpoint, &places)?;
    let settings = MountSettings {
        source: args.source,
        restrictions: args.restrict,
        device: device.map(Arc::new),
        ..resolved
    };
    if settings.device.is_none() {
        preflight::fuse()?;
    }
    if args.foreground {
        return in_foreground(&settings, reread, log_format);
    }
    match detach() {
        Ok(Side::Parent(child)) => await_ready(child, &settings),
        Ok(Side::Child(reporter)) => in_background(&settings, reread, log_format, reporter),
        Err(error) => Err(Error::Failed(format!("cannot start the daemon: {error}"))),
    }
}

fn in_foreground(
    settings: &MountSettings,
    reread: Reread,
    log_format: Option<LogFormat>,
) -> Result<ExitCode, Error> {
    log::to_stderr(log_format);
    let ready = |ready: Ready| {
        announce(settings, std::process::id(), &ready);
        service::ready(settings);
    };
    let snapshot = daemon::run(settings, reread, ready)?;
    Ok(outcome(&snapshot))
}

/// 0 if all is delivered; else says what is left.
fn outcome(snapshot: &Snapshot) -> ExitCode {
    match left::sentence(snapshot) {
        None => ExitCode::SUCCESS,
        Some(left) => {
            complain(&left);
            ExitCode::from(FAILED)
        }
    }
}

/// The child's life: nobody reads what it prints, so it tells the parent and logs.
fn in_background(
    settings: &MountSettings,
    reread: Reread,
    log_format: Option<LogFormat>,
    reporter: Reporter,
) -> Result<ExitCode, Error> {
    let daemon_log = log::to_file(log_format);
    let log_file = settings.log_file();
    if settings.state_dir().is_dir() {
        // Mounted before: a refusal is worth a line where people look for it.
        let _ = daemon_log.open(&log_file);
    }
    let mut reporter = Some(reporter);
    let result = daemon::run(settings, reread, |mut ready: Ready| {
        let opened = settings
            .create_state_dir()
            .and_then(|()| daemon_log.open(&log_file));
        if let Err(error) = opened {
            let warning = format!(
                "there is no log, {} cannot be written: {error}",
                log_file.display()
            );
            ready.warnings.push(warning);
        }
        if let Some(reporter) = reporter.take() {
            reporter.tell(&Word::Ready(ready));
        }
    });
    match (result, reporter) {
        (Ok(snapshot), _) => Ok(match left::sentence(&snapshot) {
            None => ExitCode::SUCCESS,
            Some(left) => {
                tracing::warn!("{left}");
                ExitCode::from(FAILED)
            }
        }),
        (Err(error), reporter) => {
            tracing::error!("{error}");
            if let Some(reporter) = reporter {
                reporter.tell(&Word::NotReady(error));
            }
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn await_ready(child: Child, settings: &MountSettings) -> Result<ExitCode, Error> {
    let pid = child.pid.unsigned_abs();
    match child.word() {
        Word::Ready(ready) => {
            announce(settings, pid, &ready);
            say(&format!("log      {}\n", settings.log_file().display()));
            Ok(ExitCode::SUCCESS)
        }
        Word::NotReady(error) => Err(error.into()),
    }
}

/// What is mounted where, for the person who did it.
fn announce(settings: &MountSettings, pid: u32, ready: &Ready) {
    let directory = settings.directory.display();
    let place = match settings.mountpoint == settings.directory {
        true => "over itself".to_owned(),
        false => format!("on {}", settings.mountpoint.display()),
    };
    let way = match ready.passthrough {
        true => "kernel passthrough",
        false => "reads and writes through the daemon",
    };
    let mut text = format!("{directory} is mounted {place} (process {pid}, {way}).\n");
    text += &format!("remote   {}\n", ready.remote);
    if let Some(rows) = &ready.rows {
        text += &format!("rows     {rows}\n");
    }
    text += &format!("journal  {}\n", settings.journal.display());
    if let Some(metrics) = &ready.metrics {
        text += &format!("metrics  {metrics}\n");
    }
    say(&text);
    let warnings = ready.warnings.iter().cloned();
    for warning in warnings.chain(helper::register(settings)) {
        complain(&format!("warning: {warning}"));
    }
}
