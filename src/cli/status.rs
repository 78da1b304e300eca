//! `outboxfs status`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::given::place;
use super::mounts::{Mounts, real_path};
use super::{Error, FAILED, complain, say, watch};
use crate::config::Places;
use crate::control;
use crate::journal::{JournalError, View};
use crate::status::collect::{count_folders, fill_from_journal};
use crate::status::{Snapshot, json, text};

/// The daemon's answer, in a mount.
const STATUS: &str = ".upload/status.json";

const EXAMPLES: &str = "\
Examples:
  outboxfs status
      The mount that the current directory lies in, else all mounts.
  outboxfs status ~/Pictures --json | jq .queued_files
  outboxfs status ~/Pictures
      Works without the mount too: the journal knows.
  outboxfs status ~/Pictures --watch

Exit codes:
  0  shown
  1  there is nothing to show
  2  wrong usage, or there is no such directory";

/// Show how far delivery is, and whether it is safe to unplug.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// A mounted directory, its mount point, anything below, or a mount's name in the configuration
    /// file.
    #[arg(value_name = "DIR|MOUNTPOINT|NAME", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,

    /// For programs; docs/semantics.md lists the fields.
    #[arg(long)]
    json: bool,

    /// Keep showing it: on a terminal a screen of its own, with keys to retry, pause and quit;
    /// elsewhere one line now and then. Ends when everything is delivered, unless on a terminal.
    #[arg(short, long, conflicts_with = "json")]
    watch: bool,

    /// The journal, if the mount was given one and is not mounted now.
    #[arg(long, value_name = "PATH", env = "OUTBOXFS_JOURNAL", hide_env = true)]
    journal: Option<PathBuf>,
}

pub fn run(args: StatusArgs) -> Result<ExitCode, Error> {
    let mounts = Mounts::read()
        .map_err(|error| Error::Failed(format!("cannot read /proc/self/mountinfo: {error}")))?;
    let sources = match &args.path {
        Some(path) => vec![one(&place(path)?, args.journal.as_deref(), &mounts)?],
        None => here_or_all(&mounts)?,
    };
    if args.watch {
        return match <[Source; 1]>::try_from(sources) {
            Ok([source]) => watch::run(source),
            Err(_) => Err(Error::Refused(
                "there are several mounts; name the one to watch".to_owned(),
            )),
        };
    }
    let mut code = ExitCode::SUCCESS;
    for (nth, source) in sources.iter().enumerate() {
        match source.snapshot() {
            Ok(snapshot) if args.json => say(&json::render(&snapshot)),
            Ok(snapshot) => {
                let gap = if nth > 0 { "\n" } else { "" };
                say(&format!("{gap}{}", text::render(&snapshot)));
            }
            Err(error) if sources.len() == 1 => return Err(error),
            Err(error) => {
                complain(&error.to_string());
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

/// Where a status comes from.
#[derive(Debug)]
pub enum Source {
    /// A mount's daemon; its journal while that does not answer, if it is known.
    Mount {
        mountpoint: PathBuf,
        journal: Option<(PathBuf, PathBuf)>,
    },
    /// A directory and its journal; a push may be at work there.
    Journal(PathBuf, PathBuf),
}

impl Source {
    /// How far it is now.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut snapshot = self.without_folders()?;
        if let Ok(view) = View::open(Path::new(&snapshot.journal)) {
            snapshot.folders = count_folders(&view).ok();
        }
        Ok(snapshot)
    }

    /// The same without a count of folders, which takes some time where there are many.
    pub fn without_folders(&self) -> Result<Snapshot, Error> {
        match self {
            Self::Journal(directory, journal) => match control::status(journal) {
                Some(snapshot) => Ok(snapshot),
                None => from_journal(directory, journal),
            },
            Self::Mount {
                mountpoint,
                journal,
            } => {
                let error = match from_daemon(mountpoint) {
                    Ok(snapshot) => return Ok(snapshot),
                    Err(error) => error,
                };
                let shown = mountpoint.display();
                let Some((directory, journal)) = journal else {
                    return Err(Error::Failed(format!(
                        "the daemon of {shown} does not answer: {error}"
                    )));
                };
                complain(&format!(
                    "the daemon of {shown} does not answer ({error}); this is what the journal says"
                ));
                from_journal(directory, journal)
            }
        }
    }
}

fn from_daemon(mountpoint: &Path) -> Result<Snapshot, String> {
    let text = fs::read(mountpoint.join(STATUS)).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// What a path's status comes from.
pub fn one(path: &Path, journal: Option<&Path>, mounts: &Mounts) -> Result<Source, Error> {
    let shown = path.display();
    let real = real_path(path)
        .map_err(|error| Error::Refused(format!("cannot look at {shown}: {error}")))?;
    let journal = match journal {
        Some(journal) => Some((real.clone(), journal.to_owned())),
        None => known_journal(&real)?,
    };
    if let Some(mountpoint) = mount_of(&real, mounts) {
        return Ok(Source::Mount {
            mountpoint,
            journal,
        });
    }
    let (directory, journal) = journal.ok_or_else(|| {
        Error::Failed(format!(
            "{shown} is not mounted and never was (a journal elsewhere is found with --journal PATH)"
        ))
    })?;
    Ok(Source::Journal(directory, journal))
}

/// The mount point through which `path` is reached, or behind which it lies.
pub fn mount_of(path: &Path, mounts: &Mounts) -> Option<PathBuf> {
    if let Some(mount) = mounts.containing(path).filter(|mount| mount.is_ours()) {
        return Some(mount.mountpoint.clone());
    }
    // A backing directory that is mounted elsewhere: its daemon knows its name.
    mounts
        .ours()
        .find(|mount| {
            let Ok(text) = fs::read(mount.mountpoint.join(STATUS)) else {
                return false;
            };
            serde_json::from_slice::<Snapshot>(&text)
                .is_ok_and(|snapshot| path.starts_with(&snapshot.directory))
        })
        .map(|mount| mount.mountpoint.clone())
}

/// The directory at or above `path` that has a journal in the usual place, and that journal.
pub fn known_journal(path: &Path) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    let places = Places::from_env()?;
    Ok(path.ancestors().find_map(|directory| {
        let journal = places.journal(directory);
        journal.is_file().then(|| (directory.to_owned(), journal))
    }))
}

fn from_journal(directory: &Path, journal: &Path) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot {
        directory: directory.display().to_string(),
        journal: journal.display().to_string(),
        ..Snapshot::default()
    };
    let unreadable = |error: JournalError| {
        Error::Failed(format!(
            "cannot read the journal {}: {error}",
            journal.display()
        ))
    };
    let view = View::open(journal).map_err(unreadable)?;
    snapshot.remote = view.meta().map_err(unreadable)?.remote.unwrap_or_default();
    fill_from_journal(&view, &mut snapshot).map_err(unreadable)?;
    Ok(snapshot)
}

fn here_or_all(mounts: &Mounts) -> Result<Vec<Source>, Error> {
    let here = std::env::current_dir().ok();
    let here = here.and_then(|here| mounts.containing(&here).filter(|mount| mount.is_ours()));
    let shown: Vec<&Path> = match here {
        Some(mount) => vec![&mount.mountpoint],
        None => mounts
            .ours()
            .map(|mount| mount.mountpoint.as_path())
            .collect(),
    };
    if shown.is_empty() {
        return Err(Error::Failed(
            "nothing is mounted; 'outboxfs status DIR' shows what the journal of DIR says"
                .to_owned(),
        ));
    }
    let source = |mountpoint: &Path| Source::Mount {
        mountpoint: mountpoint.to_owned(),
        journal: None,
    };
    Ok(shown.into_iter().map(source).collect())
}
