//! Batches that end after so many folders, and the pause between two batches.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::JournalError;
use super::store::Store;

/// How much is delivered in one go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// Folders of which something is delivered before a batch ends, one at least. `None`: it ends
    /// when nothing is left.
    pub folders: Option<usize>,
    /// Nothing is claimed for so long after the end of a batch.
    pub pause: Duration,
}

/// What the limits need to know of the batch that is going on.
#[derive(Default)]
pub(super) struct Share {
    limits: BatchLimits,
    /// Its folders, if there is a limit to them.
    folders: HashSet<i64>,
    /// Files that are claimed, likewise.
    claimed: HashSet<i64>,
    /// Something is due that has to wait for the next batch.
    is_full: bool,
    rests_until: Option<Instant>,
}

impl Share {
    /// Whether batches are limited in what they hold, which is then known only by claiming.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.folders.is_some()
    }

    /// Until the next batch may begin, if the last one has just ended.
    pub(super) fn rest(&self) -> Option<Duration> {
        let left = self.rests_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether a file of the folder may be claimed for the batch that is going on.
    pub(super) fn admits(&mut self, folder_id: i64) -> bool {
        let Some(limit) = self.limits.folders else {
            return true;
        };
        let admitted = self.folders.len() < limit || self.folders.contains(&folder_id);
        match admitted {
            true => self.folders.insert(folder_id),
            false => std::mem::replace(&mut self.is_full, true),
        };
        admitted
    }

    pub(super) fn claimed(&mut self, file_id: i64) {
        self.claimed.insert(file_id);
    }

    pub(super) fn settled(&mut self, file_id: i64) {
        self.claimed.remove(&file_id);
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether all that a full batch has claimed is settled.
    pub(super) fn is_done(&self) -> bool {
        self.is_full && self.claimed.is_empty()
    }

    pub(super) fn batch_ended(&mut self) {
        self.folders.clear();
        self.is_full = false;
        self.rests_until = Some(Instant::now() + self.limits.pause);
    }
}

impl Store {
    pub(super) fn limit_batches(&mut self, limits: BatchLimits) -> Result<(), JournalError> {
        self.share.limits = limits;
        self.know_share()
    }

    /// Reads what the database knows of it.
    pub(super) fn know_share(&mut self) -> Result<(), JournalError> {
        if !self.share.is_limited() {
            return Ok(());
        }
        let ids = |sql: &str| -> Result<HashSet<i64>, JournalError> {
            let mut statement = self.conn.prepare(sql)?;
            let ids = statement.query_map([], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        };
        let folders = ids("SELECT folder_id FROM batch_folder")?;
        let claimed = ids("SELECT file_id FROM work WHERE state = 1")?;
        (self.share.folders, self.share.claimed) = (folders, claimed);
        Ok(())
    }
}
