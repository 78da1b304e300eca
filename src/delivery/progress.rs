//! What is going on at this moment: kept in memory, for status only.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::histogram::Histogram;
use crate::path::RelPath;
use crate::remote::Sent;
use crate::status::{Uploading, one_line};

/// Of microseconds, two to the power of which counters tell: from a millisecond to a minute.
const POWERS: [usize; 9] = [10, 12, 14, 16, 18, 20, 22, 24, 26];

/// Rates are means over this long.
const WINDOW: Duration = Duration::from_secs(10);
/// Files that are remembered to have arrived.
const RECENT: usize = 100;

/// Written by delivery, read by status. The lock is held for a few instructions only.
#[derive(Default)]
pub struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    next_id: u64,
    uploading: HashMap<u64, OnItsWay>,
    /// One entry a second: what arrived in it.
    seconds: VecDeque<(Instant, Arrivals)>,
    /// Bytes that were given to the remote, of files that are not on their way any more.
    moved: u64,
    /// What that had come to, with all on their way; one entry a second at most, and one from before the window.
    moved_at: VecDeque<(Instant, u64)>,
    took: Histogram,
    arrived_files: u64,
    recent: VecDeque<(RelPath, Option<String>)>,
    arrived_bytes: u64,
    failures: u64,
    remote_error: Option<String>,
    rows_error: Option<String>,
    waits_for: Option<String>,
    workers: usize,
}

struct OnItsWay {
    path: RelPath,
    bytes: u64,
    since: Instant,
    sent: Sent,
}

#[derive(Default)]
struct Arrivals {
    files: u64,
    pictures: u64,
}

impl State {
    /// Bytes that were given to the remote so far.
    fn moved(&self) -> u64 {
        let on_their_way = self.uploading.values().map(|file| file.sent.bytes());
        self.moved + on_their_way.sum::<u64>()
    }

    fn note_moved(&mut self, now: Instant) {
        if self.uploading.is_empty() && self.is_idle(now) {
            // What comes now has nothing to do with what was.
            self.moved_at.clear();
        }
        let is_old = |(at, _): &(Instant, u64)| now - *at >= Duration::from_secs(1);
        if self.moved_at.back().is_none_or(is_old) {
            let moved = self.moved();
            self.moved_at.push_back((now, moved));
        }
        while self
            .moved_at
            .get(1)
            .is_some_and(|(at, _)| now - *at >= WINDOW)
        {
            self.moved_at.pop_front();
        }
    }

    /// Nothing has come to pass for so long that it is no speed any more.
    fn is_idle(&self, now: Instant) -> bool {
        self.moved_at
            .back()
            .is_none_or(|(at, _)| now - *at > WINDOW)
    }

    /// Bytes a second: those of what is on its way as they are sent, not when it has arrived.
    fn bytes_a_second(&self, now: Instant) -> f64 {
        match self.moved_at.front() {
            Some((since, moved)) if !self.uploading.is_empty() || !self.is_idle(now) => {
                let seconds = (now - *since).as_secs_f64().max(1.0);
                self.moved().saturating_sub(*moved) as f64 / seconds
            }
            _ => 0.0,
        }
    }
}

/// What has come to pass since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// That have arrived.
    pub files: u64,
    pub bytes: u64,
    /// Attempts that have failed.
    pub failures: u64,
    /// So many seconds, and how many files took no longer.
    pub took: Vec<(f64, u64)>,
    pub took_altogether: Duration,
}

/// Bytes, files and pictures among them a second over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    pub bytes: f64,
    pub files: f64,
    pub pictures: f64,
}

/// How long uploads have taken since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    pub mean: Duration,
    /// 95 in 100 took no longer, to an eighth.
    pub most: Duration,
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
        state.note_moved(Instant::now());
        let id = state.next_id;
        state.next_id += 1;
        let sent = Sent::default();
        let file = OnItsWay {
            path: path.clone(),
            bytes,
            since: Instant::now(),
            sent: sent.clone(),
        };
        state.uploading.insert(id, file);
        Uploaded {
            progress: self,
            id,
            sent,
        }
    }

    /// Where readers find a file that has arrived.
    pub(super) fn note_url(&self, path: &RelPath, url: Option<String>) {
        let mut state = self.0.lock();
        if state.recent.len() >= RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back((path.clone(), url));
    }

    /// `.upload/recent` of a folder, the newest last: `path<TAB>url<NEWLINE>`, control characters escaped.
    pub fn recent(&self, folder: &RelPath) -> String {
        let state = self.0.lock();
        let recent = state.recent.iter();
        let below = recent.filter(|(path, _)| path.is_within(folder));
        let lines = below.map(|(path, url)| {
            let url = url.as_deref().unwrap_or_default();
            let path = path.below(folder).to_string();
            format!("{}\t{}\n", one_line(&path), one_line(url))
        });
        lines.collect()
    }

    pub(super) fn arrived(&self, bytes: u64, is_picture: bool, took: Duration) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.arrived_files += 1;
        state.arrived_bytes += bytes;
        state.took.add(took);
        state.note_moved(now);
        let is_this_second = |(at, _): &(Instant, Arrivals)| now - *at < Duration::from_secs(1);
        if !state.seconds.back().is_some_and(is_this_second) {
            state.seconds.push_back((now, Arrivals::default()));
        }
        if let Some((_, arrivals)) = state.seconds.back_mut() {
            arrivals.files += 1;
            arrivals.pictures += u64::from(is_picture);
        }
        while state
            .seconds
            .front()
            .is_some_and(|(at, _)| now - *at > WINDOW)
        {
            state.seconds.pop_front();
        }
    }

    /// An attempt has failed.
    pub(super) fn failed(&self) {
        self.0.lock().failures += 1;
    }

    pub fn counters(&self) -> Counters {
        let state = self.0.lock();
        let bounds = POWERS.map(|power| {
            let longest = (power as f64).exp2() / 1e6;
            (longest, state.took.up_to(power))
        });
        Counters {
            files: state.took.count(),
            bytes: state.arrived_bytes,
            failures: state.failures,
            took: bounds.to_vec(),
            took_altogether: state.took.sum(),
        }
    }

    /// Files that arrived since the start: whether there is progress at all.
    pub fn arrived_files(&self) -> u64 {
        self.0.lock().arrived_files
    }

    pub fn rate(&self) -> Rate {
        let state = self.0.lock();
        let now = Instant::now();
        let recent = || state.seconds.iter().filter(|(at, _)| now - *at <= WINDOW);
        let bytes = state.bytes_a_second(now);
        let Some((first, _)) = recent().next() else {
            return Rate {
                bytes,
                ..Rate::default()
            };
        };
        let seconds = (now - *first).as_secs_f64().max(1.0);
        let a_second = |count: fn(&Arrivals) -> u64| {
            recent().map(|(_, arrivals)| count(arrivals)).sum::<u64>() as f64 / seconds
        };
        Rate {
            bytes,
            files: a_second(|arrivals| arrivals.files),
            pictures: a_second(|arrivals| arrivals.pictures),
        }
    }

    /// `None` while nothing has arrived.
    pub fn took(&self) -> Option<Took> {
        let took = &self.0.lock().took;
        Some(Took {
            mean: took.mean()?,
            most: took.percentile(0.95)?,
        })
    }

    /// The files on their way, the longest first.
    pub fn uploading(&self) -> Vec<Uploading> {
        self.uploading_below(&RelPath::root())
    }

    /// Those from a folder on down.
    pub fn uploading_below(&self, folder: &RelPath) -> Vec<Uploading> {
        let state = self.0.lock();
        let mut uploading: Vec<Uploading> = state
            .uploading
            .values()
            .filter(|file| file.path.is_within(folder))
            .map(|file| Uploading {
                path: file.path.to_string(),
                bytes: file.bytes,
                // What has to be sent again is counted again.
                sent_bytes: file.sent.bytes().min(file.bytes),
                for_milliseconds: file.since.elapsed().as_millis() as u64,
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
    /// What the remote has got of it.
    pub sent: Sent,
}

impl Drop for Uploaded<'_> {
    fn drop(&mut self) {
        let mut state = self.progress.0.lock();
        if let Some(file) = state.uploading.remove(&self.id) {
            state.moved += file.sent.bytes();
        }
    }
}
