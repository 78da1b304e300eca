//! What has been delivered, file by file, for comparing it with the remote; and what has not.

use std::collections::HashMap;

use super::{JournalError, View};
use crate::path::RelPath;

/// A file whose last version is at the remote, and what the remote answered then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    pub path: RelPath,
    pub size: u64,
    pub hash: blake3::Hash,
    pub etag: Option<String>,
    /// Whether a thumbnail was delivered with it.
    pub thumbnail: bool,
}

/// What waits or has failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    pub queued: u64,
    pub failed: u64,
    pub suspect: u64,
}

/// The folders from `?1` on, itself included.
const BELOW: &str = "WITH RECURSIVE below (id) AS (VALUES (?1) UNION ALL \
                     SELECT folder.id FROM folder JOIN below ON folder.parent_id = below.id) ";

impl View {
    /// Calls `each` for every delivered file from the folder `path` on, folder by folder.
    pub fn each_proved(
        &self,
        path: &RelPath,
        mut each: impl FnMut(Proved),
    ) -> Result<(), JournalError> {
        let Some(id) = self.folder_id(path)? else {
            return Ok(());
        };
        let mut folders = vec![(id, path.clone())];
        let mut files = self.conn.prepare_cached(
            "SELECT name, size, hash, etag, thumbnail = 1 FROM file
             WHERE folder_id = ? AND delivered = version AND hash IS NOT NULL ORDER BY name",
        )?;
        let mut children = self
            .conn
            .prepare_cached("SELECT id, name FROM folder WHERE parent_id = ? ORDER BY name DESC")?;
        while let Some((id, path)) = folders.pop() {
            let mut rows = files.query([id])?;
            while let Some(row) = rows.next()? {
                each(Proved {
                    path: path.join(&row.get::<_, Vec<u8>>(0)?),
                    size: row.get::<_, i64>(1)? as u64,
                    hash: blake3::Hash::from_bytes(row.get(2)?),
                    etag: row.get(3)?,
                    thumbnail: row.get(4)?,
                });
            }
            let mut rows = children.query([id])?;
            while let Some(row) = rows.next()? {
                folders.push((row.get(0)?, path.join(&row.get::<_, Vec<u8>>(1)?)));
            }
        }
        Ok(())
    }

    /// What is not delivered from the folder `path` on. In time that grows with the number of
    /// folders there.
    pub fn pending_below(&self, path: &RelPath) -> Result<Pending, JournalError> {
        let Some(id) = self.folder_id(path)? else {
            return Ok(Pending::default());
        };
        let sums = self
            .conn
            .prepare_cached(&format!(
                "{BELOW} SELECT coalesce(sum(state < 2), 0), coalesce(sum(state = 2), 0), coalesce(sum(state = 3), 0)
                 FROM work WHERE folder_id IN below"
            ))?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (queued, failed, suspect): (i64, i64, i64) = sums;
        Ok(Pending {
            queued: queued as u64,
            failed: failed as u64,
            suspect: suspect as u64,
        })
    }

    /// The files of a folder that are not delivered, by name: the error of the last attempt, if
    /// there was one.
    pub fn waiting_files(
        &self,
        folder: &RelPath,
    ) -> Result<HashMap<Vec<u8>, Option<String>>, JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(HashMap::new());
        };
        let mut statement = self.conn.prepare_cached(
            "SELECT file.name, work.error FROM work JOIN file ON file.id = work.file_id
             WHERE work.folder_id = ?",
        )?;
        let files = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(files.collect::<Result<_, _>>()?)
    }
}
