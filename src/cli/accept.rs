//! `outboxfs accept`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::journal::Offline;
use super::tree::{self, Tree};
use super::{Error, say};
use crate::config::Settings;
use crate::control::{self, Request};
use crate::path::RelPath;
use crate::status::counted;
use crate::suspect;

const EXAMPLES: &str = "\
Examples:
  outboxfs accept ~/Pictures/2024/cut.jpg
      It is meant to be like this: deliver it.
  outboxfs accept --all ~/Pictures

Exit codes:
  0  done (also if nothing was suspect)
  1  the journal cannot be reached
  2  wrong usage, or never mounted or pushed";

/// Take suspect files for what they should be.
///
/// What is there is delivered; what is gone is forgotten, and its copy at the remote stays.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AcceptArgs {
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

pub fn run(args: AcceptArgs) -> Result<ExitCode, Error> {
    let mut count = 0;
    for path in &args.paths {
        let mut tree = tree::find_even_gone(path, args.journal.as_deref())?;
        if args.all {
            tree.below = RelPath::root();
        }
        count += accept(&tree, path)?;
    }
    say(&match count {
        0 => "nothing is suspect there\n".to_owned(),
        count => format!("{} accepted\n", counted(count, "file")),
    });
    Ok(ExitCode::SUCCESS)
}

fn accept(tree: &Tree, path: &Path) -> Result<u64, Error> {
    let Some(journal) = tree.journal.as_ref().filter(|journal| journal.exists()) else {
        return Err(tree::unknown(path));
    };
    match control::ask(journal, &Request::accept(&tree.below)) {
        Some(result) => result.map_err(Error::Failed),
        None => {
            let offline = Offline::open(tree, journal, Settings::default())?;
            let accepted = suspect::accept(&offline.journal, &offline.backing, &tree.below);
            accepted.map_err(|error| Error::Failed(error.to_string()))
        }
    }
}
