//! Putting a snapshot together: totals from the journal, and from the daemon, if one runs, what is
//! going on at this moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::about::{self, FileStatus};
use super::process::Usage;
use super::{Batch, Failure, Folders, Snapshot, counted, failed, json, metrics, text};
use crate::delivery::Progress;
use crate::journal::{Fault, Journal, JournalError, Totals, Troubles, View, now_ms};
use crate::path::RelPath;
use crate::remote::Remote;

/// Failures that a snapshot shows.
const LAST_ERRORS: usize = 5;
/// Batches that a snapshot shows.
const LAST_BATCHES: usize = 3;
/// Failures that are looked at, of each kind, for those below a folder.
const LOOKED_AT: usize = 200;
/// Failures that a reader of `.upload/wait` is told.
const TOLD: usize = 20;

/// Fills in what the journal knows, in constant time.
pub fn fill_from_journal(view: &View, snapshot: &mut Snapshot) -> Result<(), JournalError> {
    fill_totals(&view.totals()?, snapshot);
    snapshot.oldest_waiting = view
        .oldest_waiting()?
        .map(|since| (now_ms() - since).max(0) as u64);
    snapshot.last_errors = view.failures(LAST_ERRORS)?;
    snapshot.batches = last_batches(view, LAST_BATCHES)?;
    snapshot.journal_error = view.replaces()?.map(|kept| {
        format!("it was damaged and is kept as {kept}; this one is made from the directory and what the remote has")
    });
    Ok(())
}

/// The same of a folder and all below it. Batches and the oldest change are known of the whole only.
fn fill_below(view: &View, folder: &RelPath, snapshot: &mut Snapshot) -> Result<(), JournalError> {
    fill_totals(&view.totals_below(folder)?, snapshot);
    snapshot.below = Some(folder.to_string());
    let mut failures = troubles_below(view, Troubles::failures(folder.clone()), LOOKED_AT)?;
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
    failures.truncate(LAST_ERRORS);
    for failure in &mut failures {
        failure.path = match failure.path.as_str() {
            "." => folder.to_string(),
            path => format!("{folder}/{path}"),
        };
    }
    snapshot.last_errors = failures;
    Ok(())
}

/// Some of what is in trouble, after looking at `limit` of each kind.
fn troubles_below(
    view: &View,
    mut troubles: Troubles,
    limit: usize,
) -> Result<Vec<Failure>, JournalError> {
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(more) = troubles.next(view, limit)?
    {
        found.extend(more);
        troubles.pass();
    }
    Ok(found)
}

fn fill_totals(totals: &Totals, snapshot: &mut Snapshot) {
    snapshot.queued_files = totals.queued_files;
    snapshot.queued_bytes = totals.queued_bytes;
    snapshot.delivered_files = totals.delivered_files;
    snapshot.delivered_bytes = totals.delivered_bytes;
    snapshot.failed_files = totals.failed_files;
    snapshot.suspect_files = totals.suspect_files;
    snapshot.queued_rows = totals.queued_rows;
    snapshot.failed_rows = totals.failed_rows;
    snapshot.queued_deletions = totals.queued_deletions;
    snapshot.failed_deletions = totals.failed_deletions;
    snapshot.scanning = totals.scanning.then_some(0);
    snapshot.expanding = totals.expanding;
    snapshot.paused = totals.paused;
    snapshot.waits_for = totals.paused.then(|| {
        format!(
            "it is paused; 'outboxfs resume {}' goes on",
            snapshot.directory
        )
    });
    snapshot.safe_to_unplug = snapshot.is_all_delivered();
}

/// The last batches that have ended, newest first.
fn last_batches(view: &View, limit: usize) -> Result<Vec<Batch>, JournalError> {
    let batches = view.batches(limit)?.into_iter();
    Ok(batches.map(Batch::from).collect())
}

/// Counts folders, which takes longer the more there are.
pub fn count_folders(view: &View) -> Result<Folders, JournalError> {
    let counts = view.folder_counts()?;
    Ok(Folders {
        total: counts.total,
        delivered: counts.total.saturating_sub(counts.queued + counts.failed),
        queued: counts.queued,
        failed: counts.failed,
    })
}

/// What status reads while a daemon runs.
pub struct Source {
    view: Mutex<View>,
    progress: Arc<Progress>,
    scanned: Arc<AtomicU64>,
    fault: Arc<Fault>,
    /// What does not change: directory, mount point, process, journal, remote, rows.
    fixed: Snapshot,
    passthrough: OnceLock<bool>,
    /// The mount has ended, and its daemon delivers the rest.
    unmounted: AtomicBool,
    usage: Usage,
}

impl Source {
    pub fn new(
        journal: &Journal,
        progress: Arc<Progress>,
        scanned: Arc<AtomicU64>,
        fixed: Snapshot,
    ) -> Result<Self, JournalError> {
        Ok(Self {
            view: Mutex::new(journal.view()?),
            progress,
            scanned,
            fault: journal.fault().clone(),
            fixed,
            passthrough: OnceLock::new(),
            unmounted: AtomicBool::new(false),
            usage: Usage::default(),
        })
    }

    /// The mount is ready; whether it passes reads and writes through is known only then.
    pub fn mounted(&self, passthrough: bool) {
        let _ = self.passthrough.set(passthrough);
    }

    pub fn unmounted(&self) {
        self.unmounted.store(true, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Result<Snapshot, JournalError> {
        self.snapshot_of(&RelPath::root())
    }

    /// Of a folder and all below it. What is said of the process, the remote and its speed is of the
    /// whole.
    pub fn snapshot_of(&self, folder: &RelPath) -> Result<Snapshot, JournalError> {
        let mut snapshot = self.fixed.clone();
        if self.unmounted.load(Ordering::Relaxed) {
            snapshot.mountpoint = None;
        }
        match folder.is_root() {
            true => fill_from_journal(&self.view.lock(), &mut snapshot)?,
            false => fill_below(&self.view.lock(), folder, &mut snapshot)?,
        }
        if let Some(error) = self.fault.get() {
            // What was refused is not counted as waiting.
            snapshot.safe_to_unplug = false;
            snapshot.journal_error = Some(format!(
                "{error}; until it can be written, close fails, and what is closed then is found by \
                 the next mount"
            ));
        }
        snapshot.passthrough = self.passthrough.get().copied();
        let rate = self.progress.rate();
        snapshot.uploading = self.progress.uploading_below(folder);
        snapshot.workers = self.progress.workers() as u64;
        snapshot.bytes_per_second = rate.bytes;
        snapshot.files_per_second = rate.files;
        snapshot.pictures_per_second = rate.pictures;
        let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
        let took = self.progress.took();
        snapshot.mean_upload_milliseconds = took.map(|took| milliseconds(took.mean));
        snapshot.p95_upload_milliseconds = took.map(|took| milliseconds(took.most));
        snapshot.resources = self.usage.now();
        // Below a folder nobody knows how much of the speed is for it.
        snapshot.time_left = folder.is_root().then(|| time_left(&snapshot)).flatten();
        (snapshot.remote_error, snapshot.rows_error) = self.progress.errors();
        snapshot.waits_for = snapshot.waits_for.or_else(|| self.progress.waits_for());
        snapshot.scanning = snapshot
            .scanning
            .map(|_| self.scanned.load(Ordering::Relaxed));
        Ok(snapshot)
    }

    /// `.upload/status` of a folder.
    pub fn status_text(&self, folder: &RelPath) -> Result<String, JournalError> {
        Ok(text::render(&self.snapshot_of(folder)?))
    }

    /// `.upload/status.json` of a folder.
    pub fn status_json(&self, folder: &RelPath) -> Result<String, JournalError> {
        Ok(json::render(&self.snapshot_of(folder)?))
    }

    /// `.upload/metrics`.
    pub fn metrics(&self) -> Result<String, JournalError> {
        let snapshot = self.snapshot()?;
        Ok(metrics::render(&snapshot, &self.progress.counters()))
    }

    /// `.upload/batches`: a line for each that has ended, newest first.
    pub fn batches(&self) -> Result<String, JournalError> {
        let batches = last_batches(&self.view.lock(), usize::MAX >> 1)?;
        Ok(batches.iter().map(failed::batch_line).collect())
    }

    /// `.upload/recent` of a folder.
    pub fn recent(&self, folder: &RelPath) -> String {
        self.progress.recent(folder)
    }

    /// `None` if nothing is known of the file.
    pub fn file(&self, path: &RelPath, remote: &dyn Remote) -> Option<FileStatus> {
        about::look_up(&self.view.lock(), path, remote)
    }

    /// See [`View::known_names`]; none if the journal cannot be read.
    pub fn known_names(&self, folder: &RelPath, after: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let names = self.view.lock().known_names(folder, after, limit);
        names.unwrap_or_default()
    }

    /// `None` while something from the folder on down may still be delivered by itself; then whether all
    /// was, or what was not.
    pub fn waited(&self, folder: &RelPath) -> Option<Result<(), String>> {
        if let Some(error) = self.fault.get() {
            return Some(Err(format!("The journal cannot be written: {error}\n")));
        }
        let view = self.view.lock();
        let left = match view.totals_below(folder) {
            Ok(totals) if !totals.is_drained() => return None,
            Ok(totals) => totals,
            Err(error) => return Some(Err(format!("{error}\n"))),
        };
        let counts = [
            (left.failed_files, "file", "failed"),
            (left.suspect_files, "file", "suspect"),
            (left.failed_rows, "row", "failed"),
            (left.failed_deletions, "deletion", "failed"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let counts: Vec<String> = counts
            .map(|(count, noun, what)| format!("{} {what}", counted(count, noun)))
            .collect();
        if counts.is_empty() {
            return Some(Ok(()));
        }
        let mut text = format!("Not everything is delivered: {}.\n", counts.join(", "));
        for troubles in [
            Troubles::failures(folder.clone()),
            Troubles::suspects(folder.clone()),
        ] {
            let found = troubles_below(&view, troubles, LOOKED_AT).unwrap_or_default();
            text.extend(found.iter().take(TOLD).map(failed::line));
        }
        text += "All are listed in .upload/failed and .upload/suspect.\n";
        Some(Err(text))
    }
}

/// The longer of what the bytes and what the files will take, milliseconds.
fn time_left(snapshot: &Snapshot) -> Option<u64> {
    if snapshot.queued_files == 0 || snapshot.paused {
        return None;
    }
    let sent: u64 = snapshot.uploading.iter().map(|file| file.sent_bytes).sum();
    let at = |left: u64, speed: f64| (speed > 0.0).then(|| left as f64 / speed);
    let of_bytes = at(
        snapshot.queued_bytes.saturating_sub(sent),
        snapshot.bytes_per_second,
    );
    // Where files are small it is their number that takes time.
    let of_files = at(snapshot.queued_files, snapshot.files_per_second);
    let longest = match (of_bytes, of_files) {
        (Some(bytes), Some(files)) if snapshot.files_per_second >= 1.0 => bytes.max(files),
        (Some(bytes), _) => bytes,
        (None, files) => files?,
    };
    Some((longest * 1000.0) as u64)
}
