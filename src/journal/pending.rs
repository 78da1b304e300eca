//! What waits below a folder, in the order of the tree, some at a time. The totals of folders say where
//! there is something, so what is looked at is what is found, and the folders beside it.

use std::collections::VecDeque;

use rusqlite::{OptionalExtension, params};

use super::about::State;
use super::{JournalError, View};
use crate::path::RelPath;

/// A file that waits, or is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub path: RelPath,
    pub size: u64,
    pub state: State,
    pub attempts: u32,
    /// Of the last attempt.
    pub error: Option<String>,
}

/// A walk over what waits. All its steps are for one [`View`], which sees one state
/// ([`View::hold_still`]).
pub struct Walk {
    from: RelPath,
    /// What is written down and not in the tables; `None` before it was asked for.
    arrived: Option<VecDeque<Waiting>>,
    /// The folder that the walk is in, and those around it that it has still to go on with.
    folders: Vec<Folder>,
}

struct Folder {
    id: i64,
    path: RelPath,
    /// The last file that was met.
    file: i64,
    /// Its files are done; the last folder in it that was entered.
    folder: Option<Vec<u8>>,
}

impl Folder {
    fn new(id: i64, path: RelPath) -> Self {
        Self {
            id,
            path,
            file: 0,
            folder: None,
        }
    }
}

impl Walk {
    /// Over all from a folder on down.
    pub fn new(from: RelPath) -> Self {
        Self {
            from,
            arrived: None,
            folders: Vec::new(),
        }
    }

    /// The next files, `limit` at most; none at the end.
    pub fn next(&mut self, view: &View, limit: usize) -> Result<Vec<Waiting>, JournalError> {
        if self.arrived.is_none() {
            self.arrived = Some(view.arrived_below(&self.from)?);
            if let Some(id) = view.folder_id(&self.from)? {
                self.folders.push(Folder::new(id, self.from.clone()));
            }
        }
        let mut found = Vec::new();
        if let Some(arrived) = &mut self.arrived {
            found.extend(arrived.drain(..arrived.len().min(limit)));
        }
        while found.len() < limit
            && let Some(folder) = self.folders.last_mut()
        {
            if folder.folder.is_none() {
                let room = limit - found.len();
                let files = view.waiting_in(folder, room)?;
                if files.len() < room {
                    folder.folder = Some(Vec::new());
                }
                found.extend(files);
            } else if let Some(next) = view.next_waiting_folder(folder)? {
                self.folders.push(next);
            } else {
                self.folders.pop();
            }
        }
        Ok(found)
    }
}

impl View {
    /// From now on all that is asked is of one state, until [`Self::let_go`]. The write-ahead log cannot
    /// be begun anew meanwhile: not for long.
    pub fn hold_still(&self) -> Result<(), JournalError> {
        self.conn.execute_batch("BEGIN; SELECT 1 FROM meta")?;
        Ok(())
    }

    pub fn let_go(&self) {
        // Fails if there is nothing to end.
        let _ = self.conn.execute_batch("ROLLBACK");
    }

    /// What was written down and has no work yet.
    fn arrived_below(&self, folder: &RelPath) -> Result<VecDeque<Waiting>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT path, size FROM arrived
             WHERE ?1 = x'' OR substr(path, 1, length(?1) + 1) = CAST(?1 || x'2f' AS BLOB)",
        )?;
        let mut rows = statement.query([folder.as_bytes()])?;
        let mut arrived = VecDeque::new();
        while let Some(row) = rows.next()? {
            let Some(path) = RelPath::parse(&row.get::<_, Vec<u8>>(0)?) else {
                continue;
            };
            if self.pending_below(&path)?.queued > 0 {
                continue;
            }
            arrived.push_back(Waiting {
                path,
                size: row.get::<_, i64>(1)? as u64,
                state: State::Queued,
                attempts: 0,
                error: None,
            });
        }
        Ok(arrived)
    }

    fn waiting_in(&self, folder: &mut Folder, limit: usize) -> Result<Vec<Waiting>, JournalError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT work.file_id, file.name, work.size, work.state, work.attempts, work.error
             FROM work JOIN file ON file.id = work.file_id
             WHERE work.folder_id = ? AND work.file_id > ? AND work.state < 2
             ORDER BY work.file_id LIMIT ?",
        )?;
        let mut rows = statement.query(params![folder.id, folder.file, limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            folder.file = row.get(0)?;
            found.push(Waiting {
                path: folder.path.join(&row.get::<_, Vec<u8>>(1)?),
                size: row.get::<_, i64>(2)? as u64,
                state: State::of(row.get(3)?),
                attempts: row.get(4)?,
                error: row.get(5)?,
            });
        }
        Ok(found)
    }

    fn next_waiting_folder(&self, folder: &mut Folder) -> Result<Option<Folder>, JournalError> {
        let after = folder.folder.take().unwrap_or_default();
        let next: Option<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached(
                "SELECT id, name FROM folder
                 WHERE parent_id = ? AND name > ? AND queued_files > 0 ORDER BY name LIMIT 1",
            )?
            .query_row(params![folder.id, after], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((id, name)) = next else {
            folder.folder = Some(after);
            return Ok(None);
        };
        let path = folder.path.join(&name);
        folder.folder = Some(name);
        Ok(Some(Folder::new(id, path)))
    }
}
