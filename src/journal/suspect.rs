//! Delivered files that look damaged: found by the scan, decided on by a person.

use rusqlite::params;

use super::queue::FileId;
use super::store::Store;
use super::{JournalError, View, now_ms};
use crate::path::RelPath;

/// A file that looks damaged, and what was delivered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub id: FileId,
    pub version: i64,
    pub path: RelPath,
    /// Why it is suspect; a sentence.
    pub why: String,
    /// BLAKE3 of what the remote has, where that is known for sure.
    pub hash: Option<blake3::Hash>,
    /// Of the file as it was delivered, or recorded last: nanoseconds since 1970-01-01 UTC.
    pub mtime_ns: i64,
    /// Somebody has it open for writing, or had when the daemon died.
    pub opened: bool,
}

impl Store {
    pub(super) fn suspect(&mut self, id: i64, why: &str) -> Result<(), JournalError> {
        let now = now_ms();
        self.queue(id, now, now)?;
        self.conn
            .prepare_cached(
                "UPDATE work SET state = 3, error = ?2, failed_at = ?3 WHERE file_id = ?1",
            )?
            .execute(params![id, why, now])?;
        Ok(())
    }

    pub(super) fn is_suspect(&mut self, id: i64) -> Result<bool, JournalError> {
        Ok(self
            .conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM work WHERE file_id = ? AND state = 3)")?
            .query_row([id], |row| row.get(0))?)
    }

    /// A suspect file that is as it was recorded: a disk that was away is back. True if it was one.
    pub(super) fn clear_suspect(&mut self, id: i64) -> Result<bool, JournalError> {
        let cleared = self
            .conn
            .prepare_cached(
                "DELETE FROM work WHERE file_id = ?1 AND state = 3
                 AND EXISTS (SELECT 1 FROM file WHERE id = ?1 AND delivered = version)",
            )?
            .execute([id])?;
        // A row that was not written because of it.
        self.conn
            .prepare_cached(
                "UPDATE folder SET row_state = 1, row_due = ?2, row_error = NULL, row_failed_at = NULL
                 WHERE ?3 AND row_state = 2 AND id = (SELECT folder_id FROM file WHERE id = ?1)",
            )?
            .execute(params![id, now_ms(), cleared > 0])?;
        Ok(cleared > 0)
    }
}

impl View {
    /// The suspect files from `path` on with ids after `after`, at most `limit` of them.
    pub fn suspects(
        &self,
        path: &RelPath,
        after: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<Suspect>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT file.id, file.version, file.folder_id, file.name, work.error,
                 CASE WHEN file.delivered > 0 THEN file.hash END, file.mtime_ns, file.opened
             FROM work JOIN file ON file.id = work.file_id
             WHERE work.state = 3 AND work.file_id > ? ORDER BY work.file_id",
        )?;
        let mut rows = statement.query([after.map_or(0, |id| id.0)])?;
        let mut suspects = Vec::new();
        while suspects.len() < limit
            && let Some(row) = rows.next()?
        {
            let name: Vec<u8> = row.get(3)?;
            let its_path = self.folder_path(row.get(2)?)?.join(&name);
            if !its_path.is_within(path) {
                continue;
            }
            suspects.push(Suspect {
                id: FileId(row.get(0)?),
                version: row.get(1)?,
                path: its_path,
                why: row.get(4)?,
                hash: row.get::<_, Option<_>>(5)?.map(blake3::Hash::from_bytes),
                mtime_ns: row.get(6)?,
                opened: row.get(7)?,
            });
        }
        Ok(suspects)
    }

    /// Where the file was delivered to before it was renamed, and as what, the last place first. Where that is not
    /// known for sure, the object may be another file's, and is left out.
    pub fn former_objects(&self, id: FileId) -> Result<Vec<(RelPath, blake3::Hash)>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT path, hash FROM stray WHERE file_id = ? AND hash IS NOT NULL ORDER BY id DESC",
        )?;
        let objects = statement.query_map([id.0], |row| {
            let hash = blake3::Hash::from_bytes(row.get(1)?);
            Ok((row.get::<_, Vec<u8>>(0)?, hash))
        })?;
        let mut former = Vec::new();
        for object in objects {
            let (path, hash) = object?;
            former.extend(RelPath::parse(&path).map(|path| (path, hash)));
        }
        Ok(former)
    }
}
