//! `outboxfs verify`

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::DecimalBytes;
use serde::Serialize;

use super::given::{self, Given};
use super::push::say_json;
use super::{Error, FAILED, complain, say, tree};
use crate::config::{self, Places};
use crate::daemon::probe::{delivered_elsewhere, refuse_forgotten_remote};
use crate::delivery::WORKERS;
use crate::journal::View;
use crate::remote;
use crate::status::{counted, one_line};
use crate::verify::{self, Finding, Options, Report};

const EXAMPLES: &str = "\
Examples:
  outboxfs verify ~/Pictures
      Compares sizes and checksums that the remote tells with the journal's.
  outboxfs verify ~/Pictures/2024 --full
      Reads every object of this folder back, too.

Output, one line each (with --json one object each; docs/cli.md lists them):
  missing    KEY          delivered once, not there now
  different  KEY  WHY     not what was delivered
  extra      KEY          there, and unknown to the journal
  unknown    KEY  WHY     could not be found out

Exit codes:
  0  everything that was delivered is there (extra objects are no fault)
  1  something is missing, different or unknown
  2  wrong usage, or never mounted or pushed";

/// Settings that mean something here.
const USED: [&str; 6] = [
    "remote", "env_file", "ca_file", "insecure", "journal", "workers",
];

/// Compare every delivered object with the journal.
///
/// What waits for delivery is counted and left alone. Works beside a mount.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_args(|flag| given::only(&USED, flag)))]
pub struct VerifyArgs {
    /// A directory that was mounted or pushed, or a folder or file in it.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,

    /// Read every object and compare its content.
    #[arg(long)]
    full: bool,

    /// One JSON object a line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    given: Given,
}

pub fn run(args: VerifyArgs) -> Result<ExitCode, Error> {
    let found = args.given.at(&args.path)?;
    let settings = found.settings;
    let tree = tree::find(&found.path, settings.journal.as_deref())?;
    let Some(journal) = tree.journal.filter(|journal| journal.exists()) else {
        return Err(tree::unknown(&args.path));
    };
    let directory = tree.directory;
    let places = Places::from_env()?;
    let settings = config::resolve(settings, directory.clone(), directory, &places)?;
    refuse_forgotten_remote(&settings)?;
    if let Some(before) = delivered_elsewhere(&settings) {
        complain(&format!(
            "warning: the directory was delivered to {before}; this looks for it at another remote"
        ));
    }
    let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
    let view = View::open(&journal).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    let options = Options {
        below: tree.below,
        full: args.full,
        workers: settings.limits.workers.unwrap_or(WORKERS),
    };
    let json = args.json;
    let (report, remote) = runtime.block_on(async {
        let remote = remote::open_configured(&settings)
            .await
            .map_err(|error| failed(&error))?;
        let described = remote.describe();
        let report = verify::verify(view, remote, options, |finding| show(finding, json)).await;
        Ok::<_, Error>((report.map_err(|error| failed(&error))?, described))
    })?;
    match json {
        true => say_json(&Line::Summary {
            good: report.is_good(),
            report,
        }),
        false => say(&sum_up(&report, &remote)),
    }
    Ok(match report.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Missing {
        key: &'a str,
    },
    Different {
        key: &'a str,
        reason: &'a str,
    },
    Extra {
        key: &'a str,
        bytes: u64,
    },
    Unknown {
        key: &'a str,
        error: &'a str,
    },
    Summary {
        good: bool,
        #[serde(flatten)]
        report: Report,
    },
}

fn show(finding: &Finding, json: bool) {
    let line = match finding {
        Finding::Missing { key } => Line::Missing { key: key.as_str() },
        Finding::Different { key, why } => Line::Different {
            key: key.as_str(),
            reason: why,
        },
        Finding::Extra { key, bytes } => Line::Extra { key, bytes: *bytes },
        Finding::Unknown { key, error } => Line::Unknown {
            key: key.as_str(),
            error,
        },
    };
    if json {
        return say_json(&line);
    }
    say(&match line {
        Line::Missing { key } => format!("missing\t{key}\n"),
        Line::Different { key, reason } => format!("different\t{key}\t{reason}\n"),
        // Somebody else's key: it may hold anything.
        Line::Extra { key, .. } => format!("extra\t{}\n", one_line(key)),
        Line::Unknown { key, error } => format!("unknown\t{key}\t{}\n", one_line(error)),
        Line::Summary { .. } => String::new(),
    });
}

fn sum_up(report: &Report, remote: &str) -> String {
    let files = counted(report.verified_files, "file");
    let bytes = DecimalBytes(report.verified_bytes);
    let mut text = format!("verified {files} ({bytes}) at {remote}: ");
    text += &match report.is_good() {
        true => "all there as delivered".to_owned(),
        false => format!(
            "{} missing, {} different, {} unknown",
            report.missing, report.different, report.unknown
        ),
    };
    if report.extra > 0 {
        text += &format!("; {} extra", report.extra);
    }
    if report.pending_files > 0 {
        text += &format!(
            "; {} not delivered yet",
            counted(report.pending_files, "file")
        );
    }
    text + "\n"
}
