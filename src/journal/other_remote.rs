//! A journal tells what one remote has. When the directory is delivered to another one, all is due
//! again.

use rusqlite::params;

use super::apply::LARGE;
use super::store::Store;
use super::{JournalError, now_ms};

impl Store {
    /// What is delivered from now on goes to `remote`, as [`crate::remote::place`] names it.
    pub(super) fn deliver_to(&mut self, remote: &str) -> Result<(), JournalError> {
        let before: Option<String> = self
            .conn
            .query_row("SELECT remote FROM meta", [], |row| row.get(0))?;
        if before.as_deref() == Some(remote) {
            return Ok(());
        }
        self.transaction(|store| {
            if let Some(before) = before {
                tracing::warn!(
                    before,
                    remote,
                    "the journal was of another remote: everything is due again"
                );
                store.make_all_due()?;
            }
            store.conn.execute("UPDATE meta SET remote = ?", [remote])?;
            Ok(())
        })
    }

    /// Nothing is known of the remote. What is suspect stays so: it is no better for being elsewhere.
    fn make_all_due(&mut self) -> Result<(), JournalError> {
        let now = now_ms();
        self.conn.execute(
            "UPDATE file SET delivered = 0, occupied = 0, hash = NULL, etag = NULL, object_id = NULL,
                 object_version = NULL, url = NULL, thumbnail_url = NULL, delivered_at = NULL, thumbnail = 0,
                 thumbnail_error = NULL
             WHERE id NOT IN (SELECT file_id FROM work WHERE state = 3)",
            [],
        )?;
        self.conn.execute(
            "UPDATE work SET state = 0, due_at = ?1, attempts = 0, error = NULL, failed_at = NULL
             WHERE state = 2",
            [now],
        )?;
        self.conn.execute(
            "INSERT INTO work (file_id, folder_id, state, large, priority, due_at, queued_at, size)
             SELECT id, folder_id, 0, size >= ?2, 0, ?1, ?1, size FROM file
             WHERE id NOT IN (SELECT file_id FROM work) ORDER BY id",
            params![now, LARGE as i64],
        )?;
        // What was to be deleted, or gone on with, is at the other remote. And priorities are found
        // out anew.
        self.conn.execute("DELETE FROM stray", [])?;
        self.conn.execute("DELETE FROM upload", [])?;
        self.conn.execute("UPDATE meta SET priority = ''", [])?;
        self.note_queued_in_batch()
    }
}
