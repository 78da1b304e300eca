//! How much there is, and what has become of it: of all, or of what is below a folder. In constant time.

use rusqlite::{Row, params};

use super::tree::ROOT;
use super::{JournalError, View};
use crate::path::RelPath;

/// The totals that the journal keeps; see `schema.sql`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub queued_files: u64,
    pub queued_bytes: u64,
    pub delivered_files: u64,
    pub delivered_bytes: u64,
    pub failed_files: u64,
    pub suspect_files: u64,
    pub queued_rows: u64,
    pub failed_rows: u64,
    /// Paths whose objects are to be deleted.
    pub queued_deletions: u64,
    pub failed_deletions: u64,
    /// Whether a scan is going on, and whether there are renamed folders whose files have still to
    /// be queued: while it is so, the queue is not all there is to do.
    pub scanning: bool,
    pub expanding: bool,
    /// Nothing is delivered until somebody says so.
    pub paused: bool,
}

impl Totals {
    /// Nothing is left to do by itself.
    pub fn is_drained(&self) -> bool {
        self.queued_files == 0
            && self.queued_rows == 0
            && self.queued_deletions == 0
            && !self.scanning
            && !self.expanding
    }
}

impl View {
    /// What was written down just now counts as queued; if it was delivered before, it still counts as
    /// that too, for the moment.
    pub fn totals(&self) -> Result<Totals, JournalError> {
        self.totals_of(ROOT, &RelPath::root())
    }

    /// The same of all from a folder on down. Of one that the journal does not know there is nothing, but
    /// what was written down just now.
    pub fn totals_below(&self, folder: &RelPath) -> Result<Totals, JournalError> {
        let _snapshot = self.snapshot()?;
        // No folder has this id.
        let id = self.folder_id(folder)?.unwrap_or(0);
        self.totals_of(id, folder)
    }

    /// One state for all questions, until it is dropped: what leaves one table for another is not to be
    /// missed.
    fn snapshot(&self) -> Result<Option<rusqlite::Transaction<'_>>, JournalError> {
        Ok(match self.conn.is_autocommit() {
            true => Some(self.conn.unchecked_transaction()?),
            false => None,
        })
    }

    fn totals_of(&self, id: i64, path: &RelPath) -> Result<Totals, JournalError> {
        let _snapshot = self.snapshot()?;
        let mut totals = self
            .conn
            .prepare_cached(
                "SELECT paused,
                     EXISTS (SELECT 1 FROM scan WHERE ?2 = x'' OR path = x'' OR path = ?2
                         OR substr(?2, 1, length(path) + 1) = CAST(path || x'2f' AS BLOB)
                         OR substr(path, 1, length(?2) + 1) = CAST(?2 || x'2f' AS BLOB)),
                     EXISTS (SELECT 1 FROM expansion),
                     files, bytes, queued_files, queued_bytes, failed_files, failed_bytes, suspect_files,
                     suspect_bytes, queued_rows * has_rows, failed_rows * has_rows
                 FROM meta LEFT JOIN folder ON folder.id = ?1",
            )?
            .query_row(params![id, path.as_bytes()], |row| {
                let n = |column: usize| {
                    let number = row.get::<_, Option<i64>>(column)?;
                    Ok::<_, rusqlite::Error>(number.unwrap_or(0).max(0) as u64)
                };
                let (queued, failed, suspect) = (n(5)?, n(7)?, n(9)?);
                let undelivered = n(6)? + n(8)? + n(10)?;
                Ok(Totals {
                    queued_files: queued,
                    queued_bytes: n(6)?,
                    delivered_files: n(3)?.saturating_sub(queued + failed + suspect),
                    delivered_bytes: n(4)?.saturating_sub(undelivered),
                    failed_files: failed,
                    suspect_files: suspect,
                    queued_rows: n(11)?,
                    failed_rows: n(12)?,
                    queued_deletions: 0,
                    failed_deletions: 0,
                    paused: row.get(0)?,
                    scanning: row.get(1)?,
                    expanding: row.get(2)?,
                })
            })?;
        self.add_arrived(path, &mut totals)?;
        match path.is_root() {
            true => self.add_gone(&mut totals)?,
            false => self.add_gone_below(path, &mut totals)?,
        }
        Ok(totals)
    }

    /// What is written down: the table is short. A file that waited before counts twice until it is taken
    /// in.
    fn add_arrived(&self, path: &RelPath, totals: &mut Totals) -> Result<(), JournalError> {
        let (files, bytes) = self
            .conn
            .prepare_cached(
                "SELECT count(*), coalesce(sum(size), 0) FROM arrived
                 WHERE ?1 = x'' OR substr(path, 1, length(?1) + 1) = CAST(?1 || x'2f' AS BLOB)",
            )?
            .query_row([path.as_bytes()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?;
        totals.queued_files += files.max(0) as u64;
        totals.queued_bytes += bytes.max(0) as u64;
        Ok(())
    }

    fn add_gone(&self, totals: &mut Totals) -> Result<(), JournalError> {
        let gone = self
            .conn
            .prepare_cached(
                "SELECT queued_rows * has_rows, failed_rows * has_rows, queued_deletions, failed_deletions
                 FROM total, meta",
            )?
            .query_row([], gone)?;
        gone.add_to(totals);
        Ok(())
    }

    /// Counted: rows and objects of what is gone have no folder that could keep totals. There are some
    /// only while deletions wait, with `sync_deletes`.
    fn add_gone_below(&self, path: &RelPath, totals: &mut Totals) -> Result<(), JournalError> {
        let (first, after) = below(path);
        let gone = self
            .conn
            .prepare_cached(
                "SELECT
                     (SELECT count(*) FROM gone_row WHERE (path = ?3 OR path >= ?1 AND path < ?2) AND state < 2)
                         * has_rows,
                     (SELECT count(*) FROM gone_row WHERE (path = ?3 OR path >= ?1 AND path < ?2) AND state = 2)
                         * has_rows,
                     (SELECT count(*) FROM stray WHERE path >= ?1 AND path < ?2 AND state < 2
                          AND coalesce(file_id, folder_id, gone_row_id) IS NULL),
                     (SELECT count(*) FROM stray WHERE path >= ?1 AND path < ?2 AND state = 2
                          AND coalesce(file_id, folder_id, gone_row_id) IS NULL)
                 FROM meta",
            )?
            .query_row(params![first, after, path.as_bytes()], gone)?;
        gone.add_to(totals);
        Ok(())
    }
}

/// Of what is gone: rows and objects that are to be removed, or could not be.
struct Gone {
    queued_rows: u64,
    failed_rows: u64,
    queued_deletions: u64,
    failed_deletions: u64,
}

fn gone(row: &Row<'_>) -> rusqlite::Result<Gone> {
    let n = |column: usize| row.get::<_, i64>(column).map(|n| n.max(0) as u64);
    Ok(Gone {
        queued_rows: n(0)?,
        failed_rows: n(1)?,
        queued_deletions: n(2)?,
        failed_deletions: n(3)?,
    })
}

impl Gone {
    fn add_to(&self, totals: &mut Totals) {
        totals.queued_rows += self.queued_rows;
        totals.failed_rows += self.failed_rows;
        totals.queued_deletions = self.queued_deletions;
        totals.failed_deletions = self.failed_deletions;
    }
}

/// All paths below a folder, which is not the root: from the first to before the second.
fn below(folder: &RelPath) -> (Vec<u8>, Vec<u8>) {
    let with = |byte: u8| [folder.as_bytes(), &[byte]].concat();
    (with(b'/'), with(b'/' + 1))
}
