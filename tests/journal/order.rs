//! What is claimed when.

use std::time::Duration;

use outboxfs::journal::{FileOutcome, Journal, Kind, Lane, Settlement, now_ms};

use crate::settlement;
use crate::support::*;

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
