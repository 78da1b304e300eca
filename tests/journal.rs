//! What the journal promises to those who record, claim and settle.

#[path = "support/journal.rs"]
mod support;

use std::time::Duration;

use outboxfs::journal::{
    Change, Deletion, DeletionOutcome, Durability, Entry, FileClaim, FileOutcome, FileStat,
    Journal, JournalError, Kind, Lane, Options, RowOutcome, ScannedFolder, Settlement, Sighting,
    View, now_ms,
};
use outboxfs::path::RelPath;
use support::*;

#[tokio::test]
async fn a_committed_change_is_there_for_the_next_daemon() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a/b.jpg", 10);
    // No clean end: what a second process would see now.
    let view = View::open(journal.path()).unwrap();
    assert_eq!(view.totals().unwrap().queued_files, 1);
    drop(journal);
    assert_eq!(paths(&claim(&fixture.open()).await), ["a/b.jpg"]);
}

#[tokio::test]
async fn what_was_claimed_when_the_daemon_died_is_queued_again() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    assert_eq!(claim(&journal).await.len(), 1);
    assert!(claim(&journal).await.is_empty(), "a claim is exclusive");
    drop(journal);
    assert_eq!(paths(&claim(&fixture.open()).await), ["a"]);
}

#[tokio::test]
async fn a_delivery_counts_only_for_the_version_it_was_made_for() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    let first = claim(&journal).await;
    written(&journal, "a", 2);
    assert!(
        claim(&journal).await.is_empty(),
        "two deliveries of one file must not overtake"
    );
    journal
        .settle_files(vec![delivered(&first[0], 1, Kind::Other)])
        .await
        .unwrap();
    let second = claim(&journal).await;
    assert_eq!(paths(&second), ["a"]);
    assert!(second[0].version > first[0].version);
    journal
        .settle_files(vec![delivered(&second[0], 2, Kind::Other)])
        .await
        .unwrap();
    assert!(journal.view().unwrap().totals().unwrap().is_drained());
}

#[tokio::test]
async fn a_change_settles_before_it_is_due_but_not_forever() {
    let mut fixture = Fixture::new();
    fixture.settle = Duration::from_millis(40);
    let journal = fixture.open();
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        written(&journal, "log", 1);
        if !claim(&journal).await.is_empty() {
            assert!(begin.elapsed() >= Duration::from_millis(40));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a file that is written all the time is never delivered");
}

#[tokio::test]
async fn hurry_makes_settling_changes_due_at_once() {
    let mut fixture = Fixture::new();
    fixture.settle = Duration::from_secs(3600);
    let journal = fixture.open();
    written(&journal, "a", 1);
    assert!(claim(&journal).await.is_empty());
    journal.hurry().await.unwrap();
    assert_eq!(paths(&claim(&journal).await), ["a"]);
}

#[tokio::test]
async fn oldest_first_and_a_retry_waits_without_blocking() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for name in ["1", "2", "3"] {
        written(&journal, name, 1);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let first = journal.claim_files(Lane::Small, 1).await.unwrap().claims;
    assert_eq!(paths(&first), ["1"]);
    let outcome = FileOutcome::Retry {
        error: "no".into(),
        due: now_ms() + 60_000,
    };
    journal
        .settle_files(vec![Settlement {
            id: first[0].id,
            version: first[0].version,
            path: first[0].path.clone(),
            outcome,
        }])
        .await
        .unwrap();
    assert_eq!(paths(&claim(&journal).await), ["2", "3"]);
    let failures = journal.view().unwrap().failures(5).unwrap();
    assert_eq!(
        (
            failures[0].path.as_str(),
            failures[0].attempts,
            failures[0].will_retry
        ),
        ("1", 1, true)
    );
}

#[tokio::test]
async fn large_files_have_a_lane_of_their_own() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "film", 1 << 30);
    written(&journal, "note", 1);
    assert_eq!(paths(&claim(&journal).await), ["note"]);
    assert_eq!(
        paths(&journal.claim_files(Lane::Large, 9).await.unwrap().claims),
        ["film"]
    );
}

#[tokio::test]
async fn a_rename_carries_the_pending_change_along() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "x/.photo.jpg.tmp", 5);
    let entry = Entry::File(stat(5, 9));
    journal
        .record_and_wait(Change::Renamed {
            from: path("x/.photo.jpg.tmp"),
            to: path("y/photo.jpg"),
            entry,
        })
        .unwrap();
    assert_eq!(paths(&claim(&journal).await), ["y/photo.jpg"]);
    assert_eq!(journal.view().unwrap().totals().unwrap().queued_files, 1);
}

#[tokio::test]
async fn a_rename_of_a_file_that_the_scan_has_not_met_is_a_change() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    let entry = Entry::File(stat(5, 9));
    journal
        .record_and_wait(Change::Renamed {
            from: path("old"),
            to: path("new"),
            entry,
        })
        .unwrap();
    assert_eq!(paths(&claim(&journal).await), ["new"]);
}

#[tokio::test]
async fn a_renamed_folder_takes_all_its_files_along() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for number in 0..600 {
        written(&journal, &format!("a/sub/{number}"), 1);
    }
    while !claim(&journal).await.is_empty() {}
    drop(journal);
    let journal = fixture.open();
    for _ in 0..6 {
        deliver_all(&journal, Kind::Other).await;
    }
    assert!(journal.view().unwrap().totals().unwrap().is_drained());
    journal
        .record_and_wait(Change::Renamed {
            from: path("a"),
            to: path("b"),
            entry: Entry::Folder,
        })
        .unwrap();
    let mut seen = Vec::new();
    let begin = std::time::Instant::now();
    while seen.len() < 600 && begin.elapsed() < Duration::from_secs(10) {
        seen.extend(paths(&claim(&journal).await));
    }
    assert!(
        seen.iter().all(|path| path.starts_with("b/sub/")),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 600);
}

#[tokio::test]
async fn what_became_of_files_that_moved_with_their_folder_is_not_believed() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for number in 0..600 {
        written(&journal, &format!("a/{number}"), 1);
    }
    let mut claims = Vec::new();
    while claims.len() < 600 {
        claims.extend(claim(&journal).await);
    }
    // The last files are not yet queued anew when this arrives.
    let renamed = Change::Renamed {
        from: path("a"),
        to: path("b"),
        entry: Entry::Folder,
    };
    journal.record(renamed, Durability::Committed, |result| result.unwrap());
    for claim in &claims[590..595] {
        journal.gone(claim, &journal.names().read(), |result| result.unwrap());
    }
    let settlements = claims[595..].iter();
    let settlements = settlements.map(|claim| delivered(claim, 1, Kind::Other));
    journal.settle_files(settlements.collect()).await.unwrap();
    drop(journal);
    // The first ones were claimed and not settled.
    let journal = fixture.open();
    let mut seen = Vec::new();
    let begin = std::time::Instant::now();
    while seen.len() < 600 && begin.elapsed() < Duration::from_secs(10) {
        seen.extend(paths(&claim(&journal).await));
    }
    assert!(seen.iter().all(|path| path.starts_with("b/")), "{seen:?}");
    assert_eq!(seen.len(), 600);
}

#[tokio::test]
async fn exchanged_folders_and_files_go_where_they_are_now() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a/one", 1);
    written(&journal, "b/two", 1);
    written(&journal, "file", 1);
    deliver_all(&journal, Kind::Other).await;
    journal
        .record_and_wait(Change::Exchanged {
            a: (path("a"), Entry::Folder),
            b: (path("b"), Entry::Folder),
        })
        .unwrap();
    journal
        .record_and_wait(Change::Exchanged {
            a: (path("a"), Entry::File(stat(1, 7))),
            b: (path("file"), Entry::Folder),
        })
        .unwrap();
    let mut seen = Vec::new();
    let begin = std::time::Instant::now();
    while seen.len() < 3 && begin.elapsed() < Duration::from_secs(10) {
        seen.extend(paths(&claim(&journal).await));
    }
    seen.sort();
    assert_eq!(seen, ["a", "b/one", "file/two"]);
}

#[tokio::test]
async fn what_is_removed_before_delivery_is_pending_no_more() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    written(&journal, "d/b", 1);
    journal
        .record_and_wait(Change::Removed { path: path("a") })
        .unwrap();
    journal
        .record_and_wait(Change::Removed { path: path("d/b") })
        .unwrap();
    journal
        .record_and_wait(Change::FolderRemoved { path: path("d") })
        .unwrap();
    assert!(claim(&journal).await.is_empty());
    let totals = journal.view().unwrap().totals().unwrap();
    assert!(totals.is_drained());
    assert_eq!((totals.delivered_files, totals.delivered_bytes), (0, 0));
}

#[tokio::test]
async fn every_known_name_of_an_inode_is_delivered_again() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    let linked = FileStat {
        links: 2,
        ..stat(1, 1)
    };
    for name in ["one", "two"] {
        journal
            .record_and_wait(Change::Written {
                path: path(name),
                stat: linked,
            })
            .unwrap();
    }
    deliver_all(&journal, Kind::Other).await;
    journal
        .record_and_wait(Change::Written {
            path: path("one"),
            stat: FileStat { size: 2, ..linked },
        })
        .unwrap();
    assert_eq!(paths(&claim(&journal).await), ["one", "two"]);
}

#[tokio::test]
async fn unchanged_content_is_known_only_while_it_is_certain() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    assert_eq!(claim(&journal).await[0].remote_hash, None);
    drop(journal);
    let journal = fixture.open();
    deliver_all(&journal, Kind::Other).await;
    written(&journal, "a", 1);
    assert_eq!(
        claim(&journal).await[0].remote_hash,
        Some(blake3::hash(b"content"))
    );
    drop(journal);
    // That attempt may have stored something else; nobody knows.
    let journal = fixture.open();
    assert_eq!(claim(&journal).await[0].remote_hash, None);
}

#[tokio::test]
async fn what_a_superseded_delivery_left_at_the_remote_is_known() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    let first = claim(&journal).await;
    written(&journal, "a", 1);
    journal
        .settle_files(vec![delivered(&first[0], 1, Kind::Other)])
        .await
        .unwrap();
    let second = claim(&journal).await;
    assert_eq!(second[0].remote_hash, Some(blake3::hash(b"content")));
    // Under another name the remote has nothing, or something else.
    journal
        .record_and_wait(Change::Renamed {
            from: path("a"),
            to: path("b"),
            entry: Entry::File(stat(1, 1)),
        })
        .unwrap();
    journal
        .settle_files(vec![delivered(&second[0], 1, Kind::Other)])
        .await
        .unwrap();
    assert_eq!(claim(&journal).await[0].remote_hash, None);
}

#[tokio::test]
async fn what_the_remote_has_under_an_old_key_says_nothing_of_the_new_one() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for version in 1..=2 {
        for number in 0..300 {
            written(&journal, &format!("a/{number}/f"), 1);
        }
        for _ in 0..3 * (2 - version) {
            deliver_all(&journal, Kind::Other).await;
        }
    }
    let renamed = Change::Renamed {
        from: path("a"),
        to: path("b"),
        entry: Entry::Folder,
    };
    journal.record(renamed, Durability::Committed, |result| result.unwrap());
    // Nothing is claimed before all files of the folder are known under their new paths.
    let claims = loop {
        let claimed = journal.claim_files(Lane::Small, 400).await.unwrap();
        match claimed.next_due {
            Some(_) if claimed.claims.is_empty() => tokio::task::yield_now().await,
            _ => break claimed.claims,
        }
    };
    assert_eq!(claims.len(), 300);
    for claim in claims {
        assert!(claim.path.to_string().starts_with("b/"), "{claim:?}");
        assert_eq!(claim.remote_hash, None, "{claim:?}");
    }
}

#[tokio::test]
async fn a_picture_whose_delivery_was_superseded_by_the_same_content_has_its_row() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "rig/photo.jpg", 1);
    let first = claim(&journal).await;
    written(&journal, "rig/photo.jpg", 1);
    journal
        .settle_files(vec![delivered(&first[0], 1, Kind::Picture)])
        .await
        .unwrap();
    let second = claim(&journal).await.remove(0);
    let outcome = FileOutcome::Unchanged {
        stat: stat(1, 1),
        hash: second.remote_hash.unwrap(),
    };
    journal
        .settle_files(vec![settlement(&second, outcome)])
        .await
        .unwrap();
    let rows = journal.claim_rows(9).await.unwrap().claims;
    let view = journal.view().unwrap();
    let files = view.delivered_files(rows[0].id).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].kind, Kind::Picture);
}

#[tokio::test]
async fn a_picture_that_was_renamed_and_back_while_it_was_sent_has_its_row() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "rig/photo.jpg", 1);
    let first = claim(&journal).await;
    let rename = |from: &str, to: &str| Change::Renamed {
        from: path(from),
        to: path(to),
        entry: Entry::File(stat(1, 1)),
    };
    for change in [
        rename("rig/photo.jpg", "rig/other.jpg"),
        rename("rig/other.jpg", "rig/photo.jpg"),
    ] {
        journal.record_and_wait(change).unwrap();
        if journal.changes() == 2 {
            let arrived = vec![delivered(&first[0], 1, Kind::Picture)];
            journal.settle_files(arrived).await.unwrap();
        }
    }
    let second = claim(&journal).await.remove(0);
    let outcome = FileOutcome::Unchanged {
        stat: stat(1, 1),
        hash: second.remote_hash.unwrap(),
    };
    let settled = vec![settlement(&second, outcome)];
    journal.settle_files(settled).await.unwrap();
    let rows = journal.claim_rows(9).await.unwrap().claims;
    let files = journal.view().unwrap().delivered_files(rows[0].id).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].kind, Kind::Picture);
}

#[tokio::test]
async fn a_row_waits_until_all_files_of_its_folder_are_delivered() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "rig/photo.jpg", 1);
    written(&journal, "rig/stats.json", 1);
    let claims = claim(&journal).await;
    journal
        .settle_files(vec![delivered(&claims[0], 1, Kind::Picture)])
        .await
        .unwrap();
    assert!(
        journal.claim_rows(9).await.unwrap().claims.is_empty(),
        "one file is still on its way"
    );
    journal
        .settle_files(vec![delivered(&claims[1], 1, Kind::Stats)])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let rows = journal.claim_rows(9).await.unwrap().claims;
    assert_eq!(rows[0].path.to_string(), "rig");
    journal
        .settle_rows(vec![(rows[0].clone(), RowOutcome::Written)])
        .await
        .unwrap();
    assert!(journal.view().unwrap().totals().unwrap().is_drained());
}

#[tokio::test]
async fn a_row_written_for_an_older_version_is_written_again() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "rig/photo.jpg", 1);
    deliver_all(&journal, Kind::Picture).await;
    let row = journal.claim_rows(9).await.unwrap().claims.remove(0);
    written(&journal, "rig/photo.jpg", 2);
    deliver_all(&journal, Kind::Picture).await;
    journal
        .settle_rows(vec![(row.clone(), RowOutcome::Written)])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let again = journal.claim_rows(9).await.unwrap().claims;
    assert!(again[0].version > row.version);
}

#[tokio::test]
async fn a_folder_without_pictures_and_stats_has_no_row() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "text/readme", 1);
    deliver_all(&journal, Kind::Other).await;
    assert!(journal.claim_rows(9).await.unwrap().claims.is_empty());
    assert!(journal.view().unwrap().totals().unwrap().is_drained());
}

fn scanned(found: &[(&str, FileStat)], missing: &[&str]) -> ScannedFolder {
    ScannedFolder {
        path: RelPath::root(),
        watched: true,
        found: found
            .iter()
            .map(|(name, stat)| Sighting {
                name: name.as_bytes().to_vec(),
                stat: *stat,
                ctime_ns: stat.mtime_ns,
                hollow: false,
            })
            .collect(),
        missing: missing
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect(),
    }
}

#[tokio::test]
async fn the_scan_queues_what_is_new_and_suspects_what_is_damaged() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for name in [
        "same",
        "grown",
        "shrunk",
        "replaced",
        "rewritten",
        "gone",
        "never",
    ] {
        written(&journal, name, 10);
    }
    let claims = claim(&journal).await;
    let settlements = claims.iter().filter(|claim| claim.path != path("never"));
    journal
        .settle_files(
            settlements
                .map(|claim| delivered(claim, 10, Kind::Other))
                .collect(),
        )
        .await
        .unwrap();
    journal
        .record_and_wait(Change::Opening {
            path: path("rewritten"),
        })
        .unwrap();
    journal.begin_scan(&RelPath::root()).unwrap();
    let found = scanned(
        &[
            ("same", stat(10, 1)),
            ("grown", stat(11, 1)),
            ("shrunk", stat(9, 1)),
            ("replaced", stat(9, 5)),
            ("rewritten", stat(9, 1)),
            ("new", stat(3, 8)),
        ],
        &["gone", "never"],
    );
    journal.scanned(found, &journal.names().read(), |result| result.unwrap());
    journal.end_scan(&RelPath::root()).unwrap();
    assert_eq!(
        paths(&claim(&journal).await),
        ["grown", "new", "replaced", "rewritten"]
    );
    let view = journal.view().unwrap();
    let found = view.suspects(&RelPath::root(), None, 9).unwrap();
    let mut suspects: Vec<String> = found.iter().map(|found| found.path.to_string()).collect();
    suspects.sort();
    assert_eq!(suspects, ["gone", "shrunk"]);
    assert_eq!(view.totals().unwrap().suspect_files, 2);
    assert!(!view.totals().unwrap().scanning);
}

#[test]
fn a_journal_belongs_to_one_directory() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let moved = Options {
        directory: "/mnt/rig".into(),
        ..fixture.options()
    };
    drop(Journal::open(moved).unwrap());
    let other = Options {
        directory: "/srv/other".into(),
        inode: 3,
        ..fixture.options()
    };
    let error = Journal::open(other).err().unwrap();
    assert!(
        matches!(&error, JournalError::OtherDirectory { owner, .. } if owner == "/mnt/rig"),
        "{error}"
    );
}

#[test]
fn a_newer_schema_and_a_foreign_file_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let file = fixture.options().path;
    rusqlite::Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let error = fixture.open_error();
    assert!(
        matches!(error, JournalError::NewerSchema { found: 999, .. }),
        "{error}"
    );
    std::fs::write(
        &file,
        "this is no database, whatever its name says, and it is long enough to tell",
    )
    .unwrap();
    let error = fixture.open_error();
    assert!(matches!(error, JournalError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_crash_while_the_tables_are_made_is_harmless() {
    let fixture = Fixture::new();
    let file = fixture.options().path;
    let making = fixture.options().path.with_file_name("making.db");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let database = rusqlite::Connection::open(&making).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    // With next to no memory the log has the pages before they are committed.
    database.pragma_update(None, "cache_size", 1).unwrap();
    database
        .execute_batch(&format!(
            "BEGIN; {} PRAGMA user_version = 1;",
            include_str!("../src/journal/schema.sql")
        ))
        .unwrap();
    let log = |of: &std::path::Path| of.with_extension("db-wal");
    assert!(std::fs::metadata(log(&making)).unwrap().len() > 10_000);
    // What is on the disk at that moment.
    std::fs::copy(&making, &file).unwrap();
    std::fs::copy(log(&making), log(&file)).unwrap();
    let journal = fixture.open();
    written(&journal, "a", 1);
    assert_eq!(paths(&claim(&journal).await), ["a"]);
}

#[test]
fn a_newer_journal_is_left_as_it_is() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    drop(journal);
    let file = fixture.options().path;
    let database = rusqlite::Connection::open(&file).unwrap();
    database
        .execute_batch("PRAGMA user_version = 2; CREATE TABLE later (x);")
        .unwrap();
    let error = fixture.open_error().to_string();
    assert!(
        error.contains("journal.db") && error.contains('2') && error.contains('1'),
        "{error}"
    );
    assert!(
        View::open(&file).is_err(),
        "nobody reads what he does not know"
    );
    let version: i64 = database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
    let beside = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().file_name());
    assert!(!names.any(|name| name.to_string_lossy().contains("damaged")));
}

impl Fixture {
    fn open_error(&self) -> JournalError {
        Journal::open(self.options()).err().unwrap()
    }
}

#[tokio::test]
async fn many_writers_are_committed_in_groups_and_none_is_lost() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let journal = journal.clone();
            scope.spawn(move || {
                for number in 0..200 {
                    written(&journal, &format!("{thread}/{number}"), 2);
                }
            });
        }
    });
    let totals = journal.view().unwrap().totals().unwrap();
    assert_eq!((totals.queued_files, totals.queued_bytes), (1600, 3200));
}

#[tokio::test]
async fn totals_are_what_counting_would_give() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    for number in 0..40 {
        written(&journal, &format!("d{}/{number}", number % 3), number);
    }
    let claims = claim(&journal).await;
    let settle = |claim: &FileClaim, number: usize| match number % 4 {
        0 => delivered(claim, 1, Kind::Picture),
        1 => settlement(claim, FileOutcome::Failed { error: "no".into() }),
        2 => settlement(
            claim,
            FileOutcome::Retry {
                error: "later".into(),
                due: 0,
            },
        ),
        _ => settlement(claim, FileOutcome::Gone),
    };
    let settlements = claims
        .iter()
        .enumerate()
        .map(|(number, claim)| settle(claim, number))
        .collect();
    journal.settle_files(settlements).await.unwrap();
    journal
        .record_and_wait(Change::Renamed {
            from: path("d1"),
            to: path("e"),
            entry: Entry::Folder,
        })
        .unwrap();
    journal.record(
        Change::Removed { path: path("d0/0") },
        Durability::Synced,
        |_| {},
    );
    std::thread::sleep(Duration::from_millis(100));
    journal.sync(|_| {});
    let totals = journal.view().unwrap().totals().unwrap();
    let counted = rusqlite::Connection::open(journal.path()).unwrap();
    let count = |sql: &str| {
        counted
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap() as u64
    };
    assert_eq!(
        totals.queued_files,
        count("SELECT count(*) FROM work WHERE state < 2")
    );
    assert_eq!(
        totals.queued_bytes,
        count("SELECT coalesce(sum(size), 0) FROM work WHERE state < 2")
    );
    assert_eq!(
        totals.failed_files,
        count("SELECT count(*) FROM work WHERE state = 2")
    );
    assert_eq!(
        totals.queued_rows,
        count("SELECT count(*) FROM folder WHERE row_state IN (1, 3)")
    );
    assert_eq!(
        totals.delivered_files,
        count("SELECT count(*) FROM file WHERE id NOT IN (SELECT file_id FROM work)")
    );
    assert_eq!(
        totals.delivered_bytes,
        count("SELECT coalesce(sum(size), 0) FROM file WHERE id NOT IN (SELECT file_id FROM work)")
    );
}

fn settlement(claim: &FileClaim, outcome: FileOutcome) -> Settlement {
    Settlement {
        id: claim.id,
        version: claim.version,
        path: claim.path.clone(),
        outcome,
    }
}

fn with_deletions() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.sync_deletes = true;
    fixture
}

fn removed(journal: &Journal, name: &str) {
    let path = path(name);
    journal.record_and_wait(Change::Removed { path }).unwrap();
}

async fn deletions(journal: &Journal) -> Vec<Deletion> {
    journal.claim_deletions(100).await.unwrap().claims
}

async fn rows_written(journal: &Journal) {
    let rows = journal.claim_rows(9).await.unwrap().claims.into_iter();
    let rows = rows.map(|row| (row, RowOutcome::Written)).collect();
    journal.settle_rows(rows).await.unwrap();
}

#[tokio::test]
async fn an_object_is_deleted_after_the_row_that_shows_it() {
    let fixture = with_deletions();
    let journal = fixture.open();
    for name in ["rig/a", "rig/b", "rig/in/c"] {
        written(&journal, name, 1);
    }
    deliver_all(&journal, Kind::Picture).await;
    rows_written(&journal).await;
    removed(&journal, "rig/a");
    assert!(deletions(&journal).await.is_empty());
    rows_written(&journal).await;
    assert_eq!(deletions(&journal).await[0].path, path("rig/a"));

    removed(&journal, "rig/in/c");
    let change = Change::FolderRemoved {
        path: path("rig/in"),
    };
    journal.record_and_wait(change).unwrap();
    rows_written(&journal).await;
    assert!(deletions(&journal).await.is_empty());
    let gone = journal.claim_gone_rows(9).await.unwrap().claims;
    assert_eq!(gone[0].path, path("rig/in"));
    let gone = gone.into_iter().map(|row| (row, RowOutcome::Written));
    journal.settle_gone_rows(gone.collect()).await.unwrap();
    assert_eq!(deletions(&journal).await[0].path, path("rig/in/c"));
}

#[tokio::test]
async fn a_renamed_file_is_deleted_under_its_old_path_after_its_delivery() {
    let fixture = with_deletions();
    let journal = fixture.open();
    written(&journal, "a", 1);
    deliver_all(&journal, Kind::Other).await;
    journal
        .record_and_wait(Change::Renamed {
            from: path("a"),
            to: path("b"),
            entry: Entry::File(stat(1, 1)),
        })
        .unwrap();
    assert!(deletions(&journal).await.is_empty());
    let hash = blake3::hash(b"content");
    let claimed = claim(&journal).await.remove(0);
    let view = journal.view().unwrap();
    let source = view.copy_source(claimed.id, &hash, false).unwrap().unwrap();
    assert_eq!((source.path, source.renamed), (path("a"), true));
    let done = delivered(&claimed, 1, Kind::Other);
    journal.settle_files(vec![done]).await.unwrap();
    let deletions = deletions(&journal).await;
    assert_eq!(deletions[0].path, path("a"));
    assert_eq!(view.totals().unwrap().queued_deletions, 1);
    let done = vec![(deletions[0].id, DeletionOutcome::Deleted)];
    journal.settle_deletions(done).await.unwrap();
    assert_eq!(view.totals().unwrap().queued_deletions, 0);
}

#[tokio::test]
async fn whoever_comes_to_a_path_takes_its_object_over() {
    let fixture = with_deletions();
    let journal = fixture.open();
    written(&journal, "a", 1);
    deliver_all(&journal, Kind::Other).await;
    removed(&journal, "a");
    let claimed = deletions(&journal).await;
    assert_eq!(claimed.len(), 1);
    written(&journal, "a", 1);
    // The old deletion ends, and that of the new file never begins.
    let done = vec![(claimed[0].id, DeletionOutcome::Released { due: 0 })];
    journal.settle_deletions(done).await.unwrap();
    assert!(deletions(&journal).await.is_empty());
    // What was never delivered may yet have taken over something that was.
    removed(&journal, "a");
    assert_eq!(deletions(&journal).await.len(), 1);
}

#[tokio::test]
async fn a_mount_that_does_not_delete_keeps_what_is_at_the_remote() {
    let mut fixture = with_deletions();
    let journal = fixture.open();
    written(&journal, "a", 1);
    deliver_all(&journal, Kind::Other).await;
    removed(&journal, "a");
    drop(journal);
    fixture.sync_deletes = false;
    drop(fixture.open());
    fixture.sync_deletes = true;
    assert!(deletions(&fixture.open()).await.is_empty());
}

#[tokio::test]
async fn what_has_priority_is_claimed_first() {
    let mut fixture = Fixture::new();
    let journal = fixture.open();
    for name in ["1.nef", "2.jpg", "in/3.jpg", "4.nef", "first/5.nef"] {
        written(&journal, name, 1);
    }
    drop(journal);
    let first = async |journal: &Journal| {
        let claimed = journal.claim_files(Lane::Small, 3).await.unwrap();
        paths(&claimed.claims)
    };
    // Also of what waits since before it was said.
    fixture.priority = vec!["*.jpg".to_owned(), "first/".to_owned()];
    let journal = fixture.open();
    assert_eq!(first(&journal).await, ["2.jpg", "first/5.nef", "in/3.jpg"]);
    written(&journal, "6.nef", 1);
    written(&journal, "7.jpg", 1);
    assert_eq!(first(&journal).await, ["1.nef", "4.nef", "7.jpg"]);
    assert_eq!(first(&journal).await, ["6.nef"]);
}

#[tokio::test]
async fn in_a_growing_queue_nothing_waits_longer_than_what_came_before_it() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    let mut waiting: std::collections::BTreeMap<String, usize> = Default::default();
    let mut written_files = 0;
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..150 {
        // More comes than goes, some of it fails and some is written again.
        for _ in 0..6 {
            let name = format!("{written_files}");
            written(&journal, &name, 1);
            waiting.insert(name, round);
            written_files += 1;
        }
        if let Some(again) = waiting.keys().next().cloned().filter(|_| round % 5 == 0) {
            written(&journal, &again, 2);
        }
        let claims = journal.claim_files(Lane::Small, 4).await.unwrap().claims;
        let oldest = waiting.values().min().copied().unwrap();
        let claimed: Vec<usize> = claims
            .iter()
            .map(|claim| waiting[&claim.path.to_string()])
            .collect();
        assert!(
            claimed.iter().any(|since| *since <= oldest + 1),
            "round {round}: {claimed:?} claimed while one waits since {oldest}"
        );
        let mut settlements = Vec::new();
        for claim in claims {
            if random.usize(..10) == 0 {
                let outcome = FileOutcome::Retry {
                    error: "later".into(),
                    due: now_ms(),
                };
                waiting.insert(claim.path.to_string(), round);
                settlements.push(settlement(&claim, outcome));
            } else {
                waiting.remove(&claim.path.to_string());
                settlements.push(delivered(&claim, 1, Kind::Other));
            }
        }
        journal.settle_files(settlements).await.unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_file_that_is_made_again_is_not_taken_for_the_one_that_was_sent() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    let first = claim(&journal).await.remove(0);
    removed(&journal, "a");
    written(&journal, "a", 1);
    let done = delivered(&first, 1, Kind::Other);
    journal.settle_files(vec![done]).await.unwrap();
    assert_eq!(paths(&claim(&journal).await), ["a"]);
}
