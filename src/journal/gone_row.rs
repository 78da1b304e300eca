//! The rows of folders that are gone: to be removed from the sink before their objects are deleted.

use rusqlite::{OptionalExtension, params};

use super::store::Store;
use super::{Claimed, JournalError, Outcome, now_ms};
use crate::path::RelPath;

/// A row taken for its removal.
#[derive(Debug, Clone)]
pub struct GoneRow {
    pub(super) id: i64,
    /// Of the folder.
    pub path: RelPath,
    /// Newer than any that was written.
    pub version: i64,
    /// Attempts before this one.
    pub attempts: u32,
}

impl Store {
    /// The folder `id` leaves `path`; if it has a row, that goes too.
    pub(super) fn row_is_gone(&mut self, id: i64, path: &RelPath) -> Result<(), JournalError> {
        if !self.sync_deletes {
            return Ok(());
        }
        // What the folder's row says from now on is newer than this.
        let version: Option<i64> = self
            .conn
            .prepare_cached(
                "UPDATE folder SET row_version = max(row_version + 1, ?2)
                 WHERE id = ?1 AND row_version > 0 AND (?3 OR row_delivered > 0) RETURNING row_version",
            )?
            .query_row(params![id, now_ms(), self.has_rows], |row| row.get(0))
            .optional()?;
        let Some(version) = version else {
            return Ok(());
        };
        self.conn
            .prepare_cached(
                "INSERT INTO gone_row (path, version, due_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (path) DO UPDATE SET version = max(version + 1, ?2),
                     state = CASE state WHEN 1 THEN 1 ELSE 0 END, due_at = ?3,
                     attempts = 0, error = NULL, failed_at = NULL",
            )?
            .execute(params![path.as_bytes(), version, self.due()])?;
        self.conn
            .prepare_cached(
                "UPDATE stray SET folder_id = NULL,
                     gone_row_id = (SELECT id FROM gone_row WHERE path = ?2)
                 WHERE folder_id = ?1",
            )?
            .execute(params![id, path.as_bytes()])?;
        Ok(())
    }

    pub(super) fn claim_gone_rows(
        &mut self,
        limit: usize,
    ) -> Result<Claimed<GoneRow>, JournalError> {
        if self.paused {
            return Ok(Claimed::nothing());
        }
        let now = self.look_at_clock()?;
        let claims: Vec<GoneRow> = self
            .conn
            .prepare_cached(
                "SELECT id, path, version, attempts FROM gone_row
                 WHERE state = 0 AND due_at <= ? ORDER BY due_at LIMIT ?",
            )?
            .query_map(params![now, limit as i64], |row| {
                Ok(GoneRow {
                    id: row.get(0)?,
                    path: RelPath::parse(&row.get::<_, Vec<u8>>(1)?).unwrap_or_else(RelPath::root),
                    version: row.get(2)?,
                    attempts: row.get(3)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        for row in &claims {
            self.conn
                .prepare_cached("UPDATE gone_row SET state = 1 WHERE id = ?")?
                .execute([row.id])?;
        }
        let next_due = self
            .conn
            .prepare_cached("SELECT min(due_at) FROM gone_row WHERE state = 0")?
            .query_row([], |row| row.get(0))?;
        Ok(Claimed { claims, next_due })
    }

    pub(super) fn settle_gone_rows(
        &mut self,
        outcomes: &[(GoneRow, Outcome)],
    ) -> Result<(), JournalError> {
        for (row, outcome) in outcomes {
            let (state, error, due, attempts) = match outcome {
                Outcome::Done => {
                    self.gone_row_is_removed(row)?;
                    continue;
                }
                Outcome::Retry { error, due } => (0, Some(error), *due, 1),
                Outcome::Failed { error } => (2, Some(error), 0, 1),
                Outcome::Released { due } => (0, None, *due, 0),
            };
            self.conn
                .prepare_cached(
                    "UPDATE gone_row SET state = ?2, error = ?3, due_at = ?4, failed_at = ?5,
                         attempts = attempts + ?6
                     WHERE id = ?1",
                )?
                .execute(params![row.id, state, error, due, now_ms(), attempts])?;
        }
        Ok(())
    }

    /// What it showed can be deleted now; unless it is to be removed once more.
    fn gone_row_is_removed(&mut self, row: &GoneRow) -> Result<(), JournalError> {
        let removed = self
            .conn
            .prepare_cached("DELETE FROM gone_row WHERE id = ? AND version = ?")?
            .execute([row.id, row.version])?;
        let sql = match removed {
            0 => "UPDATE gone_row SET state = 0 WHERE id = ?",
            _ => "UPDATE stray SET gone_row_id = NULL WHERE gone_row_id = ?",
        };
        self.conn.prepare_cached(sql)?.execute([row.id])?;
        Ok(())
    }
}
