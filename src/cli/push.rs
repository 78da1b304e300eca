//! `outboxfs push`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use super::dry_run;
use super::given::{self, Given};
use super::listed::listed;
use super::progress::{Display, HowFar};
use super::tree::{self, Tree};
use super::{Error, FAILED, complain, left, log, say};
use crate::config::{self, MountSettings, Places, Settings};
use crate::control::{self, Request};
use crate::daemon::probe::other_remote;
use crate::journal::View;
use crate::push::{self, Event, Events, Job, Paths, Tally};
use crate::status::collect::fill_from_journal;
use crate::status::{Snapshot, counted, duration};

/// How often the journal is asked how far a daemon is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  outboxfs push ~/Pictures
      Everything in ~/Pictures that is new or has changed since the last push or mount.
  outboxfs push ~/Pictures/2024
      Of a directory that was pushed or mounted before, only this folder.
  outboxfs push /srv/rig --remote 's3://rig-7/raw?endpoint=https://s3.example.org' --dry-run
      What would be sent, how much, and why.
  find /srv/rig -name '*.jpg' -mmin -60 | outboxfs push /srv/rig --files-from - --json
      Only what is listed, and an event for each file.

Files called .outboxignore leave out what their lines say, with the rules of .gitignore.

Exit codes:
  0  everything is delivered (with --scan-only: recorded)
  1  something is left, has failed, or could not be read
  2  wrong usage, or refused before anything was changed";

/// Settings that mean something to mounts alone.
const OF_MOUNTS: [&str; 7] = [
    "settle",
    "flush",
    "no_passthrough",
    "allow_other",
    "show_upload_dir",
    "list_xattrs",
    "metrics_listen",
];

/// Deliver what a directory holds, without mounting it.
///
/// What is new or has changed is recorded in the journal and delivered; then this ends. Whatever
/// interrupts it, the next push or mount goes on. A directory that is mounted is delivered by its
/// daemon, and this waits for it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_args(|flag| given::without(&OF_MOUNTS, flag)))]
pub struct PushArgs {
    /// A directory, or a folder or file in one that was pushed or mounted before.
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,

    /// Record what is to be delivered, and deliver nothing.
    #[arg(long, conflicts_with = "dry_run")]
    scan_only: bool,

    /// Say what would be sent, how much, and why; change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Send also what the remote has already with the same size and checksum.
    #[arg(long)]
    no_skip_existing: bool,

    /// Only the files listed in FILE, one a line, relative to DIR or absolute; - is standard
    /// input. A line that begins with { is a JSON object with the member "path".
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,

    /// The listed files are separated by NUL bytes, not lines.
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,

    /// Leave a success.json or failed.json in each folder of which something was delivered.
    #[arg(long)]
    markers: bool,

    /// One JSON object a line for each event; docs/cli.md lists them.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// No progress and no summary; only what goes wrong.
    #[arg(short, long)]
    quiet: bool,

    /// Log every delivery to this file, which begins anew each day and keeps those before beside it;
    /// - is standard error, which systemd hands to journald.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    log_file: Option<PathBuf>,

    /// Log to standard error, in detail.
    #[arg(long)]
    debug: bool,

    #[command(flatten)]
    given: Given,
}

pub fn run(args: PushArgs) -> Result<ExitCode, Error> {
    let found = args.given.at(&args.path)?;
    let settings = found.settings;
    let tree = tree::find(&found.path, settings.journal.as_deref())?;
    if args.dry_run {
        refuse_list_with_dry_run(&args)?;
        let remote = settings.remote.clone();
        let settings = resolve(settings, &tree)?;
        return dry_run::run(&tree, &settings, remote.as_ref(), args.json);
    }
    log::for_command(args.debug, args.log_file.as_deref(), settings.log_format)?;
    if let Some(journal) = tree
        .journal
        .clone()
        .filter(|journal| control::is_served(journal))
    {
        return served(&args, &settings, &tree, &journal);
    }
    if let Some(mountpoint) = &tree.mountpoint {
        return Err(Error::Failed(format!(
            "the daemon of {} cannot be asked to scan; it delivers what is written, and 'cat {}' \
             shows how far it is",
            mountpoint.display(),
            mountpoint.join(".upload/status").display()
        )));
    }
    let settings = resolve(settings, &tree)?;
    if !args.scan_only
        && !settings.default_remote
        && let Some(warning) = other_remote(&settings)
    {
        complain(&format!("warning: {warning}"));
    }
    by_ourselves(&args, settings, tree)
}

fn resolve(settings: Settings, tree: &Tree) -> Result<MountSettings, Error> {
    let settings = Settings {
        journal: settings.journal.clone().or(tree.journal.clone()),
        ..settings
    };
    let places = Places::from_env()?;
    let directory = tree.directory.clone();
    Ok(config::resolve(
        settings,
        directory.clone(),
        directory,
        &places,
    )?)
}

fn refuse_list_with_dry_run(args: &PushArgs) -> Result<(), Error> {
    match args.files_from {
        Some(_) => Err(Error::Refused(
            "--dry-run looks at folders; leave out --files-from".to_owned(),
        )),
        None => Ok(()),
    }
}

/// Nobody has the directory: scan and deliver.
fn by_ourselves(args: &PushArgs, settings: MountSettings, tree: Tree) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let quiet = args.quiet || args.json;
    let mut display = Display::new(quiet);
    let told = display.lines();
    let json = args.json;
    let events = Arc::new(Events::new(args.markers, move |event| {
        match (json, event) {
            (true, event) => say_json(&event),
            (
                false,
                Event::Failed {
                    path,
                    error,
                    will_retry: false,
                    ..
                },
            ) => {
                told(&format!("{path}: {error}"));
            }
            (
                false,
                Event::Uploaded {
                    path,
                    thumbnail_error: Some(error),
                    ..
                },
            ) => told(&format!("{path}: no thumbnail: {error}")),
            (false, _) => {}
        }
    }));
    let job = Job {
        paths: match &args.files_from {
            Some(list) => Paths::Listed(listed(list, args.null, &tree, events.clone())?),
            None => Paths::Below(tree.below.clone()),
        },
        settings,
        skip_existing: !args.no_skip_existing,
        scan_only: args.scan_only,
    };
    let its_events = events.clone();
    let outcome = push::run(job, &events, |source| {
        display.follow(quiet, move || {
            let tally = its_events.tally();
            Some(HowFar {
                done_files: tally.uploaded_files + tally.skipped_files,
                done_bytes: tally.uploaded_bytes + tally.skipped_bytes,
                snapshot: source.snapshot().ok()?,
            })
        });
    })?;
    drop(display);
    let tally = events.tally();
    let left = match args.scan_only {
        true => None,
        false => left::sentence(&outcome.snapshot),
    };
    let complete = left.is_none() && tally.unreadable == 0 && !outcome.interrupted;
    let took = started.elapsed();
    if args.json {
        say_json(&Summary::new(&tally, &outcome.snapshot, complete, took));
    } else if !args.quiet {
        say(&summary(&tally, args.scan_only, complete, took));
    }
    if outcome.interrupted {
        complain("told to stop; the next push or mount goes on");
    }
    if let Some(left) = left {
        complain(&left);
    }
    if tally.unreadable > 0 {
        complain(&format!(
            "not looked at: {}",
            counted(tally.unreadable, "unreadable or missing path")
        ));
    }
    Ok(exit_code(complete))
}

fn exit_code(complete: bool) -> ExitCode {
    match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    }
}

/// A daemon, or another push, has the directory: ask it, and wait.
fn served(
    args: &PushArgs,
    settings: &Settings,
    tree: &Tree,
    journal: &Path,
) -> Result<ExitCode, Error> {
    let given = Settings {
        journal: None,
        ..settings.clone()
    };
    if given != Settings::default() || args.files_from.is_some() || args.markers {
        complain(
            "warning: a mount or another push has this directory; its settings hold, and it \
             delivers everything there",
        );
    }
    let started = Instant::now();
    let quiet = args.quiet || args.json;
    let mut display = Display::new(quiet);
    let its_journal = journal.to_owned();
    display.follow(quiet, move || how_far(&its_journal));
    let asked = control::ask(journal, &Request::scan(&tree.below));
    match asked {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(Error::Failed(error)),
        None => return Err(gone(&tree.directory)),
    }
    let failed = |error: crate::journal::JournalError| Error::Failed(error.to_string());
    let view = View::open(journal).map_err(failed)?;
    let pending = loop {
        let pending = view.pending_below(&tree.below).map_err(failed)?;
        if pending.queued == 0 || args.scan_only {
            break pending;
        }
        if !control::is_served(journal) {
            return Err(gone(&tree.directory));
        }
        std::thread::sleep(LOOK_EVERY);
    };
    drop(display);
    let mut snapshot = Snapshot {
        directory: tree.directory.display().to_string(),
        ..Snapshot::default()
    };
    fill_from_journal(&view, &mut snapshot).map_err(failed)?;
    let complete = args.scan_only || pending.failed + pending.suspect == 0;
    if args.json {
        let summary = Summary::new(&Tally::default(), &snapshot, complete, started.elapsed());
        say_json(&summary);
    } else if !complete {
        complain(&format!(
            "left: {}, {}; 'outboxfs status' shows why",
            counted(pending.failed, "failed file"),
            counted(pending.suspect, "suspect file")
        ));
    } else if !args.quiet {
        let took = duration(started.elapsed().as_millis() as u64);
        say(&format!(
            "everything is delivered, by the process that has the directory ({took})\n"
        ));
    }
    Ok(exit_code(complete))
}

fn gone(directory: &Path) -> Error {
    Error::Failed(format!(
        "the process that had {} has ended; push again",
        directory.display()
    ))
}

fn how_far(journal: &Path) -> Option<HowFar> {
    let mut snapshot = Snapshot::default();
    let view = View::open(journal).ok()?;
    fill_from_journal(&view, &mut snapshot).ok()?;
    Some(HowFar {
        done_files: snapshot.delivered_files,
        done_bytes: snapshot.delivered_bytes,
        snapshot,
    })
}

/// The last event.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    complete: bool,
    #[serde(flatten)]
    tally: Tally,
    /// What the journal says at the end.
    failed_files: u64,
    suspect_files: u64,
    left_files: u64,
    left_bytes: u64,
    left_rows: u64,
    milliseconds: u64,
}

impl Summary {
    fn new(tally: &Tally, snapshot: &Snapshot, complete: bool, took: Duration) -> Self {
        Self {
            event: "summary",
            complete,
            tally: *tally,
            failed_files: snapshot.failed_files,
            suspect_files: snapshot.suspect_files,
            left_files: snapshot.queued_files,
            left_bytes: snapshot.queued_bytes,
            left_rows: snapshot.queued_rows + snapshot.failed_rows,
            milliseconds: took.as_millis() as u64,
        }
    }
}

/// One line of JSON on standard output.
pub fn say_json(value: &impl Serialize) {
    // Fails only for maps with keys that are no text, and there are none.
    if let Ok(mut line) = serde_json::to_string(value) {
        line.push('\n');
        say(&line);
    }
}

/// `uploaded 12 files (3.0 MB) in 4 s, 700 kB/s; 3 files (1.0 MB) were there already`
fn summary(tally: &Tally, scan_only: bool, complete: bool, took: Duration) -> String {
    let amount =
        |files: u64, bytes: u64| format!("{} ({})", counted(files, "file"), DecimalBytes(bytes));
    let time = duration(took.as_millis() as u64);
    let mut text = match scan_only {
        true => format!(
            "queued {} in {time}; the next push or mount delivers them",
            amount(tally.queued_files, tally.queued_bytes)
        ),
        false if tally.uploaded_files == 0 && complete => format!("nothing to upload, in {time}"),
        false if tally.uploaded_files == 0 => format!("nothing was uploaded, in {time}"),
        false => {
            let rate = tally.uploaded_bytes as f64 / took.as_secs_f64().max(0.001);
            format!(
                "uploaded {} in {time}, {}/s",
                amount(tally.uploaded_files, tally.uploaded_bytes),
                DecimalBytes(rate as u64)
            )
        }
    };
    if tally.skipped_files > 0 {
        let skipped = amount(tally.skipped_files, tally.skipped_bytes);
        text += &format!("; {skipped} were there already");
    }
    if tally.deleted_files > 0 {
        let deleted = counted(tally.deleted_files, "file");
        text += &format!("; {deleted} deleted at the remote");
    }
    if tally.too_large_files > 0 {
        text += &format!(
            "; {} larger than --max-size left out",
            HumanCount(tally.too_large_files)
        );
    }
    text + "\n"
}
