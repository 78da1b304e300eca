//! Brings what the journal holds to the remote and the row sink.
//!
//! ```text
//! journal ──claim──▶ lane (small, large) ──▶ one task a file: load, put original, put thumbnail
//!    ▲                                                        │ outcome
//!    └────── settle ◀── settler: syncfs, then the group ◀─────┘
//! journal ──claim──▶ row builder ──batch──▶ row writer: upsert, settle
//! ```
//!
//! Threads and tasks, their bounds and ends:
//!
//! | what | how many | ends |
//! | --- | --- | --- |
//! | lanes | one task each | on stop |
//! | files | `workers` small ones and a quarter of that large ones at a time, fewer as [`gate`] and [`spread`] say; beside them up to 64 that wait for their thumbnails | each by itself |
//! | thumbnails | one thread a core, niced, one job a file; each with a process for C decoders | with [`Delivery`] |
//! | settler | one task, behind a channel of 1,024 | when the lanes and files have ended |
//! | row writer | one task; makes a batch while the sink takes another | on stop |
//! | deleter | one task, and four more with a batch each, with `sync_deletes` | on stop, after the batches |
//! | leftover uploads | one task: gives up what was begun and nobody goes on with | on stop, after a last look |
//! | health | one task: probes a remote that is away | on stop |
//!
//! Bytes in memory: files up to [`load::IN_MEMORY`], altogether at most [`load::BUDGET`],
//! and what is compressed of them beside.

mod alarm;
mod backoff;
mod blocking;
mod busy;
mod compress;
mod copy;
mod deleter;
mod doubt;
mod drain;
mod gate;
mod gone_rows;
mod health;
mod histogram;
mod hours;
mod insist;
mod lane;
mod load;
mod open;
mod pictures;
mod progress;
mod row_builder;
mod row_writer;
mod send;
mod settler;
mod spread;
mod thumbnails;
mod uploads;
mod way;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use backoff::Backoff;
pub use drain::Drained;
pub(crate) use open::stat_file;
use parking_lot::Mutex;
pub use progress::{Counters, Progress, Took};
pub use spread::Limits as SpreadLimits;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::beneath::Links;
use crate::config::Hours;
use crate::derive::stats::StatsRules;
use crate::derive::thumbnail;
use crate::glob::Globs;
use crate::journal::{Due, FileClaim, FileOutcome, Journal, JournalError, Lane, View};
use crate::path::RelPath;
use crate::remote::{Pace, Remote, RemoteError};
use crate::rows::RowSink;

/// Small files delivered at a time, if nobody says how many.
pub const WORKERS: usize = 8;

/// So many pictures may wait for their thumbnails beside the files that are being sent.
const WAITING_PICTURES: usize = 64;

/// How delivery is to go about it.
#[derive(Clone)]
pub struct Options {
    /// Those that it begins with; see [`Limiter`].
    pub limits: Limits,
    /// One file after the other, whatever its size.
    pub sequential: bool,
    /// How many folders are delivered from at a time, and how many files of each.
    pub spread: SpreadLimits,
    /// Attempts after the first before a file is `failed`.
    pub max_retries: u32,
    pub backoff: Backoff,
    /// The mount's settle time: how long to wait after a wake-up before anything can be due.
    pub settle: Duration,
    pub pictures: Pictures,
    /// What is sent gzip-encoded.
    pub compress: Globs,
    /// Whether what is deleted here is deleted at the remote, with the rows of folders.
    pub sync_deletes: bool,
    /// What becomes of symbolic links.
    pub links: Links,
    /// Which file tells of its folder, and how.
    pub stats: StatsRules,
    /// Name of the machine, for rows.
    pub host: String,
    /// Told of what comes to pass, for people and programs.
    pub observer: Option<Arc<dyn Observer>>,
}

/// How much of the machine and the line may be used; may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Small files delivered at a time; `None`: as many as the remote takes gladly.
    pub workers: Option<usize>,
    /// Bytes and requests a second, if they are limited.
    pub bwlimit: Option<u64>,
    pub tps_limit: Option<u64>,
    /// When to deliver; `None` for always.
    pub upload_hours: Option<Hours>,
}

impl Limits {
    fn workers(&self, remote: &dyn Remote) -> usize {
        let usual = || remote.capabilities().workers.unwrap_or(WORKERS);
        self.workers.unwrap_or_else(usual)
    }
}

/// Hears what comes to pass, before the journal does. Called on delivery's tasks.
pub trait Observer: Send + Sync {
    /// What became of a file, and how long that took.
    fn attempted(&self, claim: &FileClaim, outcome: &FileOutcome, took: Duration);
    /// What was deleted here is deleted at the remote.
    fn deleted(&self, path: &RelPath);
}

/// What is made of pictures.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// The thumbnails, the main one first; empty for none.
    pub thumbnails: Vec<thumbnail::Options>,
    pub limits: thumbnail::Limits,
    /// This program, whose `decode` command is where C decoders work.
    pub program: PathBuf,
}

/// What all tasks share.
struct Context {
    journal: Journal,
    /// For look-ups of microseconds.
    view: Mutex<View>,
    /// The backing directory; never reached by a path, which could lead through the mount.
    backing: OwnedFd,
    remote: Arc<dyn Remote>,
    rows: Option<Arc<dyn RowSink>>,
    options: Options,
    progress: Arc<Progress>,
    health: health::Health,
    pictures: pictures::Pool,
    thumbnails: thumbnails::Folders,
    /// Pictures whose originals have arrived, and which need no place at a lane any more.
    waiting_pictures: Semaphore,
    budget: load::Budget,
    /// For small files, and for large ones.
    small: Arc<gate::Gate>,
    large: Arc<gate::Gate>,
    pace: Arc<Pace>,
    hours: watch::Sender<Option<Hours>>,
    spread: Option<Arc<spread::Spread>>,
    busy: busy::Busy,
    way: way::Way,
    alarms: alarm::Alarms,
    stop: watch::Receiver<bool>,
}

/// A running delivery. Dropping it stops it where it is; the journal knows what is left.
pub struct Delivery {
    context: Arc<Context>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Delivery {
    /// Starts to deliver, on the current tokio runtime.
    pub fn start(
        journal: Journal,
        backing: OwnedFd,
        remote: Arc<dyn Remote>,
        rows: Option<Arc<dyn RowSink>>,
        options: Options,
    ) -> Result<Self, JournalError> {
        let (stop, stopped) = watch::channel(false);
        let limits = options.limits;
        let pace = Arc::new(Pace::new(limits.bwlimit, limits.tps_limit));
        remote.keep_pace(pace.clone());
        let workers = limits.workers(remote.as_ref());
        let small = gate::Gate::new(workers);
        let large = match options.sequential {
            true => small.clone(),
            false => gate::Gate::new(large(workers)),
        };
        let view = journal.view()?;
        let context = Arc::new(Context {
            pictures: pictures::Pool::start(&options.pictures)
                .map_err(|error| JournalError::Sqlite(format!("cannot start a thread: {error}")))?,
            waiting_pictures: Semaphore::new(WAITING_PICTURES),
            thumbnails: thumbnails::Folders::new(
                &options.pictures,
                view.meta()?.thumbnails,
                remote.capabilities().thumbnails,
            ),
            view: Mutex::new(view),
            small,
            large,
            pace,
            hours: watch::Sender::new(limits.upload_hours),
            spread: spread::Spread::new(options.spread),
            journal: journal.clone(),
            backing,
            remote,
            rows,
            progress: Arc::new(Progress::new(workers)),
            options,
            health: health::Health::default(),
            budget: load::Budget::default(),
            busy: busy::Busy::default(),
            way: way::Way::default(),
            alarms: alarm::Alarms::default(),
            stop: stopped,
        });
        let (outcomes, settled) = mpsc::channel(settler::BACKLOG);
        let mut tasks = vec![
            tokio::spawn(settler::run(context.clone(), settled)),
            tokio::spawn(lane::run(context.clone(), Lane::Small, outcomes.clone())),
            tokio::spawn(lane::run(context.clone(), Lane::Large, outcomes)),
            tokio::spawn(health::run(context.clone())),
            tokio::spawn(uploads::run(context.clone())),
        ];
        if context.options.sync_deletes {
            tasks.push(tokio::spawn(deleter::run(context.clone())));
        }
        if context.rows.is_some() {
            tasks.push(tokio::spawn(row_writer::run(context.clone())));
        }
        // The journal outlives the tasks; it must not keep them alive.
        let waker = Arc::downgrade(&context);
        journal.on_work(move |due| {
            if let Some(context) = waker.upgrade() {
                match due {
                    Due::WhenSettled => context.alarms.ring(),
                    Due::Now => context.alarms.ring_now(),
                }
            }
        });
        Ok(Self {
            context,
            stop,
            tasks,
        })
    }

    /// What is going on, for status.
    pub fn progress(&self) -> Arc<Progress> {
        self.context.progress.clone()
    }

    /// For whoever may change its limits.
    pub fn limiter(&self) -> Limiter {
        Limiter(self.context.clone())
    }

    /// Lets delivery begin with a remote that is known not to work now.
    pub fn remote_is_away(&self, error: &RemoteError) {
        self.context.remote_is_away(error);
    }

    /// Stops claiming, lets what is on its way end or, after `grace`, leaves it to the next start.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let all = async {
            for task in &mut { self.tasks } {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(grace, all).await;
    }
}

/// Changes the limits of a delivery.
pub struct Limiter(Arc<Context>);

impl Limiter {
    /// These hold from now on; what is on its way is not held up. How many workers there are then.
    pub fn set(&self, limits: Limits) -> usize {
        let context = &self.0;
        context.pace.set(limits.bwlimit, limits.tps_limit);
        // With `sequential` both gates are one.
        let workers = match context.options.sequential {
            true => 1,
            false => limits.workers(context.remote.as_ref()),
        };
        context.small.set_places(workers);
        context.large.set_places(large(workers));
        context.progress.set_workers(workers);
        context.hours.send_replace(limits.upload_hours);
        workers
    }
}

impl Context {
    fn open_file(&self, path: &RelPath) -> io::Result<File> {
        open::open_file(&self.backing, path, self.options.links)
    }

    /// The remote asks for less.
    fn slow_down(&self, rest: Option<Duration>) {
        self.small.slow_down(rest);
        self.large.slow_down(rest);
        self.progress.set_workers(self.small.limit());
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Large files delivered at a time beside so many small ones.
fn large(workers: usize) -> usize {
    workers.div_ceil(4)
}

/// How long until a time of the journal's clock.
fn until(ms: i64) -> Duration {
    Duration::from_millis((ms - crate::journal::now_ms()).max(0) as u64)
}
