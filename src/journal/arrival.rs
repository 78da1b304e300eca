//! Closing fast: what was closed, or renamed as rsync and editors do, is written down as one line, and
//! taken into the tables for many files at once. The line is as good as the tables: it is committed,
//! status counts it, and the next start takes it in. Only what asks for more than the line makes it be
//! taken in before.

use std::collections::VecDeque;
use std::time::Duration;

use rusqlite::params;
use tokio::time::Instant;

use super::store::Store;
use super::{Change, Entry, FileStat, JournalError, View, now_ms};
use crate::path::RelPath;

/// Lines are taken in when nothing came for so long,
const QUIET: Duration = Duration::from_millis(5);
/// when the oldest is so old (the settle time, if that is shorter),
const LONGEST: Duration = Duration::from_millis(500);
/// or when there are so many.
const MOST: usize = 4096;
/// After a failure they are taken in so much later.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines in one transaction: who closes a file meanwhile waits for its end.
const STEP: usize = 16;

/// A line, as it stands in the table.
struct Arrival {
    id: i64,
    at: i64,
    change: Change,
}

/// The lines that are not taken in yet.
#[derive(Default)]
pub(super) struct Arrivals {
    lines: VecDeque<Arrival>,
    last_id: i64,
    first_came: Option<Instant>,
    last_came: Option<Instant>,
    /// What is here is not what the table has.
    lost: bool,
}

impl Arrivals {
    /// After a roll-back: they are read again, and not taken in at once.
    pub fn lose(&mut self) {
        let later = Instant::now() + AGAIN;
        self.first_came = Some(later);
        self.last_came = Some(later);
        self.lost = true;
    }

    /// How long they may wait from now on; `None` if there are none.
    fn patience(&self, settle: Duration) -> Option<Duration> {
        let (first, last) = (self.first_came?, self.last_came?);
        if self.lines.len() >= MOST {
            return Some(Duration::ZERO);
        }
        let due = (first + LONGEST.min(settle)).min(last + QUIET);
        Some(due.saturating_duration_since(Instant::now()))
    }
}

impl Change {
    /// Whether it fits into a line: it is of one name.
    pub(super) fn can_arrive(&self) -> bool {
        match self {
            Self::Written { stat, .. }
            | Self::Renamed {
                entry: Entry::File(stat),
                ..
            } => stat.links <= 1,
            Self::Opening { .. } => true,
            _ => false,
        }
    }
}

impl View {
    /// Whether something of this path is written down that the tables do not tell yet.
    pub fn has_arrived(&self, path: &RelPath) -> Result<bool, JournalError> {
        Ok(self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM arrival WHERE path = ?1 OR renamed_from = ?1)",
            )?
            .query_row([path.as_bytes()], |row| row.get(0))?)
    }
}

impl Store {
    /// Whether there is time to take in later what comes: what settles at once is due at once.
    pub(super) fn lets_arrive(&self) -> bool {
        self.settle_ms > 0
    }

    /// How long what was written down may wait to be taken in; `None` if there is nothing.
    pub(super) fn patience(&self) -> Option<Duration> {
        let settle = Duration::from_millis(self.settle_ms.max(0) as u64);
        self.arrivals.patience(settle)
    }

    /// Writes a change down that [can arrive](Change::can_arrive). In a transaction.
    pub(super) fn arrive(&mut self, change: &Change) -> Result<(), JournalError> {
        let (path, from, stat) = match change {
            Change::Written { path, stat } => (path, None, Some(stat)),
            Change::Renamed {
                from,
                to,
                entry: Entry::File(stat),
            } => (to, Some(from), Some(stat)),
            Change::Opening { path } => (path, None, None),
            _ => return self.apply_change(change),
        };
        let (id, at) = (self.arrivals.last_id + 1, now_ms());
        self.conn
            .prepare_cached(
                "INSERT INTO arrival (id, at, path, renamed_from, size, mtime_ns, inode)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id,
                at,
                path.as_bytes(),
                from.map(RelPath::as_bytes),
                stat.map(|stat| stat.size as i64),
                stat.map_or(0, |stat| stat.mtime_ns),
                stat.map_or(0, |stat| stat.inode as i64),
            ])?;
        let now = Instant::now();
        let arrivals = &mut self.arrivals;
        arrivals.last_id = id;
        arrivals.first_came.get_or_insert(now);
        arrivals.last_came = Some(now);
        arrivals.lines.push_back(Arrival {
            id,
            at,
            change: change.clone(),
        });
        Ok(())
    }

    /// Takes some lines in, the oldest first; how many. In a transaction.
    pub(super) fn take_in(&mut self) -> Result<usize, JournalError> {
        self.take_in_up_to(STEP)
    }

    /// Takes all lines in. In a transaction.
    pub(super) fn take_all_in(&mut self) -> Result<usize, JournalError> {
        self.take_in_up_to(usize::MAX)
    }

    fn take_in_up_to(&mut self, limit: usize) -> Result<usize, JournalError> {
        let mut taken = 0;
        let mut last = None;
        while taken < limit
            && let Some(line) = self.arrivals.lines.pop_front()
        {
            self.apply_since(&line.change, line.at)?;
            last = Some(line.id);
            taken += 1;
        }
        if let Some(last) = last {
            self.conn
                .prepare_cached("DELETE FROM arrival WHERE id <= ?")?
                .execute([last])?;
        }
        if self.arrivals.lines.is_empty() {
            self.arrivals.first_came = None;
            self.arrivals.last_came = None;
        }
        Ok(taken)
    }

    /// Whether there are lines to take in, or may be.
    pub(super) fn has_arrivals(&self) -> bool {
        self.arrivals.lost || !self.arrivals.lines.is_empty()
    }

    /// What was forgotten in a roll-back is read again: the lines, the batch that is going on, and what
    /// is claimed for it.
    pub(super) fn find_lost(&mut self) -> Result<(), JournalError> {
        if self.arrivals.lost {
            self.find_batch()?;
            self.know_share()?;
            self.find_arrivals()?;
        }
        Ok(())
    }

    /// Reads the lines that are in the table: those that the last daemon left, or that are there
    /// after a roll-back.
    pub(super) fn find_arrivals(&mut self) -> Result<(), JournalError> {
        let lines: VecDeque<Arrival> = self
            .conn
            .prepare_cached(
                "SELECT id, at, path, renamed_from, size, mtime_ns, inode FROM arrival ORDER BY id",
            )?
            .query_map([], |row| {
                let parsed = |path: Vec<u8>| RelPath::parse(&path).unwrap_or_default();
                let path = parsed(row.get(2)?);
                let from = row.get::<_, Option<Vec<u8>>>(3)?.map(parsed);
                let size = row.get::<_, Option<i64>>(4)?;
                let stat = FileStat {
                    size: size.unwrap_or_default() as u64,
                    mtime_ns: row.get(5)?,
                    inode: row.get::<_, i64>(6)? as u64,
                    links: 1,
                };
                let change = match (from, size) {
                    (Some(from), _) => Change::Renamed {
                        from,
                        to: path,
                        entry: Entry::File(stat),
                    },
                    (None, Some(_)) => Change::Written { path, stat },
                    (None, None) => Change::Opening { path },
                };
                Ok(Arrival {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    change,
                })
            })?
            .collect::<Result<_, _>>()?;
        let came = (!lines.is_empty()).then(Instant::now);
        self.arrivals = Arrivals {
            last_id: lines.back().map_or(0, |line| line.id),
            first_came: came,
            last_came: came,
            lines,
            lost: false,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::{Entry, Journal, Lane, Options, View};
    use super::*;

    fn open(state: &Path, settle: Duration) -> Journal {
        Journal::open(Options {
            settle,
            ..Options::of_test(state.join("journal.db"))
        })
        .unwrap()
    }

    fn path(name: &str) -> RelPath {
        RelPath::parse(name.as_bytes()).unwrap()
    }

    fn stat(size: u64) -> FileStat {
        FileStat {
            size,
            mtime_ns: 1,
            inode: size,
            links: 1,
        }
    }

    fn close(journal: &Journal, name: &str, size: u64) {
        let change = Change::Written {
            path: path(name),
            stat: stat(size),
        };
        journal.record_and_wait(change).unwrap();
    }

    fn count(journal: &Path, table: &str) -> u64 {
        let conn = rusqlite::Connection::open(journal).unwrap();
        let count = format!("SELECT count(*) FROM {table}");
        conn.query_row(&count, [], |row| row.get::<_, i64>(0))
            .unwrap() as u64
    }

    /// What is on disk at this moment, as a killed daemon leaves it.
    fn killed(state: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["journal.db", "journal.db-wal"] {
            fs::copy(state.join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    #[test]
    fn a_close_that_is_only_written_down_survives_a_kill() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_secs(60));
        // More and more until the copy is taken before some are taken in.
        let (copy, files) = (1..)
            .map(|number| {
                close(&journal, &format!("{number}.jpg"), number);
                (killed(state.path()), number)
            })
            .find(|(copy, _)| count(&copy.path().join("journal.db"), "arrival") > 0)
            .unwrap();
        let journal = open(copy.path(), Duration::from_secs(60));
        assert_eq!(
            journal.view().unwrap().totals().unwrap().queued_files,
            files
        );
        assert_eq!(count(journal.path(), "work"), files);
        assert_eq!(count(journal.path(), "arrival"), 0);
    }

    #[test]
    fn status_counts_what_is_only_written_down() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_secs(60));
        for number in 1..=50 {
            close(&journal, &format!("{number}.jpg"), number);
            let totals = journal.view().unwrap().totals().unwrap();
            assert_eq!(
                (totals.queued_files, totals.queued_bytes),
                (number, number * (number + 1) / 2)
            );
            assert!(!totals.is_drained());
        }
    }

    fn rename(journal: &Journal, from: &str, to: &str, size: u64) {
        let renamed = Change::Renamed {
            from: path(from),
            to: path(to),
            entry: Entry::File(stat(size)),
        };
        journal.record_and_wait(renamed).unwrap();
    }

    #[test]
    fn a_rename_that_is_only_written_down_is_one_file_under_its_new_name() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_secs(60));
        let view = journal.view().unwrap();
        // More and more until the copy is taken before the last is taken in.
        let (copy, files) = (1..)
            .map(|number| {
                let (old, new) = (format!("{number}.tmp"), format!("{number}.jpg"));
                close(&journal, &old, number);
                rename(&journal, &old, &new, number);
                assert_eq!(view.totals().unwrap().queued_files, number);
                let about = |name: &str| view.about(&path(name)).unwrap();
                assert_eq!(about(&new).map(|about| about.size), Some(number));
                assert!(about(&old).is_none(), "{old}");
                (killed(state.path()), number)
            })
            .find(|(copy, _)| count(&copy.path().join("journal.db"), "arrival") > 1)
            .unwrap();
        let journal = open(copy.path(), Duration::from_secs(60));
        assert_eq!(count(journal.path(), "file"), files);
        assert_eq!(count(journal.path(), "file WHERE name LIKE '%.jpg'"), files);
        assert_eq!(count(journal.path(), "work"), files);
    }

    #[tokio::test]
    async fn what_is_gone_from_its_old_name_is_not_dropped_under_its_new() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_millis(20));
        close(&journal, "a.tmp", 1);
        journal.hurry().await.unwrap();
        let claim = loop {
            let claimed = journal.claim_files(Lane::Small, 1).await.unwrap();
            match claimed.claims.into_iter().next() {
                Some(claim) => break claim,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let version = claim.version;
        rename(&journal, "a.tmp", "a.jpg", 1);
        let (done, answer) = tokio::sync::oneshot::channel();
        {
            let names = journal.names().read();
            journal.gone(&claim, &names, |result| done.send(result).unwrap());
        }
        answer.await.unwrap().unwrap();
        // The file that it was, and not another that was found.
        let about = journal.view().unwrap().about(&path("a.jpg")).unwrap();
        assert_eq!(about.unwrap().version, version + 1);
    }

    #[test]
    fn a_file_that_was_closed_several_times_counts_as_one() {
        // A copy in which nothing was taken in yet; it is only looked at.
        let copy = std::iter::repeat_with(|| {
            let state = tempfile::tempdir().unwrap();
            let journal = open(state.path(), Duration::from_secs(60));
            for size in [0, 0, 10] {
                let change = Change::Written {
                    path: path("stats.json"),
                    stat: FileStat { size, ..stat(1) },
                };
                journal.record_and_wait(change).unwrap();
            }
            killed(state.path())
        })
        .find(|copy| count(&copy.path().join("journal.db"), "arrival") == 3)
        .unwrap();
        let view = View::open(&copy.path().join("journal.db")).unwrap();
        let totals = view.totals().unwrap();
        assert_eq!((totals.queued_files, totals.queued_bytes), (1, 10));
    }

    #[test]
    fn what_comes_after_a_close_finds_it_in_the_tables() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_secs(60));
        for number in 1..=200 {
            let (old, new) = (format!("{number}.tmp"), format!("{number}.jpg"));
            close(&journal, &old, number);
            rename(&journal, &old, &new, number);
            close(&journal, "same", number);
            let removed = Change::Removed { path: path("same") };
            journal.record_and_wait(removed).unwrap();
        }
        assert_eq!(count(journal.path(), "file"), 200);
        assert_eq!(count(journal.path(), "file WHERE name LIKE '%.jpg'"), 200);
    }

    #[tokio::test]
    async fn a_file_is_due_when_it_has_settled_since_its_close() {
        let state = tempfile::tempdir().unwrap();
        let journal = open(state.path(), Duration::from_secs(60));
        let before = now_ms();
        close(&journal, "a.jpg", 1);
        let after = now_ms();
        // Taken in by itself, without anything that asks for it.
        let due = loop {
            let claimed = journal.claim_files(Lane::Small, 10).await.unwrap();
            match claimed.claims.is_empty() {
                true => match claimed.next_due {
                    Some(due) => break due,
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                },
                false => panic!("it has not settled"),
            }
        };
        assert!((before + 60_000..=after + 60_000).contains(&due));
    }
}
