//! One snapshot of how far delivery is, and its renderers: [`text`] for people, [`json`] for
//! programs, [`metrics`] for Prometheus; [`lists`] of what waits and has failed, and what is known
//! [`about`] one file.

pub mod about;
pub mod collect;
mod failed;
mod human;
pub mod json;
pub mod lists;
pub mod metrics;
pub mod process;
pub mod text;

pub use human::{counted, duration, ending, local_time, one_line, took};
use serde::{Deserialize, Serialize};

use crate::journal;

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
    /// The folder in it that this tells of, with all below; `None` for all.
    pub below: Option<String>,
    /// Where it is mounted; `None` if no daemon runs.
    pub mountpoint: Option<String>,
    /// The process id of the daemon, or of the push that has the directory; `None` if none runs.
    pub pid: Option<u32>,
    /// It is a push.
    pub pushing: bool,
    /// Of that process.
    pub resources: Option<Resources>,
    pub journal: String,
    pub remote: String,
    pub rows: Option<String>,
    /// What is wrong with the remote or the row sink as a whole, if anything; one sentence.
    pub remote_error: Option<String>,
    pub rows_error: Option<String>,
    /// What has happened to the journal, if anything; one sentence.
    pub journal_error: Option<String>,
    /// Somebody has said to deliver nothing for now.
    pub paused: bool,
    /// What keeps all deliveries waiting though nothing is wrong: a pause, upload hours.
    pub waits_for: Option<String>,
    /// Kernel passthrough for reads and writes; `None` if no daemon runs.
    pub passthrough: Option<bool>,
    /// umount(8) is to wait until everything is delivered.
    pub flush: bool,

    /// Files waiting for delivery, those being uploaded included.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Files being uploaded at this moment.
    pub uploading: Vec<Uploading>,
    /// Small files that may be uploaded at a time now: fewer than were asked for while the remote asks
    /// to slow down. 0 without a daemon.
    pub workers: u64,
    /// Folders that hold files, by what has become of these. `outboxfs status` counts them; files of
    /// `.upload` are read too often for that.
    pub folders: Option<Folders>,
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
    pub pictures_per_second: f64,
    /// How long uploads have taken since the process began: on average, and 95 in 100 at most.
    pub mean_upload_milliseconds: Option<f64>,
    pub p95_upload_milliseconds: Option<f64>,
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

/// What a process uses of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Of one processor, over the last seconds; 200 is two of them.
    pub cpu_percent: f64,
    /// User and system time since it began.
    pub cpu_seconds: f64,
    /// Resident, bytes.
    pub memory_bytes: u64,
}

/// Folders that hold files. One of which something has failed or is suspect counts as failed, also
/// if something waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    pub total: u64,
    pub delivered: u64,
    pub queued: u64,
    pub failed: u64,
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

impl From<journal::Batch> for Batch {
    fn from(batch: journal::Batch) -> Self {
        Self {
            id: batch.id,
            started_at: batch.started_at,
            ended_at: batch.ended_at,
            total_folders: batch.folders,
            successful_uploads: batch.succeeded,
            failed_uploads: batch.failed,
        }
    }
}

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Uploading {
    pub path: String,
    pub bytes: u64,
    /// How much of it the remote has got.
    #[serde(default)]
    pub sent_bytes: u64,
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
