//! Putting a snapshot together: totals from the journal, and from the daemon, if one runs, what is
//! going on at this moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::process::Usage;
use super::{Batch, Folders, Snapshot, failed, json, text};
use crate::delivery::Progress;
use crate::journal::{Fault, Journal, JournalError, Proved, View, now_ms};
use crate::path::RelPath;

/// Failures that a snapshot shows.
const LAST_ERRORS: usize = 5;
/// Batches that a snapshot shows.
const LAST_BATCHES: usize = 3;
/// Failures that `.upload/failed` lists.
const LISTED: usize = 10_000;

/// Fills in what the journal knows, in constant time.
pub fn fill_from_journal(view: &View, snapshot: &mut Snapshot) -> Result<(), JournalError> {
    let totals = view.totals()?;
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
    snapshot.oldest_waiting = view
        .oldest_waiting()?
        .map(|since| (now_ms() - since).max(0) as u64);
    snapshot.last_errors = view.failures(LAST_ERRORS)?;
    let batches = view.batches(LAST_BATCHES)?.into_iter();
    snapshot.batches = batches.map(Batch::from).collect();
    snapshot.journal_error = view.replaces()?.map(|kept| {
        format!("it was damaged and is kept as {kept}; this one is made from the directory and what the remote has")
    });
    snapshot.safe_to_unplug = snapshot.is_all_delivered();
    Ok(())
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
            usage: Usage::default(),
        })
    }

    /// The mount is ready; whether it passes reads and writes through is known only then.
    pub fn mounted(&self, passthrough: bool) {
        let _ = self.passthrough.set(passthrough);
    }

    pub fn snapshot(&self) -> Result<Snapshot, JournalError> {
        let mut snapshot = self.fixed.clone();
        fill_from_journal(&self.view.lock(), &mut snapshot)?;
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
        snapshot.uploading = self.progress.uploading();
        snapshot.workers = self.progress.workers() as u64;
        snapshot.bytes_per_second = rate.bytes;
        snapshot.files_per_second = rate.files;
        snapshot.pictures_per_second = rate.pictures;
        let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
        let took = self.progress.took();
        snapshot.mean_upload_milliseconds = took.map(|took| milliseconds(took.mean));
        snapshot.p95_upload_milliseconds = took.map(|took| milliseconds(took.most));
        snapshot.resources = self.usage.now();
        snapshot.time_left = time_left(&snapshot);
        (snapshot.remote_error, snapshot.rows_error) = self.progress.errors();
        snapshot.waits_for = snapshot.waits_for.or_else(|| self.progress.waits_for());
        snapshot.scanning = snapshot
            .scanning
            .map(|_| self.scanned.load(Ordering::Relaxed));
        Ok(snapshot)
    }

    /// The files of `.upload`: their names.
    pub const FILES: &[&str] = &["status", "status.json", "failed", "suspect", "recent"];

    /// The content of one of [`Self::FILES`].
    pub fn read(&self, name: &str) -> Result<Option<String>, JournalError> {
        Ok(Some(match name {
            "status" => text::render(&self.snapshot()?),
            "status.json" => json::render(&self.snapshot()?),
            "failed" => self
                .view
                .lock()
                .failures(LISTED)?
                .iter()
                .map(failed::line)
                .collect(),
            "suspect" => self
                .view
                .lock()
                .suspects(&RelPath::root(), None, LISTED)?
                .iter()
                .map(failed::suspect_line)
                .collect(),
            "recent" => self.progress.recent(),
            _ => return Ok(None),
        }))
    }

    /// What was delivered of a file, if that is its last version.
    pub fn delivered(&self, path: &RelPath) -> Result<Option<Proved>, JournalError> {
        let file = self.view.lock().proved_file(path)?;
        Ok(file.filter(|file| file.current))
    }
}

/// The longer of what the bytes and what the files will take, milliseconds.
fn time_left(snapshot: &Snapshot) -> Option<u64> {
    if snapshot.queued_files == 0 || snapshot.files_per_second <= 0.0 {
        return None;
    }
    let of_files = snapshot.queued_files as f64 / snapshot.files_per_second;
    let of_bytes = match snapshot.bytes_per_second > 0.0 {
        true => snapshot.queued_bytes as f64 / snapshot.bytes_per_second,
        false => 0.0,
    };
    Some((of_files.max(of_bytes) * 1000.0) as u64)
}
