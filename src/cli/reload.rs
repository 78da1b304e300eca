//! `outboxfs reload`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Error, say, tree};
use crate::control::{self, Reloaded};

const EXAMPLES: &str = "\
Examples:
  outboxfs reload rig
      After 'bwlimit = \"2M\"' has been added to [mounts.rig] of the configuration file.

Exit codes:
  0  the limits hold
  2  wrong usage, not mounted, or a mistake in the file; the mount goes on as it was";

/// Read a mount's configuration file again, and take the limits that it has now.
///
/// These are workers, bwlimit, tps-limit and upload-hours; nothing is interrupted. Everything else that has
/// changed is named, and taken by the next mount. Flags and variables that the mount was given still win.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReloadArgs {
    /// Where it is mounted, or its name in the configuration file.
    #[arg(value_name = "DIR|NAME", value_hint = clap::ValueHint::DirPath)]
    path: PathBuf,

    /// The journal, if the mount was given one.
    #[arg(long, value_name = "PATH", env = "OUTBOXFS_JOURNAL", hide_env = true)]
    journal: Option<PathBuf>,
}

pub fn run(args: ReloadArgs) -> Result<ExitCode, Error> {
    let tree = tree::find(&args.path, args.journal.as_deref())?;
    let journal = tree.journal.ok_or_else(|| tree::unknown(&args.path))?;
    match control::ask_to_reload(&journal) {
        Some(Ok(reloaded)) => say(&text(&reloaded)),
        Some(Err(error)) => return Err(Error::Refused(error)),
        None => {
            let shown = args.path.display();
            let what = format!("{shown} is not mounted; the next mount reads the file anyway");
            return Err(Error::Refused(what));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(reloaded: &Reloaded) -> String {
    let lines = reloaded.limits.iter();
    let mut text: String = lines
        .map(|(key, value)| format!("{key:<12}  {value}\n"))
        .collect();
    if !reloaded.later.is_empty() {
        let later = reloaded.later.join(", ");
        text += &format!("from the next mount on: {later}\n");
    }
    text
}
