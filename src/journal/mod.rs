//! The journal: the SQLite database of every change; the only queue and the only truth about
//! delivery. The mount records, delivery claims and settles, status reads.
//!
//! One thread writes ([`writer`]), grouping what has come into one transaction; everybody else
//! sends it work through [`Journal`], or reads through a connection of their own ([`View`]).

mod about;
mod apply;
mod arrival;
mod batch;
mod boot;
mod by_hand;
mod change;
mod checkpoint;
#[cfg(test)]
mod cost;
mod crowd;
mod damage;
mod fault;
mod folders;
mod found;
mod gone_row;
mod op;
mod other_remote;
mod outcome;
mod pending;
mod proof;
mod queue;
mod retry;
mod rows;
mod set_back;
mod share;
mod store;
mod stray;
mod suspect;
mod tally;
mod totals;
mod tree;
mod troubles;
mod upload;
mod view;
mod writer;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

pub use about::{About, State};
pub use batch::Batch;
pub use by_hand::Hand;
pub use change::{Change, Entry, FileStat};
pub use crowd::Crowd;
pub use fault::Fault;
pub use folders::FolderCounts;
pub use gone_row::GoneRow;
use op::{Answer, Op};
pub use outcome::Outcome;
pub use pending::{Waiting, Walk};
pub use proof::{Pending, Proved};
pub use queue::{Delivered, Doubt, FileClaim, FileId, FileOutcome, Kind, Lane, Settlement};
pub use rows::{FolderId, RowClaim};
pub use share::BatchLimits;
pub use stray::{Deletion, StrayId};
pub use suspect::Suspect;
use tokio::sync::oneshot;
pub use totals::Totals;
pub use troubles::Troubles;
pub use upload::{Unfinished, UploadId, UploadPart};
pub use view::{CopySource, DeliveredFile, Known, Meta, View};
pub use writing::Writing;

pub use crate::clock::now_ms;
use crate::glob::Globs;
use crate::path::RelPath;

/// When a recorded change counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Committed: survives the death of the daemon.
    Committed,
    /// Committed and synced: survives a power cut (`fsync`).
    Synced,
}

/// From when on new work is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// After the settle time.
    WhenSettled,
    Now,
}

/// A failure of the journal, a sentence for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be used: {reason}")]
    Unusable { path: String, reason: String },
    #[error(
        "the journal {path} belongs to another directory, {owner}; name another one with --journal"
    )]
    OtherDirectory { path: String, owner: String },
    #[error(
        "the journal {path} was written by a newer outboxfs (schema {found}, this one knows \
         {known}); use that version"
    )]
    NewerSchema {
        path: String,
        found: i64,
        known: i64,
    },
    #[error("the journal could not be written: {0}")]
    Sqlite(String),
    #[error(
        "the journal is damaged ({0}); unmount and mount again: it is kept aside then, and a new \
         one is made from the directory and what the remote has"
    )]
    Damaged(String),
    #[error("the journal is closed")]
    Closed,
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match damage::is_damage(&error) {
            true => Self::Damaged(error.to_string()),
            false => Self::Sqlite(error.to_string()),
        }
    }
}

/// SQLite counts what it allocates, under a lock: a cost with every allocation, of no use to us.
/// To be called while the process has one thread and no database open.
pub fn count_no_memory() {
    // SAFETY: the arguments are as sqlite3_config(3) wants them for this option, and the caller sees
    // to it that no other thread uses SQLite. Where it is in use, nothing changes.
    unsafe { rusqlite::ffi::sqlite3_config(rusqlite::ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
}

/// How to open a journal for writing.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file; made if it is missing, in a directory of mode 0700.
    pub path: PathBuf,
    /// The backing directory: its path and its device and inode numbers.
    pub directory: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// How long a change comes to rest before it is due.
    pub settle: Duration,
    /// Whether there is a row sink. Without one the rows of folders wait for a mount that has.
    pub has_rows: bool,
    /// Whether what is deleted here is deleted at the remote. If not, what an earlier mount had
    /// still to delete is kept.
    pub sync_deletes: bool,
    /// What is claimed first.
    pub priority: Globs,
    /// Folders at the remote for thumbnails of further sizes; those of earlier mounts are remembered.
    pub thumbnails: Vec<String>,
    /// How much is claimed in one go.
    pub batches: BatchLimits,
    /// Where it is delivered to, as [`crate::remote::place`] names it; `None` for who delivers
    /// nothing. If that is another remote than before, everything is due again.
    pub remote: Option<String>,
}

#[cfg(test)]
impl Options {
    /// For a journal of its own; what settles is due at once.
    fn of_test(path: PathBuf) -> Self {
        Self {
            path,
            directory: "/srv/rig".into(),
            device: 1,
            inode: 2,
            settle: Duration::ZERO,
            has_rows: false,
            sync_deletes: false,
            priority: Globs::default(),
            thumbnails: Vec::new(),
            batches: BatchLimits::default(),
            remote: None,
        }
    }
}

/// A handle to the open journal; cheap to clone. The database is closed when the last is dropped.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    writer: writer::Writer,
    names: RwLock<()>,
    changes: AtomicU64,
    writing: Arc<Writing>,
}

impl Journal {
    /// Opens the journal, makes or migrates it as needed, and starts its writer. What was claimed
    /// when the last daemon died is queued again.
    pub fn open(options: Options) -> Result<Self, JournalError> {
        let store = store::Store::open(&options)?;
        Ok(Self::with(writer::Writer::start(store, options.path)?))
    }

    /// The same without threads: nothing is written before the [`Hand`] is told to.
    pub fn by_hand(options: Options) -> Result<(Self, Hand), JournalError> {
        let store = store::Store::open(&options)?;
        let (writer, its_loop, checkpoints) = writer::Writer::prepare(store, options.path);
        Ok((Self::with(writer), Hand::new(its_loop, checkpoints)))
    }

    fn with(writer: writer::Writer) -> Self {
        Self(Arc::new(Shared {
            writer,
            names: RwLock::new(()),
            changes: AtomicU64::new(0),
            writing: Arc::default(),
        }))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        self.0.writer.path()
    }

    /// Keeps paths and the order of changes true: whoever changes which name means what holds it
    /// for writing from before he does until the journal was told, whoever tells the journal what
    /// is to be found under a path holds it for reading. Never held while waiting for an answer.
    pub fn names(&self) -> &RwLock<()> {
        &self.0.names
    }

    /// Whether it can be written.
    pub fn fault(&self) -> &Arc<Fault> {
        self.0.writer.fault()
    }

    /// What is open for writing.
    pub fn writing(&self) -> &Arc<Writing> {
        &self.0.writing
    }

    /// Opens a read-only connection.
    pub fn view(&self) -> Result<View, JournalError> {
        View::open(self.path())
    }

    /// Records a change. `done` is called when it is committed (and synced, if asked for), or could
    /// not be, on the writer's thread or on this one. Changes are applied in call order. Blocks only while the
    /// writer is thousands of changes behind.
    pub fn record(
        &self,
        change: Change,
        durability: Durability,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        let writer = &self.0.writer;
        let change = match durability {
            Durability::Committed => match writer.write_down(change) {
                Ok(result) => return done(result),
                Err(change) => change,
            },
            Durability::Synced => change,
        };
        writer.send(Op::Change(change), durability, move |answer| {
            done(answer.map(drop))
        });
    }

    /// Changes recorded since the journal was opened.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Makes everything recorded so far durable; then calls `done`.
    pub fn sync(&self, done: impl FnOnce(Result<(), JournalError>) + Send + 'static) {
        self.0
            .writer
            .send(Op::Sync, Durability::Synced, move |answer| {
                done(answer.map(drop))
            });
    }

    /// Records a change and waits until it is committed.
    pub fn record_and_wait(&self, change: Change) -> Result<(), JournalError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.record(change, Durability::Committed, move |result| {
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or(Err(JournalError::Closed))
    }

    /// Called after each commit that made work: delivery's alarm clock. Set once.
    pub fn on_work(&self, wake: impl Fn(Due) + Send + Sync + 'static) {
        self.0.writer.on_work(Box::new(wake));
    }

    /// Takes up to `limit` files of a lane that are due, oldest first.
    pub async fn claim_files(
        &self,
        lane: Lane,
        limit: usize,
    ) -> Result<Claimed<FileClaim>, JournalError> {
        self.claim_files_among(lane, limit, None).await
    }

    /// The same, passing over what the `crowd` has no room for. Such files have no time at which
    /// they are due.
    pub async fn claim_files_among(
        &self,
        lane: Lane,
        limit: usize,
        crowd: Option<Crowd>,
    ) -> Result<Claimed<FileClaim>, JournalError> {
        let claim = Op::ClaimFiles { lane, limit, crowd };
        match self.ask(claim).await? {
            Answer::Files(claimed) => Ok(claimed),
            _ => Err(JournalError::Closed),
        }
    }

    /// Takes up to `limit` folders whose rows are due and whose files are all delivered.
    pub async fn claim_rows(&self, limit: usize) -> Result<Claimed<RowClaim>, JournalError> {
        match self.ask(Op::ClaimRows { limit }).await? {
            Answer::Rows(claimed) => Ok(claimed),
            _ => Err(JournalError::Closed),
        }
    }

    /// Records what became of claimed files, each only for the version that was claimed.
    pub async fn settle_files(&self, settlements: Vec<Settlement>) -> Result<(), JournalError> {
        self.ask(Op::SettleFiles(settlements)).await.map(drop)
    }

    /// Records what became of claimed rows, each only for the version that was claimed.
    pub async fn settle_rows(
        &self,
        outcomes: Vec<(RowClaim, Outcome)>,
    ) -> Result<(), JournalError> {
        self.ask(Op::SettleRows(outcomes)).await.map(drop)
    }

    /// Takes up to `limit` rows of folders that are gone.
    pub async fn claim_gone_rows(&self, limit: usize) -> Result<Claimed<GoneRow>, JournalError> {
        match self.ask(Op::ClaimGoneRows { limit }).await? {
            Answer::GoneRows(claimed) => Ok(claimed),
            _ => Err(JournalError::Closed),
        }
    }

    /// Records what became of claimed rows of folders that are gone.
    pub async fn settle_gone_rows(
        &self,
        outcomes: Vec<(GoneRow, Outcome)>,
    ) -> Result<(), JournalError> {
        self.ask(Op::SettleGoneRows(outcomes)).await.map(drop)
    }

    /// Takes up to `limit` paths whose objects are to be deleted, oldest first: of files that are
    /// gone, or are delivered under another path, and that no row tells of any more.
    pub async fn claim_deletions(&self, limit: usize) -> Result<Claimed<Deletion>, JournalError> {
        match self.ask(Op::ClaimDeletions { limit }).await? {
            Answer::Deletions(claimed) => Ok(claimed),
            _ => Err(JournalError::Closed),
        }
    }

    /// Records what became of claimed deletions.
    pub async fn settle_deletions(
        &self,
        outcomes: Vec<(StrayId, Outcome)>,
    ) -> Result<(), JournalError> {
        self.ask(Op::SettleDeletions(outcomes)).await.map(drop)
    }

    /// From now on nothing settles: all that waits for the first time is due at once. For flushing.
    pub async fn hurry(&self) -> Result<(), JournalError> {
        self.ask(Op::Hurry).await.map(drop)
    }

    /// Notes that the tree from `path` on is to be scanned: until [`Self::end_scan`] there may be
    /// more to deliver than is queued.
    pub fn begin_scan(&self, path: &RelPath) -> Result<(), JournalError> {
        self.ask_and_wait(Op::BeginScan(path.clone()))
    }

    /// The tree from `path` on is scanned, and all that was found is recorded.
    pub fn end_scan(&self, path: &RelPath) -> Result<(), JournalError> {
        self.ask_and_wait(Op::EndScan(path.clone()))
    }

    /// Records that a claimed file is not there, as was seen while holding `names`. `done` is called
    /// on the writer's thread.
    pub fn gone(
        &self,
        claim: &FileClaim,
        _names: &RwLockReadGuard<'_, ()>,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        let settlement = Settlement {
            id: claim.id,
            version: claim.version,
            path: claim.path.clone(),
            outcome: FileOutcome::Gone,
        };
        let op = Op::SettleFiles(vec![settlement]);
        self.0
            .writer
            .send(op, Durability::Committed, move |answer| {
                done(answer.map(drop))
            });
    }

    /// Records what a scan found in a folder, and what it saw missing while holding `names`. `done`
    /// is called on the writer's thread.
    pub fn scanned(
        &self,
        folder: ScannedFolder,
        _names: &RwLockReadGuard<'_, ()>,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        self.0
            .writer
            .send(Op::Scanned(folder), Durability::Committed, move |answer| {
                done(answer.map(drop))
            });
    }

    /// Queues what has failed from `path` on, and what waits for its next attempt, as if it had
    /// never been tried: files and rows. Returns how many.
    pub fn retry(&self, path: &RelPath) -> Result<u64, JournalError> {
        match self.ask_and_wait_for(Op::Retry(path.clone()), Durability::Committed)? {
            Answer::Count(count) => Ok(count),
            _ => Err(JournalError::Closed),
        }
    }

    /// Makes all due now that waits from `path` on: for its settle time, or for its next attempt.
    pub fn flush(&self, path: &RelPath) -> Result<u64, JournalError> {
        match self.ask_and_wait_for(Op::Flush(path.clone()), Durability::Committed)? {
            Answer::Count(count) => Ok(count),
            _ => Err(JournalError::Closed),
        }
    }

    /// From now on nothing is claimed, also by later daemons, until this is called with `false`.
    pub fn pause(&self, paused: bool) -> Result<(), JournalError> {
        self.ask_and_wait(Op::Pause(paused))
    }

    /// Notes that a mount has begun, so that later ones don't refuse on a bad remote, and know
    /// whether the machine went down under this one.
    pub fn mounted(&self) -> Result<(), JournalError> {
        self.ask_and_wait_for(Op::Mounted, Durability::Synced)
            .map(drop)
    }

    /// Notes that a mount has ended and that all local bytes are durable, and makes that durable.
    pub fn ended(&self) -> Result<(), JournalError> {
        self.ask_and_wait_for(Op::Ended, Durability::Synced)
            .map(drop)
    }

    fn ask_and_wait(&self, op: Op) -> Result<(), JournalError> {
        self.ask_and_wait_for(op, Durability::Committed).map(drop)
    }

    fn ask_and_wait_for(&self, op: Op, durability: Durability) -> Result<Answer, JournalError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.0.writer.send(op, durability, move |answer| {
            let _ = sender.send(answer);
        });
        receiver.recv().unwrap_or(Err(JournalError::Closed))
    }

    async fn ask(&self, op: Op) -> Result<Answer, JournalError> {
        let (sender, receiver) = oneshot::channel();
        self.0
            .writer
            .send(op, Durability::Committed, move |answer| {
                let _ = sender.send(answer);
            });
        receiver.await.unwrap_or(Err(JournalError::Closed))
    }
}

/// What a claim brought, and when the next is due if nothing changes.
#[derive(Debug, Clone)]
pub struct Claimed<T> {
    pub claims: Vec<T>,
    /// Milliseconds since 1970-01-01 UTC; `None` if nothing waits.
    pub next_due: Option<i64>,
}

impl<T> Claimed<T> {
    fn nothing() -> Self {
        Self {
            claims: Vec::new(),
            next_due: None,
        }
    }
}

/// One folder as the scan found it.
#[derive(Debug, Clone)]
pub struct ScannedFolder {
    pub path: RelPath,
    /// Whether changes come through a mount, which would have told of them: then a delivered file
    /// that is shorter or gone looks damaged. Without a mount it is just what somebody did.
    pub watched: bool,
    /// Files that the journal does not know, or knows otherwise.
    pub found: Vec<Sighting>,
    /// Files that the journal knows and that are not there.
    pub missing: Vec<Vec<u8>>,
}

/// A file as the scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub name: Vec<u8>,
    pub stat: FileStat,
    /// When anything was done to it last, nanoseconds since 1970-01-01 UTC.
    pub ctime_ns: i64,
    /// It was delivered with this size, and has zeros now where it had content.
    pub hollow: bool,
}
