//! One snapshot of how far delivery is, and its renderers: [`text`] for people, [`json`] for
//! programs, [`failed`] for both.

pub mod collect;
pub mod failed;
mod human;
pub mod json;
pub mod text;

pub use human::{counted, duration, one_line};
use serde::{Deserialize, Serialize};

/// Everything that status shows; `status.json` is this, serialised. Sizes are bytes, times are
/// milliseconds since 1970-01-01 UTC, ages and durations are milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Nothing is waiting, being sent or failed, and the start-up scan is through: all that was
    /// closed is at the remote.
    pub safe_to_unplug: bool,
    /// Path of the backing directory.
    pub directory: String,
    /// Where it is mounted; `None` if no daemon runs.
    pub mountpoint: Option<String>,
    /// The daemon's process id; `None` if none runs.
    pub pid: Option<u32>,
    pub journal: String,
    pub remote: String,
    pub rows: Option<String>,
    /// What is wrong with the remote or the row sink as a whole, if anything; one sentence.
    pub remote_error: Option<String>,
    pub rows_error: Option<String>,
    /// What has happened to the journal, if anything; one sentence.
    pub journal_error: Option<String>,
    /// What keeps all deliveries waiting though nothing is wrong: a pause, upload hours.
    pub waits_for: Option<String>,
    /// Kernel passthrough for reads and writes; `None` if no daemon runs.
    pub passthrough: Option<bool>,

    /// Files waiting for delivery, those being uploaded included.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Files being uploaded at this moment.
    pub uploading: Vec<Uploading>,
    /// Small files that may be uploaded at a time now: fewer than were asked for while the remote asks
    /// to slow down. 0 without a daemon.
    pub workers: u64,
    /// Files whose last version is at the remote.
    pub delivered_files: u64,
    pub delivered_bytes: u64,
    /// Files that will not be tried again by themselves.
    pub failed_files: u64,
    /// Local files that look damaged and are not uploaded.
    pub suspect_files: u64,
    /// Folder rows waiting, and rows that will not be tried again by themselves.
    pub queued_rows: u64,
    pub failed_rows: u64,
    /// Files whose objects are still to be deleted at the remote, and those where that has failed.
    pub queued_deletions: u64,
    pub failed_deletions: u64,
    /// Age of the oldest waiting change; `None` if nothing waits.
    pub oldest_waiting: Option<u64>,
    /// Bytes and files a second over the last seconds.
    pub bytes_per_second: f64,
    pub files_per_second: f64,
    /// Time left at that rate; `None` if unknown.
    pub time_left: Option<u64>,
    /// The start-up scan: `None` when it is through, else files looked at so far.
    pub scanning: Option<u64>,
    /// A folder was renamed, and its files are still being queued.
    pub expanding: bool,
    /// The last batches that have ended, newest first, at most three.
    pub batches: Vec<Batch>,
    /// The last failures, newest first, at most five; all of them are in `.upload/failed`.
    pub last_errors: Vec<Failure>,
}

impl Snapshot {
    /// Whether nothing waits, nothing failed and nothing more can be found: what was closed has
    /// arrived.
    pub fn is_all_delivered(&self) -> bool {
        self.queued_files == 0
            && self.failed_files == 0
            && self.suspect_files == 0
            && self.queued_rows == 0
            && self.failed_rows == 0
            && self.queued_deletions == 0
            && self.failed_deletions == 0
            && self.scanning.is_none()
            && !self.expanding
    }
}

/// A burst of work: from the queue leaving empty until it was empty again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub id: i64,
    pub started_at: i64,
    pub ended_at: i64,
    /// Folders with something to deliver, and what became of them.
    pub total_folders: u64,
    pub successful_uploads: u64,
    pub failed_uploads: u64,
}

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uploading {
    pub path: String,
    pub bytes: u64,
    /// How long it has been on its way.
    pub for_milliseconds: u64,
}

/// Something that did not arrive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub path: String,
    /// `original`, `thumbnail`, `row` or `deletion`.
    pub artifact: String,
    pub error: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it last failed.
    pub at: i64,
    /// Whether it is tried again by itself.
    pub will_retry: bool,
}
