//! The database itself: opening, making, migrating, and the pieces that all operations use.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use super::arrival::Arrivals;
use super::batch::Current;
use super::share::Share;
use super::tally::Notes;
use super::{JournalError, Options, damage, now_ms};
use crate::glob::Globs;
use crate::private;

/// Tells a journal from any other SQLite database ("obxf", https://sqlite.org/fileformat.html §1.3.14).
pub(super) const APPLICATION_ID: i64 = 0x6f62_7866;

/// Schema versions, oldest first: the n-th brings a journal from version n-1 to n.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Hexadecimal digits of a mount's id.
const ID_LENGTH: usize = 16;

/// The writer's connection and what it keeps in memory beside it. Owned by the writer's thread.
pub(super) struct Store {
    pub(super) conn: Connection,
    /// How long a change comes to rest, milliseconds.
    pub(super) settle_ms: i64,
    /// As in [`Options`].
    pub(super) has_rows: bool,
    pub(super) sync_deletes: bool,
    pub(super) priority: Globs,
    /// See [`super::Journal::pause`].
    pub(super) paused: bool,
    pub(super) batch: Current,
    pub(super) arrivals: Arrivals,
    /// When [rows or deletions were claimed](Self::look_at_clock) last, by the clock.
    pub(super) looked_at: i64,
    /// What has come to the totals of folders in this transaction.
    pub(super) notes: Notes,
    pub(super) share: Share,
    /// Folder ids by path; only a cache, emptied by renames, removals and roll-backs.
    pub(super) folder_ids: HashMap<Box<[u8]>, i64>,
    /// Folder paths by id, likewise.
    pub(super) folder_paths: HashMap<i64, crate::path::RelPath>,
    /// What folders lie in, by id, likewise.
    pub(super) folder_parents: HashMap<i64, Option<i64>>,
    /// As in `meta`.
    pub(super) crashed_at: Option<i64>,
    pub(super) rebuilding: bool,
}

impl Store {
    /// Opens the database. One that is damaged is kept aside, and a new one takes its place.
    pub(super) fn open(options: &Options) -> Result<Self, JournalError> {
        let reason = match Self::open_existing(options) {
            Err(JournalError::Damaged(reason)) if damage::was_journal(&options.path) => reason,
            Err(JournalError::Damaged(reason)) => {
                return Err(JournalError::Unusable {
                    path: options.path.display().to_string(),
                    reason: format!(
                        "{reason}; if it was a journal, move it away, and the next mount makes a new one from the directory"
                    ),
                });
            }
            result => return result,
        };
        let kept = damage::keep_aside(&options.path).map_err(|error| JournalError::Unusable {
            path: options.path.display().to_string(),
            reason: format!("it is damaged ({reason}) and cannot be kept aside: {error}"),
        })?;
        tracing::error!(
            reason,
            kept = %kept.display(),
            "the journal is damaged: it is kept aside, and a new one is made from the directory"
        );
        let mut store = Self::open_existing(options)?;
        store.conn.execute(
            "UPDATE meta SET replaces = ?, rebuilding = 1",
            [kept.to_string_lossy()],
        )?;
        store.rebuilding = true;
        Ok(store)
    }

    fn open_existing(options: &Options) -> Result<Self, JournalError> {
        let path = options.path.as_path();
        let unusable = |reason: String| JournalError::Unusable {
            path: path.display().to_string(),
            reason,
        };
        make_private(path).map_err(|error| unusable(error.to_string()))?;
        let conn = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
        let notes = Notes::of(&conn).map_err(|error| unusable(error.to_string()))?;
        let mut store = Self {
            conn,
            notes,
            settle_ms: options.settle.as_millis() as i64,
            has_rows: options.has_rows,
            sync_deletes: options.sync_deletes,
            priority: options.priority.clone(),
            paused: false,
            batch: Current::default(),
            arrivals: Arrivals::default(),
            looked_at: i64::MAX,
            share: Share::default(),
            folder_ids: HashMap::new(),
            folder_paths: HashMap::new(),
            folder_parents: HashMap::new(),
            crashed_at: None,
            rebuilding: false,
        };
        store.prepare(options).map_err(|error| match error {
            JournalError::Sqlite(reason) => unusable(reason),
            other => other,
        })?;
        Ok(store)
    }

    fn prepare(&mut self, options: &Options) -> Result<(), JournalError> {
        self.conn.busy_timeout(std::time::Duration::from_secs(5))?;
        let version = check_identity(&self.conn, &options.path)?;
        configure(&self.conn)?;
        damage::look(&mut self.conn, &options.path)?;
        self.migrate(&MIGRATIONS, version)?;
        self.claim_ownership(options)?;
        self.conn.execute(
            "UPDATE meta SET has_rows = ?, sync_deletes = ?",
            params![options.has_rows, options.sync_deletes],
        )?;
        // What was claimed belongs to a daemon that is no more.
        self.conn
            .execute("UPDATE work SET state = 0 WHERE state = 1", [])?;
        self.conn
            .execute("UPDATE folder SET row_state = 1 WHERE row_state = 3", [])?;
        self.conn
            .execute("UPDATE gone_row SET state = 0 WHERE state = 1", [])?;
        self.paused = self
            .conn
            .query_row("SELECT paused FROM meta", [], |row| row.get(0))?;
        self.find_batch()?;
        self.limit_batches(options.batches)?;
        self.find_arrivals()?;
        self.transaction(Store::take_all_in)?;
        if let Some(remote) = &options.remote {
            self.deliver_to(remote)?;
        }
        self.look_for_crash()?;
        self.prepare_strays()?;
        self.prepare_priority()?;
        self.remember_thumbnails(&options.thumbnails)?;
        self.conn.set_prepared_statement_cache_capacity(200);
        Ok(())
    }

    fn remember_thumbnails(&mut self, folders: &[String]) -> Result<(), JournalError> {
        let known: String = self
            .conn
            .query_row("SELECT thumbnails FROM meta", [], |row| row.get(0))?;
        let mut all: Vec<&str> = known.lines().collect();
        all.extend(folders.iter().map(String::as_str));
        all.sort_unstable();
        all.dedup();
        self.conn
            .execute("UPDATE meta SET thumbnails = ?", [all.join("\n")])?;
        Ok(())
    }

    fn migrate(&mut self, steps: &[&str], from: usize) -> Result<(), JournalError> {
        for (version, sql) in steps.iter().enumerate().skip(from) {
            let transaction = self.conn.transaction()?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version as i64 + 1)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.commit()?;
        }
        Ok(())
    }

    /// A journal belongs to one directory: the same path, or the same inode where it was moved.
    fn claim_ownership(&mut self, options: &Options) -> Result<(), JournalError> {
        let directory = options.directory.as_os_str().as_bytes();
        let (device, inode) = (options.device as i64, options.inode as i64);
        let owner: Option<(Vec<u8>, i64, i64)> = self
            .conn
            .query_row("SELECT directory, device, inode FROM meta", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        match owner {
            None => {
                let mount_id = mount_id(&options.path, directory);
                self.conn.execute(
                    "INSERT INTO meta (one, directory, device, inode, mount_id) VALUES (1, ?, ?, ?, ?)",
                    params![directory, device, inode, mount_id],
                )?;
            }
            Some((path, its_device, its_inode)) => {
                if path != directory && (its_device, its_inode) != (device, inode) {
                    return Err(JournalError::OtherDirectory {
                        path: options.path.display().to_string(),
                        owner: String::from_utf8_lossy(&path).into_owned(),
                    });
                }
                self.conn.execute(
                    "UPDATE meta SET directory = ?, device = ?, inode = ?",
                    params![directory, device, inode],
                )?;
            }
        }
        Ok(())
    }

    /// When a change that is made now is due.
    pub(super) fn due(&self) -> i64 {
        now_ms() + self.settle_ms
    }

    pub(super) fn forget_folders(&mut self) {
        self.folder_ids.clear();
        self.folder_paths.clear();
        self.folder_parents.clear();
    }

    /// After a roll-back: what is in memory may not be so.
    pub(super) fn forget(&mut self) {
        self.forget_folders();
        self.batch = Current::default();
        self.arrivals.lose();
        self.looked_at = i64::MAX;
        self.notes.forget();
    }
}

/// The schema version of the database, 0 if it is new; an error if it is something else, or of a
/// newer program: whoever reads or writes it would do it wrongly.
pub(super) fn check_identity(conn: &Connection, path: &Path) -> Result<usize, JournalError> {
    let unusable = |reason: &str| JournalError::Unusable {
        path: path.display().to_string(),
        reason: reason.into(),
    };
    let read = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (id, version) = match (read("application_id"), read("user_version")) {
        (Ok(id), Ok(version)) => (id, version),
        (Err(error), _) | (_, Err(error)) => return Err(error.into()),
    };
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, version, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, version, _) if version > MIGRATIONS.len() as i64 => {
            Err(JournalError::NewerSchema {
                path: path.display().to_string(),
                found: version,
                known: MIGRATIONS.len() as i64,
            })
        }
        (APPLICATION_ID, version, _) if version > 0 => Ok(version as usize),
        _ => Err(unusable("it is a database, but not a journal of outboxfs")),
    }
}

fn configure(conn: &Connection) -> Result<(), JournalError> {
    // A commit in WAL mode without a sync survives the death of the process, not a power cut; the
    // writer asks for a synced one where fsync(2) promises it. The checkpoints have a thread of
    // their own, because they sync, and no close should wait for a disk.
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -16_384)?; // KiB
    plan_once(conn)?;
    Ok(())
}

/// Statements keep their plans whatever is bound. Without this, those that a partial index may serve
/// are prepared anew with each value: an eighth of a push's processor time.
pub(super) fn plan_once(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

/// Makes the state directory and an empty database file that only their owner can read: what is
/// photographed in a folder is nobody else's business.
fn make_private(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    private::open(path).map(drop)
}

/// An id for the rows of the directory. It is kept beside the journal too, so that one that is lost
/// does not make each row a second time.
fn mount_id(journal: &Path, directory: &[u8]) -> String {
    let kept = journal.with_extension("id");
    let of_it = fs::read(&kept).ok().and_then(|text| {
        let (id, its_directory) = text.split_at_checked(ID_LENGTH)?;
        let id = String::from_utf8(id.to_vec()).ok()?;
        (its_directory.strip_prefix(b" ")? == directory).then_some(id)
    });
    of_it.unwrap_or_else(|| {
        let id = format!("{:0ID_LENGTH$x}", fastrand::u64(..));
        if let Err(error) = private::write(&kept, [id.as_bytes(), b" ", directory].concat()) {
            tracing::warn!(%error, file = %kept.display(), "cannot be written");
        }
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{FileId, Journal};

    /// How often any statement of the connection was prepared anew.
    fn prepared_anew(conn: &Connection) -> i32 {
        let mut times = 0;
        // SAFETY: the statements of an open connection, which nobody else uses meanwhile.
        unsafe {
            let mut statement =
                rusqlite::ffi::sqlite3_next_stmt(conn.handle(), std::ptr::null_mut());
            while !statement.is_null() {
                let status = rusqlite::ffi::SQLITE_STMTSTATUS_REPREPARE;
                times += rusqlite::ffi::sqlite3_stmt_status(statement, status, 0);
                statement = rusqlite::ffi::sqlite3_next_stmt(conn.handle(), statement);
            }
        }
        times
    }

    #[test]
    fn each_step_is_taken_as_a_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::of_test(folder.path().join("journal.db"));
        let mut store = Store::open(&options).unwrap();
        let now = MIGRATIONS.len();
        let [first, second] = [
            "ALTER TABLE meta ADD COLUMN later INTEGER; UPDATE meta SET later = 7;",
            "UPDATE meta SET later = later + 1; CREATE TABLE more (x); INSERT INTO more VALUES (1);",
        ];
        let version = |store: &Store| check_identity(&store.conn, &options.path);
        let later = |store: &Store| {
            let one = store
                .conn
                .query_row("SELECT later FROM meta", [], |row| row.get(0));
            one.ok() as Option<i64>
        };
        let all = [&MIGRATIONS[..], &[first, second]].concat();
        let broken = second.replace("more VALUES", "nowhere VALUES");
        let mut cut_off = all.clone();
        *cut_off.last_mut().unwrap() = &broken;
        store.migrate(&cut_off, now).unwrap_err();
        let reached = store
            .conn
            .pragma_query_value(None, "user_version", |row| row.get(0));
        let reached: i64 = reached.unwrap();
        assert_eq!((reached, later(&store)), (now as i64 + 1, Some(7)));
        assert!(matches!(
            version(&store),
            Err(JournalError::NewerSchema { .. })
        ));
        store.migrate(&all, now + 1).unwrap();
        assert_eq!(later(&store), Some(8));
        store.migrate(&all, now + 2).unwrap();
        assert_eq!(later(&store), Some(8), "nothing is done twice");
    }

    #[test]
    fn looking_for_equal_content_plans_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(Options::of_test(folder.path().join("journal.db"))).unwrap();
        let view = journal.view().unwrap();
        for number in 0..10_u8 {
            let found = view.copy_source(FileId(number.into()), &blake3::hash(&[number]), false);
            assert_eq!(found.unwrap(), None);
        }
        assert_eq!(prepared_anew(&view.conn), 0);
    }
}
