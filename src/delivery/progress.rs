//! What is going on at this moment: kept in memory, for status only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::path::RelPath;
use crate::status::Uploading;

/// Rates are means over this long.
const WINDOW: Duration = Duration::from_secs(10);

/// Written by delivery, read by status. The lock is held for a few instructions only.
#[derive(Default)]
pub struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    next_id: u64,
    uploading: HashMap<u64, (RelPath, u64, Instant)>,
    /// One entry a second: files and bytes that arrived in it.
    seconds: VecDeque<(Instant, u64, u64)>,
    arrived_files: u64,
    remote_error: Option<String>,
    rows_error: Option<String>,
    waits_for: Option<String>,
    workers: usize,
}

/// Bytes and files a second over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    pub bytes: f64,
    pub files: f64,
}

impl Progress {
    pub(super) fn new(workers: usize) -> Self {
        let progress = Self::default();
        progress.set_workers(workers);
        progress
    }

    pub(super) fn set_workers(&self, workers: usize) {
        self.0.lock().workers = workers;
    }

    /// Uploads that may go on at a time now.
    pub fn workers(&self) -> usize {
        self.0.lock().workers
    }

    /// A file is on its way until the guard is dropped.
    pub(super) fn begin(&self, path: &RelPath, bytes: u64) -> Uploaded<'_> {
        let mut state = self.0.lock();
        let id = state.next_id;
        state.next_id += 1;
        state
            .uploading
            .insert(id, (path.clone(), bytes, Instant::now()));
        Uploaded { progress: self, id }
    }

    pub(super) fn arrived(&self, bytes: u64) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.arrived_files += 1;
        match state.seconds.back_mut() {
            Some((at, files, sum)) if now - *at < Duration::from_secs(1) => {
                *files += 1;
                *sum += bytes;
            }
            _ => state.seconds.push_back((now, 1, bytes)),
        }
        while state
            .seconds
            .front()
            .is_some_and(|(at, _, _)| now - *at > WINDOW)
        {
            state.seconds.pop_front();
        }
    }

    /// Files that arrived since the start: whether there is progress at all.
    pub fn arrived_files(&self) -> u64 {
        self.0.lock().arrived_files
    }

    pub fn rate(&self) -> Rate {
        let state = self.0.lock();
        let now = Instant::now();
        let recent = || {
            state
                .seconds
                .iter()
                .filter(|(at, _, _)| now - *at <= WINDOW)
        };
        let Some((first, _, _)) = recent().next() else {
            return Rate::default();
        };
        let seconds = (now - *first).as_secs_f64().max(1.0);
        Rate {
            bytes: recent().map(|(_, _, bytes)| *bytes as f64).sum::<f64>() / seconds,
            files: recent().map(|(_, files, _)| *files as f64).sum::<f64>() / seconds,
        }
    }

    /// The files on their way, the longest first.
    pub fn uploading(&self) -> Vec<Uploading> {
        let state = self.0.lock();
        let mut uploading: Vec<Uploading> = state
            .uploading
            .values()
            .map(|(path, bytes, since)| Uploading {
                path: path.to_string(),
                bytes: *bytes,
                for_milliseconds: since.elapsed().as_millis() as u64,
            })
            .collect();
        uploading.sort_by_key(|file| std::cmp::Reverse(file.for_milliseconds));
        uploading
    }

    pub(super) fn set_remote_error(&self, error: Option<String>) {
        self.0.lock().remote_error = error;
    }

    pub(super) fn set_rows_error(&self, error: Option<String>) {
        self.0.lock().rows_error = error;
    }

    pub(super) fn set_waits_for(&self, what: Option<String>) {
        self.0.lock().waits_for = what;
    }

    /// What keeps all deliveries waiting though nothing is wrong.
    pub fn waits_for(&self) -> Option<String> {
        self.0.lock().waits_for.clone()
    }

    /// What is wrong with the remote as a whole, and with the row sink.
    pub fn errors(&self) -> (Option<String>, Option<String>) {
        let state = self.0.lock();
        (state.remote_error.clone(), state.rows_error.clone())
    }
}

pub(super) struct Uploaded<'a> {
    progress: &'a Progress,
    id: u64,
}

impl Drop for Uploaded<'_> {
    fn drop(&mut self) {
        self.progress.0.lock().uploading.remove(&self.id);
    }
}
