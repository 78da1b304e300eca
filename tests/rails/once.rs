//! Whatever breaks, there is one record in the end, with the bytes of the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outboxfs::remote::{Put, RemoteErrorKind};

use super::faults::Fault;
use super::rails::{Account, Behaviour};
use super::{Noted, Wish, count, open, put, watched};

/// How an application tells that a record is there, and what our side has to know for it.
const WAYS: [(&str, &str); 3] = [
    ("unique", ""),
    ("key", ""),
    (
        "lookup",
        "&lookup=/api/v1/songs/by_blob?blob_signed_id={signed_id}",
    ),
];

fn account(once: &'static str) -> Option<Account> {
    Account::new(&Behaviour {
        once,
        ..Behaviour::default()
    })
}

/// A fifth of all requests fails in each of the ways that networks and services have. (JSON with another
/// byte in it is left out: it asks for something else.)
async fn a_bad_line((once, options): (&'static str, &'static str)) {
    let Some(account) = account(once) else { return };
    let (proxy, _) = watched(&account.server.endpoint, |wish, _| {
        let fault = (fastrand::u32(..5) == 0).then(|| Fault::ALL[fastrand::usize(..8)]);
        fault.filter(|fault| *fault != Fault::Corrupt || wish == Wish::Bytes)
    });
    let remote = open(&account, &proxy.endpoint, options).await;
    let puts: Vec<Put> = (0..40)
        .map(|i| {
            put(
                &format!("{i}.mp3"),
                format!("music {i}").repeat(i + 1).as_bytes(),
            )
        })
        .collect();
    let puts = Arc::new(puts);
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..5).map(|_| {
        let (remote, puts, next) = (remote.clone(), puts.clone(), next.clone());
        tokio::spawn(async move {
            while let Some(put) = puts.get(next.fetch_add(1, Ordering::Relaxed)) {
                Noted::default().deliver(&*remote, put).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert!(proxy.faults() > 5, "{} faults", proxy.faults());
    let counts = account.counts();
    assert_eq!(counts.len(), puts.len());
    assert!(
        counts.values().all(|count| *count == 1),
        "{once}: {counts:?}"
    );
    for song in account.songs() {
        let number: usize = song.title.parse().unwrap();
        let expected = format!("music {number}").repeat(number + 1);
        assert!(account.bytes(&song) == expected.as_bytes(), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_makes_one_record_each_where_they_are_unique() {
    a_bad_line(WAYS[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_makes_one_record_each_where_requests_have_a_key() {
    a_bad_line(WAYS[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_makes_one_record_each_where_they_are_looked_up() {
    a_bad_line(WAYS[2]).await;
}

/// The record was made, and nobody heard of it; then the daemon dies, and another one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_answer_is_lost_is_found_and_its_bytes_are_not_sent_again() {
    for (once, options) in WAYS {
        let Some(account) = account(once) else { return };
        let (proxy, wishes) = watched(&account.server.endpoint, |wish, before| {
            (wish == Wish::Create && before == 0).then_some(Fault::DropAnswer)
        });
        let remote = open(&account, &proxy.endpoint, options).await;
        let (put, noted) = (put("a.mp3", b"music"), Noted::default());
        let error = noted.attempt(&*remote, &put).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Transient, "{error}");
        let another = open(&account, &proxy.endpoint, options).await;
        let unfinished = noted.unfinished().unwrap();
        let proof = another.put_resumable(put, Some(&unfinished), &noted).await;
        let songs = account.songs();
        assert_eq!(songs.len(), 1, "{once}");
        let proof = proof.unwrap();
        assert_eq!(proof.id, Some(songs[0].id.to_string()), "{once}");
        let url = proof.url.unwrap();
        assert!(url.ends_with(&format!("/songs/{}", songs[0].id)), "{url}");
        assert_eq!(count(&wishes, Wish::Bytes), 1, "{once}");
    }
}

/// An application that makes the record, and has nothing to say about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_made_without_a_word_is_made() {
    let Some(account) = account("silent") else {
        return;
    };
    let remote = open(&account, &account.server.endpoint, "").await;
    let proof = remote.put(put("a.mp3", b"music")).await.unwrap();
    assert_eq!(account.songs().len(), 1);
    let url = proof.url.unwrap();
    let read = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, b"music"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_arrived_before_a_crash_are_not_sent_again() {
    let Some(account) = account("unique") else {
        return;
    };
    let (proxy, wishes) = watched(&account.server.endpoint, |wish, before| {
        (wish == Wish::Create && before == 0).then_some(Fault::Reset)
    });
    let (put, noted) = (put("a.mp3", b"music"), Noted::default());
    let remote = open(&account, &proxy.endpoint, "").await;
    noted.attempt(&*remote, &put).await.unwrap_err();
    assert_eq!(account.songs().len(), 0);
    let another = open(&account, &proxy.endpoint, "").await;
    noted.attempt(&*another, &put).await.unwrap();
    assert_eq!(account.songs().len(), 1);
    assert_eq!(count(&wishes, Wish::Announce), 1);
    assert_eq!(count(&wishes, Wish::Bytes), 1);
}

/// The daemon died between the record's note and its delivery's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_noted_is_not_asked_for() {
    let Some(account) = account("no") else { return };
    let (proxy, wishes) = watched(&account.server.endpoint, |_, _| None);
    let (put, noted) = (put("a.mp3", b"music"), Noted::default());
    let remote = open(&account, &proxy.endpoint, "").await;
    let first = remote.put_resumable(put.clone(), None, &noted).await;
    let asked = wishes.lock().unwrap().len();
    let unfinished = noted.unfinished().unwrap();
    let another = open(&account, &proxy.endpoint, "").await;
    let second = another.put_resumable(put, Some(&unfinished), &noted).await;
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(wishes.lock().unwrap().len(), asked);
    assert_eq!(account.songs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_the_application_has_removed_meanwhile_is_sent_anew() {
    let Some(account) = account("unique") else {
        return;
    };
    let (proxy, wishes) = watched(&account.server.endpoint, |wish, before| {
        (wish == Wish::Create && before == 0).then_some(Fault::Reset)
    });
    let (put, noted) = (put("a.mp3", b"other music"), Noted::default());
    let remote = open(&account, &proxy.endpoint, "").await;
    noted.attempt(&*remote, &put).await.unwrap_err();
    account.forget_blobs(&put);
    noted.attempt(&*remote, &put).await.unwrap();
    let songs = account.songs();
    assert_eq!(songs.len(), 1);
    assert_eq!(account.bytes(&songs[0]), b"other music");
    assert_eq!(count(&wishes, Wish::Bytes), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_whose_time_is_up_is_asked_for_again() {
    let Some(account) = account("unique") else {
        return;
    };
    let (proxy, wishes) = watched(&account.server.endpoint, |wish, before| {
        (wish == Wish::Bytes && before == 0).then_some(Fault::Denied)
    });
    let remote = open(&account, &proxy.endpoint, "").await;
    remote.put(put("a.mp3", b"music")).await.unwrap();
    assert_eq!(account.songs().len(), 1);
    assert_eq!(count(&wishes, Wish::Announce), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_that_are_never_good_are_told() {
    let never = Behaviour {
        url_seconds: 0,
        ..Behaviour::default()
    };
    let Some(account) = Account::new(&never) else {
        return;
    };
    let remote = open(&account, &account.server.endpoint, "").await;
    let error = remote.put(put("a.mp3", b"music")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("service_urls_expire_in"), "{error}");
    assert_eq!(account.events("direct_upload"), 2);
    assert_eq!(account.songs().len(), 0);
}
