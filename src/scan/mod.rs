//! Comparing the tree with the journal, and recording what came about while nobody watched: written
//! and never closed, made before the first mount, changed below a mount, or pushed without one.
//!
//! One thread, `scan`: it scans what is asked for, one after the other, and ends when it is told to
//! stop, or when nobody can ask any more. What it is at stands in the journal, so that an
//! interrupted scan begins anew; what is recorded already it passes by quickly.

mod hollow;
mod walk;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

pub(crate) use hollow::{has_hole, is_zero};
pub use walk::{Different, Findings, Walker};

use crate::beneath::Links;
use crate::filter::Filter;
use crate::journal::{FileStat, Journal, JournalError, Known, ScannedFolder, Sighting, View};
use crate::path::RelPath;

/// Paths taken from the journal at a time.
const BATCH: usize = 64;
/// Files of a folder that are recorded together.
const CHUNK: usize = 256;
/// Chunks that may wait for the journal's writer; they share a transaction with changes that come
/// through the mount, which wait for it.
const IN_FLIGHT: usize = 32;
/// Lists of paths that may wait for the scan.
const REQUESTS: usize = 16;

/// How to scan.
#[derive(Clone, Default)]
pub struct Options {
    pub filter: Filter,
    /// What becomes of symbolic links.
    pub links: Links,
    /// Told of what is found, for people and programs.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Hears what a scan finds. Called on the scan's thread.
pub trait Observer: Send + Sync {
    /// A file is recorded for delivery; `is_new`: the journal did not know it.
    fn queued(&self, path: &RelPath, stat: &FileStat, is_new: bool);
    /// A file or folder cannot be looked at, and is left as the journal has it.
    fn trouble(&self, path: &RelPath, error: &io::Error);
    /// A file is larger than the filter wants.
    fn too_large(&self, path: &RelPath, size: u64);
}

/// A running scan.
pub struct Scan {
    journal: Journal,
    stop: Arc<AtomicBool>,
    looked_at: Arc<AtomicU64>,
    requests: Sender<Request>,
    /// The thread ends when this is dropped.
    alive: Sender<()>,
    thread: JoinHandle<()>,
}

struct Request {
    paths: Vec<RelPath>,
    /// As in [`ScanHandle::tree`].
    since: Option<i64>,
    done: Sender<Result<bool, JournalError>>,
}

/// Tells when a scan is through: `true`, or `false` if it was stopped before.
pub type Done = Receiver<Result<bool, JournalError>>;

impl Scan {
    /// Starts the thread, which waits for requests.
    pub fn start(
        journal: Journal,
        backing: OwnedFd,
        options: Options,
    ) -> Result<Self, JournalError> {
        let stop = Arc::new(AtomicBool::new(false));
        let looked_at = Arc::new(AtomicU64::new(0));
        let (requests, inbox) = crossbeam_channel::bounded(REQUESTS);
        let (alive, ended) = crossbeam_channel::bounded(0);
        let scanner = Scanner {
            journal: journal.clone(),
            backing,
            options,
            stop: stop.clone(),
            looked_at: looked_at.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("scan".into())
            .spawn(move || scanner.run(&inbox, &ended))
            .map_err(|error| JournalError::Sqlite(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            journal,
            stop,
            looked_at,
            requests,
            alive,
            thread,
        })
    }

    /// What to ask for scans with.
    pub fn handle(&self) -> ScanHandle {
        ScanHandle {
            journal: self.journal.clone(),
            requests: self.requests.clone(),
        }
    }

    /// Files looked at so far.
    pub fn looked_at(&self) -> Arc<AtomicU64> {
        self.looked_at.clone()
    }

    /// Ends the scan after the folder that it is at.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.alive);
        let _ = self.thread.join();
    }
}

/// Asks a running scan.
#[derive(Clone)]
pub struct ScanHandle {
    journal: Journal,
    requests: Sender<Request>,
}

impl ScanHandle {
    /// Scans the file or folder at `path` with all below it, and what earlier scans left. From now
    /// on, and after a crash, the journal says that there may be more to deliver.
    ///
    /// Files that changed at `since` (nanoseconds since 1970-01-01 UTC) or later are left out: a
    /// mount was up by then, and their close tells of them. `None`: there is no mount.
    pub fn tree(&self, path: RelPath, since: Option<i64>) -> Result<Done, JournalError> {
        self.journal.begin_scan(&path)?;
        ask(&self.requests, vec![path], since)
    }

    /// Scans each of these, files or folders. Blocks while many lists wait.
    pub fn list(&self, paths: Vec<RelPath>, since: Option<i64>) -> Result<Done, JournalError> {
        ask(&self.requests, paths, since)
    }
}

fn ask(
    requests: &Sender<Request>,
    paths: Vec<RelPath>,
    since: Option<i64>,
) -> Result<Done, JournalError> {
    let (done, told) = crossbeam_channel::bounded(1);
    let request = Request { paths, since, done };
    match requests.send(request) {
        Ok(()) => Ok(told),
        Err(_) => Err(JournalError::Closed),
    }
}

struct Scanner {
    journal: Journal,
    backing: OwnedFd,
    options: Options,
    stop: Arc<AtomicBool>,
    looked_at: Arc<AtomicU64>,
}

impl Scanner {
    fn run(&self, inbox: &Receiver<Request>, ended: &Receiver<()>) {
        loop {
            let request = crossbeam_channel::select! {
                recv(inbox) -> request => request,
                recv(ended) -> _ => return,
            };
            let Ok(request) = request else { return };
            let result = self.serve(&request);
            if let Err(error) = &result {
                tracing::error!(%error, "a scan ended early; the next one goes on with it");
            }
            let _ = request.done.send(result);
        }
    }

    fn serve(&self, request: &Request) -> Result<bool, JournalError> {
        let mut recorder = Recorder::new(self, request.since)?;
        let walker = Walker {
            backing: &self.backing,
            filter: &self.options.filter,
            links: self.options.links,
            since: request.since.unwrap_or(i64::MAX),
            must_read: request.since.is_none(),
            looked_at: &self.looked_at,
            stop: &self.stop,
        };
        for path in &request.paths {
            if !walker.walk(path, &mut recorder)? {
                return Ok(false);
            }
        }
        recorder.settle()?;
        for path in &request.paths {
            self.journal.end_scan(path)?;
        }
        self.rest(&walker, &mut recorder)
    }

    /// What earlier scans left, and what was renamed while this one went on.
    fn rest(&self, walker: &Walker<'_>, recorder: &mut Recorder<'_>) -> Result<bool, JournalError> {
        loop {
            let paths = recorder.view.to_scan(BATCH)?;
            if paths.is_empty() {
                tracing::info!(
                    files = self.looked_at.load(Ordering::Relaxed),
                    "the scan is through"
                );
                return Ok(true);
            }
            for path in paths {
                if !walker.walk(&path, recorder)? {
                    return Ok(false);
                }
                recorder.settle()?;
                self.journal.end_scan(&path)?;
            }
        }
    }
}

/// Brings findings to the journal, a bounded number of them at a time.
struct Recorder<'a> {
    journal: &'a Journal,
    backing: &'a OwnedFd,
    view: View,
    options: &'a Options,
    watched: bool,
    /// Full while [`IN_FLIGHT`] chunks are on their way.
    places: (Sender<()>, Receiver<()>),
    failure: Arc<Mutex<Option<JournalError>>>,
}

impl<'a> Recorder<'a> {
    fn new(scanner: &'a Scanner, since: Option<i64>) -> Result<Self, JournalError> {
        Ok(Self {
            view: scanner.journal.view()?,
            journal: &scanner.journal,
            backing: &scanner.backing,
            options: &scanner.options,
            watched: since.is_some(),
            places: crossbeam_channel::bounded(IN_FLIGHT),
            failure: Arc::default(),
        })
    }

    fn record(&self, mut folder: ScannedFolder) -> Result<(), JournalError> {
        if let Some(error) = self.failure.lock().clone() {
            return Err(error);
        }
        // Fails only if the other end is gone, and it is ours.
        let _ = self.places.0.send(());
        let (place, failure) = (self.places.1.clone(), self.failure.clone());
        // What was renamed while the folder was read may have been missing for a moment.
        let names = self.journal.names().read();
        let ScannedFolder { path, missing, .. } = &mut folder;
        let links = self.options.links;
        missing.retain(|name| !walk::is_file(self.backing, &path.join(name), links));
        self.journal.scanned(folder, &names, move |result| {
            let _ = place.try_recv();
            if let Err(error) = result {
                failure.lock().get_or_insert(error);
            }
        });
        Ok(())
    }

    /// Waits until all is recorded.
    fn settle(&self) -> Result<(), JournalError> {
        for _ in 0..IN_FLIGHT {
            let _ = self.places.0.send(());
        }
        while self.places.1.try_recv().is_ok() {}
        match self.failure.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Findings for Recorder<'_> {
    fn known(&mut self, folder: &RelPath) -> Result<HashMap<Vec<u8>, Known>, JournalError> {
        self.view.known_files(folder)
    }

    fn known_file(&mut self, folder: &RelPath, name: &[u8]) -> Result<Option<Known>, JournalError> {
        self.view.known_file(folder, name)
    }

    fn known_folders(&mut self, folder: &RelPath) -> Result<Vec<Vec<u8>>, JournalError> {
        self.view.known_folders(folder)
    }

    fn differs(
        &mut self,
        folder: &RelPath,
        found: Vec<Different>,
        missing: Vec<Vec<u8>>,
    ) -> Result<(), JournalError> {
        if let Some(observer) = &self.options.observer {
            for file in &found {
                let Sighting { name, stat, .. } = &file.sighting;
                observer.queued(&folder.join(name), stat, file.is_new);
            }
        }
        let mut missing = Some(missing);
        let mut found = found.into_iter().map(|file| file.sighting);
        loop {
            let chunk: Vec<_> = found.by_ref().take(CHUNK).collect();
            if chunk.is_empty() && missing.is_none() {
                return Ok(());
            }
            self.record(ScannedFolder {
                path: folder.clone(),
                watched: self.watched,
                found: chunk,
                missing: missing.take().unwrap_or_default(),
            })?;
        }
    }

    fn trouble(&mut self, path: &RelPath, error: &io::Error) {
        tracing::error!(path = %path, %error, "cannot be scanned; it is left as it is");
        if let Some(observer) = &self.options.observer {
            observer.trouble(path, error);
        }
    }

    fn too_large(&mut self, path: &RelPath, size: u64) {
        if let Some(observer) = &self.options.observer {
            observer.too_large(path, size);
        }
    }
}
