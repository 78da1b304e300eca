//! `outboxfs retry`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::tree::{self, Tree};
use super::{Error, say};
use crate::control::{self, Request};
use crate::path::RelPath;
use crate::status::counted;

const EXAMPLES: &str = "\
Examples:
  outboxfs retry ~/Pictures/2024/broken.jpg ~/Pictures/2023
      This file, and what failed in that folder.
  outboxfs retry --all ~/Pictures

Exit codes:
  0  queued again (also if there was nothing)
  1  the journal cannot be reached
  2  wrong usage, or never mounted or pushed";

/// Queue again what has failed, as if it had never been tried.
///
/// A daemon that has the directory goes on with it at once; else the next mount or push does.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RetryArgs {
    /// Files and folders; of folders, all below them.
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// Everything in the directories that the paths lie in.
    #[arg(long)]
    all: bool,

    /// The journal, if the mount or push was given one.
    #[arg(long, value_name = "PATH", env = "OUTBOXFS_JOURNAL", hide_env = true)]
    journal: Option<PathBuf>,
}

pub fn run(args: RetryArgs) -> Result<ExitCode, Error> {
    let mut count = 0;
    let mut by_daemon = true;
    for path in &args.paths {
        let mut tree = tree::find(path, args.journal.as_deref())?;
        if args.all {
            tree.below = RelPath::root();
        }
        let (retried, served) = retry(&tree, path)?;
        count += retried;
        by_daemon &= served;
    }
    let files = counted(count, "upload");
    say(&match (count, by_daemon) {
        (0, _) => "nothing has failed there\n".to_owned(),
        (_, true) => format!("{files} queued again\n"),
        (_, false) => format!("{files} queued again; the next mount or push tries\n"),
    });
    Ok(ExitCode::SUCCESS)
}

/// Everything in a directory.
pub fn all(directory: &Path, journal: &Path) -> Result<(u64, bool), Error> {
    let tree = tree::find(directory, Some(journal))?;
    retry(&tree, directory)
}

/// How many, and whether somebody goes on with them at once.
fn retry(tree: &Tree, path: &Path) -> Result<(u64, bool), Error> {
    let Some(journal) = tree.journal.as_ref().filter(|journal| journal.exists()) else {
        return Err(tree::unknown(path));
    };
    match control::ask(journal, &Request::retry(&tree.below)) {
        Some(Ok(count)) => Ok((count, true)),
        Some(Err(error)) => Err(Error::Failed(error)),
        None => by_ourselves(tree, journal).map(|count| (count, false)),
    }
}

fn by_ourselves(tree: &Tree, journal: &Path) -> Result<u64, Error> {
    super::journal::with_journal(tree, journal, |journal| journal.retry(&tree.below))
}
