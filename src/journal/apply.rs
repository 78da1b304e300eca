//! Changes, as they come from the mount, become versions and work.

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{Change, Entry, FileStat, JournalError, now_ms};
use crate::path::RelPath;

/// A change waits for the next one this many settle times at most: a file that is written all the
/// time is delivered all the same.
const LONGEST_SETTLE: i64 = 20;

/// Files of at least this size take the lane for large files, bytes.
pub const LARGE: u64 = 32 << 20;

impl Store {
    pub(super) fn apply_change(&mut self, change: &Change) -> Result<(), JournalError> {
        self.apply_since(change, now_ms())
    }

    /// The same for a change that was made at `at`.
    pub(super) fn apply_since(&mut self, change: &Change, at: i64) -> Result<(), JournalError> {
        match change {
            Change::Opening { path } => self.opened(path, true),
            Change::Rested { path } => self.opened(path, false),
            Change::Written { path, stat } => self.written(path, stat, at),
            Change::Added { path, stat } => self.raise_and_queue(path, stat, at).map(drop),
            Change::WrittenElsewhere { stat } => {
                self.raise_other_names(None, stat, at + self.settle_ms)
            }
            Change::Removed { path } => self.removed(path),
            Change::FolderRemoved { path } => self.remove_folder(path),
            Change::Renamed { from, to, entry } => self.renamed(from, to, entry, at),
            Change::Exchanged { a, b } => self.exchanged(a, b, at),
        }
    }

    fn opened(&mut self, path: &RelPath, opened: bool) -> Result<(), JournalError> {
        if let Some(id) = self.file_id(path)? {
            self.conn
                .prepare_cached("UPDATE file SET opened = ?2 WHERE id = ?1")?
                .execute(params![id, opened])?;
        }
        Ok(())
    }

    /// The file has new content, since `at`.
    pub(super) fn written(
        &mut self,
        path: &RelPath,
        stat: &FileStat,
        at: i64,
    ) -> Result<(), JournalError> {
        let Some(id) = self.raise_and_queue(path, stat, at)? else {
            return Ok(());
        };
        if stat.links > 1 {
            self.raise_other_names(Some(id), stat, at + self.settle_ms)?;
        }
        Ok(())
    }

    /// This name of the file alone. `None` if it is no file's path.
    pub(super) fn raise_and_queue(
        &mut self,
        path: &RelPath,
        stat: &FileStat,
        at: i64,
    ) -> Result<Option<i64>, JournalError> {
        let Some((folder, name)) = path.split() else {
            return Ok(None);
        };
        let folder_id = self.make_folder(&folder)?;
        let id = self.raise(folder_id, name, stat)?;
        self.take_over(id, path)?;
        self.queue(id, at + self.settle_ms, at)?;
        Ok(Some(id))
    }

    /// The file's next version.
    fn raise(&mut self, folder_id: i64, name: &[u8], stat: &FileStat) -> Result<i64, JournalError> {
        Ok(self
            .conn
            .prepare_cached(
                "INSERT INTO file (folder_id, name, version, size, mtime_ns, inode)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5)
                 ON CONFLICT (folder_id, name) DO UPDATE SET
                     version = version + 1, size = ?3, mtime_ns = ?4, inode = ?5, opened = 0
                 RETURNING id",
            )?
            .query_row(
                params![
                    folder_id,
                    name,
                    stat.size as i64,
                    stat.mtime_ns,
                    stat.inode as i64
                ],
                |row| row.get(0),
            )?)
    }

    /// Content that is written under one name of an inode is new under all of them.
    fn raise_other_names(
        &mut self,
        id: Option<i64>,
        stat: &FileStat,
        due: i64,
    ) -> Result<(), JournalError> {
        let others: Vec<i64> = self
            .conn
            .prepare_cached(
                "UPDATE file SET version = version + 1, size = ?3, mtime_ns = ?4
                 WHERE inode = ?2 AND id IS NOT ?1 RETURNING id",
            )?
            .query_map(
                params![id, stat.inode as i64, stat.size as i64, stat.mtime_ns],
                |row| row.get(0),
            )?
            .collect::<Result<_, _>>()?;
        for other in others {
            self.queue(other, due, now_ms())?;
        }
        Ok(())
    }

    /// Makes the file's work due at `due`: it has new content. A file that is being delivered stays
    /// claimed, and is queued again when that is settled, for two deliveries of one file must not
    /// overtake.
    pub(super) fn queue(&mut self, id: i64, due: i64, now: i64) -> Result<(), JournalError> {
        self.queue_with(id, due, now, Some(0))
    }

    /// The same with `work.doubt`; `None`: as it was, for the content is.
    pub(super) fn queue_with(
        &mut self,
        id: i64,
        due: i64,
        now: i64,
        doubt: Option<i64>,
    ) -> Result<(), JournalError> {
        let priority = self.priority_of(id)?;
        let folder_id: Option<i64> = self
            .conn
            .prepare_cached(
                "INSERT INTO work (file_id, folder_id, state, large, priority, due_at, queued_at, size, doubt)
                 SELECT id, folder_id, 0, size >= ?4, ?6, ?2, ?3, size, coalesce(?7, 0) FROM file WHERE id = ?1
                 ON CONFLICT (file_id) DO UPDATE SET
                     state = CASE state WHEN 1 THEN 1 ELSE 0 END,
                     folder_id = excluded.folder_id, large = excluded.large, size = excluded.size,
                     priority = excluded.priority,
                     queued_at = CASE WHEN state < 2 THEN min(queued_at, ?3) ELSE ?3 END,
                     due_at = CASE WHEN state < 2 THEN min(?2, queued_at + ?5) ELSE ?2 END,
                     doubt = coalesce(?7, doubt), attempts = 0, error = NULL, failed_at = NULL
                 RETURNING folder_id",
            )?
            .query_row(
                params![
                    id,
                    due,
                    now,
                    LARGE as i64,
                    self.settle_ms * LONGEST_SETTLE,
                    priority,
                    doubt
                ],
                |row| row.get(0),
            )
            .optional()?;
        match folder_id {
            Some(folder_id) => self.note_in_batch(folder_id),
            None => Ok(()),
        }
    }

    pub(super) fn removed(&mut self, path: &RelPath) -> Result<(), JournalError> {
        if let Some(id) = self.file_id(path)? {
            self.drop_file(id)?;
        }
        Ok(())
    }

    /// Forgets a file: what waits for delivery waits no more, what was delivered stays at the
    /// remote or is deleted there, and the folder's row is written again without it.
    pub(super) fn drop_file(&mut self, id: i64) -> Result<(), JournalError> {
        let Some(path) = self.file_path(id)? else {
            return Ok(());
        };
        self.expand_one(id)?;
        self.leave(id, &path, false)?;
        let folder_id: i64 = self
            .conn
            .prepare_cached("DELETE FROM file WHERE id = ? RETURNING folder_id")?
            .query_row([id], |row| row.get(0))?;
        self.release_strays_of(id)?;
        self.raise_row(folder_id, false)
    }

    /// Where a file is now.
    pub(super) fn file_path(&mut self, id: i64) -> Result<Option<RelPath>, JournalError> {
        let place: Option<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached("SELECT folder_id, name FROM file WHERE id = ?")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match place {
            Some((folder_id, name)) => Ok(Some(self.folder_path(folder_id)?.join(&name))),
            None => Ok(None),
        }
    }

    /// Whether a file goes before others. Asked only where somebody has said what does.
    pub(super) fn priority_of(&mut self, id: i64) -> Result<bool, JournalError> {
        if self.priority.is_empty() {
            return Ok(false);
        }
        let path = self.file_path(id)?;
        Ok(path.is_some_and(|path| self.priority.matches(&path)))
    }

    /// What waits gets the priorities that hold now, if they have changed.
    pub(super) fn prepare_priority(&mut self) -> Result<(), JournalError> {
        let text = self.priority.text().to_owned();
        let before: String = self
            .conn
            .query_row("SELECT priority FROM meta", [], |row| row.get(0))?;
        if before == text {
            return Ok(());
        }
        let waiting: Vec<i64> = self
            .conn
            .prepare("SELECT file_id FROM work")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        for id in waiting {
            let priority = self.priority_of(id)?;
            self.conn
                .prepare_cached(
                    "UPDATE work SET priority = ?2 WHERE file_id = ?1 AND priority <> ?2",
                )?
                .execute(params![id, priority])?;
        }
        self.conn.execute("UPDATE meta SET priority = ?", [text])?;
        self.conn.execute_batch("COMMIT")?;
        Ok(())
    }

    fn renamed(
        &mut self,
        from: &RelPath,
        to: &RelPath,
        entry: &Entry,
        at: i64,
    ) -> Result<(), JournalError> {
        match entry {
            Entry::Folder => self.rename_folder(from, to),
            Entry::Other => self.removed(to),
            Entry::File(stat) => {
                self.removed(to)?;
                match self.file_id(from)? {
                    Some(id) => self.move_file(id, from, to, stat, at),
                    // Not known under its old name: the scan has not come there yet.
                    None => self.written(to, stat, at),
                }
            }
        }
    }

    fn move_file(
        &mut self,
        id: i64,
        from: &RelPath,
        to: &RelPath,
        stat: &FileStat,
        at: i64,
    ) -> Result<(), JournalError> {
        self.expand_one(id)?;
        let Some((folder, name)) = to.split() else {
            return Ok(());
        };
        let folder_id = self.make_folder(&folder)?;
        let from_folder: i64 = self
            .conn
            .prepare_cached("SELECT folder_id FROM file WHERE id = ?")?
            .query_row([id], |row| row.get(0))?;
        self.conn
            .prepare_cached(
                "UPDATE file SET folder_id = ?2, name = ?3, size = ?4, mtime_ns = ?5, inode = ?6
                 WHERE id = ?1",
            )?
            .execute(params![
                id,
                folder_id,
                name,
                stat.size as i64,
                stat.mtime_ns,
                stat.inode as i64
            ])?;
        self.moved_file(id, from, to, at + self.settle_ms)?;
        self.raise_row(from_folder, false)
    }

    fn exchanged(
        &mut self,
        a: &(RelPath, Entry),
        b: &(RelPath, Entry),
        at: i64,
    ) -> Result<(), JournalError> {
        if let (Entry::Folder, Entry::Folder) = (a.1, b.1) {
            return self.exchange_folders(&a.0, &b.0);
        }
        // At most one folder: it moves, and the other is new under its new name.
        for ((to, entry), (from, _)) in [(a, b), (b, a)] {
            match entry {
                Entry::Folder => self.rename_folder(from, to)?,
                Entry::File(_) | Entry::Other => self.removed(to)?,
            }
        }
        for (to, entry) in [a, b] {
            if let Entry::File(stat) = entry {
                self.written(to, stat, at)?;
            }
        }
        Ok(())
    }

    fn exchange_folders(&mut self, a: &RelPath, b: &RelPath) -> Result<(), JournalError> {
        self.expand_all()?;
        let (id_a, id_b) = (self.make_folder(a)?, self.make_folder(b)?);
        let (Some((parent_a, name_a)), Some((parent_b, name_b))) = (a.split(), b.split()) else {
            return Ok(());
        };
        let (parent_a, parent_b) = (self.make_folder(&parent_a)?, self.make_folder(&parent_b)?);
        // Over a name that no folder can have, for (parent, name) is unique.
        self.place_folder(id_a, parent_a, b"/")?;
        self.place_folder(id_b, parent_a, name_a)?;
        self.place_folder(id_a, parent_b, name_b)?;
        for (id, from, path) in [(id_b, b, a), (id_a, a, b)] {
            self.follow(path)?;
            self.schedule_expansion(id, from)?;
        }
        Ok(())
    }

    pub(super) fn file_id(&mut self, path: &RelPath) -> Result<Option<i64>, JournalError> {
        let Some((folder, name)) = path.split() else {
            return Ok(None);
        };
        let Some(folder_id) = self.folder_id(&folder)? else {
            return Ok(None);
        };
        Ok(self
            .conn
            .prepare_cached("SELECT id FROM file WHERE folder_id = ? AND name = ?")?
            .query_row(params![folder_id, name], |row| row.get(0))
            .optional()?)
    }
}
