//! All that is known of one file.

use rusqlite::{OptionalExtension, Row, params};

use super::proof::proof_of;
use super::{JournalError, Kind, View};
use crate::path::RelPath;
use crate::remote::Proof;

/// What has become of a file's last version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Queued,
    Uploading,
    Delivered,
    /// Given up.
    Failed,
    Suspect,
}

/// One file, as the journal knows it. Times are milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub state: State,
    /// As of the last change or delivery.
    pub size: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub mtime_ns: i64,
    pub inode: u64,
    /// The file's, and the one at the remote: 0 for none.
    pub version: i64,
    pub delivered: i64,
    pub kind: Kind,
    /// Of a picture, pixels.
    pub dimensions: Option<(u32, u32)>,
    /// BLAKE3 of what is at the remote, where that is known for sure.
    pub hash: Option<blake3::Hash>,
    /// What the remote answered.
    pub proof: Proof,
    pub delivered_at: Option<i64>,
    /// Whether there is one at the remote.
    pub thumbnail: bool,
    pub thumbnail_error: Option<String>,
    /// Of the delivery that waits: when its first change came, when it is due, and what has become of
    /// attempts so far.
    pub queued_at: Option<i64>,
    pub due_at: Option<i64>,
    pub attempts: u32,
    pub error: Option<String>,
    pub failed_at: Option<i64>,
}

impl View {
    /// `None` if nothing is known of it.
    pub fn about(&self, path: &RelPath) -> Result<Option<About>, JournalError> {
        let Some((folder, name)) = path.split() else {
            return Ok(None);
        };
        let _snapshot = self.conn.unchecked_transaction()?;
        let known = match self.folder_id(&folder)? {
            None => None,
            Some(id) => self
                .conn
                .prepare_cached(
                    "SELECT work.state, file.size, mtime_ns, inode, version, delivered, kind, width, height,
                         hash, delivered_at, thumbnail, thumbnail_error, queued_at, due_at, attempts, error,
                         failed_at, etag, object_id, object_version, url, thumbnail_url
                     FROM file LEFT JOIN work ON work.file_id = file.id
                     WHERE file.folder_id = ? AND file.name = ?",
                )?
                .query_row(params![id, name], about)
                .optional()?,
        };
        let arrived = self
            .conn
            .prepare_cached(
                "SELECT size, mtime_ns, inode, at, renamed_from = ?1 FROM arrival
                 WHERE path = ?1 AND size IS NOT NULL OR renamed_from = ?1
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([path.as_bytes()], |row| {
                let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
                let is_left = row.get::<_, Option<bool>>(4)?.unwrap_or_default();
                Ok((number(0)?, row.get(1)?, number(2)?, row.get(3)?, is_left))
            })
            .optional()?;
        let Some((size, mtime_ns, inode, at, is_left)) = arrived else {
            return Ok(known);
        };
        if is_left {
            return Ok(None);
        }
        // Written down just now, and not in the tables yet.
        let known = known.unwrap_or_else(|| nothing_known(at));
        Ok(Some(About {
            state: State::Queued,
            size,
            mtime_ns,
            inode,
            version: known.version + 1,
            queued_at: known.queued_at.or(Some(at)),
            attempts: 0,
            error: None,
            failed_at: None,
            ..known
        }))
    }

    /// Names of the files of a folder that are known, in order, those after `after`.
    pub fn known_names(
        &self,
        folder: &RelPath,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(Vec::new());
        };
        let mut statement = self.conn.prepare_cached(
            "SELECT name FROM file WHERE folder_id = ? AND name > ? ORDER BY name LIMIT ?",
        )?;
        let names = statement.query_map(params![id, after, limit as i64], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }
}

fn about(row: &Row<'_>) -> rusqlite::Result<About> {
    Ok(About {
        state: match row.get(0)? {
            None => State::Delivered,
            Some(state) => State::of(state),
        },
        size: row.get::<_, i64>(1)? as u64,
        mtime_ns: row.get(2)?,
        inode: row.get::<_, i64>(3)? as u64,
        version: row.get(4)?,
        delivered: row.get(5)?,
        kind: match row.get(6)? {
            1 => Kind::Picture,
            2 => Kind::Stats,
            _ => Kind::Other,
        },
        dimensions: row.get::<_, Option<u32>>(7)?.zip(row.get(8)?),
        hash: row.get::<_, Option<_>>(9)?.map(blake3::Hash::from_bytes),
        delivered_at: row.get(10)?,
        thumbnail: row.get::<_, i64>(11)? == 1,
        thumbnail_error: row.get(12)?,
        queued_at: row.get(13)?,
        due_at: row.get(14)?,
        attempts: row.get::<_, Option<u32>>(15)?.unwrap_or(0),
        error: row.get(16)?,
        failed_at: row.get(17)?,
        proof: proof_of(row, 18)?,
    })
}

impl State {
    /// As `work` has it.
    pub(super) fn of(state: i64) -> Self {
        match state {
            0 => Self::Queued,
            1 => Self::Uploading,
            2 => Self::Failed,
            _ => Self::Suspect,
        }
    }

    /// One word, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Uploading => "uploading",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Suspect => "suspect",
        }
    }
}

/// Of a file that came at `at`, and is in no table yet.
fn nothing_known(at: i64) -> About {
    About {
        state: State::Queued,
        size: 0,
        mtime_ns: 0,
        inode: 0,
        version: 0,
        delivered: 0,
        kind: Kind::Other,
        dimensions: None,
        hash: None,
        proof: Proof::default(),
        delivered_at: None,
        thumbnail: false,
        thumbnail_error: None,
        queued_at: Some(at),
        due_at: None,
        attempts: 0,
        error: None,
        failed_at: None,
    }
}
