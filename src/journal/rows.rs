//! The stats rows of folders: when one is due, claiming and settling it.
//!
//! A folder has a row once a picture or a `stats.json` was delivered in it. From then on each
//! delivery and removal in the folder raises the row's version. A row is claimed only when none of
//! the folder's files waits for delivery: rows never point at missing objects.

use rusqlite::params;

use super::store::Store;
use super::{Claimed, JournalError, Outcome, now_ms};
use crate::path::RelPath;

/// A folder of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderId(pub(super) i64);

/// A folder taken for writing its row.
#[derive(Debug, Clone)]
pub struct RowClaim {
    pub id: FolderId,
    pub version: i64,
    pub path: RelPath,
    /// Attempts before this one.
    pub attempts: u32,
}

impl Store {
    /// Something that the folder's row shows has changed. `begins` gives the folder a row if it has
    /// none yet.
    pub(super) fn raise_row(&mut self, folder_id: i64, begins: bool) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE folder SET row_version = max(row_version + 1, ?4), row_due = ?3,
                     row_state = CASE row_state WHEN 3 THEN 3 ELSE 1 END,
                     row_attempts = 0, row_error = NULL, row_failed_at = NULL
                 WHERE id = ?1 AND (?2 OR row_version > 0)",
            )?
            .execute(params![folder_id, begins, self.due(), now_ms()])?;
        Ok(())
    }

    pub(super) fn claim_rows(&mut self, limit: usize) -> Result<Claimed<RowClaim>, JournalError> {
        if self.paused {
            return Ok(Claimed::nothing());
        }
        let now = self.look_at_clock()?;
        let due: Vec<(i64, i64, u32, bool)> = self
            .conn
            .prepare_cached(
                "SELECT id, row_version, row_attempts,
                     EXISTS (SELECT 1 FROM work WHERE work.folder_id = folder.id AND work.state < 2)
                 FROM folder WHERE row_state = 1 AND row_due <= ? ORDER BY row_due LIMIT ?",
            )?
            .query_map(params![now, limit as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut claims = Vec::with_capacity(due.len());
        for (id, version, attempts, files_wait) in due {
            if files_wait {
                // The delivery of those files raises the row, and with it its due time.
                self.postpone_row(id, now + self.settle_ms.max(100))?;
                continue;
            }
            self.conn
                .prepare_cached("UPDATE folder SET row_state = 3 WHERE id = ?")?
                .execute([id])?;
            let path = self.folder_path(id)?;
            claims.push(RowClaim {
                id: FolderId(id),
                version,
                path,
                attempts,
            });
        }
        let next_due = self
            .conn
            .prepare_cached("SELECT min(row_due) FROM folder WHERE row_state = 1")?
            .query_row([], |row| row.get(0))?;
        Ok(Claimed { claims, next_due })
    }

    pub(super) fn settle_rows(
        &mut self,
        outcomes: &[(RowClaim, Outcome)],
    ) -> Result<(), JournalError> {
        for (claim, outcome) in outcomes {
            self.settle_row(claim.id.0, claim.version, outcome)?;
        }
        Ok(())
    }

    fn settle_row(&mut self, id: i64, version: i64, outcome: &Outcome) -> Result<(), JournalError> {
        match outcome {
            Outcome::Done => {
                self.conn
                    .prepare_cached(
                        "UPDATE folder SET row_delivered = ?2, row_attempts = 0, row_error = NULL,
                             row_failed_at = NULL, row_state = CASE row_version WHEN ?2 THEN 0 ELSE 1 END
                         WHERE id = ?1 AND row_state = 3",
                    )?
                    .execute(params![id, version])?;
                self.row_is_written(id)
            }
            Outcome::Retry { error, due } => self.trouble_row(id, version, 1, error, *due),
            Outcome::Failed { error } => self.trouble_row(id, version, 2, error, 0),
            Outcome::Released { due } => {
                self.conn
                    .prepare_cached(
                        "UPDATE folder SET row_state = 1 WHERE id = ? AND row_state = 3",
                    )?
                    .execute([id])?;
                self.postpone_row(id, *due)
            }
        }
    }

    fn trouble_row(
        &mut self,
        id: i64,
        version: i64,
        state: i64,
        error: &str,
        due: i64,
    ) -> Result<(), JournalError> {
        self.conn
            .prepare_cached(
                "UPDATE folder SET row_error = ?4, row_failed_at = ?5, row_attempts = row_attempts + 1,
                     row_due = max(row_due, ?6), row_state = CASE row_version WHEN ?2 THEN ?3 ELSE 1 END
                 WHERE id = ?1 AND row_state = 3",
            )?
            .execute(params![id, version, state, error, now_ms(), due])?;
        Ok(())
    }

    fn postpone_row(&mut self, id: i64, due: i64) -> Result<(), JournalError> {
        self.conn
            .prepare_cached("UPDATE folder SET row_due = max(row_due, ?2) WHERE id = ?1")?
            .execute(params![id, due])?;
        Ok(())
    }
}
