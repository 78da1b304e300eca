//! What is claimed, when, and what it costs.

#[path = "support/journal.rs"]
mod support;

use std::time::Duration;

use outboxfs::journal::{BatchLimits, FileOutcome, Kind, Lane, Settlement};
use support::*;

/// Claims until nothing is given; the folders, in order.
async fn claimed_folders(journal: &outboxfs::journal::Journal) -> Vec<String> {
    let mut folders = Vec::new();
    loop {
        let claims = journal.claim_files(Lane::Small, 3).await.unwrap().claims;
        if claims.is_empty() {
            return folders;
        }
        for claim in claims {
            let folder = claim.path.split().unwrap().0.to_string();
            if folders.last() != Some(&folder) {
                folders.push(folder);
            }
        }
    }
}

fn limited(folders: usize, pause: Duration) -> Fixture {
    Fixture {
        batches: BatchLimits {
            folders: Some(folders),
            pause,
        },
        ..Fixture::new()
    }
}

#[tokio::test]
async fn a_batch_of_two_folders_ends_before_the_third_begins() {
    let fixture = limited(2, Duration::ZERO);
    let journal = fixture.open();
    for folder in ["a", "b", "c"] {
        for file in 0..4 {
            written(&journal, &format!("{folder}/{file}"), 1);
        }
    }
    let mut claims = Vec::new();
    loop {
        let claimed = journal.claim_files(Lane::Small, 3).await.unwrap();
        if claimed.claims.is_empty() {
            // Only the end of the batch is waited for.
            assert_eq!(claimed.next_due, None);
            break;
        }
        claims.extend(claimed.claims);
    }
    assert_eq!(claims.len(), 8);
    // All but one have arrived: the batch goes on.
    let last = claims.pop().unwrap();
    let settlements = claims.iter().map(|claim| delivered(claim, 1, Kind::Other));
    journal.settle_files(settlements.collect()).await.unwrap();
    assert_eq!(claimed_folders(&journal).await, [""; 0]);
    assert_eq!(journal.view().unwrap().batches(9).unwrap(), []);
    let failed = Settlement {
        outcome: FileOutcome::Failed {
            error: "no".to_owned(),
        },
        ..delivered(&last, 1, Kind::Other)
    };
    journal.settle_files(vec![failed]).await.unwrap();
    assert_eq!(claimed_folders(&journal).await, ["c"]);
    let batches = journal.view().unwrap().batches(9).unwrap();
    assert_eq!(batches.len(), 1);
    let batch = batches[0];
    assert_eq!((batch.folders, batch.succeeded, batch.failed), (2, 1, 1));
}

#[tokio::test]
async fn a_limited_batch_outlasts_the_daemon() {
    let fixture = limited(1, Duration::ZERO);
    let journal = fixture.open();
    for name in ["a/1", "b/1"] {
        written(&journal, name, 1);
    }
    assert_eq!(claimed_folders(&journal).await, ["a"]);
    drop(journal);
    let journal = fixture.open();
    assert_eq!(claimed_folders(&journal).await, ["a"]);
}

#[tokio::test]
async fn nothing_is_claimed_between_two_batches() {
    let hour = Duration::from_secs(3600);
    let fixture = limited(1, hour);
    let journal = fixture.open();
    for name in ["a/1", "b/1"] {
        written(&journal, name, 1);
    }
    deliver_all(&journal, Kind::Other).await;
    let claimed = journal.claim_files(Lane::Small, 3).await.unwrap();
    assert!(claimed.claims.is_empty());
    // Either the batch is about to end, or its end is an hour ago in an hour.
    let claimed = journal.claim_files(Lane::Small, 3).await.unwrap();
    assert!(claimed.claims.is_empty());
    let left = claimed.next_due.unwrap() - outboxfs::journal::now_ms();
    assert!(left > 3_590_000 && left <= 3_600_001, "{left}");
}

#[test]
fn the_log_begins_anew_when_nobody_reads_it_any_more() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    let write = |name: &str, count: usize| {
        for number in 0..count {
            written(&journal, &format!("{name}/{number}"), 1);
        }
    };
    let log = fixture.dir.path().join("state/journal.db-wal");
    let length = || log.metadata().unwrap().len();
    write("a", 10);
    // A reader that goes on needs all that was written since it began.
    let reader = rusqlite::Connection::open(fixture.dir.path().join("state/journal.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |sql: &str| {
        reader
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM file"), 10);
    write("b", 1000);
    let while_read = length();
    assert_eq!(count("SELECT count(*) FROM file"), 10);
    reader.execute_batch("COMMIT").unwrap();
    // It is looked after every thousand changes.
    write("c", 2500);
    assert!(
        length() * 2 < while_read * 5,
        "{while_read} bytes while it was read, {} later",
        length()
    );
}
