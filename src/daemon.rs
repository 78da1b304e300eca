//! A mount's life: lock the directory, open remote, rows and journal, mount, deliver, and when the
//! mount is gone, drain.
//!
//! Threads of its own: `signals` (SIGTERM and SIGINT become events) and `mounted` (waits for the
//! end of the mount), which both send to the one channel that [`run`] waits on, and `rescan` (hands
//! folders to the scan).

pub mod command;
pub(crate) mod lock;
mod metrics_server;
pub(crate) mod probe;
mod reload;
mod upload_dir;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::MountSettings;
use crate::control;
use crate::delivery::{self, Delivery, Drained};
use crate::journal::{self, Journal, JournalError, View};
use crate::mount::{self, Mount};
use crate::notify::Notifier;
use crate::path::RelPath;
use crate::remote;
use crate::scan::{self, Scan, ScanHandle};
use crate::status::Snapshot;
use crate::status::collect::{self, Source};
use lock::Lock;
use metrics_server::MetricsServer;
pub use reload::{NewLimits, Reread};
use upload_dir::UploadDir;

/// Draining ends when nothing at all has arrived for this long: a remote that is away must not keep
/// a machine from shutting down. The next mount goes on.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for programs to close their files when the mount is taken away under them.
const CLOSING: Duration = Duration::from_secs(5);
/// How long uploads that are on their way may take to end when draining has ended.
const GRACE: Duration = Duration::from_secs(2);

/// Folders with other names or rules that may wait to be scanned.
const FOLDERS_TO_SCAN: usize = 1024;

/// What a daemon says of itself when its mount is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where files and rows go, for people; no secrets.
    pub remote: String,
    pub rows: Option<String>,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Whether the kernel reads and writes the backing files by itself.
    pub passthrough: bool,
    /// What does not keep the mount from working and should be known; sentences.
    pub warnings: Vec<String>,
}

/// Why there is no mount, or why it ended; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum DaemonError {
    /// It may be otherwise the next time.
    #[error("{0}")]
    Failed(String),
    /// Nothing was changed, and it will be the same the next time: something has to be set otherwise.
    #[error("{0}")]
    Refused(String),
}

pub(crate) fn failed(error: impl std::fmt::Display) -> DaemonError {
    // fusermount3's errors end a line.
    DaemonError::Failed(error.to_string().trim_end().to_owned())
}

pub(crate) fn refused(error: impl std::fmt::Display) -> DaemonError {
    DaemonError::Refused(error.to_string())
}

/// Why the journal cannot be used.
pub(crate) fn unopened(error: JournalError) -> DaemonError {
    match error {
        JournalError::OtherDirectory { .. } | JournalError::NewerSchema { .. } => refused(error),
        error => failed(error),
    }
}

enum Event {
    Signal,
    Unmounted,
}

/// Delivery has time; who writes into the mount, and the threads that serve him, should not wait
/// for it where processors are few.
fn make_way_for_writers() {
    // Without it all is slower, not wrong.
    let _ = rustix::process::nice(10);
}

/// Mounts, calls `ready` once that is done, serves until unmounted or told to stop, drains; returns
/// what is left.
pub fn run(
    settings: &MountSettings,
    reread: Reread,
    ready: impl FnOnce(Ready),
) -> Result<Snapshot, DaemonError> {
    // The runtime outlives all that runs on it, and its threads come after the fork of a daemon.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(make_way_for_writers)
        .build()
        .map_err(failed)?;
    let directory = open_directory(settings)?;
    let mut lock = Lock::acquire(&directory, settings)?;
    refuse_vanished(settings, &directory)?;
    probe::refuse_forgotten_remote(settings)?;
    let mut places = runtime.block_on(probe::open_and_probe(settings))?;
    lock.take_journal(settings)?;
    let metrics = settings
        .metrics_listen
        .map(MetricsServer::bind)
        .transpose()?;
    let elsewhere = probe::other_remote(settings);
    let (device, inode) = identity(&directory)?;
    let journal = Journal::open(journal::Options {
        path: settings.journal.clone(),
        directory: settings.directory.clone(),
        device,
        inode,
        settle: settings.settle,
        has_rows: places.rows.is_some(),
        sync_deletes: settings.sync_deletes,
        priority: settings.priority.clone(),
        thumbnails: settings.further_thumbnail_folders(),
        batches: settings.batches,
        remote: Some(remote::place(&settings.remote)),
    })
    .map_err(unopened)?;
    places.warnings.extend(elsewhere);
    let kept = journal.view().and_then(|view| view.replaces());
    if let Some(kept) = kept.map_err(failed)? {
        places.warnings.push(format!(
            "the journal was damaged; it is kept as {kept}, and a new one is made from the directory \
             and what the remote has"
        ));
    }
    lock.write_state(lock::State::Mounted);

    let in_runtime = runtime.enter();
    let delivery = Delivery::start(
        journal.clone(),
        duplicate(&directory)?,
        places.remote.clone(),
        places.rows.clone(),
        delivery_options(settings),
    )
    .map_err(failed)?;
    drop(in_runtime);
    if let Some(error) = &places.remote_error {
        delivery.remote_is_away(error);
    }

    // Whatever has changed by now has done so before the mount was there to see it.
    let since = journal::now_ms() * 1_000_000;
    let scan = Scan::start(
        journal.clone(),
        duplicate(&directory)?,
        scan::Options {
            filter: settings.filter.clone(),
            links: settings.links,
            observer: None,
        },
    )
    .map_err(failed)?;
    scan.handle()
        .tree(RelPath::root(), Some(since))
        .map_err(failed)?;
    let status = Arc::new(source(settings, &journal, &delivery, &scan, &places)?);
    if let Some(metrics) = &metrics {
        metrics.serve(runtime.handle(), status.clone())?;
    }
    let upload_dir = UploadDir {
        source: status.clone(),
        journal: journal.clone(),
        remote: places.remote.clone(),
        runtime: runtime.handle().clone(),
        lists: Arc::default(),
    };
    let mount = mount::mount(
        duplicate(&directory)?,
        &settings.mountpoint,
        journal.clone(),
        Arc::new(upload_dir),
        scan_anew(scan.handle())?,
        &mount_options(settings),
    )
    .map_err(failed)?;
    status.mounted(mount.passthrough());
    journal.mounted().map_err(failed)?;
    tracing::info!(directory = %settings.directory.display(), mountpoint = %settings.mountpoint.display(),
        passthrough = mount.passthrough(), "mounted");
    let notifier = notifier(settings, &journal, places.remote.describe()).map_err(failed)?;
    let (sender, events) = crossbeam_channel::unbounded();
    forward_signals(sender.clone())?;
    ready(Ready {
        remote: places.remote.describe(),
        rows: places.rows.as_ref().map(|rows| rows.describe()),
        metrics: metrics.as_ref().map(|metrics| metrics.url()),
        passthrough: mount.passthrough(),
        warnings: places.warnings,
    });

    let place = match settings.mountpoint == settings.directory {
        true => control::Place::Covered,
        false => control::Place::Beside,
    };
    let (renewer, unmounter) = (mount.renewer(), mount.unmounter());
    let limiter = delivery.limiter();
    let suspects = control::Suspects {
        backing: duplicate(&directory)?,
        remote: Some(places.remote.clone()),
        runtime: runtime.handle().clone(),
        placed: Box::new(move |path| renewer.renew(path)),
    };
    let control = control::Server::start(
        journal.clone(),
        scan.handle(),
        place,
        suspects,
        status.clone(),
        Some(control::Mounted {
            let_go: Box::new(move || unmounter.release_waiting()),
            reload: Box::new(move || reload::reload(&limiter, &reread)),
        }),
    );
    if let Err(error) = &control {
        tracing::warn!(%error, "there is no control socket; 'outboxfs push' and 'retry' cannot ask this daemon");
    }

    serve(mount, sender, &events)?;
    status.unmounted();
    if let Ok(control) = &control {
        control.end();
    }
    lock.write_state(lock::State::Draining);
    // While batches rest nothing arrives, and that is as it should be.
    let patience = PATIENCE + settings.batches.pause;
    drain(&runtime, &delivery, &events, patience);
    runtime.block_on(delivery.stop(GRACE));
    drop(control);
    scan.stop();
    drop(notifier);
    end(&directory, &journal);
    what_is_left(settings, &journal)
}

/// Until the mount is gone: unmounted by somebody, or by us because of a signal.
fn serve(mount: Mount, sender: Sender<Event>, events: &Receiver<Event>) -> Result<(), DaemonError> {
    let unmounter = mount.unmounter();
    std::thread::Builder::new()
        .name("mounted".into())
        .spawn(move || {
            if let Err(error) = mount.wait() {
                tracing::error!(%error, "the mount ended with an error");
            }
            let _ = sender.send(Event::Unmounted);
        })
        .map_err(failed)?;
    if let Ok(Event::Unmounted) | Err(_) = events.recv() {
        return Ok(());
    }
    tracing::info!("told to stop: unmounting");
    if let Err(error) = unmounter.unmount() {
        tracing::error!(%error, "cannot unmount");
    }
    if let Ok(Event::Signal) | Err(_) = events.recv_timeout(CLOSING) {
        tracing::warn!(
            "files are still open; what is written to them from now on is found by the next mount"
        );
    }
    Ok(())
}

/// Delivers what is left until nothing is, nothing arrives any more, or a signal says to stop.
fn drain(
    runtime: &tokio::runtime::Runtime,
    delivery: &Delivery,
    events: &Receiver<Event>,
    patience: Duration,
) {
    tracing::info!("unmounted; delivering what is left");
    let interrupted = async {
        loop {
            if let Ok(Event::Signal) = events.try_recv() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            drained = delivery.drain(patience) => match drained {
                Ok(Drained::Empty) => {}
                Ok(Drained::Stalled) => tracing::warn!("nothing arrives any more; the journal keeps what is left"),
                Err(error) => tracing::error!(%error, "draining ended early"),
            },
            () = interrupted => tracing::warn!("told to stop again; the journal keeps what is left"),
        }
    });
}

/// Makes all durable, and says so in the journal: if the machine goes down now, nothing is in doubt.
fn end(directory: &File, journal: &Journal) {
    let ended = rustix::fs::syncfs(directory)
        .map_err(failed)
        .and_then(|()| journal.ended().map_err(failed));
    if let Err(error) = ended {
        tracing::warn!(%error, "the end could not be made durable");
    }
}

fn what_is_left(settings: &MountSettings, journal: &Journal) -> Result<Snapshot, DaemonError> {
    let mut snapshot = Snapshot {
        directory: settings.directory.display().to_string(),
        journal: settings.journal.display().to_string(),
        ..Snapshot::default()
    };
    let view = journal.view().map_err(failed)?;
    collect::fill_from_journal(&view, &mut snapshot).map_err(failed)?;
    tracing::info!(
        delivered = snapshot.delivered_files,
        queued = snapshot.queued_files,
        failed = snapshot.failed_files,
        "ended"
    );
    Ok(snapshot)
}

pub(crate) fn open_directory(settings: &MountSettings) -> Result<File, DaemonError> {
    File::open(&settings.directory).map_err(|error| {
        DaemonError::Failed(format!(
            "{} cannot be opened: {error}",
            settings.directory.display()
        ))
    })
}

/// An empty directory in the place of one that has files: a disk is not mounted. Whatever was written
/// now would hide below it.
pub(crate) fn refuse_vanished(
    settings: &MountSettings,
    directory: &File,
) -> Result<(), DaemonError> {
    let (_, inode) = identity(directory)?;
    let is_empty = is_empty(directory)?;
    // A journal that is new or damaged knows of nothing.
    let has_files = View::open(&settings.journal).and_then(|view| view.has_files_of_another(inode));
    if is_empty && has_files.unwrap_or(false) {
        return Err(DaemonError::Failed(format!(
            "{} is empty, and is not the directory that the journal {} knows: mount its disk first \
             (or, if all of it was deleted on purpose, move the journal away)",
            settings.directory.display(),
            settings.journal.display()
        )));
    }
    Ok(())
}

/// A directory that has become empty while nobody watched: somebody has deleted all of it, or a disk
/// is away whose root looks the same. What is gone at the remote, too, does not come back.
pub(crate) fn refuse_to_delete_all(
    settings: &MountSettings,
    directory: &File,
) -> Result<(), DaemonError> {
    let totals = View::open(&settings.journal).and_then(|view| view.totals());
    // A journal that is new or damaged knows of nothing to delete.
    let files = totals.map_or(0, |totals| totals.delivered_files);
    if files > 0 && is_empty(directory)? {
        return Err(DaemonError::Failed(format!(
            "{} is empty, and --sync-deletes would delete all its {files} files at the remote: mount \
             its disk first, or push without --sync-deletes (or, if they are to be deleted, leave \
             one file in it)",
            settings.directory.display(),
        )));
    }
    Ok(())
}

fn is_empty(directory: &File) -> Result<bool, DaemonError> {
    let entries = rustix::fs::Dir::read_from(directory).map_err(failed)?;
    Ok(entries
        .flatten()
        .all(|entry| matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found")))
}

pub(crate) fn duplicate(directory: &File) -> Result<OwnedFd, DaemonError> {
    directory.as_fd().try_clone_to_owned().map_err(failed)
}

/// Device and inode number.
pub(crate) fn identity(directory: &File) -> Result<(u64, u64), DaemonError> {
    let stat = rustix::fs::fstat(directory).map_err(failed)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Also when it was replaced since, or removed.
const THIS_PROGRAM: &str = "/proc/self/exe";

pub(crate) fn delivery_options(settings: &MountSettings) -> delivery::Options {
    delivery::Options {
        limits: settings.limits,
        sequential: settings.sequential,
        spread: settings.spread,
        links: settings.links,
        max_retries: settings.max_retries,
        settle: settings.settle,
        backoff: delivery::Backoff {
            base: settings.retry_delay,
            cap: settings.max_retry_delay,
        },
        compress: settings.compress.clone(),
        sync_deletes: settings.sync_deletes,
        pictures: delivery::Pictures {
            thumbnails: settings.thumbnails.clone(),
            limits: settings.picture_limits.clone(),
            program: THIS_PROGRAM.into(),
        },
        stats: settings.stats.clone(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        observer: None,
    }
}

/// Tells of batches and failures from now on.
pub(crate) fn notifier(
    settings: &MountSettings,
    journal: &Journal,
    remote: String,
) -> Result<Notifier, journal::JournalError> {
    let fixed = Snapshot {
        directory: settings.directory.display().to_string(),
        remote,
        ..Snapshot::default()
    };
    Notifier::start(&settings.hooks, journal.path(), fixed)
}

/// Scans what the mount says, on a thread of its own, `rescan`, which ends with the mount.
fn scan_anew(scan: ScanHandle) -> Result<Sender<RelPath>, DaemonError> {
    let (sender, folders) = crossbeam_channel::bounded::<RelPath>(FOLDERS_TO_SCAN);
    std::thread::Builder::new()
        .name("rescan".into())
        .spawn(move || {
            for folder in folders {
                // What was left out has changed while the mount was there to see it, and did not tell.
                if let Err(error) = scan.tree(folder, None) {
                    tracing::warn!(%error, "a folder could not be scanned again");
                }
            }
        })
        .map_err(failed)?;
    Ok(sender)
}

fn mount_options(settings: &MountSettings) -> mount::Options {
    mount::Options {
        passthrough: settings.passthrough,
        // A mount that was made for the daemon is for everybody: root, who made it, is not its owner.
        allow: if settings.allow_other || settings.device.is_some() {
            mount::Allow::Everyone
        } else {
            mount::Allow::Owner
        },
        filter: settings.filter.clone(),
        sync_deletes: settings.sync_deletes,
        source: settings.source.clone(),
        restrictions: settings.restrictions.clone(),
        device: settings.device.clone(),
        show_upload_dir: settings.show_upload_dir,
        list_xattrs: settings.list_xattrs,
        ..mount::Options::default()
    }
}

fn forward_signals(sender: Sender<Event>) -> Result<(), DaemonError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in &mut signals {
                if sender.send(Event::Signal).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(())
}

/// What status reads.
fn source(
    settings: &MountSettings,
    journal: &Journal,
    delivery: &Delivery,
    scan: &Scan,
    places: &probe::Places,
) -> Result<Source, DaemonError> {
    let fixed = Snapshot {
        directory: settings.directory.display().to_string(),
        mountpoint: Some(settings.mountpoint.display().to_string()),
        pid: Some(std::process::id()),
        flush: settings.flush,
        journal: settings.journal.display().to_string(),
        remote: places.remote.describe(),
        rows: places.rows.as_ref().map(|rows| rows.describe()),
        ..Snapshot::default()
    };
    Source::new(journal, delivery.progress(), scan.looked_at(), fixed).map_err(failed)
}
