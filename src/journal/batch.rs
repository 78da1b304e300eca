//! Batches: when one begins and ends, what came of it, and the content hashes of its folders. How
//! much they hold at most is in [`super::share`].

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{JournalError, View, now_ms};
use crate::derive::content_hash;

/// Batches that are remembered.
const HISTORY: i64 = 1000;
/// Folders that are known in memory to be of the batch.
const NOTED: usize = 10_000;

/// The batch that is going on, as far as the writer needs it.
#[derive(Default)]
pub(super) struct Current {
    id: Option<i64>,
    noted: HashSet<i64>,
}

/// A batch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub id: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub started_at: i64,
    pub ended_at: i64,
    /// Folders with something to deliver, and what became of them.
    pub folders: u64,
    pub succeeded: u64,
    pub failed: u64,
}

impl Store {
    /// There is something to deliver in a folder.
    pub(super) fn note_in_batch(&mut self, folder_id: i64) -> Result<(), JournalError> {
        match self.share.is_limited() {
            // It is in the batch for which it is claimed.
            true => Ok(()),
            false => self.add_to_batch(folder_id),
        }
    }

    /// Something of the folder is delivered in the batch that is going on.
    pub(super) fn add_to_batch(&mut self, folder_id: i64) -> Result<(), JournalError> {
        self.begin_batch()?;
        if !self.batch.noted.insert(folder_id) {
            return Ok(());
        }
        if self.batch.noted.len() > NOTED {
            self.batch.noted.clear();
        }
        self.conn
            .prepare_cached(
                "INSERT INTO batch_folder (folder_id) VALUES (?)
                 ON CONFLICT DO UPDATE SET state = 0 WHERE state <> 0",
            )?
            .execute([folder_id])?;
        Ok(())
    }

    /// The same of every folder that has something queued.
    pub(super) fn note_queued_in_batch(&mut self) -> Result<(), JournalError> {
        if self.share.is_limited() {
            return Ok(());
        }
        self.begin_batch()?;
        self.conn.execute(
            "INSERT INTO batch_folder (folder_id) SELECT DISTINCT folder_id FROM work WHERE state < 2
             ON CONFLICT DO UPDATE SET state = 0",
            [],
        )?;
        Ok(())
    }

    fn begin_batch(&mut self) -> Result<(), JournalError> {
        if self.batch.id.is_some() {
            return Ok(());
        }
        self.find_batch()?;
        if self.batch.id.is_none() {
            self.conn
                .execute("INSERT INTO batch (started_at) VALUES (?)", [now_ms()])?;
            self.batch.id = Some(self.conn.last_insert_rowid());
        }
        Ok(())
    }

    /// The batch that is going on, if one is.
    pub(super) fn find_batch(&mut self) -> Result<(), JournalError> {
        self.batch = Current {
            id: self
                .conn
                .prepare_cached("SELECT id FROM batch WHERE ended_at IS NULL")?
                .query_row([], |row| row.get(0))
                .optional()?,
            noted: HashSet::new(),
        };
        Ok(())
    }

    /// Whether a batch is going on and has nothing left to do.
    pub(super) fn batch_may_end(&mut self) -> Result<bool, JournalError> {
        if self.batch.id.is_none() {
            return Ok(false);
        }
        if self.share.is_done() {
            return Ok(true);
        }
        Ok(self
            .conn
            .prepare_cached(
                "SELECT queued_files + (folder.queued_rows + total.queued_rows) * has_rows = 0
                     AND NOT EXISTS (SELECT 1 FROM arrival)
                     AND NOT EXISTS (SELECT 1 FROM expansion) AND NOT EXISTS (SELECT 1 FROM scan)
                 FROM folder, total, meta WHERE folder.id = 1",
            )?
            .query_row([], |row| row.get(0))?)
    }

    /// Looks at up to `limit` folders of a batch that has nothing left to do; then it has ended. True
    /// if there is more to look at.
    pub(super) fn end_batch(&mut self, limit: usize) -> Result<bool, JournalError> {
        let Some(id) = self.batch.id.filter(|_| limit > 0) else {
            return Ok(false);
        };
        if !self.batch_may_end()? {
            return Ok(false);
        }
        self.batch.noted.clear();
        let folders: Vec<i64> = self
            .conn
            .prepare_cached("SELECT folder_id FROM batch_folder WHERE state = 0 LIMIT ?")?
            .query_map([limit as i64], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for folder in &folders {
            self.end_in_folder(*folder)?;
        }
        if folders.len() == limit {
            return Ok(true);
        }
        self.conn
            .prepare_cached(
                "UPDATE batch SET ended_at = ?2,
                     (folders, succeeded, failed) =
                         (SELECT count(*), count(iif(state = 1, 1, NULL)), count(iif(state = 2, 1, NULL))
                          FROM batch_folder)
                 WHERE id = ?1",
            )?
            .execute(params![id, now_ms()])?;
        self.conn
            .prepare_cached("DELETE FROM batch_folder")?
            .execute([])?;
        // All that was to be delivered was removed before it could be: nothing to tell.
        self.conn
            .prepare_cached("DELETE FROM batch WHERE id <= ?1 - ?2 OR id = ?1 AND folders = 0")?
            .execute([id, HISTORY])?;
        self.batch.id = None;
        self.share.batch_ended();
        Ok(false)
    }

    pub(super) fn is_batch_going_on(&self) -> bool {
        self.batch.id.is_some()
    }

    fn end_in_folder(&mut self, folder: i64) -> Result<(), JournalError> {
        let files: Vec<(Vec<u8>, blake3::Hash)> = self
            .conn
            .prepare_cached(
                "SELECT name, hash FROM file
                 WHERE folder_id = ? AND delivered = version AND hash IS NOT NULL ORDER BY name",
            )?
            .query_map([folder], |row| {
                Ok((row.get(0)?, blake3::Hash::from_bytes(row.get(1)?)))
            })?
            .collect::<Result<_, _>>()?;
        let hash = content_hash(files.iter().map(|(name, hash)| (name.as_slice(), hash)));
        self.conn
            .prepare_cached("UPDATE folder SET content_hash = ?2 WHERE id = ?1")?
            .execute(params![folder, hash.as_bytes()])?;
        self.conn
            .prepare_cached(
                "UPDATE batch_folder SET state = 1
                     + (EXISTS (SELECT 1 FROM work WHERE work.folder_id = ?1
                                AND (work.state > 1 OR work.attempts > 0))
                        OR EXISTS (SELECT 1 FROM folder WHERE id = ?1 AND row_state = 2))
                 WHERE folder_id = ?1",
            )?
            .execute([folder])?;
        Ok(())
    }
}

impl View {
    /// The last batches that have ended, newest first.
    pub fn batches(&self, limit: usize) -> Result<Vec<Batch>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT id, started_at, ended_at, folders, succeeded, failed FROM batch
             WHERE ended_at IS NOT NULL ORDER BY id DESC LIMIT ?",
        )?;
        let batches = statement.query_map([limit as i64], |row| {
            let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Batch {
                id: row.get(0)?,
                started_at: row.get(1)?,
                ended_at: row.get(2)?,
                folders: count(3)?,
                succeeded: count(4)?,
                failed: count(5)?,
            })
        })?;
        Ok(batches.collect::<Result<_, _>>()?)
    }
}
