//! What has failed or is suspect, newest first of its kind, some at a time.

use std::collections::HashMap;

use rusqlite::params;

use super::{JournalError, View};
use crate::path::RelPath;
use crate::status::Failure;

/// Folders of which is kept whether they are to be told of.
const REMEMBERED: usize = 10_000;

/// Where failures stand, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Files,
    Rows,
    Thumbnails,
    Deletions,
    GoneRows,
    Suspects,
}

const FAILURES: &[Table] = &[
    Table::Files,
    Table::Rows,
    Table::Thumbnails,
    Table::Deletions,
    Table::GoneRows,
];

/// A walk over failures from a folder on down. All its steps are for one [`View`], which sees one state
/// ([`View::hold_still`]).
pub struct Troubles {
    from: RelPath,
    tables: &'static [Table],
    /// Time and id of the last that was met in the first of `tables`.
    last: (i64, i64),
    folders: HashMap<i64, Option<RelPath>>,
}

impl Troubles {
    /// Whatever has failed, whether it is tried again or not.
    pub fn failures(from: RelPath) -> Self {
        Self::of(from, FAILURES)
    }

    /// Suspect files; the error is why.
    pub fn suspects(from: RelPath) -> Self {
        Self::of(from, &[Table::Suspects])
    }

    fn of(from: RelPath, tables: &'static [Table]) -> Self {
        Self {
            from,
            tables,
            last: FIRST,
            folders: HashMap::new(),
        }
    }

    /// Leaves the rest of their kind out.
    pub fn pass(&mut self) {
        if self.last != FIRST {
            self.tables = self.tables.split_first().map_or(&[], |(_, others)| others);
            self.last = FIRST;
        }
    }

    /// The next ones, after looking at `limit` at most; `None` at the end.
    pub fn next(
        &mut self,
        view: &View,
        limit: usize,
    ) -> Result<Option<Vec<Failure>>, JournalError> {
        let Some((table, others)) = self.tables.split_first() else {
            return Ok(None);
        };
        let mut statement = view.conn.prepare_cached(table.query())?;
        let (at, id) = self.last;
        let mut rows = statement.query(params![at, id, limit as i64])?;
        let (mut seen, mut found) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            seen += 1;
            self.last = (row.get(0)?, row.get(1)?);
            let name: Vec<u8> = row.get(3)?;
            let path = match row.get::<_, Option<i64>>(2)? {
                Some(folder) => self
                    .folder(view, folder)?
                    .map(|path| match name.is_empty() {
                        true => path,
                        false => path.join(&name),
                    }),
                None => RelPath::parse(&name).filter(|path| path.is_within(&self.from)),
            };
            if let Some(path) = path {
                found.push(Failure {
                    path: path.below(&self.from).to_string(),
                    artifact: table.artifact().to_owned(),
                    error: row.get(4)?,
                    attempts: row.get(5)?,
                    at: self.last.0,
                    will_retry: row.get(6)?,
                });
            }
        }
        if seen < limit {
            self.tables = others;
            self.last = FIRST;
        }
        Ok(Some(found))
    }

    /// Path of a folder, if it is to be told of.
    fn folder(&mut self, view: &View, id: i64) -> Result<Option<RelPath>, JournalError> {
        if let Some(path) = self.folders.get(&id) {
            return Ok(path.clone());
        }
        let path = view.folder_path(id)?;
        let path = path.is_within(&self.from).then_some(path);
        if self.folders.len() >= REMEMBERED {
            self.folders.clear();
        }
        self.folders.insert(id, path.clone());
        Ok(path)
    }
}

/// Later than any.
const FIRST: (i64, i64) = (i64::MAX, i64::MAX);

impl Table {
    /// Time, id, folder (or NULL), name (or path), error, attempts, whether it is tried again.
    fn query(self) -> &'static str {
        match self {
            Self::Files => {
                "SELECT work.failed_at, work.file_id, file.folder_id, file.name, work.error, work.attempts,
                     work.state < 2
                 FROM work JOIN file ON file.id = work.file_id
                 WHERE work.error IS NOT NULL AND (work.failed_at, work.file_id) < (?, ?) AND work.state <> 3
                 ORDER BY work.failed_at DESC, work.file_id DESC LIMIT ?"
            }
            Self::Suspects => {
                "SELECT work.failed_at, work.file_id, file.folder_id, file.name, work.error, work.attempts, 0
                 FROM work JOIN file ON file.id = work.file_id
                 WHERE work.error IS NOT NULL AND (work.failed_at, work.file_id) < (?, ?) AND work.state = 3
                 ORDER BY work.failed_at DESC, work.file_id DESC LIMIT ?"
            }
            Self::Rows => {
                "SELECT row_failed_at, id, id, x'', row_error, row_attempts, row_state <> 2 FROM folder
                 WHERE row_error IS NOT NULL AND (row_failed_at, id) < (?, ?)
                 ORDER BY row_failed_at DESC, id DESC LIMIT ?"
            }
            Self::Thumbnails => {
                "SELECT delivered_at, id, folder_id, name, thumbnail_error, 1, 0 FROM file
                 WHERE thumbnail = 2 AND (delivered_at, id) < (?, ?)
                 ORDER BY delivered_at DESC, id DESC LIMIT ?"
            }
            Self::Deletions => {
                "SELECT failed_at, id, NULL, path, error, attempts, state < 2 FROM stray
                 WHERE error IS NOT NULL AND (failed_at, id) < (?, ?)
                 ORDER BY failed_at DESC, id DESC LIMIT ?"
            }
            Self::GoneRows => {
                "SELECT failed_at, id, NULL, path, error, attempts, state < 2 FROM gone_row
                 WHERE error IS NOT NULL AND (failed_at, id) < (?, ?)
                 ORDER BY failed_at DESC, id DESC LIMIT ?"
            }
        }
    }

    fn artifact(self) -> &'static str {
        match self {
            Self::Files | Self::Suspects => "original",
            Self::Rows | Self::GoneRows => "row",
            Self::Thumbnails => "thumbnail",
            Self::Deletions => "deletion",
        }
    }
}
