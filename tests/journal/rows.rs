//! When the row of a folder is due.

use std::time::Duration;

use outboxfs::journal::{Change, Entry, FileOutcome, Kind, Outcome};

use crate::settlement;
use crate::support::*;

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
        .settle_rows(vec![(rows[0].clone(), Outcome::Done)])
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
        .settle_rows(vec![(row.clone(), Outcome::Done)])
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
