//! What a scan finds becomes versions and work, or is suspect.

use rusqlite::params;

use super::apply::LARGE;
use super::store::Store;
use super::{FileStat, JournalError, ScannedFolder, Sighting, now_ms};
use crate::path::RelPath;

/// `work.doubt` of a file that was changed before the machine went down, and of one that was found
/// while the journal was rebuilt.
const CRASHED: i64 = 1;
const REBUILT: i64 = 2;

/// A file as the journal has it.
struct Recorded {
    id: i64,
    delivered: bool,
    size: i64,
    mtime_ns: i64,
    inode: i64,
    opened: bool,
}

impl Store {
    /// What the scan found in a folder.
    pub(super) fn apply_scanned(&mut self, scanned: &ScannedFolder) -> Result<(), JournalError> {
        if !scanned.found.is_empty() {
            let folder_id = self.make_folder(&scanned.path)?;
            let strays = self
                .conn
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM stray)")?
                .query_row([], |row| row.get(0))?;
            for sighting in &scanned.found {
                if let Some(id) = self.add(folder_id, sighting)? {
                    self.note_in_batch(folder_id)?;
                    if strays {
                        self.take_over(id, &scanned.path.join(&sighting.name))?;
                    }
                    continue;
                }
                let path = scanned.path.join(&sighting.name);
                match scanned.watched {
                    true => self.found(folder_id, &path, sighting)?,
                    false => self.written(&path, &sighting.stat, now_ms())?,
                }
            }
        }
        for name in &scanned.missing {
            let path = scanned.path.join(name);
            match scanned.watched {
                true => self.missing(&path)?,
                false => self.removed(&path)?,
            }
        }
        Ok(())
    }

    /// Records a file that the journal does not know, as a first scan finds by the million. `None`
    /// if it knows it.
    fn add(&mut self, folder_id: i64, sighting: &Sighting) -> Result<Option<i64>, JournalError> {
        let Sighting { name, stat, .. } = sighting;
        let size = stat.size as i64;
        // Without RETURNING, which makes a temporary table each time.
        let added = self
            .conn
            .prepare_cached(
                "INSERT INTO file (folder_id, name, version, size, mtime_ns, inode)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                folder_id,
                name,
                size,
                stat.mtime_ns,
                stat.inode as i64
            ])?;
        if added == 0 {
            return Ok(None);
        }
        let id = self.conn.last_insert_rowid();
        let now = now_ms();
        let doubt = if self.rebuilding { REBUILT } else { 0 };
        let priority = self.priority_of(id)?;
        self.conn
            .prepare_cached(
                "INSERT INTO work (file_id, folder_id, state, large, due_at, queued_at, size, doubt, priority)
                 VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                id,
                folder_id,
                stat.size >= LARGE,
                now + self.settle_ms,
                now,
                size,
                doubt,
                priority
            ])?;
        Ok(Some(id))
    }

    /// A file that the journal knows otherwise, or that was suspect. It is a change, unless it looks
    /// like damage.
    fn found(
        &mut self,
        folder_id: i64,
        path: &RelPath,
        sighting: &Sighting,
    ) -> Result<(), JournalError> {
        let recorded = self
            .conn
            .prepare_cached(
                "SELECT id, delivered, size, mtime_ns, inode, opened FROM file
                 WHERE folder_id = ? AND name = ?",
            )?
            .query_row(params![folder_id, sighting.name], |row| {
                Ok(Recorded {
                    id: row.get(0)?,
                    delivered: row.get::<_, i64>(1)? > 0,
                    size: row.get(2)?,
                    mtime_ns: row.get(3)?,
                    inode: row.get(4)?,
                    opened: row.get(5)?,
                })
            })?;
        if !sighting.hollow && recorded.is(&sighting.stat) {
            return self.clear_suspect(recorded.id).map(drop);
        }
        if let Some(damage) = self.damage(&recorded, sighting) {
            return self.suspect(recorded.id, &damage);
        }
        if self.is_suspect(recorded.id)? {
            // It stays so until somebody decides: a later scan knows less than that which saw it.
            return Ok(());
        }
        // The scan comes by all other names of the inode too.
        self.raise_and_queue(path, &sighting.stat, now_ms())?;
        if self.is_before_crash(sighting) {
            self.conn
                .prepare_cached("UPDATE work SET doubt = ?2 WHERE file_id = ?1")?
                .execute(params![recorded.id, CRASHED])?;
        }
        Ok(())
    }

    fn is_before_crash(&self, sighting: &Sighting) -> bool {
        self.crashed_at
            .is_some_and(|at| sighting.ctime_ns / 1_000_000 < at)
    }

    /// What looks like damage: the file is shorter or empty of content, and nobody had opened it for
    /// writing; or the machine went down, and what the journal would know of changes may be lost.
    fn damage(&self, recorded: &Recorded, sighting: &Sighting) -> Option<String> {
        const KEPT: &str = "the copy at the remote is kept";
        let size = sighting.stat.size as i64;
        let before_crash = self.is_before_crash(sighting);
        let shorter = size < recorded.size;
        let same_inode = recorded.inode == sighting.stat.inode as i64;
        if !recorded.delivered {
            // Its name may have been that of another file, which was delivered.
            return (before_crash && (shorter || !same_inode)).then(|| {
                format!(
                    "the machine went down: the local file, of {size} bytes, is not the one that was \
                     closed last, of {}",
                    recorded.size
                )
            });
        }
        if same_inode && shorter && !recorded.opened {
            return Some(format!(
                "the local file is {size} bytes, {} were delivered, and nobody wrote to it through \
                 the mount; {KEPT}",
                recorded.size
            ));
        }
        if sighting.hollow && !recorded.opened {
            return Some(format!(
                "the local file has zeros where it had content, and nobody wrote to it through the \
                 mount; {KEPT}"
            ));
        }
        before_crash.then(|| {
            format!(
                "the machine went down while the local file was being changed, so it may be \
                 incomplete; {KEPT}"
            )
        })
    }

    /// A file that the journal knows is not there. Never delivered: then it is just gone.
    fn missing(&mut self, path: &RelPath) -> Result<(), JournalError> {
        let Some(id) = self.file_id(path)? else {
            return Ok(());
        };
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
}

impl Recorded {
    /// Whether it is on the disk as it is in the journal.
    fn is(&self, stat: &FileStat) -> bool {
        !self.opened
            && (self.size, self.mtime_ns, self.inode)
                == (stat.size as i64, stat.mtime_ns, stat.inode as i64)
    }
}
