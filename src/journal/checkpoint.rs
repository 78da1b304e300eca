//! Moving the write-ahead log into the database.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use rusqlite::Connection;

use super::JournalError;
use super::store::Store;

/// A write-ahead log that has grown to so many pages begins anew: reading takes longer with it.
const LONGEST_LOG: i64 = 8192;

/// Moves the WAL into the database whenever asked to, and tells when it has grown long. Writers and
/// readers go on meanwhile.
pub(super) fn run(path: &Path, due: &Receiver<()>, log_is_long: &AtomicBool) {
    let conn = match Connection::open(path) {
        Ok(conn) => conn,
        Err(error) => {
            tracing::error!(%error, "the journal's write-ahead log is not checkpointed");
            return;
        }
    };
    let _ = conn.busy_timeout(Duration::from_secs(1));
    while due.recv().is_ok() {
        match once(&conn) {
            Ok(pages) => log_is_long.store(pages > LONGEST_LOG, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "a checkpoint of the journal failed"),
        }
    }
}

impl Store {
    /// Brings all of the write-ahead log into the database and syncs both.
    pub(super) fn checkpoint_all(&mut self, path: &Path) -> Result<(), JournalError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.conn.query_row(checkpoint, [], |row| row.get(0))?;
        if busy {
            let why = "somebody reads the journal, so that its log cannot be made sure of";
            return Err(JournalError::Sqlite(why.to_owned()));
        }
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        // An old one must not come back with a power cut.
        let synced = File::open(log).and_then(|log| log.sync_all());
        synced.map_err(|error| JournalError::Sqlite(format!("its log cannot be synced: {error}")))
    }
}

/// Pages in the write-ahead log.
pub(super) fn once(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}
