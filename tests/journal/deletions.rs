//! What was deleted here is deleted at the remote, if that is wanted.

use outboxfs::journal::{Change, Deletion, Entry, Journal, Kind, Outcome};

use crate::support::*;

fn with_deletions() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.sync_deletes = true;
    fixture
}

async fn deletions(journal: &Journal) -> Vec<Deletion> {
    journal.claim_deletions(100).await.unwrap().claims
}

async fn rows_written(journal: &Journal) {
    let rows = journal.claim_rows(9).await.unwrap().claims.into_iter();
    let rows = rows.map(|row| (row, Outcome::Done)).collect();
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
    let gone = gone.into_iter().map(|row| (row, Outcome::Done));
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
    let done = vec![(deletions[0].id, Outcome::Done)];
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
    let done = vec![(claimed[0].id, Outcome::Released { due: 0 })];
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
