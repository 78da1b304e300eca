//! Writing, one at a time: a thread takes what has come, commits it as a group, then answers. Who
//! closes a file while nobody writes and nothing waits writes its line down by himself, which saves
//! him waiting for another thread.
//!
//! Threads: `journal` (this loop; ends when the last [`Journal`](super::Journal) is dropped) and
//! `checkpoint` (moves the WAL into the database; ends with it). Channels: requests, bounded by
//! [`BACKLOG`]; checkpoint requests, bounded by one. The store is locked by whoever writes, never
//! while anything is waited for but the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use super::fault::Fault;
use super::op::{Answer, Op};
use super::store::Store;
use super::{Change, Due, Durability, JournalError, checkpoint, damage};

/// Requests that may wait for the writer before senders block.
const BACKLOG: usize = 4096;
/// Requests in one transaction. More would only delay the first of them.
const GROUP: usize = 256;
/// Operations after which the WAL is checkpointed: some megabytes.
const CHECKPOINT_EVERY: usize = 1000;
/// Folders of a batch that are summed up between two groups.
const BATCH_STEP: usize = 64;
/// Folder-rename work done between two groups, files.
const EXPANSION_STEP: usize = 256;

type Done = Box<dyn FnOnce(Result<Answer, JournalError>) + Send>;
type Wake = Box<dyn Fn(Due) + Send + Sync>;

struct Request {
    op: Op,
    durability: Durability,
    done: Done,
}

/// The sending side, shared by all handles.
pub(super) struct Writer {
    requests: Option<Sender<Request>>,
    /// Requests that are not answered yet.
    waiting: Arc<AtomicUsize>,
    store: Arc<Mutex<Store>>,
    threads: Vec<JoinHandle<()>>,
    path: PathBuf,
    fault: Arc<Fault>,
    wake: std::sync::Arc<OnceLock<Wake>>,
}

impl Writer {
    pub(super) fn start(store: Store, path: PathBuf) -> Result<Self, JournalError> {
        let (mut writer, its_loop, checkpoints) = Self::prepare(store, path);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(body)
                .map_err(|error| JournalError::Sqlite(format!("cannot start a thread: {error}")))
        };
        let (path, log_is_long) = (writer.path.clone(), its_loop.log_is_long.clone());
        writer.threads = vec![
            spawn(
                "checkpoint",
                Box::new(move || checkpoint::run(&path, &checkpoints, &log_is_long)),
            )?,
            spawn("journal", Box::new(move || its_loop.run()))?,
        ];
        Ok(writer)
    }

    /// The sending side, the receiving side, and what tells when to checkpoint; no threads yet.
    pub(super) fn prepare(store: Store, path: PathBuf) -> (Self, Loop, Receiver<()>) {
        let (requests, inbox) = crossbeam_channel::bounded(BACKLOG);
        let (checkpoints, due) = crossbeam_channel::bounded(1);
        let store = Arc::new(Mutex::new(store));
        let (waiting, wake, fault) = (Arc::default(), Arc::default(), Arc::default());
        let its_loop = Loop {
            store: Arc::clone(&store),
            waiting: Arc::clone(&waiting),
            path: path.clone(),
            inbox,
            checkpoints,
            log_is_long: Arc::default(),
            wake: Arc::clone(&wake),
            fault: Arc::clone(&fault),
            operations: 0,
            expanding: true,
            ending: true,
        };
        let writer = Self {
            requests: Some(requests),
            waiting,
            store,
            threads: Vec::new(),
            path,
            fault,
            wake,
        };
        (writer, its_loop, due)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fault(&self) -> &Arc<Fault> {
        &self.fault
    }

    pub(super) fn on_work(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    /// Writes the change down in the caller's thread, if it fits and nothing is before it. Gives it
    /// back if not.
    pub(super) fn write_down(&self, change: Change) -> Result<Result<(), JournalError>, Change> {
        let nothing_waits = || self.waiting.load(Ordering::Acquire) == 0;
        if !change.can_arrive() || !nothing_waits() {
            return Err(change);
        }
        let Some(mut store) = self.store.try_lock().filter(|store| store.lets_arrive()) else {
            return Err(change);
        };
        // What was sent before this was asked for is before it.
        if !nothing_waits() {
            return Err(change);
        }
        let is_first = !store.has_arrivals();
        let result = store.line_transaction(|store| store.arrive(&change));
        drop(store);
        self.fault.note(&result);
        match &result {
            Ok(()) if is_first => self.send(Op::Arrived, Durability::Committed, |_| ()),
            Ok(()) => {}
            Err(error) => not_written(&self.path, error),
        }
        Ok(result)
    }

    pub(super) fn send(
        &self,
        op: Op,
        durability: Durability,
        done: impl FnOnce(Result<Answer, JournalError>) + Send + 'static,
    ) {
        let request = Request {
            op,
            durability,
            done: Box::new(done),
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let sent = match &self.requests {
            Some(requests) => requests.send(request).map_err(|unsent| unsent.0),
            None => Err(request),
        };
        if let Err(request) = sent {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            (request.done)(Err(JournalError::Closed));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        for thread in self.threads.drain(..).rev() {
            // The last handle may be dropped by a `done` that runs on the writer itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// The receiving side, owned by the thread.
pub(super) struct Loop {
    pub store: Arc<Mutex<Store>>,
    waiting: Arc<AtomicUsize>,
    path: PathBuf,
    inbox: Receiver<Request>,
    checkpoints: Sender<()>,
    log_is_long: Arc<AtomicBool>,
    wake: std::sync::Arc<OnceLock<Wake>>,
    fault: Arc<Fault>,
    operations: usize,
    /// Files of renamed folders have to be queued, perhaps.
    expanding: bool,
    /// A batch has ended, perhaps.
    ending: bool,
}

impl Loop {
    fn run(mut self) {
        while self.turn(self.patience()) {}
    }

    /// How long to wait for requests before there is something else to do; `None` for ever.
    pub fn patience(&self) -> Option<Duration> {
        // While a renamed folder's files are being queued, or a batch is summed up, look for
        // requests without waiting.
        match self.expanding || self.ending {
            true => Some(Duration::ZERO),
            false => self.store.lock().patience(),
        }
    }

    /// Whether anybody waits for an answer.
    pub fn is_asked(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits for requests so long, and does what is to be done. False when nobody can ask any more.
    pub fn turn(&mut self, patience: Option<Duration>) -> bool {
        let first = match patience {
            Some(patience) => self.inbox.recv_timeout(patience),
            None => self
                .inbox
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        if let Ok(first) = first {
            let mut group = vec![first];
            group.extend(self.inbox.try_iter().take(GROUP - 1));
            self.expanding |= self.commit(group);
            self.ending = true;
        }
        let store = self.store.lock();
        let taking = store
            .patience()
            .is_some_and(|patience| is_over || patience.is_zero());
        drop(store);
        if taking && self.take_in() {
            self.ending = true;
        } else if is_over && !self.expanding && !self.ending {
            return false;
        }
        self.ending = self.end_batch(self.ending);
        if self.expanding {
            self.expanding = self.expand();
        }
        true
    }

    /// Commits a group and answers it. True if a folder's files have to be queued now.
    fn commit(&mut self, group: Vec<Request>) -> bool {
        let renames = group.iter().any(|request| request.op.may_expand());
        let makes_work = group.iter().any(|request| request.op.makes_work());
        let due = match group.iter().any(|request| request.op.makes_due()) {
            true => Due::Now,
            false => Due::WhenSettled,
        };
        let synced = group
            .iter()
            .any(|request| request.durability == Durability::Synced);
        let size = group.len();
        self.operations += size;
        match self.transact(group.iter().map(|request| &request.op), synced) {
            Ok(answers) => {
                for (request, answer) in group.into_iter().zip(answers) {
                    (request.done)(Ok(answer));
                }
            }
            Err(_) if group.len() > 1 => {
                // One of them spoilt it for all: each for itself.
                for request in group {
                    let answer = self.transact(std::iter::once(&request.op), synced);
                    (request.done)(answer.map(|mut answers| answers.remove(0)));
                }
            }
            Err(error) => {
                not_written(&self.path, &error);
                for request in group {
                    (request.done)(Err(error.clone()));
                }
            }
        }
        self.waiting.fetch_sub(size, Ordering::AcqRel);
        self.checkpoint();
        if makes_work {
            self.wake(due);
        }
        renames
    }

    /// Takes some of what was written down into the tables. False if there is nothing, or it cannot
    /// be done now.
    fn take_in(&mut self) -> bool {
        let taken = self.store.lock().transaction(Store::take_in);
        self.fault.note(&taken);
        match taken {
            Ok(taken) => {
                self.operations += taken;
                self.checkpoint();
                self.wake(Due::WhenSettled);
                taken > 0
            }
            Err(error) => {
                not_written(&self.path, &error);
                false
            }
        }
    }

    fn checkpoint(&mut self) {
        if self.operations >= CHECKPOINT_EVERY {
            self.operations = 0;
            let _ = self.checkpoints.try_send(());
        }
        if self.log_is_long.swap(false, Ordering::Relaxed) {
            // Nothing is written meanwhile, and little is left to do: what comes next is written to
            // the log's beginning.
            let _ = checkpoint::once(&self.store.lock().conn);
        }
        if self.fault.is_to_be_tried() {
            let _ = self.make_sure_of_log();
        }
    }

    /// After a sync has failed: brings all of the log into the database, syncs that, and begins the log
    /// anew.
    fn make_sure_of_log(&self) -> Result<(), JournalError> {
        let sure = self.store.lock().checkpoint_all(&self.path);
        match &sure {
            Ok(()) => self.fault.trust_log(),
            Err(error) => self.fault.doubt_log(error),
        }
        sure
    }

    fn transact<'a>(
        &mut self,
        ops: impl Iterator<Item = &'a Op>,
        synced: bool,
    ) -> Result<Vec<Answer>, JournalError> {
        if synced && self.fault.doubts_log() {
            self.make_sure_of_log()?;
        }
        let mut store = self.store.lock();
        if synced {
            // Outside of a transaction; a commit then syncs the WAL with all that is in it.
            store.conn.pragma_update(None, "synchronous", "FULL")?;
        }
        let result = store.transaction(|store| ops.map(|op| store.apply(op)).collect());
        if synced {
            store.conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        self.fault.note(&result);
        if synced && let Err(error) = &result {
            self.fault.doubt_log(error);
        }
        result
    }

    /// Queues some of the files of renamed folders. True if there are more.
    fn expand(&mut self) -> bool {
        // Many folders with few files each share a transaction.
        let step = |store: &mut Store| {
            let mut done = 0;
            while done < EXPANSION_STEP {
                match store.expand(EXPANSION_STEP - done)? {
                    0 => break,
                    more => done += more,
                }
            }
            Ok(done)
        };
        let expanded = self.store.lock().transaction(step);
        match expanded {
            Ok(0) => false,
            Ok(_) => {
                self.wake(Due::WhenSettled);
                true
            }
            Err(error) => {
                tracing::error!(%error, "files of a renamed folder could not be queued; the next start goes on");
                false
            }
        }
    }

    /// Sums up some of a batch that has nothing left to do. True if there is more.
    fn end_batch(&mut self, asked: bool) -> bool {
        // Most commits end nothing, and need no transaction to know it.
        let mut store = self.store.lock();
        if !asked || !matches!(store.batch_may_end(), Ok(true)) {
            return false;
        }
        let ended = store.transaction(|store| store.end_batch(BATCH_STEP));
        let more = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a batch could not be summed up");
            false
        });
        let ended = !store.is_batch_going_on();
        drop(store);
        if ended {
            // What was left for the next one.
            self.wake(Due::WhenSettled);
        }
        more
    }

    fn wake(&self, due: Due) {
        if let Some(wake) = self.wake.get() {
            wake(due);
        }
    }
}

impl Store {
    /// Runs `body` in a transaction: all of it or nothing.
    pub(super) fn transaction<T>(
        &mut self,
        body: impl FnOnce(&mut Store) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.line_transaction(|store| {
            let value = body(store)?;
            store.tally()?;
            Ok(value)
        })
    }

    /// The same for what changes no file or work: for a line that is written down, which should be quick.
    fn line_transaction<T>(
        &mut self,
        body: impl FnOnce(&mut Store) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.find_lost()?;
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let result = body(self).and_then(|value| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        });
        if result.is_err() {
            // Fails if SQLite has rolled back by itself, as it does when the disk is full.
            let _ = self.conn.execute_batch("ROLLBACK");
            self.forget();
        }
        result
    }
}

fn not_written(path: &Path, error: &JournalError) {
    tracing::error!(%error, "the journal could not be written");
    damage::note_damage(path, error);
}
