//! `outboxfs restore`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::given::{self, Given};
use super::journal::Offline;
use super::tree::{self, Tree};
use super::{Error, say};
use crate::config::Settings;
use crate::control::{self, Request};
use crate::daemon::probe::refuse_forgotten_remote;
use crate::path::RelPath;
use crate::status::counted;
use crate::{remote, suspect};

const EXAMPLES: &str = "\
Examples:
  outboxfs restore ~/Pictures/2024/cut.jpg
      The remote's copy takes the place of the damaged file.
  outboxfs restore --all ~/Pictures --remote s3://rig-7/raw
      Without a mount, the remote has to be named as for the mount.

Exit codes:
  0  done (also if nothing was suspect)
  1  something could not be restored; it is as it was
  2  wrong usage, or never mounted or pushed";

/// Settings that mean something here.
const USED: [&str; 5] = ["remote", "env_file", "ca_file", "insecure", "journal"];

/// Bring the remote's copies of suspect files back.
///
/// Each is verified by its checksum before it takes the place of the local file, whole, with the
/// time that the file had when it was delivered.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_args(|flag| given::only(&USED, flag)))]
pub struct RestoreArgs {
    /// Files and folders; of folders, all below them.
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// Everything in the directories that the paths lie in.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    given: Given,
}

pub fn run(args: RestoreArgs) -> Result<ExitCode, Error> {
    let mut count = 0;
    for path in &args.paths {
        let found = args.given.at(path)?;
        let settings = found.settings;
        let mut tree = tree::find_even_gone(&found.path, settings.journal.as_deref())?;
        if args.all {
            tree.below = RelPath::root();
        }
        count += restore(&tree, path, &settings)?;
    }
    say(&match count {
        0 => "nothing is suspect there\n".to_owned(),
        count => format!("{} restored\n", counted(count, "file")),
    });
    Ok(ExitCode::SUCCESS)
}

fn restore(tree: &Tree, path: &Path, settings: &Settings) -> Result<u64, Error> {
    let Some(journal) = tree.journal.as_ref().filter(|journal| journal.exists()) else {
        return Err(tree::unknown(path));
    };
    if let Some(result) = control::ask(journal, &Request::restore(&tree.below)) {
        return result.map_err(Error::Failed);
    }
    let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
    let offline = Offline::open(tree, journal, settings.clone())?;
    refuse_forgotten_remote(&offline.settings)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let remote = remote::open_configured(&offline.settings)
            .await
            .map_err(|error| failed(&error))?;
        let restored = suspect::restore(
            &offline.journal,
            &offline.backing,
            remote.as_ref(),
            &tree.below,
            &|_| (),
        );
        let restored = restored.await.map_err(|error| failed(&error))?;
        restored.into_result().map_err(Error::Failed)
    })
}
