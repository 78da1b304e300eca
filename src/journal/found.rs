//! What a scan finds becomes versions and work, or is suspect.

use rusqlite::{Statement, ToSql, params};

use super::apply::LARGE;
use super::store::Store;
use super::{FileStat, JournalError, ScannedFolder, Sighting, now_ms};
use crate::path::RelPath;

/// `work.doubt` of a file that was changed before the machine went down, and of one that was found
/// while the journal was rebuilt.
const CRASHED: i64 = 1;
const REBUILT: i64 = 2;

/// Files that are added with one statement.
const AT_ONCE: usize = 16;

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
            let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM file WHERE folder_id = ?)";
            match self.is_so(is_empty, [folder_id])? {
                true => self.add_all(folder_id, scanned)?,
                false => self.compare(folder_id, scanned)?,
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

    fn is_so(&self, question: &str, of: impl rusqlite::Params) -> Result<bool, JournalError> {
        let mut question = self.conn.prepare_cached(question)?;
        Ok(question.query_row(of, |row| row.get(0))?)
    }

    /// Files of a folder of which the journal may know some.
    fn compare(&mut self, folder_id: i64, scanned: &ScannedFolder) -> Result<(), JournalError> {
        for sighting in &scanned.found {
            let path = scanned.path.join(&sighting.name);
            let known = "SELECT EXISTS (SELECT 1 FROM file WHERE folder_id = ? AND name = ?)";
            if !self.is_so(known, params![folder_id, sighting.name])? {
                self.add(folder_id, &scanned.path, std::slice::from_ref(sighting))?;
            } else if scanned.watched {
                self.found(folder_id, &path, sighting)?;
            } else {
                self.written(&path, &sighting.stat, now_ms())?;
            }
        }
        Ok(())
    }

    /// All files of a folder of which the journal knows none, as a first scan finds by the million.
    fn add_all(&mut self, folder_id: i64, scanned: &ScannedFolder) -> Result<(), JournalError> {
        for sightings in scanned.found.chunks(AT_ONCE) {
            self.add(folder_id, &scanned.path, sightings)?;
        }
        Ok(())
    }

    /// Records files that the journal does not know, with one statement for each table: a statement
    /// costs as much as several rows.
    fn add(
        &mut self,
        folder_id: i64,
        folder: &RelPath,
        sightings: &[Sighting],
    ) -> Result<(), JournalError> {
        let rows = repeated("(?1, ?, 1, ?, ?, ?)", sightings.len());
        let mut statement = self.conn.prepare_cached(&format!(
            "INSERT INTO file (folder_id, name, version, size, mtime_ns, inode) VALUES {rows}"
        ))?;
        let mut at = Places::new(&mut statement);
        at.bind(folder_id)?;
        for Sighting { name, stat, .. } in sightings {
            at.bind(name)?;
            at.bind(stat.size as i64)?;
            at.bind(stat.mtime_ns)?;
            at.bind(stat.inode as i64)?;
        }
        statement.raw_execute()?;
        drop(statement);
        // AUTOINCREMENT counts on from row to row.
        let last = self.conn.last_insert_rowid();
        let ids = last + 1 - sightings.len() as i64..=last;

        let mut priorities = Vec::with_capacity(sightings.len());
        for id in ids.clone() {
            priorities.push(self.priority_of(id)?);
        }
        let rows = repeated("(?1, ?2, ?3, ?, 0, ?, ?, ?, ?)", sightings.len());
        let mut statement = self.conn.prepare_cached(&format!(
            "INSERT INTO work (folder_id, due_at, queued_at, doubt, state, file_id, large, size, priority)
             VALUES {rows}"
        ))?;
        let now = now_ms();
        let mut at = Places::new(&mut statement);
        at.bind(folder_id)?;
        at.bind(now + self.settle_ms)?;
        at.bind(now)?;
        for ((id, sighting), priority) in ids.clone().zip(sightings).zip(priorities) {
            // After a crash, the file may be that of another name which the disk has forgotten, and the remote have
            // an object of it.
            let is_known_elsewhere = self.rebuilding || self.is_before_crash(sighting);
            at.bind(if is_known_elsewhere { REBUILT } else { 0 })?;
            at.bind(id)?;
            at.bind(sighting.stat.size >= LARGE)?;
            at.bind(sighting.stat.size as i64)?;
            at.bind(priority)?;
        }
        statement.raw_execute()?;
        drop(statement);

        self.note_in_batch(folder_id)?;
        if self.is_so("SELECT EXISTS (SELECT 1 FROM stray)", [])? {
            for (id, sighting) in ids.zip(sightings) {
                self.take_over(id, &folder.join(&sighting.name))?;
            }
        }
        Ok(())
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

    /// A file is not there.
    fn missing(&mut self, path: &RelPath) -> Result<(), JournalError> {
        match self.file_id(path)? {
            Some(id) => self.gone(id),
            None => Ok(()),
        }
    }
}

/// `row`, so many times, as SQL separates rows.
fn repeated(row: &str, times: usize) -> String {
    vec![row; times].join(", ")
}

/// A statement's parameters, in their order.
struct Places<'a, 'c> {
    statement: &'a mut Statement<'c>,
    bound: usize,
}

impl<'a, 'c> Places<'a, 'c> {
    fn new(statement: &'a mut Statement<'c>) -> Self {
        let bound = 0;
        Self { statement, bound }
    }

    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
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
