//! Uploads in parts that are on their way: what must be known to go on with them after a crash, or to
//! give them up.

use rusqlite::params;

use super::store::Store;
use super::{Answer, Durability, FileClaim, Journal, JournalError, Op, View, now_ms};
use crate::path::RelPath;

/// An entry of `upload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadId(i64);

/// A part that the remote has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPart {
    pub number: u32,
    /// The remote's, if it told.
    pub etag: Option<String>,
    /// What went with it for the remote to verify.
    pub checksum: String,
}

/// An upload that was begun, and of which no end is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub id: UploadId,
    pub path: RelPath,
    /// BLAKE3 of what was being sent.
    pub hash: blake3::Hash,
    /// What the remote calls it.
    pub name: String,
    /// The remote has made an object of it.
    pub completed: bool,
}

/// An upload that begins.
#[derive(Debug)]
pub(super) struct Begun {
    path: RelPath,
    version: i64,
    hash: blake3::Hash,
    name: String,
}

impl Begun {
    pub(super) fn of(claim: &FileClaim, hash: &blake3::Hash, name: String) -> Self {
        Self {
            path: claim.path.clone(),
            version: claim.version,
            hash: *hash,
            name,
        }
    }
}

impl Journal {
    /// Notes an upload in parts of the content `hash` for a claimed file, and what the remote calls it.
    pub async fn begin_upload(
        &self,
        claim: &FileClaim,
        hash: &blake3::Hash,
        name: String,
    ) -> Result<UploadId, JournalError> {
        let begun = Begun::of(claim, hash, name);
        match self.ask(Op::BeginUpload(begun)).await? {
            Answer::Upload(id) => Ok(id),
            _ => Err(JournalError::Closed),
        }
    }

    /// Notes that the remote has a part. One that is not noted is sent again after a crash.
    pub fn part_stored(&self, upload: UploadId, part: UploadPart) {
        let op = Op::PartStored { upload, part };
        self.0.writer.send(op, Durability::Committed, |answer| {
            if let Err(error) = answer {
                tracing::warn!(%error, "a part of an upload could not be noted");
            }
        });
    }

    /// Notes that the remote has made an object of an upload. It is forgotten once nobody can ask for
    /// it again, for the death of the daemon may come between this and the delivery's record.
    pub async fn upload_completed(&self, upload: UploadId) -> Result<(), JournalError> {
        self.ask(Op::UploadCompleted(upload)).await.map(drop)
    }

    /// Forgets an upload: it was given up, or nobody will go on with it.
    pub async fn end_upload(&self, upload: UploadId) -> Result<(), JournalError> {
        self.ask(Op::EndUpload(upload)).await.map(drop)
    }

    /// Uploads that nobody will go on with: their files are delivered, changed into others or gone.
    pub async fn leftover_uploads(&self) -> Result<Vec<Unfinished>, JournalError> {
        match self.ask(Op::Leftovers).await? {
            Answer::Leftovers(uploads) => Ok(uploads),
            _ => Err(JournalError::Closed),
        }
    }
}

const COLUMNS: &str = "id, path, hash, name, completed";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Unfinished> {
    let path: Vec<u8> = row.get(1)?;
    Ok(Unfinished {
        id: UploadId(row.get(0)?),
        // The journal wrote it; a path that is none any more is nobody's.
        path: RelPath::parse(&path).unwrap_or_else(RelPath::root),
        hash: blake3::Hash::from_bytes(row.get(2)?),
        name: row.get(3)?,
        completed: row.get(4)?,
    })
}

impl Store {
    pub(super) fn begin_upload(&mut self, begun: &Begun) -> Result<UploadId, JournalError> {
        let id = self
            .conn
            .prepare_cached(
                "INSERT INTO upload (path, version, hash, name, began_at) VALUES (?, ?, ?, ?, ?)
                 RETURNING id",
            )?
            .query_row(
                params![
                    begun.path.as_bytes(),
                    begun.version,
                    begun.hash.as_bytes(),
                    begun.name,
                    now_ms()
                ],
                |row| row.get(0),
            )?;
        Ok(UploadId(id))
    }

    pub(super) fn part_stored(
        &mut self,
        UploadId(upload): UploadId,
        part: &UploadPart,
    ) -> Result<(), JournalError> {
        // An upload that has ended meanwhile has no parts.
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO upload_part (upload_id, number, etag, checksum)
                 SELECT id, ?2, ?3, ?4 FROM upload WHERE id = ?1",
            )?
            .execute(params![upload, part.number, part.etag, part.checksum])?;
        Ok(())
    }

    pub(super) fn upload_completed(
        &mut self,
        UploadId(upload): UploadId,
    ) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("UPDATE upload SET completed = 1 WHERE id = ?")?
            .execute([upload])?;
        Ok(())
    }

    pub(super) fn end_upload(&mut self, UploadId(upload): UploadId) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("DELETE FROM upload WHERE id = ?")?
            .execute([upload])?;
        Ok(())
    }

    /// Those whose path has no work: whoever has some may go on with them.
    pub(super) fn leftover_uploads(&mut self) -> Result<Vec<Unfinished>, JournalError> {
        let all = self
            .conn
            .prepare_cached(&format!("SELECT {COLUMNS} FROM upload"))?
            .query_map([], read)?
            .collect::<Result<Vec<_>, _>>()?;
        let mut leftovers = Vec::new();
        for upload in all {
            let waits = match self.file_id(&upload.path)? {
                Some(id) => self
                    .conn
                    .prepare_cached("SELECT 1 FROM work WHERE file_id = ?")?
                    .exists([id])?,
                None => false,
            };
            if !waits {
                leftovers.push(upload);
            }
        }
        Ok(leftovers)
    }
}

impl View {
    /// The uploads that were begun for a path, oldest first.
    pub fn unfinished_uploads(&self, path: &RelPath) -> Result<Vec<Unfinished>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM upload WHERE path = ? ORDER BY id");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let uploads = statement.query_map([path.as_bytes()], read)?;
        Ok(uploads.collect::<Result<_, _>>()?)
    }

    /// The parts of an upload that the remote is known to have.
    pub fn upload_parts(
        &self,
        UploadId(upload): UploadId,
    ) -> Result<Vec<UploadPart>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT number, etag, checksum FROM upload_part WHERE upload_id = ? ORDER BY number",
        )?;
        let parts = statement.query_map([upload], |row| {
            Ok(UploadPart {
                number: row.get(0)?,
                etag: row.get(1)?,
                checksum: row.get(2)?,
            })
        })?;
        Ok(parts.collect::<Result<_, _>>()?)
    }

    /// Whether any upload was begun that has not ended.
    pub fn has_unfinished_uploads(&self) -> Result<bool, JournalError> {
        Ok(self
            .conn
            .prepare_cached("SELECT 1 FROM upload")?
            .exists([])?)
    }
}
