//! What changes its name, or has several.

use std::time::Duration;

use outboxfs::journal::{Change, Durability, Entry, FileStat, Kind, Lane};

use crate::support::*;

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
