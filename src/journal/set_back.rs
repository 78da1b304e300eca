//! A clock that is set back: what waits for a time is due at one that is far off then. Rows and deletions
//! are looked after here; work knows when it was queued, and notices by itself.

use rusqlite::params;

use super::store::Store;
use super::{JournalError, now_ms};

/// A clock that is set back by less, milliseconds, is only being kept right.
pub(super) const CLOCK_SLIP: i64 = 1000;

impl Store {
    /// The time, for who claims. If it was later when somebody looked last, or nobody has looked since the
    /// start, no row and no deletion waits longer than the settle time from now on: at worst one is
    /// tried again too early.
    pub(super) fn look_at_clock(&mut self) -> Result<i64, JournalError> {
        let now = now_ms();
        if now + CLOCK_SLIP < self.looked_at {
            let latest = now + self.settle_ms;
            for shorten in [
                "UPDATE folder SET row_due = ?1 WHERE row_state = 1 AND row_due > ?2",
                "UPDATE gone_row SET due_at = ?1 WHERE state = 0 AND due_at > ?2",
                "UPDATE stray SET due_at = ?1 WHERE state = 0 AND due_at > ?2",
            ] {
                self.conn
                    .prepare_cached(shorten)?
                    .execute(params![now, latest])?;
            }
        }
        self.looked_at = now;
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Options;
    use super::*;
    use crate::clock;

    #[test]
    fn rows_and_deletions_do_not_wait_for_a_time_that_the_clock_has_left() {
        const NOW: i64 = 2_000_000_000_000;
        const AHEAD: i64 = 40 * 60_000;
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Options {
            settle: Duration::from_millis(500),
            has_rows: true,
            sync_deletes: true,
            ..Options::of_test(state.path().join("journal.db"))
        })
        .unwrap();
        let claim = |store: &mut Store| {
            let deletions = store.claim_deletions(9).unwrap().claims.len();
            (deletions, store.claim_gone_rows(9).unwrap().claims.len())
        };
        clock::hold(NOW + AHEAD);
        assert_eq!(claim(&mut store), (0, 0));
        for wait in [
            "INSERT INTO stray (path, thumbnail, due_at) VALUES (x'61', 0, ?)",
            "INSERT INTO gone_row (path, version, due_at) VALUES (x'62', 1, ?)",
        ] {
            store.conn.execute(wait, [NOW + AHEAD + 1]).unwrap();
        }
        assert_eq!(claim(&mut store), (0, 0));
        clock::hold(NOW);
        assert_eq!(claim(&mut store), (1, 1));
    }
}
