//! A push: what lies in a directory that nobody has mounted is scanned and delivered; then it ends.
//! From the journal on it is what a mount does.
//!
//! One thread of its own where paths are listed by
//! somebody: `paths` hands them to the scan a batch at a time. It ends with the process at the
//! latest: reading a standard input that nobody closes cannot be broken off.

mod events;
mod existing;
mod finished;
mod patience;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use signal_hook::consts::{SIGINT, SIGTERM};

pub use events::{Event, Events, Tally};
pub use existing::prefix;

use crate::config::MountSettings;
use crate::control;
use crate::daemon::lock::{Lock, State};
use crate::daemon::probe::{expect_what_is_there, refuse_forgotten_remote, refuse_incapable};
use crate::daemon::{
    DaemonError, delivery_options, duplicate, failed, identity, notifier, open_directory,
    refuse_to_delete_all, refuse_vanished, refused, unopened,
};
use crate::delivery::{Delivery, Drained};
use crate::journal::{self, Journal, JournalError};
use crate::path::RelPath;
use crate::remote::{self, Artifact, Remote, RemoteError};
use crate::rows::{self, RowSink};
use crate::scan::{self, Scan, ScanHandle};
use crate::status::Snapshot;
use crate::status::collect::{self, Source};

/// How long remote and row sink may take to answer before a push gives up at once.
const ANSWER: Duration = Duration::from_secs(10);
/// A push ends when nothing has arrived for so long, or for twice the longest pause between two
/// attempts.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long uploads that are on their way may take to end when told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How often is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(10);
/// Listed paths that are scanned together.
const TOGETHER: usize = 512;

/// What is to be pushed, and how.
pub struct Job {
    /// Where; the mount point is not used.
    pub settings: MountSettings,
    pub paths: Paths,
    /// Whether to look what the remote has already.
    pub skip_existing: bool,
    /// Record only.
    pub scan_only: bool,
}

pub enum Paths {
    /// A file or folder with all below it.
    Below(RelPath),
    /// These, as they come; ends when the sender is dropped.
    Listed(Receiver<RelPath>),
}

/// How a push ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the journal says.
    pub snapshot: Snapshot,
    /// Told to stop before the end.
    pub interrupted: bool,
}

/// Pushes; `started` gets what progress is read from.
pub fn run(
    job: Job,
    events: &Arc<Events>,
    started: impl FnOnce(Arc<Source>),
) -> Result<Outcome, DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let settings = &job.settings;
    let directory = open_directory(settings)?;
    let mut lock = Lock::acquire(&directory, settings)?;
    refuse_vanished(settings, &directory)?;
    if settings.sync_deletes {
        refuse_to_delete_all(settings, &directory)?;
    }
    let places = match job.scan_only {
        true => None,
        false => {
            refuse_forgotten_remote(settings)?;
            Some(runtime.block_on(Places::open(settings))?)
        }
    };
    lock.take_journal(settings)?;
    let (device, inode) = identity(&directory)?;
    let journal = Journal::open(journal::Options {
        path: settings.journal.clone(),
        directory: settings.directory.clone(),
        device,
        inode,
        // Nobody is writing through us: there is nothing to wait for.
        settle: Duration::ZERO,
        has_rows: !settings.rows.is_empty(),
        sync_deletes: settings.sync_deletes,
        priority: settings.priority.clone(),
        thumbnails: settings.further_thumbnail_folders(),
        batches: settings.batches,
        remote: places.as_ref().map(|_| remote::place(&settings.remote)),
    })
    .map_err(unopened)?;
    lock.write_state(State::Pushing);
    let stop = stop_on_signals()?;

    let below = match &job.paths {
        Paths::Below(path) => path.clone(),
        Paths::Listed(_) => RelPath::root(),
    };
    journal.retry(&below).map_err(failed)?;
    let scan = Scan::start(
        journal.clone(),
        duplicate(&directory)?,
        scan::Options {
            filter: settings.filter.clone(),
            links: settings.links,
            observer: Some(events.clone()),
        },
    )
    .map_err(failed)?;
    let suspects = control::Suspects {
        backing: duplicate(&directory)?,
        remote: places.as_ref().map(|places| places.remote.clone()),
        runtime: runtime.handle().clone(),
        placed: Box::new(|_| ()),
    };
    let work = Work {
        scan: scan.handle(),
        stop,
        patience: PATIENCE.max(settings.max_retry_delay * 2) + settings.batches.pause,
    };
    let delivery = match &places {
        Some(places) => {
            let below = job.skip_existing.then(|| below.clone());
            let remote = places.remote(below, &journal, events)?;
            let mut options = delivery_options(settings);
            options.settle = Duration::ZERO;
            options.observer = Some(events.clone());
            let _in_runtime = runtime.enter();
            let backing = duplicate(&directory)?;
            let rows = places.rows.clone();
            Some(Delivery::start(journal.clone(), backing, remote, rows, options).map_err(failed)?)
        }
        None => None,
    };
    let progress = delivery
        .as_ref()
        .map(Delivery::progress)
        .unwrap_or_default();
    let fixed = Snapshot {
        directory: settings.directory.display().to_string(),
        pid: Some(std::process::id()),
        pushing: true,
        journal: settings.journal.display().to_string(),
        remote: match &places {
            Some(places) => places.remote.describe(),
            None => String::new(),
        },
        rows: places
            .as_ref()
            .and_then(|places| Some(places.rows.as_ref()?.describe())),
        ..Snapshot::default()
    };
    let source = Source::new(&journal, progress, scan.looked_at(), fixed.clone());
    let source = Arc::new(source.map_err(failed)?);
    let place = control::Place::Bare;
    let control = control::Server::start(
        journal.clone(),
        scan.handle(),
        place,
        suspects,
        source.clone(),
        None,
    );
    if let Err(error) = &control {
        tracing::warn!(%error, "there is no control socket; nobody can ask this push for anything");
    }
    let notifier = notifier(settings, &journal, fixed.remote.clone()).map_err(failed)?;
    started(source);

    let result = runtime.block_on(work.go(job.paths, delivery.as_ref()));
    drop(control);
    lock.write_state(State::Draining);
    scan.stop();
    if let Some(delivery) = delivery {
        runtime.block_on(delivery.stop(GRACE));
    }
    drop(notifier);
    let interrupted = result.map_err(failed)?;
    let mut snapshot = fixed;
    let view = journal.view().map_err(failed)?;
    collect::fill_from_journal(&view, &mut snapshot).map_err(failed)?;
    if let (Some(touched), Some(places)) = (&events.touched, &places) {
        let backing = duplicate(&directory)?;
        let marked = touched.mark(&view, &backing, places.remote.as_ref());
        marked.map_err(failed)?;
    }
    // What is still on its way after the grace does not hold up the end.
    runtime.shutdown_background();
    Ok(Outcome {
        snapshot,
        interrupted,
    })
}

struct Work {
    scan: ScanHandle,
    stop: Arc<AtomicBool>,
    patience: Duration,
}

impl Work {
    /// Scans and delivers to the end; true if told to stop before.
    async fn go(&self, paths: Paths, delivery: Option<&Delivery>) -> Result<bool, JournalError> {
        let complete = match paths {
            Paths::Below(path) => {
                let scanned = self.scan.tree(path, None)?;
                self.end_of(&scanned).await?
            }
            Paths::Listed(paths) => self.end_of(&self.listed(paths)?).await?,
        };
        if !complete {
            return Ok(true);
        }
        let Some(delivery) = delivery else {
            return Ok(false);
        };
        tokio::select! {
            drained = delivery.drain(self.patience) => {
                if drained? == Drained::Stalled {
                    tracing::warn!("nothing arrives any more; the journal keeps what is left");
                }
                Ok(false)
            }
            () = self.stopped() => Ok(true),
        }
    }

    /// Hands listed paths to the scan.
    fn listed(&self, paths: Receiver<RelPath>) -> Result<scan::Done, JournalError> {
        let (done, told) = crossbeam_channel::bounded(1);
        let scan = self.scan.clone();
        std::thread::Builder::new()
            .name("paths".into())
            .spawn(move || {
                while let Ok(first) = paths.recv() {
                    let batch = std::iter::once(first).chain(paths.try_iter().take(TOGETHER - 1));
                    let scanned = scan.list(batch.collect(), None).map(|done| done.recv());
                    match scanned {
                        Ok(Ok(Ok(true))) => {}
                        Ok(Ok(result)) => {
                            let _ = done.send(result);
                            return;
                        }
                        Ok(Err(_)) => return,
                        Err(error) => {
                            let _ = done.send(Err(error));
                            return;
                        }
                    }
                }
                let _ = done.send(Ok(true));
            })
            .map_err(|error| JournalError::Sqlite(format!("cannot start a thread: {error}")))?;
        Ok(told)
    }

    /// True when a scan is through, false when told to stop before.
    async fn end_of(&self, scanned: &scan::Done) -> Result<bool, JournalError> {
        loop {
            match scanned.try_recv() {
                Ok(result) => return result,
                Err(TryRecvError::Disconnected) => return Err(JournalError::Closed),
                Err(TryRecvError::Empty) => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

struct Places {
    remote: Arc<dyn Remote>,
    rows: Option<Arc<dyn RowSink>>,
}

impl Places {
    /// Opens both and sees that they work: somebody is waiting for this push.
    async fn open(settings: &MountSettings) -> Result<Self, DaemonError> {
        let remote = remote::open_configured(settings).await.map_err(refused)?;
        refuse_incapable(settings, remote.as_ref())?;
        let rows = rows::open_configured(settings).map_err(refused)?;
        expect_what_is_there(settings, remote.as_ref(), rows.as_deref());
        let silent =
            |who: String| format!("{who} has not answered for {} seconds", ANSWER.as_secs());
        let probed = patience::patiently(|| async {
            tokio::time::timeout(ANSWER, remote.probe())
                .await
                .unwrap_or_else(|_| Err(RemoteError::unreachable(silent(remote.describe()))))
        });
        probed.await.map_err(failed)?;
        if let Some(rows) = &rows {
            tokio::time::timeout(ANSWER, rows.probe())
                .await
                .map_err(|_| failed(silent(rows.describe())))?
                .map_err(failed)?;
        }
        Ok(Self { remote, rows })
    }

    /// The remote to deliver to; with `skip_existing`, one that knows what is there below it.
    fn remote(
        &self,
        skip_existing: Option<RelPath>,
        journal: &Journal,
        events: &Arc<Events>,
    ) -> Result<Arc<dyn Remote>, DaemonError> {
        events.set_remote(self.remote.clone());
        let Some(below) = skip_existing else {
            return Ok(self.remote.clone());
        };
        if !self.remote.capabilities().reads {
            let remote = self.remote.describe();
            tracing::warn!(
                "{remote} cannot be asked what it has; nothing is skipped but what the journal knows"
            );
            return Ok(self.remote.clone());
        }
        let view = journal.view().map_err(failed)?;
        Ok(Arc::new(existing::SkipExisting::new(
            self.remote.clone(),
            events.clone(),
            below,
            Artifact::folders(view.meta().map_err(failed)?.thumbnails),
            view.totals().map_err(failed)?.delivered_files,
        )))
    }
}

/// Set by the first SIGINT or SIGTERM; the second one ends the process where it is, as the journal
/// bears.
fn stop_on_signals() -> Result<Arc<AtomicBool>, DaemonError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let second = signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone());
        second.map_err(failed)?;
        signal_hook::flag::register(signal, stop.clone()).map_err(failed)?;
    }
    Ok(stop)
}
