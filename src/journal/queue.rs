//! Claiming files for delivery, and settling what became of them.

use rusqlite::{OptionalExtension, params};

use super::rows::FolderId;
use super::set_back::CLOCK_SLIP;
use super::store::Store;
use super::{Claimed, Crowd, FileStat, JournalError, now_ms};
use crate::derive::thumbnail::ThumbnailState;
use crate::path::RelPath;
use crate::remote::Proof;

/// How long to wait for a renamed folder's files before looking again, milliseconds.
const EXPANDING: i64 = 10;
/// Files that are looked at for a claim where folders have limits: behind so many of crowded folders
/// there may be others, which wait for a place there.
const LOOK: i64 = 10_000;

/// A file of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(pub(super) i64);

impl FileId {
    /// What [`super::View::suspects`] goes on after to begin with this file.
    pub(crate) fn before(self) -> Self {
        Self(self.0 - 1)
    }
}

/// Small files and large ones wait in lanes of their own, so that neither starves the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Small,
    Large,
}

/// A file taken for delivery: work is done for (file, version).
#[derive(Debug, Clone)]
pub struct FileClaim {
    pub id: FileId,
    pub version: i64,
    pub path: RelPath,
    /// The folder that it is in.
    pub folder: FolderId,
    /// BLAKE3 of what the remote has under this path's key, if that is known for sure.
    pub remote_hash: Option<blake3::Hash>,
    /// Whether a thumbnail of earlier content was delivered.
    pub thumbnail: bool,
    /// Attempts before this one.
    pub attempts: u32,
    /// Why the file has to be looked at before it is sent.
    pub doubt: Option<Doubt>,
}

/// Why a file may not be what the remote should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It waited when the machine went down.
    Crashed {
        /// As it was recorded.
        size: u64,
        mtime_ns: i64,
        inode: u64,
        /// An earlier version was delivered.
        delivered: bool,
    },
    /// It was found while the journal was rebuilt: the remote may have something newer.
    Rebuilt,
}

/// What kind of file the delivered content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Other = 0,
    Picture = 1,
    Stats = 2,
}

/// What was delivered.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The file as it was read.
    pub stat: FileStat,
    pub hash: blake3::Hash,
    pub kind: Kind,
    /// Width and height of a picture as shown (upright), pixels; `None` if not known.
    pub dimensions: Option<(u32, u32)>,
    pub proof: Proof,
    pub thumbnail: ThumbnailState,
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub enum FileOutcome {
    /// All artifacts are at the remote, and the local bytes are durable.
    Delivered(Delivered),
    /// The content is what the remote has already; nothing was sent.
    Unchanged { stat: FileStat, hash: blake3::Hash },
    /// It was suspect, and is what the remote has again.
    Restored { stat: FileStat, hash: blake3::Hash },
    /// Failed for now; due again at `due` (milliseconds since 1970-01-01 UTC).
    Retry { error: String, due: i64 },
    /// Failed for good, until somebody asks for it or the file changes.
    Failed { error: String },
    /// Given up, or overtaken by a change: back into the queue, due at `due`.
    Released { due: i64 },
    /// Nothing was sent: back into the queue, and the remote has what the claim said.
    Unsent {
        due: i64,
        remote_hash: Option<blake3::Hash>,
    },
    /// There is no such file any more; see [`super::Journal::gone`].
    Gone,
    /// It looks damaged: not sent until somebody decides.
    Suspect { why: String },
}

/// A claim and what became of it.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub id: FileId,
    pub version: i64,
    /// Where the file was when it was claimed: the key that it was sent to.
    pub path: RelPath,
    pub outcome: FileOutcome,
}

/// Nothing waits longer for its next attempt, milliseconds.
const LONGEST_WAIT: i64 = 60 * 60 * 1000;

impl Store {
    pub(super) fn claim_files(
        &mut self,
        lane: Lane,
        limit: usize,
        crowd: Option<&Crowd>,
    ) -> Result<Claimed<FileClaim>, JournalError> {
        let large = lane == Lane::Large;
        struct Due {
            id: i64,
            folder_id: i64,
            attempts: u32,
            doubt: i64,
        }
        if self.paused {
            return Ok(Claimed::nothing());
        }
        if self.is_expanding()? {
            // Files of a renamed folder are on their way to their new paths.
            return Ok(Claimed {
                claims: Vec::new(),
                next_due: Some(now_ms() + EXPANDING),
            });
        }
        if let Some(rest) = self.share.rest() {
            return Ok(Claimed {
                claims: Vec::new(),
                next_due: Some(now_ms() + rest.as_millis() as i64 + 1),
            });
        }
        let mut due: Vec<Due> = Vec::new();
        let (mut crowd, mut crowded) = (crowd.cloned(), false);
        for priority in [1, 0] {
            let look = match crowd {
                Some(_) => LOOK,
                None => (limit - due.len()) as i64,
            };
            let mut statement = self.conn.prepare_cached(
                "SELECT file_id, folder_id, attempts, doubt FROM work
                     WHERE state = 0 AND large = ?1 AND priority = ?2 AND due_at <= ?3
                     ORDER BY due_at LIMIT ?4",
            )?;
            let mut rows = statement.query(params![large, priority, now_ms(), look])?;
            while due.len() < limit
                && let Some(row) = rows.next()?
            {
                let folder_id = row.get(1)?;
                if crowd
                    .as_mut()
                    .is_some_and(|crowd| !crowd.admit(FolderId(folder_id)))
                {
                    crowded = true;
                    continue;
                }
                due.push(Due {
                    id: row.get(0)?,
                    folder_id,
                    attempts: row.get(2)?,
                    doubt: row.get(3)?,
                });
            }
        }
        let admitted = due
            .iter()
            .take_while(|due| self.share.admits(due.folder_id))
            .count();
        due.truncate(admitted);
        let mut claims = Vec::with_capacity(due.len());
        for Due {
            id,
            folder_id,
            attempts,
            doubt,
        } in due
        {
            let folder = self.folder_path(folder_id)?;
            let mut claim = self.claim_file(id, folder_id, &folder, attempts)?;
            if self.share.is_limited() {
                self.share.claimed(id);
                self.add_to_batch(folder_id)?;
            }
            claim.doubt = self.doubt(id, doubt)?;
            claims.push(claim);
        }
        if crowded || self.share.is_full() {
            // What is due waits for a place, or for the end of the batch, and not for a time.
            return Ok(Claimed {
                claims,
                next_due: None,
            });
        }
        // `queued_at` is that of the row with the earliest `due_at`.
        let (next_due, queued_at): (Option<i64>, Option<i64>) = self
            .conn
            .prepare_cached(
                "SELECT min(due_at), queued_at FROM
                     (SELECT min(due_at) AS due_at, queued_at FROM work
                          WHERE state = 0 AND large = ?1 AND priority = 0
                      UNION ALL
                      SELECT min(due_at), queued_at FROM work
                          WHERE state = 0 AND large = ?1 AND priority = 1)",
            )?
            .query_row([large], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let now = now_ms();
        let set_back = next_due.is_some_and(|due| due > now + LONGEST_WAIT)
            || queued_at.is_some_and(|queued| queued > now + CLOCK_SLIP);
        if set_back {
            self.clock_was_set_back(now)?;
        }
        Ok(Claimed {
            claims,
            next_due: if set_back { Some(now) } else { next_due },
        })
    }

    /// What was queued at a time that is still to come, or waits for one that the clock has not nearly
    /// come to, waits for now.
    fn clock_was_set_back(&mut self, now: i64) -> Result<(), JournalError> {
        tracing::warn!("the clock was set back: what waited for a later time is due now");
        self.conn.execute(
            "UPDATE work SET due_at = min(due_at, ?1), queued_at = min(queued_at, ?1)
             WHERE state = 0 AND (queued_at > ?1 OR due_at > ?2)",
            params![now, now + LONGEST_WAIT],
        )?;
        Ok(())
    }

    fn claim_file(
        &mut self,
        id: i64,
        folder_id: i64,
        folder: &RelPath,
        attempts: u32,
    ) -> Result<FileClaim, JournalError> {
        self.conn
            .prepare_cached("UPDATE work SET state = 1 WHERE file_id = ?")?
            .execute([id])?;
        let (occupied, claim) = self
            .conn
            .prepare_cached(
                "SELECT occupied, name, version, hash, thumbnail = 1 FROM file WHERE id = ?",
            )?
            .query_row([id], |row| {
                let claim = FileClaim {
                    id: FileId(id),
                    version: row.get(2)?,
                    path: folder.join(&row.get::<_, Vec<u8>>(1)?),
                    folder: FolderId(folder_id),
                    remote_hash: row
                        .get::<_, Option<[u8; 32]>>(3)?
                        .map(blake3::Hash::from_bytes),
                    thumbnail: row.get(4)?,
                    attempts,
                    doubt: None,
                };
                Ok((row.get::<_, bool>(0)?, claim))
            })?;
        if claim.remote_hash.is_some() || !occupied {
            // From here on the remote may have the old content or the new: an answer can be lost.
            self.conn
                .prepare_cached("UPDATE file SET hash = NULL, occupied = 1 WHERE id = ?")?
                .execute([id])?;
        }
        Ok(claim)
    }

    /// A claim that a scan has found to be suspect meanwhile stays so.
    pub(super) fn settle_files(&mut self, settlements: &[Settlement]) -> Result<(), JournalError> {
        for settlement in settlements {
            self.settle_file(settlement)?;
        }
        Ok(())
    }

    fn settle_file(&mut self, settlement: &Settlement) -> Result<(), JournalError> {
        let Settlement {
            id: FileId(id),
            version,
            path,
            outcome,
        } = settlement;
        let (id, version) = (*id, *version);
        self.share.settled(id);
        let current: Option<(i64, i64, Vec<u8>)> = self
            .conn
            .prepare_cached("SELECT version, folder_id, name FROM file WHERE id = ?")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        // Removed meanwhile.
        let Some((current, folder_id, name)) = current else {
            return Ok(());
        };
        // Changed meanwhile, or moved with a folder whose files are still to be queued: whatever
        // became of the old version under the old path, the new one is still to be done.
        if current != version || self.folder_path(folder_id)?.join(&name) != *path {
            return self.superseded(id, path, outcome);
        }
        match outcome {
            FileOutcome::Delivered(delivered) => self.delivered(id, version, delivered),
            FileOutcome::Unchanged { stat, hash } => self.unchanged(id, version, stat, hash),
            FileOutcome::Restored { stat, hash } => {
                self.unchanged(id, version, stat, hash)?;
                self.clear_suspect(id).map(drop)
            }
            FileOutcome::Retry { error, due } => self.troubled(id, 0, error, *due),
            FileOutcome::Failed { error } => self.troubled(id, 2, error, 0),
            FileOutcome::Released { due } => self.release(id, Some(*due)),
            FileOutcome::Unsent { due, remote_hash } => {
                if let Some(hash) = remote_hash {
                    self.knows_hash(id, hash)?;
                }
                self.release(id, Some(*due))
            }
            FileOutcome::Gone => self.gone(id),
            FileOutcome::Suspect { why } => self.suspect(id, why),
        }
    }

    /// The file has a newer version. What the remote has under the file's key is known all the same,
    /// if the file still has that key.
    fn superseded(
        &mut self,
        id: i64,
        path: &RelPath,
        outcome: &FileOutcome,
    ) -> Result<(), JournalError> {
        let is_here = self.file_id(path)? == Some(id);
        match outcome {
            FileOutcome::Delivered(delivered) if is_here => self.arrived(id, delivered)?,
            FileOutcome::Delivered(delivered) => {
                self.stray_arrived(id, path, &delivered.hash)?;
                // If it comes back it is not sent again, and this is what is known of it.
                self.describe(id, delivered)?;
            }
            FileOutcome::Unchanged { hash, .. }
            | FileOutcome::Restored { hash, .. }
            | FileOutcome::Unsent {
                remote_hash: Some(hash),
                ..
            } if is_here => self.knows_hash(id, hash)?,
            _ => {}
        }
        self.release(id, None)
    }

    fn delivered(
        &mut self,
        id: i64,
        version: i64,
        delivered: &Delivered,
    ) -> Result<(), JournalError> {
        self.arrived(id, delivered)?;
        self.settled(id, version, &delivered.stat)
    }

    /// What the remote has under the file's key now.
    fn arrived(&mut self, id: i64, delivered: &Delivered) -> Result<(), JournalError> {
        let folder_id = self.describe(id, delivered)?;
        self.knows_hash(id, &delivered.hash)?;
        self.raise_row(folder_id, delivered.kind != Kind::Other)
    }

    /// What was delivered last; the folder that the file is in.
    fn describe(&mut self, id: i64, delivered: &Delivered) -> Result<i64, JournalError> {
        let (thumbnail, thumbnail_error) = match &delivered.thumbnail {
            ThumbnailState::None => (0, None),
            ThumbnailState::Delivered => (1, None),
            ThumbnailState::Failed(error) => (2, Some(error)),
        };
        Ok(self
            .conn
            .prepare_cached(
                "UPDATE file SET kind = ?2, etag = ?3, delivered_at = ?4, thumbnail = ?5,
                     thumbnail_error = ?6, width = ?7, height = ?8, object_id = ?9, object_version = ?10,
                     url = ?11, thumbnail_url = ?12
                 WHERE id = ?1 RETURNING folder_id",
            )?
            .query_row(
                params![
                    id,
                    delivered.kind as i64,
                    delivered.proof.etag,
                    now_ms(),
                    thumbnail,
                    thumbnail_error,
                    delivered.dimensions.map(|(width, _)| width),
                    delivered.dimensions.map(|(_, height)| height),
                    delivered.proof.id,
                    delivered.proof.version,
                    delivered.proof.url,
                    delivered.proof.thumbnail_url,
                ],
                |row| row.get(0),
            )?)
    }

    fn unchanged(
        &mut self,
        id: i64,
        version: i64,
        stat: &FileStat,
        hash: &blake3::Hash,
    ) -> Result<(), JournalError> {
        // The hash was forgotten when the file was claimed.
        self.knows_hash(id, hash)?;
        self.settled(id, version, stat)
    }

    fn knows_hash(&mut self, id: i64, hash: &blake3::Hash) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("UPDATE file SET hash = ?2 WHERE id = ?1")?
            .execute(params![id, hash.as_bytes()])?;
        Ok(())
    }

    /// This version, which is the file's, is at the remote: there is nothing left to be done.
    fn settled(&mut self, id: i64, version: i64, stat: &FileStat) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE file SET delivered = ?2, size = ?3, mtime_ns = ?4, inode = ?5 WHERE id = ?1",
            )?
            .execute(params![
                id,
                version,
                stat.size as i64,
                stat.mtime_ns,
                stat.inode as i64
            ])?;
        self.conn
            .prepare_cached("DELETE FROM work WHERE file_id = ? AND state = 1")?
            .execute([id])?;
        self.release_strays_of(id)
    }

    fn troubled(&mut self, id: i64, state: i64, error: &str, due: i64) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE work SET state = ?2, error = ?3, due_at = ?4, failed_at = ?5, attempts = attempts + 1
                 WHERE file_id = ?1 AND state = 1",
            )?
            .execute(params![id, state, error, due, now_ms()])?;
        Ok(())
    }

    /// Queued again; at its own time, or at `due` if that is later.
    fn release(&mut self, id: i64, due: Option<i64>) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE work SET state = 0, due_at = max(due_at, ?2) WHERE file_id = ?1 AND state = 1",
            )?
            .execute(params![id, due.unwrap_or(0)])?;
        Ok(())
    }

    /// A file that the journal knows is not there. Never delivered: then it is just gone.
    pub(super) fn gone(&mut self, id: i64) -> Result<(), JournalError> {
        let delivered: i64 = self
            .conn
            .prepare_cached("SELECT delivered FROM file WHERE id = ?")?
            .query_row([id], |row| row.get(0))?;
        if delivered == 0 {
            return self.drop_file(id);
        }
        self.suspect(
            id,
            "the local file is gone, and nobody removed it through the mount; the copy at the remote is kept",
        )
    }

    /// See [`super::Journal::hurry`].
    pub(super) fn hurry(&mut self) -> Result<(), JournalError> {
        self.settle_ms = 0;
        let now = now_ms();
        self.conn.execute(
            "UPDATE work SET due_at = ?1 WHERE state = 0 AND attempts = 0 AND due_at > ?1",
            [now],
        )?;
        self.conn.execute(
            "UPDATE folder SET row_due = ?1 WHERE row_state = 1 AND row_attempts = 0 AND row_due > ?1",
            [now],
        )?;
        for table in ["stray", "gone_row"] {
            self.conn.execute(
                &format!("UPDATE {table} SET due_at = ?1 WHERE state = 0 AND attempts = 0 AND due_at > ?1"),
                [now],
            )?;
        }
        Ok(())
    }
}
