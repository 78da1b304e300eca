//! Folders: paths to ids and back, renames, and the files that follow a renamed folder.

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{JournalError, now_ms};
use crate::path::RelPath;

/// Folders kept in memory by path and by id; the database answers for the rest.
const CACHED_FOLDERS: usize = 10_000;

pub(super) const ROOT: i64 = 1;

impl Store {
    /// The id of a folder, if the journal knows it.
    pub(super) fn folder_id(&mut self, path: &RelPath) -> Result<Option<i64>, JournalError> {
        let Some((parent, name)) = path.split() else {
            return Ok(Some(ROOT));
        };
        if let Some(id) = self.folder_ids.get(path.as_bytes()) {
            return Ok(Some(*id));
        }
        let Some(parent_id) = self.folder_id(&parent)? else {
            return Ok(None);
        };
        let id: Option<i64> = self
            .conn
            .prepare_cached("SELECT id FROM folder WHERE parent_id = ? AND name = ?")?
            .query_row(params![parent_id, name], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            self.remember(path, id);
        }
        Ok(id)
    }

    /// The id of a folder, made with those above it if the journal does not know it.
    pub(super) fn make_folder(&mut self, path: &RelPath) -> Result<i64, JournalError> {
        if let Some(id) = self.folder_id(path)? {
            return Ok(id);
        }
        let Some((parent, name)) = path.split() else {
            return Ok(ROOT);
        };
        let parent_id = self.make_folder(&parent)?;
        self.conn
            .prepare_cached("INSERT INTO folder (parent_id, name, created_at) VALUES (?, ?, ?)")?
            .execute(params![parent_id, name, now_ms()])?;
        let id = self.conn.last_insert_rowid();
        self.remember(path, id);
        Ok(id)
    }

    pub(super) fn folder_path(&mut self, id: i64) -> Result<RelPath, JournalError> {
        if id == ROOT {
            return Ok(RelPath::root());
        }
        if let Some(path) = self.folder_paths.get(&id) {
            return Ok(path.clone());
        }
        let (parent_id, name): (i64, Vec<u8>) = self
            .conn
            .prepare_cached("SELECT parent_id, name FROM folder WHERE id = ?")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let path = self.folder_path(parent_id)?.join(&name);
        if self.folder_paths.len() >= CACHED_FOLDERS {
            self.folder_paths.clear();
        }
        self.folder_paths.insert(id, path.clone());
        Ok(path)
    }

    fn remember(&mut self, path: &RelPath, id: i64) {
        if self.folder_ids.len() >= CACHED_FOLDERS {
            self.folder_ids.clear();
        }
        self.folder_ids.insert(path.as_bytes().into(), id);
    }

    /// Forgets a folder and all that the journal still believes to be in it.
    pub(super) fn remove_folder(&mut self, path: &RelPath) -> Result<(), JournalError> {
        let Some(id) = self.folder_id(path)? else {
            return Ok(());
        };
        if id == ROOT {
            return Ok(());
        }
        if self.sync_deletes {
            self.leave_folder(id, path)?;
        }
        // An empty folder, as most are: one look-up each.
        let below = "WITH RECURSIVE below (id) AS (VALUES (?1) UNION ALL \
                     SELECT folder.id FROM folder JOIN below ON folder.parent_id = below.id) ";
        self.conn
            .prepare_cached(&format!(
                "{below} DELETE FROM stray WHERE file_id IN \
                 (SELECT id FROM file WHERE folder_id IN below)"
            ))?
            .execute([id])?;
        self.conn
            .prepare_cached(&format!(
                "{below} DELETE FROM file WHERE folder_id IN below"
            ))?
            .execute([id])?;
        self.conn
            .prepare_cached(&format!(
                "{below} UPDATE folder SET row_state = 0 WHERE id IN below AND row_state <> 0"
            ))?
            .execute([id])?;
        self.tally()?;
        loop {
            // Leaves first: a folder refers to its parent.
            let gone = self
                .conn
                .prepare_cached(&format!(
                    "{below} DELETE FROM folder WHERE id IN below AND NOT EXISTS \
                     (SELECT 1 FROM folder AS child WHERE child.parent_id = folder.id)"
                ))?
                .execute([id])?;
            if gone == 0 {
                break;
            }
        }
        self.forget_folders();
        self.find_batch()?;
        Ok(())
    }

    /// A folder has another place. Its row here moves; its files are queued by [`Store::expand`].
    pub(super) fn rename_folder(
        &mut self,
        from: &RelPath,
        to: &RelPath,
    ) -> Result<(), JournalError> {
        self.expand_all()?;
        self.remove_folder(to)?;
        self.follow(to)?;
        if let Some(id) = self.folder_id(from)? {
            let Some((parent, name)) = to.split() else {
                return Ok(());
            };
            let parent_id = self.make_folder(&parent)?;
            self.place_folder(id, parent_id, name)?;
            self.schedule_expansion(id, from)?;
        }
        Ok(())
    }

    pub(super) fn place_folder(
        &mut self,
        id: i64,
        parent_id: i64,
        name: &[u8],
    ) -> Result<(), JournalError> {
        self.tally_leaving(id)?;
        self.conn
            .prepare_cached("UPDATE folder SET parent_id = ?, name = ? WHERE id = ?")?
            .execute(params![parent_id, name, id])?;
        self.forget_folders();
        self.tally_arrived(id)?;
        Ok(())
    }

    /// While a scan is going on, a folder that moves may slip past it: scan it where it is now.
    pub(super) fn follow(&mut self, to: &RelPath) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "INSERT OR IGNORE INTO scan (path) SELECT ? WHERE EXISTS (SELECT 1 FROM scan)",
            )?
            .execute([to.as_bytes()])?;
        Ok(())
    }

    /// Its files and rows, and those of the folders below, are to be deleted at the remote.
    fn leave_folder(&mut self, id: i64, path: &RelPath) -> Result<(), JournalError> {
        let mut folders = vec![(id, path.clone())];
        while let Some((id, path)) = folders.pop() {
            let files: Vec<i64> = self
                .conn
                .prepare_cached("SELECT id FROM file WHERE folder_id = ?")?
                .query_map([id], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for file in files {
                self.drop_file(file)?;
            }
            self.row_is_gone(id, &path)?;
            folders.extend(self.children(id, &path)?);
        }
        Ok(())
    }

    /// The folders in a folder, which is at `path`.
    fn children(&mut self, id: i64, path: &RelPath) -> Result<Vec<(i64, RelPath)>, JournalError> {
        Ok(self
            .conn
            .prepare_cached("SELECT id, name FROM folder WHERE parent_id = ?")?
            .query_map([id], |row| {
                Ok((row.get(0)?, path.join(&row.get::<_, Vec<u8>>(1)?)))
            })?
            .collect::<Result<_, _>>()?)
    }

    /// The files of the folder `id` are still known by what they were in `from`.
    pub(super) fn schedule_expansion(
        &mut self,
        id: i64,
        from: &RelPath,
    ) -> Result<(), JournalError> {
        // Renamed twice before a file was looked at: what the remote has is at the first place.
        self.conn
            .prepare_cached(
                "INSERT INTO expansion (folder_id, path) VALUES (?1, ?2)
                 ON CONFLICT (folder_id) DO UPDATE SET after_file = 0,
                     path = CASE after_file WHEN 0 THEN path ELSE ?2 END",
            )?
            .execute(params![id, from.as_bytes()])?;
        Ok(())
    }

    pub(super) fn is_expanding(&mut self) -> Result<bool, JournalError> {
        Ok(self
            .conn
            .prepare_cached("SELECT 1 FROM expansion LIMIT 1")?
            .exists([])?)
    }

    /// Before another folder is renamed: where a file's objects are is known as long as one rename
    /// of its folders at most has still to be gone through. It matters only to those who delete.
    pub(super) fn expand_all(&mut self) -> Result<(), JournalError> {
        if self.sync_deletes {
            while self.expand(usize::MAX >> 1)? > 0 {}
        }
        Ok(())
    }

    /// Queues up to `limit` files of renamed folders under their new paths; their folders' rows and
    /// sub-folders follow. Returns how much it did: 0 means that nothing is left.
    pub(super) fn expand(&mut self, limit: usize) -> Result<usize, JournalError> {
        let next: Option<(i64, Vec<u8>, i64)> = self
            .conn
            .prepare_cached("SELECT folder_id, path, after_file FROM expansion LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((folder_id, from, after)) = next else {
            return Ok(0);
        };
        let from = RelPath::parse(&from).unwrap_or_else(RelPath::root);
        if after == 0 && self.sync_deletes {
            self.row_is_gone(folder_id, &from)?;
            self.raise_row(folder_id, false)?;
        }
        let to = self.folder_path(folder_id)?;
        // By id, not by name: the cursor must not meet files that are added meanwhile twice.
        let files: Vec<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached(
                "SELECT id, name FROM file WHERE folder_id = ? AND id > ? ORDER BY id LIMIT ?",
            )?
            .query_map(params![folder_id, after, limit as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        let due = self.due();
        for (id, name) in &files {
            self.moved_file(*id, &from.join(name), &to.join(name), due)?;
        }
        if files.len() == limit {
            self.conn
                .prepare_cached("UPDATE expansion SET after_file = ? WHERE folder_id = ?")?
                .execute(params![files.last().map(|(id, _)| id), folder_id])?;
        } else {
            self.conn
                .prepare_cached("DELETE FROM expansion WHERE folder_id = ?")?
                .execute([folder_id])?;
            for (child, from) in self.children(folder_id, &from)? {
                self.schedule_expansion(child, &from)?;
            }
        }
        Ok(files.len() + 1)
    }

    /// Does for one file, which is about to go elsewhere, what [`Self::expand`] has still to do.
    pub(super) fn expand_one(&mut self, id: i64) -> Result<(), JournalError> {
        if !self.is_expanding()? {
            return Ok(());
        }
        let (own, name): (i64, Vec<u8>) = self
            .conn
            .prepare_cached("SELECT folder_id, name FROM file WHERE id = ?")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut names = vec![name];
        let mut at = own;
        while at != ROOT {
            let expansion: Option<(Vec<u8>, i64)> = self
                .conn
                .prepare_cached("SELECT path, after_file FROM expansion WHERE folder_id = ?")?
                .query_row([at], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((from, after)) = expansion
                && (at != own || id > after)
            {
                let from = RelPath::parse(&from).unwrap_or_else(RelPath::root);
                let path = names.iter().rev().fold(from, |path, name| path.join(name));
                let Some(to) = self.file_path(id)? else {
                    return Ok(());
                };
                let due = self.due();
                return self.moved_file(id, &path, &to, due);
            }
            let (parent, name) = self
                .conn
                .prepare_cached("SELECT parent_id, name FROM folder WHERE id = ?")?
                .query_row([at], |row| Ok((row.get(0)?, row.get(1)?)))?;
            names.push(name);
            at = parent;
        }
        Ok(())
    }

    /// A file that was at `from` is at `to`: what the remote has under the new key, if anything, is
    /// not its.
    pub(super) fn moved_file(
        &mut self,
        id: i64,
        from: &RelPath,
        to: &RelPath,
        due: i64,
    ) -> Result<(), JournalError> {
        self.leave(id, from, true)?;
        self.conn
            .prepare_cached(
                "UPDATE file SET version = version + 1, hash = NULL, occupied = 0 WHERE id = ?",
            )?
            .execute([id])?;
        self.take_over(id, to)?;
        self.queue_with(id, due, now_ms(), None)
    }
}
