//! What claiming and settling cost, counted in steps of SQLite's machine and not in time: as much for
//! a long queue as for a short one.

use std::os::raw::c_int;

use rusqlite::ffi;

use super::queue::{FileOutcome, Lane, Settlement};
use super::store::Store;
use super::{FileStat, Options, now_ms};
use crate::path::RelPath;

/// What the statements of a connection have done since this was asked last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    steps: c_int,
    /// Rows of a table that were passed one by one, and sorts.
    scanned: c_int,
    sorts: c_int,
}

fn work(store: &Store) -> Work {
    let mut work = Work::default();
    // SAFETY: the connection is the store's and open; its statements live as long as it keeps them,
    // and nobody else uses it.
    unsafe {
        let db = store.conn.handle();
        let mut statement = ffi::sqlite3_next_stmt(db, std::ptr::null_mut());
        while !statement.is_null() {
            let take = |what| ffi::sqlite3_stmt_status(statement, what, 1);
            work.steps += take(ffi::SQLITE_STMTSTATUS_VM_STEP);
            work.scanned += take(ffi::SQLITE_STMTSTATUS_FULLSCAN_STEP);
            work.sorts += take(ffi::SQLITE_STMTSTATUS_SORT);
            statement = ffi::sqlite3_next_stmt(db, statement);
        }
    }
    work
}

fn store_with(dir: &tempfile::TempDir, files: u64) -> Store {
    let mut store = Store::open(&Options {
        has_rows: true,
        sync_deletes: true,
        ..Options::of_test(dir.path().join(format!("{files}.db")))
    })
    .unwrap();
    store.conn.execute_batch("BEGIN").unwrap();
    for number in 0..files {
        let path = RelPath::parse(format!("{}/{number}", number / 20).as_bytes()).unwrap();
        let stat = FileStat {
            size: 1,
            mtime_ns: 1,
            inode: number,
            links: 1,
        };
        store.written(&path, &stat, now_ms()).unwrap();
    }
    store.conn.execute_batch("COMMIT").unwrap();
    store
}

#[test]
fn a_claim_costs_the_same_however_long_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let [few, many] = [200, 20_000].map(|files| {
        let mut store = store_with(&dir, files);
        // Whatever is asked once.
        store.claim_files(Lane::Small, 32, None).unwrap();
        work(&store);
        let claims = store.claim_files(Lane::Small, 32, None).unwrap().claims;
        assert_eq!(claims.len(), 32);
        let claimed = work(&store);
        let settlements: Vec<_> = claims
            .into_iter()
            .map(|claim| Settlement {
                id: claim.id,
                version: claim.version,
                path: claim.path,
                outcome: FileOutcome::Unchanged {
                    stat: FileStat {
                        size: 1,
                        mtime_ns: 1,
                        inode: 1,
                        links: 1,
                    },
                    hash: blake3::hash(b"content"),
                },
            })
            .collect();
        store.settle_files(&settlements).unwrap();
        (claimed, work(&store))
    });
    assert_eq!(few, many);
    assert_eq!((many.0.scanned, many.0.sorts), (0, 0), "claiming");
    assert_eq!((many.1.scanned, many.1.sorts), (0, 0), "settling");
}
