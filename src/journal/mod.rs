//! The journal: the SQLite database of every change; the only queue and the only truth about
//! delivery. The mount records, delivery claims and settles, status reads.
//!
//! One thread writes (`writer`), grouping what has come into one transaction; everybody else sends
//! it work or reads through a connection of their own ([`View`]).

mod change;

pub use change::{Change, Entry, FileStat};

/// When a recorded change counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Committed: survives the death of the daemon.
    Committed,
    /// Committed and synced: survives a power cut (`fsync`).
    Synced,
}

/// A failure of the journal, a sentence for people.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error("{0}")]
    Sqlite(String),
    #[error("the journal is closed")]
    Closed,
}

/// A handle to the open journal; cheap to clone.
#[derive(Clone)]
pub struct Journal {}

impl Journal {
    /// Records a change. `done` is called on the writer's thread when it is committed (and synced,
    /// if asked for), or could not be. Never blocks on I/O; changes are applied in call order.
    pub fn record(
        &self,
        _change: Change,
        _durability: Durability,
        _done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        todo!()
    }

    /// Calls `done` when everything recorded before is committed and synced, or could not be.
    pub fn sync(&self, _done: impl FnOnce(Result<(), JournalError>) + Send + 'static) {
        todo!()
    }
}
