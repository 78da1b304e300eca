//! How many folders there are, by what has become of their files.

use super::{JournalError, View};

/// Folders that hold files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FolderCounts {
    pub total: u64,
    /// Something of them is still to be delivered, and nothing has failed.
    pub queued: u64,
    /// Something has failed or is suspect.
    pub failed: u64,
}

impl View {
    /// Counts folders: a look-up for each, and one for each file that waits.
    pub fn folder_counts(&self) -> Result<FolderCounts, JournalError> {
        let counts = self
            .conn
            .prepare_cached(
                "WITH RECURSIVE holding (id) AS (
                     SELECT min(folder_id) FROM file
                     UNION ALL
                     SELECT (SELECT min(folder_id) FROM file WHERE folder_id > holding.id)
                     FROM holding WHERE holding.id IS NOT NULL
                 ), with_row (id, state) AS (
                     SELECT id, row_state FROM folder
                     WHERE row_state > 0 AND EXISTS (SELECT 1 FROM file WHERE folder_id = folder.id)
                 ), failed (id) AS (
                     SELECT folder_id FROM work WHERE state > 1
                     UNION SELECT id FROM with_row WHERE state = 2
                 ), queued (id) AS (
                     SELECT folder_id FROM work WHERE state < 2
                     UNION SELECT with_row.id FROM with_row, meta WHERE state IN (1, 3) AND has_rows
                     EXCEPT SELECT id FROM failed
                 )
                 SELECT (SELECT count(id) FROM holding), (SELECT count(*) FROM queued),
                     (SELECT count(*) FROM failed)",
            )?
            .query_row([], |row| {
                let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(FolderCounts {
                    total: count(0)?,
                    queued: count(1)?,
                    failed: count(2)?,
                })
            })?;
        Ok(counts)
    }
}
