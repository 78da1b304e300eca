//! What the journal promises to those who record, claim and settle.

#[path = "journal/deletions.rs"]
mod deletions;
#[path = "journal/opening.rs"]
mod opening;
#[path = "journal/order.rs"]
mod order;
#[path = "journal/renames.rs"]
mod renames;
#[path = "journal/rows.rs"]
mod rows;
#[path = "support/journal.rs"]
mod support;
#[path = "journal/upgrade.rs"]
mod upgrade;

use std::time::Duration;

use outboxfs::journal::{
    Change, Durability, Entry, FileClaim, FileOutcome, FileStat, Kind, ScannedFolder, Settlement,
    Sighting, View,
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
