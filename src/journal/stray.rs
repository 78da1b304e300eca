//! What the remote has under paths that are no file's any more: to be copied from, and deleted.
//!
//! At any time a path is a file's or a stray's or nobody's. Whoever comes to a stray's path takes it
//! over, and with it the object that may still be there. So an object is never deleted that a file
//! may have been delivered to.

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{Claimed, JournalError, Outcome, now_ms};
use crate::path::RelPath;

/// An entry of `stray`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StrayId(i64);

/// A path taken for deleting its objects.
#[derive(Debug, Clone)]
pub struct Deletion {
    pub id: StrayId,
    pub path: RelPath,
    /// Whether there may be a thumbnail too.
    pub thumbnail: bool,
    /// Attempts before this one.
    pub attempts: u32,
}

impl Store {
    /// The file `id` leaves `path`: for another one, or for good.
    pub(super) fn leave(
        &mut self,
        id: i64,
        path: &RelPath,
        renamed: bool,
    ) -> Result<(), JournalError> {
        if !renamed && !self.sync_deletes {
            return Ok(());
        }
        let object: Option<(Option<Vec<u8>>, bool)> = self
            .conn
            .prepare_cached(
                "SELECT hash, thumbnail = 1 OR hash IS NULL FROM file WHERE id = ? AND occupied = 1",
            )?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((hash, thumbnail)) = object else {
            return Ok(());
        };
        // Two that change places: the object is already the other one's to replace.
        if let Some(other) = self.file_id(path)?.filter(|other| *other != id) {
            return self.occupy(other);
        }
        let (folder_id, gone_row_id) = match self.sync_deletes {
            true => self.row_of(path)?,
            false => (None, None),
        };
        self.conn
            .prepare_cached("DELETE FROM stray WHERE path = ?")?
            .execute([path.as_bytes()])?;
        self.conn
            .prepare_cached(
                "INSERT INTO stray (path, hash, thumbnail, file_id, folder_id, gone_row_id, due_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                path.as_bytes(),
                hash,
                thumbnail,
                renamed.then_some(id),
                folder_id,
                gone_row_id,
                self.due()
            ])?;
        Ok(())
    }

    /// The row that tells of what is in the folder of `path`: a folder's, or one to be removed.
    fn row_of(&mut self, path: &RelPath) -> Result<(Option<i64>, Option<i64>), JournalError> {
        let Some((folder, _)) = path.split() else {
            return Ok((None, None));
        };
        let gone: Option<i64> = self
            .conn
            .prepare_cached("SELECT id FROM gone_row WHERE path = ?")?
            .query_row([folder.as_bytes()], |row| row.get(0))
            .optional()?;
        if gone.is_some() {
            return Ok((None, gone));
        }
        let Some(folder_id) = self.folder_id(&folder)? else {
            return Ok((None, None));
        };
        let waits = self
            .conn
            .prepare_cached(
                "SELECT 1 FROM folder WHERE id = ?1 AND row_version > 0 AND (?2 OR row_delivered > 0)",
            )?
            .exists(params![folder_id, self.has_rows])?;
        Ok((waits.then_some(folder_id), None))
    }

    /// A file has come to `path`, and takes over what is there; if that is its own, it knows what.
    pub(super) fn take_over(&mut self, id: i64, path: &RelPath) -> Result<(), JournalError> {
        let taken: Option<(Option<i64>, Option<Vec<u8>>, bool)> = self
            .conn
            .prepare_cached("DELETE FROM stray WHERE path = ? RETURNING file_id, hash, thumbnail")?
            .query_row([path.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        match taken {
            None => Ok(()),
            Some((Some(its), hash, _)) if its == id => {
                self.conn
                    .prepare_cached("UPDATE file SET hash = ?2 WHERE id = ?1")?
                    .execute(params![id, hash])?;
                self.occupy(id)?;
                // The folder's row may have been written while it was away.
                let (folder_id, has_row) = self
                    .conn
                    .prepare_cached("SELECT folder_id, kind > 0 FROM file WHERE id = ?")?
                    .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                self.raise_row(folder_id, has_row)
            }
            Some((_, _, thumbnail)) => {
                self.conn
                    .prepare_cached("UPDATE file SET thumbnail = 1 WHERE id = ?1 AND ?2")?
                    .execute(params![id, thumbnail])?;
                self.occupy(id)
            }
        }
    }

    fn occupy(&mut self, id: i64) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("UPDATE file SET occupied = 1 WHERE id = ?")?
            .execute([id])?;
        Ok(())
    }

    /// The file `id` is delivered, or removed: nothing will be copied from where it was.
    pub(super) fn release_strays_of(&mut self, id: i64) -> Result<(), JournalError> {
        let sql = match self.sync_deletes {
            true => "UPDATE stray SET file_id = NULL WHERE file_id = ?",
            false => "DELETE FROM stray WHERE file_id = ?",
        };
        self.conn.prepare_cached(sql)?.execute([id])?;
        Ok(())
    }

    /// The folder's row was written: what it no longer shows can be deleted.
    pub(super) fn row_is_written(&mut self, folder_id: i64) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE stray SET folder_id = NULL WHERE folder_id = ?1
                     AND EXISTS (SELECT 1 FROM folder WHERE id = ?1 AND row_state = 0)",
            )?
            .execute([folder_id])?;
        Ok(())
    }

    /// A delivery to a path that the file has left meanwhile.
    pub(super) fn stray_arrived(
        &mut self,
        id: i64,
        path: &RelPath,
        hash: &blake3::Hash,
    ) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("UPDATE stray SET hash = ?3 WHERE path = ?1 AND file_id = ?2")?
            .execute(params![path.as_bytes(), id, hash.as_bytes()])?;
        Ok(())
    }

    pub(super) fn claim_deletions(
        &mut self,
        limit: usize,
    ) -> Result<Claimed<Deletion>, JournalError> {
        if !self.sync_deletes || self.paused {
            return Ok(Claimed::nothing());
        }
        let now = self.look_at_clock()?;
        const DUE: &str =
            "state = 0 AND file_id IS NULL AND folder_id IS NULL AND gone_row_id IS NULL";
        let due: Vec<(i64, Vec<u8>, bool, u32)> = self
            .conn
            .prepare_cached(&format!(
                "SELECT id, path, thumbnail, attempts FROM stray
                 WHERE {DUE} AND due_at <= ? ORDER BY due_at LIMIT ?"
            ))?
            .query_map(params![now, limit as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut claims = Vec::with_capacity(due.len());
        for (id, path, thumbnail, attempts) in due {
            let path = RelPath::parse(&path).unwrap_or_else(RelPath::root);
            if path.is_root() || self.file_id(&path)?.is_some() {
                // Never: see above. But what would be lost then is somebody's file.
                self.conn
                    .prepare_cached("DELETE FROM stray WHERE id = ?")?
                    .execute([id])?;
                continue;
            }
            self.conn
                .prepare_cached("UPDATE stray SET state = 1 WHERE id = ?")?
                .execute([id])?;
            claims.push(Deletion {
                id: StrayId(id),
                path,
                thumbnail,
                attempts,
            });
        }
        let next_due = self
            .conn
            .prepare_cached(&format!("SELECT min(due_at) FROM stray WHERE {DUE}"))?
            .query_row([], |row| row.get(0))?;
        Ok(Claimed { claims, next_due })
    }

    /// One that was taken over meanwhile is not there any more, and nothing happens.
    pub(super) fn settle_deletions(
        &mut self,
        outcomes: &[(StrayId, Outcome)],
    ) -> Result<(), JournalError> {
        for (StrayId(id), outcome) in outcomes {
            let (state, error, due) = match outcome {
                Outcome::Done => {
                    self.conn
                        .prepare_cached("DELETE FROM stray WHERE id = ? AND state = 1")?
                        .execute([id])?;
                    continue;
                }
                Outcome::Released { due } => {
                    self.conn
                        .prepare_cached("UPDATE stray SET state = 0, due_at = ?2 WHERE id = ?1")?
                        .execute(params![id, due])?;
                    continue;
                }
                Outcome::Retry { error, due } => (0, error, *due),
                Outcome::Failed { error } => (2, error, 0),
            };
            self.conn
                .prepare_cached(
                    "UPDATE stray SET state = ?2, error = ?3, due_at = ?4, failed_at = ?5,
                         attempts = attempts + 1
                     WHERE id = ?1",
                )?
                .execute(params![id, state, error, due, now_ms()])?;
        }
        Ok(())
    }

    /// After a daemon has ended, and as this one was told.
    pub(super) fn prepare_strays(&mut self) -> Result<(), JournalError> {
        self.conn
            .execute("UPDATE stray SET state = 0 WHERE state = 1", [])?;
        if !self.sync_deletes {
            // The remote keeps what it has.
            self.conn
                .execute("DELETE FROM stray WHERE file_id IS NULL", [])?;
            self.conn
                .execute("UPDATE stray SET folder_id = NULL, gone_row_id = NULL", [])?;
            self.conn.execute("DELETE FROM gone_row", [])?;
        }
        Ok(())
    }
}
