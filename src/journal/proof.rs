//! What has been delivered, file by file, for comparing it with the remote; and what has not.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row, params};

use super::{JournalError, View};
use crate::path::RelPath;
use crate::remote::Proof;

/// A file, and what the remote answered when it was delivered last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    pub path: RelPath,
    /// Whether the remote has any version of it.
    pub delivered: bool,
    /// Whether the remote has its last version; if not, the rest says nothing.
    pub current: bool,
    pub size: u64,
    pub hash: blake3::Hash,
    pub proof: Proof,
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

/// The columns of [`proved`].
const PROVED: &str = "name, size, hash, thumbnail = 1, delivered = version AND hash IS NOT NULL, \
     delivered > 0, etag, object_id, object_version, url, thumbnail_url";

/// The remote's proof, whose columns begin with the `first`.
pub(super) fn proof_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Proof> {
    Ok(Proof {
        etag: row.get(first)?,
        id: row.get(first + 1)?,
        version: row.get(first + 2)?,
        url: row.get(first + 3)?,
        thumbnail_url: row.get(first + 4)?,
        // Kept with the file's kind.
        picture: None,
    })
}

fn proved(folder: &RelPath, row: &Row<'_>) -> Result<Proved, JournalError> {
    Ok(Proved {
        path: folder.join(&row.get::<_, Vec<u8>>(0)?),
        size: row.get::<_, i64>(1)? as u64,
        hash: blake3::Hash::from_bytes(row.get::<_, Option<_>>(2)?.unwrap_or_default()),
        thumbnail: row.get(3)?,
        current: row.get(4)?,
        delivered: row.get(5)?,
        proof: proof_of(row, 6)?,
    })
}

impl View {
    /// Calls `each` for the file at `path`, or for every file from the folder `path` on.
    pub fn each_proved(
        &self,
        path: &RelPath,
        mut each: impl FnMut(Proved),
    ) -> Result<(), JournalError> {
        let Some(id) = self.folder_id(path)? else {
            self.proved_file(path)?.into_iter().for_each(each);
            return Ok(());
        };
        let mut folders = vec![(id, path.clone())];
        let mut files = self.conn.prepare_cached(&format!(
            "SELECT {PROVED} FROM file WHERE folder_id = ? ORDER BY name"
        ))?;
        let mut children = self
            .conn
            .prepare_cached("SELECT id, name FROM folder WHERE parent_id = ? ORDER BY name DESC")?;
        while let Some((id, path)) = folders.pop() {
            let mut rows = files.query([id])?;
            while let Some(row) = rows.next()? {
                each(proved(&path, row)?);
            }
            let mut rows = children.query([id])?;
            while let Some(row) = rows.next()? {
                folders.push((row.get(0)?, path.join(&row.get::<_, Vec<u8>>(1)?)));
            }
        }
        Ok(())
    }

    /// Calls `each` for every file of a folder, not of those below it.
    pub fn each_proved_in(
        &self,
        folder: &RelPath,
        mut each: impl FnMut(Proved),
    ) -> Result<(), JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(());
        };
        let mut files = self.conn.prepare_cached(&format!(
            "SELECT {PROVED} FROM file WHERE folder_id = ? ORDER BY name"
        ))?;
        let mut rows = files.query([id])?;
        while let Some(row) = rows.next()? {
            each(proved(folder, row)?);
        }
        Ok(())
    }

    /// The file at `path`, if the journal knows it.
    pub fn proved_file(&self, path: &RelPath) -> Result<Option<Proved>, JournalError> {
        let Some((folder, name)) = path.split() else {
            return Ok(None);
        };
        let Some(id) = self.folder_id(&folder)? else {
            return Ok(None);
        };
        let mut file = self.conn.prepare_cached(&format!(
            "SELECT {PROVED} FROM file WHERE folder_id = ? AND name = ?"
        ))?;
        let mut rows = file.query(params![id, name])?;
        let row = rows.next()?;
        row.map(|row| proved(&folder, row)).transpose()
    }

    /// What is not delivered of the file `path`, or from the folder `path` on.
    pub fn pending_below(&self, path: &RelPath) -> Result<Pending, JournalError> {
        let Some(id) = self.folder_id(path)? else {
            return self.pending_file(path);
        };
        Ok(self
            .conn
            .prepare_cached(
                "SELECT queued_files, failed_files, suspect_files FROM folder WHERE id = ?",
            )?
            .query_row([id], |row| {
                let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(Pending {
                    queued: count(0)?,
                    failed: count(1)?,
                    suspect: count(2)?,
                })
            })?)
    }

    fn pending_file(&self, path: &RelPath) -> Result<Pending, JournalError> {
        let Some((folder, name)) = path.split() else {
            return Ok(Pending::default());
        };
        let Some(id) = self.folder_id(&folder)? else {
            return Ok(Pending::default());
        };
        let state: Option<i64> = self
            .conn
            .prepare_cached(
                "SELECT state FROM work JOIN file ON file.id = work.file_id
                 WHERE file.folder_id = ? AND file.name = ?",
            )?
            .query_row(params![id, name], |row| row.get(0))
            .optional()?;
        Ok(Pending {
            queued: (state < Some(2) && state.is_some()).into(),
            failed: (state == Some(2)).into(),
            suspect: (state == Some(3)).into(),
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
