use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::JournalError;

/// Between two attempts to make sure of a log that nobody waits for.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the journal could not be written when that was tried last, for those who ask how things are.
#[derive(Debug, Default)]
pub struct Fault(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<JournalError>,
    /// A sync has failed. The kernel tells of that once, and takes what it could not write for
    /// written: until all of the log is in the database, and that is synced, another sync says nothing.
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    error: JournalError,
    tried_at: Instant,
}

impl Fault {
    pub(super) fn note<T>(&self, result: &Result<T, JournalError>) {
        self.0.lock().last = result.as_ref().err().cloned();
    }

    /// A commit that was to be synced has failed.
    pub(super) fn doubt_log(&self, error: &JournalError) {
        self.0.lock().doubt = Some(Doubt {
            error: error.clone(),
            tried_at: Instant::now(),
        });
    }

    pub(super) fn doubts_log(&self) -> bool {
        self.0.lock().doubt.is_some()
    }

    /// Whether it is time to make sure of the log, though nobody waits for it.
    pub(super) fn is_to_be_tried(&self) -> bool {
        let state = self.0.lock();
        let due = |doubt: &Doubt| doubt.tried_at.elapsed() >= PAUSE;
        state.doubt.as_ref().is_some_and(due)
    }

    /// All of the log is in the database, on the disk.
    pub(super) fn trust_log(&self) {
        self.0.lock().doubt = None;
    }

    /// `None` if it could be written.
    pub fn get(&self) -> Option<JournalError> {
        let state = self.0.lock();
        let doubted = state.doubt.as_ref().map(|doubt| &doubt.error);
        state.last.as_ref().or(doubted).cloned()
    }
}
