//! Totals of folders: each has those of all from it on down. Triggers tell of the files and work that
//! come and go by calling functions of this file, which note it in memory; before a commit the notes are
//! summed up and added to the folders and all above them, each of which is written once a transaction
//! however many files it was about.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::JournalError;
use super::store::Store;

/// The columns of `folder` that are totals.
const COLUMNS: [&str; 10] = [
    "files",
    "bytes",
    "queued_files",
    "queued_bytes",
    "failed_files",
    "failed_bytes",
    "suspect_files",
    "suspect_bytes",
    "queued_rows",
    "failed_rows",
];

/// Parents kept in memory; the database answers for the rest.
const CACHED_PARENTS: usize = 10_000;

type Sums = [i64; COLUMNS.len()];

/// What has come to folders, and is not in their totals yet; by folder.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<HashMap<i64, Sums>>>);

impl Notes {
    /// Notes from now on what is written by this connection. It cannot write without.
    pub(super) fn of(conn: &Connection) -> rusqlite::Result<Self> {
        let notes = Self::default();
        notes.hear(conn, "note_file", |values| {
            let [files, bytes] = values;
            let mut sums = Sums::default();
            (sums[0], sums[1]) = (files, files * bytes);
            sums
        })?;
        notes.hear(conn, "note_work", |values| {
            let [files, state, bytes] = values;
            let mut sums = Sums::default();
            // Claimed counts as queued.
            let at = 2 * usize::try_from(state.max(1)).unwrap_or_default();
            if let Some([its_files, its_bytes]) = sums.get_mut(at..at + 2) {
                (*its_files, *its_bytes) = (files, files * bytes);
            }
            sums
        })?;
        notes.hear(conn, "note_row", |values| {
            let [rows, state] = values;
            let mut sums = Sums::default();
            match state {
                1 | 3 => sums[8] = rows,
                2 => sums[9] = rows,
                _ => {}
            }
            sums
        })?;
        Ok(notes)
    }

    /// Makes an SQL function of a folder and `N` numbers.
    fn hear<const N: usize>(
        &self,
        conn: &Connection,
        name: &str,
        meaning: impl Fn([i64; N]) -> Sums + Send + 'static,
    ) -> rusqlite::Result<()> {
        let notes = self.clone();
        let note = move |context: &Context<'_>| {
            let mut values = [0; N];
            for (at, value) in values.iter_mut().enumerate() {
                *value = context.get(at + 1)?;
            }
            notes.add(context.get(0)?, &meaning(values));
            Ok(None::<i64>)
        };
        conn.create_scalar_function(name, N as i32 + 1, FunctionFlags::SQLITE_UTF8, note)
    }

    fn add(&self, folder: i64, changes: &Sums) {
        let mut notes = self.0.lock();
        let sums = notes.entry(folder).or_default();
        for (sum, change) in sums.iter_mut().zip(changes) {
            *sum += change;
        }
    }

    /// After a roll-back.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

impl Store {
    /// Adds what was noted to the folders. In a transaction; before a folder that notes are about is
    /// moved or removed.
    pub(super) fn tally(&mut self) -> Result<(), JournalError> {
        let noted: Vec<(i64, Sums)> = self.notes.0.lock().drain().collect();
        if noted.is_empty() {
            return Ok(());
        }
        let mut sums: HashMap<i64, Sums> = HashMap::new();
        for (folder, changes) in noted {
            let mut at = Some(folder);
            while let Some(id) = at {
                let sum = sums.entry(id).or_default();
                for (sum, change) in sum.iter_mut().zip(changes) {
                    *sum += change;
                }
                at = self.parent_of(id)?;
            }
        }
        let set = COLUMNS.map(|column| format!("{column} = {column} + ?"));
        let mut update = self.conn.prepare_cached(&format!(
            "UPDATE folder SET {} WHERE id = ?",
            set.join(", ")
        ))?;
        for (folder, sum) in sums {
            if sum.iter().any(|change| *change != 0) {
                update.execute(params_from_iter(sum.iter().chain([&folder])))?;
            }
        }
        Ok(())
    }

    fn parent_of(&mut self, id: i64) -> Result<Option<i64>, JournalError> {
        if let Some(parent) = self.folder_parents.get(&id) {
            return Ok(*parent);
        }
        let parent: Option<i64> = self
            .conn
            .prepare_cached("SELECT parent_id FROM folder WHERE id = ?")?
            .query_row([id], |row| row.get(0))
            .optional()?
            .flatten();
        if self.folder_parents.len() >= CACHED_PARENTS {
            self.folder_parents.clear();
        }
        self.folder_parents.insert(id, parent);
        Ok(parent)
    }

    /// A folder is about to leave the one that it is in.
    pub(super) fn tally_leaving(&mut self, id: i64) -> Result<(), JournalError> {
        self.tally()?;
        self.note_folder(id, -1)?;
        self.tally()
    }

    /// A folder has come to the one that it is in.
    pub(super) fn tally_arrived(&mut self, id: i64) -> Result<(), JournalError> {
        self.note_folder(id, 1)
    }

    /// Notes all that a folder has, so many times, of the one that it is in.
    fn note_folder(&mut self, id: i64, times: i64) -> Result<(), JournalError> {
        let Some(parent) = self.parent_of(id)? else {
            return Ok(());
        };
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {} FROM folder WHERE id = ?",
            COLUMNS.join(", ")
        ))?;
        let has = statement.query_row([id], |row| {
            let mut sums = Sums::default();
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = times * row.get::<_, i64>(column)?;
            }
            Ok(sums)
        })?;
        self.notes.add(parent, &has);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{
        BatchLimits, Change, Entry, FileOutcome, FileStat, Lane, Options, Settlement, now_ms,
    };
    use super::*;
    use crate::glob::Globs;
    use crate::path::RelPath;

    /// Every folder by what is counted below it, which its columns should say too.
    const RECOUNT: &str = "
        WITH RECURSIVE below (top, id) AS (
            SELECT id, id FROM folder
            UNION ALL SELECT below.top, folder.id FROM folder JOIN below ON folder.parent_id = below.id
        ), counted AS (
            SELECT top,
                (SELECT count(*) FROM file WHERE folder_id = below.id) AS files,
                (SELECT coalesce(sum(size), 0) FROM file WHERE folder_id = below.id) AS bytes,
                (SELECT count(*) FROM work WHERE folder_id = below.id AND state < 2) AS queued,
                (SELECT coalesce(sum(size), 0) FROM work WHERE folder_id = below.id AND state < 2) AS queued_bytes,
                (SELECT count(*) FROM work WHERE folder_id = below.id AND state = 2) AS failed,
                (SELECT coalesce(sum(size), 0) FROM work WHERE folder_id = below.id AND state = 2) AS failed_bytes,
                (SELECT count(*) FROM work WHERE folder_id = below.id AND state = 3) AS suspect,
                (SELECT coalesce(sum(size), 0) FROM work WHERE folder_id = below.id AND state = 3) AS suspect_bytes,
                (SELECT row_state IN (1, 3) FROM folder WHERE folder.id = below.id) AS queued_rows,
                (SELECT row_state = 2 FROM folder WHERE folder.id = below.id) AS failed_rows
            FROM below
        )
        SELECT count(*) FROM folder JOIN (
            SELECT top, sum(files) AS a, sum(bytes) AS b, sum(queued) AS c, sum(queued_bytes) AS d,
                sum(failed) AS e, sum(failed_bytes) AS f, sum(suspect) AS g, sum(suspect_bytes) AS h,
                sum(queued_rows) AS i, sum(failed_rows) AS j
            FROM counted GROUP BY top) ON top = folder.id
        WHERE (files, bytes, queued_files, queued_bytes, failed_files, failed_bytes, suspect_files, suspect_bytes,
            folder.queued_rows, folder.failed_rows) <> (a, b, c, d, e, f, g, h, i, j)";

    fn path(random: &mut fastrand::Rng, depth: usize) -> RelPath {
        (0..depth).fold(RelPath::root(), |path, _| {
            path.join(&[b'a' + random.u8(..3)])
        })
    }

    fn change(random: &mut fastrand::Rng) -> Change {
        let depth = random.usize(1..4);
        let folder = path(random, depth);
        let file = folder.join(&[b'0' + random.u8(..4)]);
        let other_depth = random.usize(1..4);
        let other = path(random, other_depth);
        let stat = FileStat {
            size: random.u64(..100),
            mtime_ns: random.i64(..),
            inode: random.u64(1..50),
            links: 1,
        };
        match random.u8(..12) {
            0 => Change::Removed { path: file },
            1 => Change::FolderRemoved { path: folder },
            2 if !other.is_within(&folder) && !folder.is_within(&other) => Change::Renamed {
                from: folder,
                to: other,
                entry: Entry::Folder,
            },
            3 if !other.is_within(&folder) && !folder.is_within(&other) => Change::Exchanged {
                a: (folder, Entry::Folder),
                b: (other, Entry::Folder),
            },
            4 => Change::Renamed {
                from: file,
                to: other.join(b"9"),
                entry: Entry::File(stat),
            },
            _ => Change::Written { path: file, stat },
        }
    }

    fn outcome(random: &mut fastrand::Rng, stat: FileStat) -> FileOutcome {
        let error = "the remote says no".to_owned();
        match random.u8(..5) {
            0 => FileOutcome::Failed { error },
            1 => FileOutcome::Retry { error, due: 0 },
            2 => FileOutcome::Suspect { why: error },
            _ => FileOutcome::Delivered(super::super::Delivered {
                stat,
                hash: blake3::hash(b"content"),
                kind: super::super::Kind::Picture,
                dimensions: None,
                proof: crate::remote::Proof::default(),
                thumbnail: crate::derive::thumbnail::ThumbnailState::None,
            }),
        }
    }

    #[test]
    fn whatever_happens_the_totals_are_what_counting_finds() {
        let dir = tempfile::tempdir().unwrap();
        for seed in 0..8 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut store = Store::open(&Options {
                path: dir.path().join(format!("{seed}.db")),
                directory: "/srv/rig".into(),
                device: 1,
                inode: 2,
                settle: Duration::ZERO,
                has_rows: true,
                sync_deletes: seed % 2 == 0,
                priority: Globs::default(),
                thumbnails: Vec::new(),
                batches: BatchLimits::default(),
                remote: None,
            })
            .unwrap();
            for step in 0..300 {
                let changed = change(&mut random);
                store
                    .transaction(|store| store.apply_change(&changed))
                    .unwrap();
                if step % 10 == 0 {
                    let claims = store.transaction(|store| {
                        while store.expand(100)? > 0 {}
                        store.claim_files(Lane::Small, 3, None)
                    });
                    let settlements = claims.unwrap().claims.into_iter().map(|claim| {
                        let stat = FileStat {
                            size: random.u64(..100),
                            mtime_ns: now_ms(),
                            inode: random.u64(1..20),
                            links: 1,
                        };
                        Settlement {
                            id: claim.id,
                            version: claim.version,
                            path: claim.path,
                            outcome: outcome(&mut random, stat),
                        }
                    });
                    let settlements: Vec<_> = settlements.collect();
                    store
                        .transaction(|store| store.settle_files(&settlements))
                        .unwrap();
                }
                let wrong: i64 = store.conn.query_row(RECOUNT, [], |row| row.get(0)).unwrap();
                assert_eq!(wrong, 0, "seed {seed}, step {step}: {changed:?}");
            }
            let files: i64 = store
                .conn
                .query_row("SELECT files FROM folder WHERE id = 1", [], |row| {
                    row.get(0)
                })
                .unwrap();
            assert!(files > 0);
        }
    }
}
