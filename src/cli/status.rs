//! `outboxfs status`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::mounts::{Mounts, real_path};
use super::{Error, FAILED, complain, say};
use crate::config::Places;
use crate::journal::View;
use crate::status::collect::fill_from_journal;
use crate::status::{Snapshot, json, text};

const EXAMPLES: &str = "\
Examples:
  outboxfs status
      The mount that the current directory lies in, else all mounts.
  outboxfs status ~/Pictures --json | jq .queued_files
  outboxfs status ~/Pictures
      Works without the mount too: the journal knows.

Exit codes:
  0  shown
  1  there is nothing to show
  2  wrong usage";

/// Show how far delivery is, and whether it is safe to unplug.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// A mounted directory, its mount point, or anything below.
    #[arg(value_name = "DIR|MOUNTPOINT", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,

    /// For programs; docs/semantics.md lists the fields.
    #[arg(long)]
    json: bool,

    /// The journal, if the mount was given one and is not mounted now.
    #[arg(long, value_name = "PATH", env = "OUTBOXFS_JOURNAL", hide_env = true)]
    journal: Option<PathBuf>,
}

pub fn run(args: StatusArgs) -> Result<ExitCode, Error> {
    let mounts = Mounts::read()
        .map_err(|error| Error::Failed(format!("cannot read /proc/self/mountinfo: {error}")))?;
    let format = match args.json {
        true => Format::Json,
        false => Format::Text,
    };
    match args.path {
        Some(path) => one(&path, args.journal.as_deref(), &mounts, format),
        None => here_or_all(&mounts, format),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    fn file(self) -> &'static str {
        match self {
            Self::Text => ".upload/status",
            Self::Json => ".upload/status.json",
        }
    }

    fn render(self, snapshot: &Snapshot) -> String {
        match self {
            Self::Text => text::render(snapshot),
            Self::Json => json::render(snapshot),
        }
    }
}

fn one(
    path: &Path,
    journal: Option<&Path>,
    mounts: &Mounts,
    format: Format,
) -> Result<ExitCode, Error> {
    let shown = path.display();
    let real = real_path(path)
        .map_err(|error| Error::Failed(format!("cannot look at {shown}: {error}")))?;
    if let Some(mountpoint) = mount_of(&real, mounts) {
        match fs::read_to_string(mountpoint.join(format.file())) {
            Ok(status) => {
                say(&status);
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => complain(&no_answer(&mountpoint, &error)),
        }
    }
    let (directory, journal) = match journal {
        Some(journal) => (real, journal.to_owned()),
        None => known_journal(&real)?.ok_or_else(|| {
            Error::Failed(format!(
                "{shown} is not mounted and never was (a journal elsewhere is found with \
                 --journal PATH)"
            ))
        })?,
    };
    say(&format.render(&from_journal(&directory, &journal)?));
    Ok(ExitCode::SUCCESS)
}

fn no_answer(mountpoint: &Path, error: &io::Error) -> String {
    format!(
        "the daemon of {} does not answer ({error}); this is what the journal says",
        mountpoint.display()
    )
}

/// The mount point through which `path` is reached, or behind which it lies.
fn mount_of(path: &Path, mounts: &Mounts) -> Option<PathBuf> {
    if let Some(mount) = mounts.containing(path).filter(|mount| mount.is_ours()) {
        return Some(mount.mountpoint.clone());
    }
    // A backing directory that is mounted elsewhere: its daemon knows its name.
    mounts
        .ours()
        .find(|mount| {
            let Ok(text) = fs::read(mount.mountpoint.join(Format::Json.file())) else {
                return false;
            };
            serde_json::from_slice::<Snapshot>(&text)
                .is_ok_and(|snapshot| path.starts_with(&snapshot.directory))
        })
        .map(|mount| mount.mountpoint.clone())
}

/// The directory at or above `path` that has a journal in the usual place, and that journal.
fn known_journal(path: &Path) -> Result<Option<(PathBuf, PathBuf)>, Error> {
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
    View::open(journal)
        .and_then(|view| fill_from_journal(&view, &mut snapshot))
        .map_err(|error| {
            Error::Failed(format!(
                "cannot read the journal {}: {error}",
                journal.display()
            ))
        })?;
    Ok(snapshot)
}

fn here_or_all(mounts: &Mounts, format: Format) -> Result<ExitCode, Error> {
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
    let mut code = ExitCode::SUCCESS;
    for (nth, mountpoint) in shown.into_iter().enumerate() {
        match fs::read_to_string(mountpoint.join(format.file())) {
            Ok(status) => {
                let gap = if nth > 0 && format == Format::Text {
                    "\n"
                } else {
                    ""
                };
                say(&format!("{gap}{status}"));
            }
            Err(error) => {
                let shown = mountpoint.display();
                complain(&format!("the daemon of {shown} does not answer: {error}"));
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}
