//! Whether the machine went down under a mount: then what was not synced may be lost or damaged.
//! Daemons that die alone lose nothing, since the kernel keeps what they wrote.

use rusqlite::params;

use super::store::Store;
use super::{Doubt, JournalError, now_ms};

/// What names this run of the machine (random(4)); empty where the kernel does not tell.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// When this run of the machine began, milliseconds since 1970-01-01 UTC.
fn booted_at() -> i64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now_ms() - (up.tv_sec * 1000 + up.tv_nsec / 1_000_000)
}

impl Store {
    /// Finds out whether the machine went down since a mount of the directory began. What waited
    /// then is looked at before it is sent.
    pub(super) fn look_for_crash(&mut self) -> Result<(), JournalError> {
        let boot: Option<String> = self
            .conn
            .query_row("SELECT boot FROM meta", [], |row| row.get(0))?;
        if boot.is_some_and(|boot| boot != boot_id()) {
            tracing::warn!(
                "the machine went down while the directory was mounted: what is not as recorded is \
                 taken for damaged, if the remote has an earlier version of it"
            );
            let crashed_at = booted_at();
            self.conn.execute(
                "UPDATE meta SET boot = NULL, crashed_at = max(coalesce(crashed_at, 0), ?)",
                [crashed_at],
            )?;
            self.conn
                .execute("UPDATE work SET doubt = 1 WHERE doubt = 0", [])?;
        }
        // Told until then.
        self.conn
            .execute("UPDATE meta SET replaces = NULL WHERE rebuilding = 0", [])?;
        (self.crashed_at, self.rebuilding) =
            self.conn
                .query_row("SELECT crashed_at, rebuilding FROM meta", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
        Ok(())
    }

    /// Why a claimed file is in doubt, by `work.doubt`.
    pub(super) fn doubt(&self, id: i64, doubt: i64) -> Result<Option<Doubt>, JournalError> {
        Ok(match doubt {
            1 => Some(
                self.conn
                    .prepare_cached(
                        "SELECT size, mtime_ns, inode, delivered > 0 FROM file WHERE id = ?",
                    )?
                    .query_row([id], |row| {
                        Ok(Doubt::Crashed {
                            size: row.get::<_, i64>(0)? as u64,
                            mtime_ns: row.get(1)?,
                            inode: row.get::<_, i64>(2)? as u64,
                            delivered: row.get(3)?,
                        })
                    })?,
            ),
            2 => Some(Doubt::Rebuilt),
            _ => None,
        })
    }

    pub(super) fn mounted(&mut self) -> Result<(), JournalError> {
        self.conn.execute(
            "UPDATE meta SET mounted_at = ?, boot = ?",
            params![now_ms(), boot_id()],
        )?;
        Ok(())
    }

    pub(super) fn ended(&mut self) -> Result<(), JournalError> {
        self.conn.execute("UPDATE meta SET boot = NULL", [])?;
        Ok(())
    }

    /// The whole directory was scanned: what was in doubt is known.
    pub(super) fn end_doubt(&mut self) -> Result<(), JournalError> {
        if self.crashed_at.is_some() || self.rebuilding {
            self.conn
                .execute("UPDATE meta SET crashed_at = NULL, rebuilding = 0", [])?;
            (self.crashed_at, self.rebuilding) = (None, false);
        }
        Ok(())
    }
}
