//! Reading the journal: what status shows, what a row is made of, what the scan compares with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::proof::proof_of;
use super::rows::FolderId;
use super::store::{check_identity, plan_once};
use super::{FileId, JournalError, Kind};
use crate::derive::thumbnail::ThumbnailState;
use crate::path::RelPath;
use crate::remote::Proof;

/// A read-only connection; each call sees one consistent state.
pub struct View {
    pub(super) conn: Connection,
}

/// Whose journal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub directory: PathBuf,
    pub mount_id: String,
    /// Whether the directory was mounted before.
    pub mounted_before: bool,
    /// Whether the last mount or push had a row sink.
    pub has_rows: bool,
    /// As it was mounted or pushed last: whether deletions go to the remote, and what goes first (a
    /// glob a line).
    pub sync_deletes: bool,
    pub priority: String,
    /// Folders at the remote that thumbnails of further sizes were ever delivered to.
    pub thumbnails: Vec<String>,
    /// What it tells of, as [`crate::remote::place`] names it; `None` before anything was delivered.
    pub remote: Option<String>,
}

/// A file as the scan needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
    /// Opened for writing, and nothing journaled since.
    pub opened: bool,
    /// BLAKE3 of what was delivered, if that is the last version.
    pub delivered: Option<blake3::Hash>,
    /// It looked damaged when it was seen last.
    pub suspect: bool,
}

/// The columns of [`known`].
const KNOWN: &str = "size, mtime_ns, inode, opened, CASE WHEN delivered = version THEN hash END, \
                     EXISTS (SELECT 1 FROM work WHERE file_id = id AND state = 3)";

fn known(row: &rusqlite::Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        size: row.get::<_, i64>(0)? as u64,
        mtime_ns: row.get(1)?,
        inode: row.get::<_, i64>(2)? as u64,
        opened: row.get(3)?,
        delivered: row.get::<_, Option<_>>(4)?.map(blake3::Hash::from_bytes),
        suspect: row.get(5)?,
    })
}

/// A delivered file as a row needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredFile {
    pub name: Vec<u8>,
    pub size: u64,
    pub hash: blake3::Hash,
    pub kind: Kind,
    /// Width and height of a picture as shown (upright), pixels; `None` if not known.
    pub dimensions: Option<(u32, u32)>,
    pub thumbnail: ThumbnailState,
    /// What is on the disk now looks damaged.
    pub is_suspect: bool,
    /// Milliseconds since 1970-01-01 UTC.
    pub delivered_at: i64,
    pub proof: Proof,
}

/// An object that another one can be copied from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    pub path: RelPath,
    /// Whether it is what the file itself left behind.
    pub renamed: bool,
    /// Whether it has a thumbnail, as far as is known.
    pub thumbnail: bool,
    /// Of a picture, pixels.
    pub dimensions: Option<(u32, u32)>,
    /// What the remote said of it, if the file itself left it.
    pub proof: Proof,
}

impl View {
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let unusable = |error: rusqlite::Error| JournalError::Unusable {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let conn = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(unusable)?;
        conn.busy_timeout(std::time::Duration::from_secs(5))
            .map_err(unusable)?;
        plan_once(&conn).map_err(unusable)?;
        check_identity(&conn, path)?;
        Ok(Self { conn })
    }

    pub fn meta(&self) -> Result<Meta, JournalError> {
        use std::os::unix::ffi::OsStringExt;
        Ok(self.conn.query_row(
            "SELECT directory, mount_id, mounted_at, has_rows, sync_deletes, priority, thumbnails,
                 remote
             FROM meta",
            [],
            |row| {
                Ok(Meta {
                    directory: std::ffi::OsString::from_vec(row.get(0)?).into(),
                    mount_id: row.get(1)?,
                    mounted_before: row.get::<_, Option<i64>>(2)?.is_some(),
                    has_rows: row.get(3)?,
                    sync_deletes: row.get(4)?,
                    priority: row.get(5)?,
                    thumbnails: row
                        .get_ref(6)?
                        .as_str()?
                        .lines()
                        .map(str::to_owned)
                        .collect(),
                    remote: row.get(7)?,
                })
            },
        )?)
    }

    /// Whether files are recorded, of another directory than that with this inode number.
    pub fn has_files_of_another(&self, inode: u64) -> Result<bool, JournalError> {
        Ok(self.conn.query_row(
            "SELECT meta.inode <> ? AND files > 0 FROM meta, folder WHERE folder.id = 1",
            [inode as i64],
            |row| row.get(0),
        )?)
    }

    /// Whether the row of any folder was ever written.
    pub fn has_rows_delivered(&self) -> Result<bool, JournalError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM folder WHERE row_delivered > 0)";
        Ok(self.conn.query_row(sql, [], |row| row.get(0))?)
    }

    /// The damaged journal that this one replaces since the last start, if it does.
    pub fn replaces(&self) -> Result<Option<String>, JournalError> {
        Ok(self
            .conn
            .prepare_cached("SELECT replaces FROM meta")?
            .query_row([], |row| row.get(0))?)
    }

    /// When the oldest change that is not delivered came, milliseconds since 1970-01-01 UTC. In
    /// O(log n).
    pub fn oldest_waiting(&self) -> Result<Option<i64>, JournalError> {
        // What was never tried is due in the order in which it came; the rest has an index.
        let of_lane = |large: bool, priority: bool| -> Result<Option<i64>, JournalError> {
            Ok(self
                .conn
                .prepare_cached(
                    "SELECT queued_at FROM work WHERE state = 0 AND large = ? AND priority = ?
                     ORDER BY due_at LIMIT 1",
                )?
                .query_row([large, priority], |row| row.get(0))
                .optional()?)
        };
        let retried: Option<i64> = self
            .conn
            .prepare_cached("SELECT min(queued_at) FROM work WHERE attempts > 0")?
            .query_row([], |row| row.get(0))?;
        Ok([
            of_lane(false, false)?,
            of_lane(true, false)?,
            of_lane(false, true)?,
            of_lane(true, true)?,
            retried,
        ]
        .into_iter()
        .flatten()
        .min())
    }

    /// Files and rows whose last attempt failed, newest first: at most `limit` of each, after
    /// skipping `offset`.
    pub fn failures(&self, limit: usize) -> Result<Vec<crate::status::Failure>, JournalError> {
        let mut failures = Vec::new();
        let mut files = self.conn.prepare_cached(
            "SELECT file.folder_id, file.name, work.error, work.attempts, work.failed_at, work.state
             FROM work JOIN file ON file.id = work.file_id
             WHERE work.error IS NOT NULL AND work.state <> 3 ORDER BY work.failed_at DESC LIMIT ?",
        )?;
        let mut rows = files.query([limit as i64])?;
        while let Some(row) = rows.next()? {
            let name: Vec<u8> = row.get(1)?;
            failures.push(crate::status::Failure {
                path: self.folder_path(row.get(0)?)?.join(&name).to_string(),
                artifact: "original".into(),
                error: row.get(2)?,
                attempts: row.get(3)?,
                at: row.get(4)?,
                will_retry: row.get::<_, i64>(5)? < 2,
            });
        }
        let mut folders = self.conn.prepare_cached(
            "SELECT id, row_error, row_attempts, row_failed_at, row_state FROM folder
             WHERE row_error IS NOT NULL ORDER BY row_failed_at DESC LIMIT ?",
        )?;
        let mut rows = folders.query([limit as i64])?;
        while let Some(row) = rows.next()? {
            failures.push(crate::status::Failure {
                path: self.folder_path(row.get(0)?)?.to_string(),
                artifact: "row".into(),
                error: row.get(1)?,
                attempts: row.get(2)?,
                at: row.get(3)?,
                will_retry: row.get::<_, i64>(4)? != 2,
            });
        }
        failures.extend(self.thumbnail_failures(limit)?);
        failures.extend(self.path_failures("stray", "deletion", limit)?);
        failures.extend(self.path_failures("gone_row", "row", limit)?);
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        failures.truncate(limit);
        Ok(failures)
    }

    fn thumbnail_failures(
        &self,
        limit: usize,
    ) -> Result<Vec<crate::status::Failure>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT folder_id, name, thumbnail_error, delivered_at FROM file
             WHERE thumbnail = 2 ORDER BY delivered_at DESC LIMIT ?",
        )?;
        let mut rows = statement.query([limit as i64])?;
        let mut failures = Vec::new();
        while let Some(row) = rows.next()? {
            let name: Vec<u8> = row.get(1)?;
            failures.push(crate::status::Failure {
                path: self.folder_path(row.get(0)?)?.join(&name).to_string(),
                artifact: "thumbnail".into(),
                error: row.get(2)?,
                attempts: 1,
                at: row.get(3)?,
                will_retry: false,
            });
        }
        Ok(failures)
    }

    /// Of the tables that name what they are about by its path.
    fn path_failures(
        &self,
        table: &str,
        artifact: &str,
        limit: usize,
    ) -> Result<Vec<crate::status::Failure>, JournalError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT path, error, attempts, failed_at, state FROM {table}
             WHERE error IS NOT NULL ORDER BY failed_at DESC LIMIT ?"
        ))?;
        let failures = statement.query_map([limit as i64], |row| {
            let path: Vec<u8> = row.get(0)?;
            Ok(crate::status::Failure {
                path: RelPath::parse(&path).map_or_else(String::new, |path| path.to_string()),
                artifact: artifact.to_owned(),
                error: row.get(1)?,
                attempts: row.get(2)?,
                at: row.get(3)?,
                will_retry: row.get::<_, i64>(4)? < 2,
            })
        })?;
        Ok(failures.collect::<Result<_, _>>()?)
    }

    /// Another object at the remote with this content: where the file `id` was before, or, unless only
    /// that is of interest, a file.
    pub fn copy_source(
        &self,
        id: FileId,
        hash: &blake3::Hash,
        only_renamed: bool,
    ) -> Result<Option<CopySource>, JournalError> {
        let picture = |row: &Row<'_>| -> rusqlite::Result<(bool, Option<(u32, u32)>)> {
            let width: Option<u32> = row.get(3)?;
            Ok((row.get(2)?, width.zip(row.get(4)?)))
        };
        let moved = self
            .conn
            .prepare_cached(
                "SELECT path, 0, stray.thumbnail, width, height,
                     etag, object_id, object_version, url, thumbnail_url
                 FROM stray JOIN file ON file.id = file_id
                 WHERE file_id = ? AND stray.hash = ?",
            )?
            .query_row(params![id.0, hash.as_bytes()], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, picture(row)?, proof_of(row, 5)?))
            })
            .optional()?;
        if let Some((path, (thumbnail, dimensions), proof)) = moved {
            return Ok(RelPath::parse(&path).map(|path| CopySource {
                path,
                renamed: true,
                thumbnail: thumbnail && dimensions.is_some(),
                dimensions,
                proof,
            }));
        }
        if only_renamed {
            return Ok(None);
        }
        let equal = self
            .conn
            .prepare_cached(
                "SELECT folder_id, name, thumbnail = 1, width, height FROM file
                 WHERE substr(hash, 1, 8) = substr(?2, 1, 8) AND hash IS NOT NULL AND hash = ?2 AND id <> ?1
                 LIMIT 1",
            )?
            .query_row(params![id.0, hash.as_bytes()], |row| {
                Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, picture(row)?))
            })
            .optional()?;
        let Some((folder_id, name, (thumbnail, dimensions))) = equal else {
            return Ok(None);
        };
        Ok(Some(CopySource {
            path: self.folder_path(folder_id)?.join(&name),
            renamed: false,
            thumbnail,
            dimensions,
            proof: Proof::default(),
        }))
    }

    pub(super) fn folder_path(&self, id: i64) -> Result<RelPath, JournalError> {
        let (parent_id, name): (Option<i64>, Vec<u8>) = self
            .conn
            .prepare_cached("SELECT parent_id, name FROM folder WHERE id = ?")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        match parent_id {
            None => Ok(RelPath::root()),
            Some(parent_id) => Ok(self.folder_path(parent_id)?.join(&name)),
        }
    }

    /// The delivered files of a folder, by name: those that the remote has in their last version.
    pub fn delivered_files(&self, folder: FolderId) -> Result<Vec<DeliveredFile>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT name, size, hash, kind, thumbnail, thumbnail_error, delivered_at, width, height,
                 etag, object_id, object_version, url, thumbnail_url,
                 EXISTS (SELECT 1 FROM work WHERE file_id = file.id AND state = 3)
             FROM file WHERE folder_id = ? AND delivered = version AND hash IS NOT NULL ORDER BY name",
        )?;
        let files = statement.query_map([folder.0], |row| {
            Ok(DeliveredFile {
                name: row.get(0)?,
                size: row.get::<_, i64>(1)? as u64,
                hash: blake3::Hash::from_bytes(row.get(2)?),
                kind: match row.get(3)? {
                    1 => Kind::Picture,
                    2 => Kind::Stats,
                    _ => Kind::Other,
                },
                thumbnail: match row.get(4)? {
                    1 => ThumbnailState::Delivered,
                    2 => ThumbnailState::Failed(row.get(5)?),
                    _ => ThumbnailState::None,
                },
                delivered_at: row.get(6)?,
                dimensions: row.get::<_, Option<u32>>(7)?.zip(row.get(8)?),
                proof: proof_of(row, 9)?,
                is_suspect: row.get(14)?,
            })
        })?;
        Ok(files.collect::<Result<_, _>>()?)
    }

    /// Some of what has still to be scanned with all below it.
    pub fn to_scan(&self, limit: usize) -> Result<Vec<RelPath>, JournalError> {
        let mut statement = self.conn.prepare_cached("SELECT path FROM scan LIMIT ?")?;
        let paths = statement.query_map([limit as i64], |row| row.get::<_, Vec<u8>>(0))?;
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        Ok(paths
            .iter()
            .filter_map(|path| RelPath::parse(path))
            .collect())
    }

    /// What the journal knows of the files of a folder, by name.
    pub fn known_files(&self, folder: &RelPath) -> Result<HashMap<Vec<u8>, Known>, JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(HashMap::new());
        };
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {KNOWN}, name FROM file WHERE folder_id = ?"
        ))?;
        let files = statement.query_map([id], |row| Ok((row.get(6)?, known(row)?)))?;
        Ok(files.collect::<Result<_, _>>()?)
    }

    /// The names of the folders in a folder that the journal knows.
    pub fn known_folders(&self, folder: &RelPath) -> Result<Vec<Vec<u8>>, JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(Vec::new());
        };
        let mut statement = self
            .conn
            .prepare_cached("SELECT name FROM folder WHERE parent_id = ?")?;
        let names = statement.query_map([id], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// What the journal knows of one file.
    pub fn known_file(&self, folder: &RelPath, name: &[u8]) -> Result<Option<Known>, JournalError> {
        let Some(id) = self.folder_id(folder)? else {
            return Ok(None);
        };
        Ok(self
            .conn
            .prepare_cached(&format!(
                "SELECT {KNOWN} FROM file WHERE folder_id = ? AND name = ?"
            ))?
            .query_row(params![id, name], known)
            .optional()?)
    }

    /// The id of a folder that the journal knows.
    pub(super) fn folder_id(&self, folder: &RelPath) -> Result<Option<i64>, JournalError> {
        let mut id = super::tree::ROOT;
        for name in folder.components() {
            let found: Option<i64> = self
                .conn
                .prepare_cached("SELECT id FROM folder WHERE parent_id = ? AND name = ?")?
                .query_row(params![id, name], |row| row.get(0))
                .optional()?;
            match found {
                Some(found) => id = found,
                None => return Ok(None),
            }
        }
        Ok(Some(id))
    }
}
