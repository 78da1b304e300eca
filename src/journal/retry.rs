//! Trying again what has failed, because somebody asks for it.

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{JournalError, now_ms};
use crate::path::RelPath;

/// The folders from `?1` on, itself included.
const BELOW: &str = "WITH RECURSIVE below (id) AS (VALUES (?1) UNION ALL \
                     SELECT folder.id FROM folder JOIN below ON folder.parent_id = below.id) ";

impl Store {
    /// See [`super::Journal::retry`]. A path is a file's, a folder's, or nobody's.
    pub(super) fn retry(&mut self, path: &RelPath) -> Result<u64, JournalError> {
        let now = now_ms();
        if let Some(id) = self.file_id(path)? {
            return self.retry_file(id, now);
        }
        let Some(id) = self.folder_id(path)? else {
            return Ok(0);
        };
        // By what is in trouble, of which there is little, not by folder, of which there are many.
        let below = match path.is_root() {
            true => String::new(),
            false => " AND folder_id IN below".to_owned(),
        };
        let files = self
            .conn
            .prepare_cached(&format!(
                "{BELOW} UPDATE work SET state = 0, due_at = ?2, attempts = 0, error = NULL, failed_at = NULL
                 WHERE error IS NOT NULL AND state IN (0, 2){below}"
            ))?
            .execute(params![id, now])?;
        let below = below.replace("folder_id", "id");
        let rows = self
            .conn
            .prepare_cached(&format!(
                "{BELOW} UPDATE folder SET row_state = 1, row_due = ?2, row_attempts = 0, row_error = NULL,
                     row_failed_at = NULL
                 WHERE row_error IS NOT NULL AND row_state IN (1, 2){below}"
            ))?
            .execute(params![id, now])?;
        let mut others = 0;
        for table in ["stray", "gone_row"] {
            others += self
                .conn
                .prepare_cached(&format!(
                    "UPDATE {table} SET state = 0, due_at = ?2, attempts = 0, error = NULL, failed_at = NULL
                     WHERE error IS NOT NULL AND state IN (0, 2)
                         AND (?1 = x'' OR path = ?1 OR substr(path, 1, length(?1) + 1) = CAST(?1 || x'2f' AS BLOB))"
                ))?
                .execute(params![path.as_bytes(), now])?;
        }
        if files > 0 {
            self.note_queued_in_batch()?;
        }
        Ok((files + rows + others) as u64)
    }

    /// See [`super::Journal::flush`]. Returns how many files that is.
    pub(super) fn flush(&mut self, path: &RelPath) -> Result<u64, JournalError> {
        let now = now_ms();
        if let Some(id) = self.file_id(path)? {
            let flushed = self
                .conn
                .prepare_cached(
                    "UPDATE work SET due_at = ?2 WHERE file_id = ?1 AND state = 0 AND due_at > ?2",
                )?
                .execute([id, now])?;
            return Ok(flushed as u64);
        }
        let Some(id) = self.folder_id(path)? else {
            return Ok(0);
        };
        let files = self
            .conn
            .prepare_cached(&format!(
                "{BELOW} UPDATE work SET due_at = ?2
                 WHERE state = 0 AND due_at > ?2 AND (?1 = 1 OR folder_id IN below)"
            ))?
            .execute([id, now])?;
        self.conn
            .prepare_cached(&format!(
                "{BELOW} UPDATE folder SET row_due = ?2
                 WHERE row_state = 1 AND row_due > ?2 AND (?1 = 1 OR id IN below)"
            ))?
            .execute([id, now])?;
        for table in ["stray", "gone_row"] {
            self.conn
                .prepare_cached(&format!(
                    "UPDATE {table} SET due_at = ?2 WHERE state = 0 AND due_at > ?2
                         AND (?1 = x'' OR path = ?1 OR substr(path, 1, length(?1) + 1) = CAST(?1 || x'2f' AS BLOB))"
                ))?
                .execute(params![path.as_bytes(), now])?;
        }
        Ok(files as u64)
    }

    fn retry_file(&mut self, id: i64, now: i64) -> Result<u64, JournalError> {
        let retried = self
            .conn
            .prepare_cached(
                "UPDATE work SET state = 0, due_at = ?2, attempts = 0, error = NULL, failed_at = NULL
                 WHERE file_id = ?1 AND error IS NOT NULL AND state IN (0, 2) RETURNING folder_id",
            )?
            .query_row(params![id, now], |row| row.get(0))
            .optional()?;
        match retried {
            Some(folder_id) => self.note_in_batch(folder_id).map(|()| 1),
            None => Ok(0),
        }
    }
}
