//! A bad line between us and a real S3 server. What is retried until it succeeds, as delivery does,
//! arrives whole; nothing else is ever to be seen under its name.

#[path = "support/each_fault.rs"]
mod each_fault;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/objects.rs"]
mod objects;
#[path = "support/s3.rs"]
mod s3;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use each_fault::is_told_truly;
use faults::{Fault, Proxy, is_part};
use objects::{MIB, Noted, noise, put, store_all};
use outboxfs::remote::{Remote, Unfinished};

/// A fifth of all requests fails in each of the ways that networks and services have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_delivers_everything_whole() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let proxy = Proxy::start(
        &server.endpoint,
        Box::new(|_| (fastrand::u32(..5) == 0).then(|| Fault::ALL[fastrand::usize(..8)])),
    );
    deliver_all(&server, &proxy, file_count()).await;
}

/// s3s-fs takes parts unchecked, so bytes that change on the way cannot be asked of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_that_keeps_bytes_delivers_everything_whole() {
    let server = s3::Server::in_process();
    let proxy = Proxy::start(
        &server.endpoint,
        Box::new(|request| {
            let fault = (fastrand::u32(..5) == 0).then(|| Fault::ALL[fastrand::usize(..8)]);
            fault.filter(|fault| *fault != Fault::Corrupt || !is_part(request))
        }),
    );
    deliver_all(&server, &proxy, file_count()).await;
}

/// Each fault alone, at the first request of each kind: one file of one request, one of parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_is_told_truly() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    is_told_truly(&server.endpoint, &[Fault::Delay], async |endpoint| {
        open(&server, endpoint).await
    })
    .await;
}

/// Whoever completes an upload and never hears of it must not send it all again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_upload_whose_answer_is_lost_is_done() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let lost = AtomicUsize::new(0);
    let proxy = Proxy::start(
        &server.endpoint,
        Box::new(move |request| {
            let query = request.uri().query().unwrap_or_default();
            let completes = request.method() == "POST" && query.contains("uploadId=");
            (completes && lost.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::DropAnswer)
        }),
    );
    let remote = open(&server, &proxy.endpoint).await;
    let content = noise(20 * MIB, 1);
    let proof = remote.put(put("large", &content)).await.unwrap();
    assert!(proof.etag.is_some());
    assert_eq!(proxy.faults(), 1);
    assert!(read(&server, "large").await == content);
}

/// Whoever begins an upload, and is told to stop before he hears its name, leaves none behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_before_its_name_is_known_is_aborted() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let begins = |request: &hyper::Request<_>| {
        let query = request.uri().query().unwrap_or_default();
        request.method() == "POST" && query.starts_with("uploads")
    };
    let late = move |request: &_| begins(request).then_some(Fault::LateAnswer);
    let proxy = Proxy::start(&server.endpoint, Box::new(late));
    let remote = open(&server, &proxy.endpoint).await;
    let put = remote.put(put("large", &noise(20 * MIB, 8)));
    let given_up = tokio::time::timeout(Duration::from_millis(300), put).await;
    assert!(given_up.is_err());
    assert_eq!(uploads(&server).await, 1, "the server has begun it");
    for _ in 0..100 {
        if uploads(&server).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the upload is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_carry_only_checksums_that_the_service_knows() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    for (provider, newer) in [("ceph", false), ("other", true)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let proxy = Proxy::start(
            &server.endpoint,
            Box::new(move |request| {
                if request.method() == "POST" {
                    let headers = request.headers();
                    assert!(headers.contains_key("content-md5"));
                    assert_eq!(headers.contains_key("x-amz-checksum-crc32"), newer);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                None
            }),
        );
        let url = format!(
            "s3://{}/f?endpoint={}&provider={provider}",
            s3::BUCKET,
            proxy.endpoint
        );
        let remote = objects::open(&url, &server.environment()).await.unwrap();
        let puts = ["a", "b"].map(|name| put(name, b"x"));
        for put in puts.clone() {
            remote.put(put).await.unwrap();
        }
        for answer in remote.delete_all(&puts.map(|put| put.key)).await {
            answer.unwrap();
        }
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}

/// A line that dies half way through a large file, and another daemon later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_on_where_it_was_broken_off() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let content = noise(40 * MIB, 2);
    let unfinished = broken_off(&server, "large", &content, 2).await;
    let parts = Arc::new(AtomicUsize::new(0));
    let proxy = counting_parts(&server, parts.clone());
    let remote = open(&server, &proxy.endpoint).await;
    let large = put("large", &content);
    let notes = Noted::default();
    let done = remote.put_resumable(large, Some(&unfinished), &notes).await;
    done.unwrap();
    assert_eq!(notes.began.load(Ordering::Relaxed), 0, "began anew");
    assert_eq!(notes.said(), ["completed"]);
    assert_eq!(parts.load(Ordering::Relaxed), 3, "of 5 parts 2 were there");
    assert!(read(&server, "large").await == content);
    assert_eq!(uploads(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_other_content_is_not_gone_on_with() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let unfinished = broken_off(&server, "large", &noise(40 * MIB, 3), 2).await;
    // The same size, so that only the bytes of the parts tell.
    let content = noise(40 * MIB, 4);
    let parts = Arc::new(AtomicUsize::new(0));
    let proxy = counting_parts(&server, parts.clone());
    let remote = open(&server, &proxy.endpoint).await;
    let large = put("large", &content);
    let notes = Noted::default();
    let done = remote.put_resumable(large, Some(&unfinished), &notes).await;
    done.unwrap();
    assert_eq!(parts.load(Ordering::Relaxed), 5);
    assert!(read(&server, "large").await == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_service_forgot_begins_anew() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let content = noise(40 * MIB, 5);
    let unfinished = broken_off(&server, "large", &content, 2).await;
    let parts = Arc::new(AtomicUsize::new(0));
    let proxy = counting_parts(&server, parts.clone());
    let remote = open(&server, &proxy.endpoint).await;
    remote.abandon(&unfinished.name).await.unwrap();
    assert_eq!(uploads(&server).await, 0);
    remote.abandon(&unfinished.name).await.unwrap();
    let notes = Noted::default();
    let large = put("large", &content);
    let done = remote.put_resumable(large, Some(&unfinished), &notes).await;
    done.unwrap();
    assert_eq!(notes.began.load(Ordering::Relaxed), 1);
    assert!(read(&server, "large").await == content);
}

/// Completed, but the daemon died before it could write that down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_completed_meanwhile_is_done() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let parts = Arc::new(AtomicUsize::new(0));
    let proxy = counting_parts(&server, parts.clone());
    let remote = open(&server, &proxy.endpoint).await;
    let large = put("large", &noise(20 * MIB, 6));
    let notes = Noted::default();
    let first = remote.put_resumable(large.clone(), None, &notes).await;
    let unfinished = notes.unfinished();
    let second = remote.put_resumable(large, Some(&unfinished), &notes).await;
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(parts.load(Ordering::Relaxed), 3);
}

/// Credentials that may store and not list parts: then the notes alone tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_list_parts_the_notes_are_gone_by_once() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let content = noise(40 * MIB, 7);
    for forgotten in [false, true] {
        let unfinished = broken_off(&server, "large", &content, 2).await;
        if forgotten {
            open(&server, &counting_parts(&server, Arc::default()).endpoint)
                .await
                .abandon(&unfinished.name)
                .await
                .unwrap();
        }
        let parts = Arc::new(AtomicUsize::new(0));
        let count = parts.clone();
        let proxy = Proxy::start(
            &server.endpoint,
            Box::new(move |request| {
                if is_part(request) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let query = request.uri().query().unwrap_or_default();
                let lists = request.method() == "GET" && query.contains("uploadId=");
                lists.then_some(Fault::Denied)
            }),
        );
        let remote = open(&server, &proxy.endpoint).await;
        let (large, notes) = (put("large", &content), Noted::default());
        let done = remote.put_resumable(large, Some(&unfinished), &notes).await;
        if forgotten {
            done.unwrap_err();
            assert_eq!(notes.said(), ["given up"]);
        } else {
            done.unwrap();
            assert_eq!(parts.load(Ordering::Relaxed), 3, "of 5 parts 2 were there");
            assert!(read(&server, "large").await == content);
        }
        assert_eq!(uploads(&server).await, 0);
    }
}

/// Uploads through a line that dies after some parts; returns what was noted of the upload.
async fn broken_off(server: &s3::Server, name: &str, content: &[u8], parts: usize) -> Unfinished {
    let sent = AtomicUsize::new(0);
    let dies = move |request: &_| {
        let dead = sent.load(Ordering::Relaxed) >= parts;
        let counted = is_part(request) && sent.fetch_add(1, Ordering::Relaxed) >= parts;
        (dead || counted).then_some(Fault::Reset)
    };
    let proxy = Proxy::start(&server.endpoint, Box::new(dies));
    let remote = open(server, &proxy.endpoint).await;
    let notes = Noted::default();
    let large = put(name, content);
    let error = remote.put_resumable(large, None, &notes).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(notes.said().is_empty());
    notes.unfinished()
}

fn counting_parts(server: &s3::Server, parts: Arc<AtomicUsize>) -> Proxy {
    let count = move |request: &_| {
        if is_part(request) {
            parts.fetch_add(1, Ordering::Relaxed);
        }
        None
    };
    Proxy::start(&server.endpoint, Box::new(count))
}

/// Multipart uploads that the server still holds parts of.
async fn uploads(server: &s3::Server) -> usize {
    let list = server.client().list_multipart_uploads().bucket(s3::BUCKET);
    list.send().await.unwrap().uploads().len()
}

/// Files to send through the bad line; more by `OUTBOXFS_TEST_FILES`.
fn file_count() -> usize {
    let count = std::env::var("OUTBOXFS_TEST_FILES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(300)
}

async fn deliver_all(server: &s3::Server, proxy: &Proxy, count: usize) {
    let remote = open(server, &proxy.endpoint).await;
    store_all(&remote, count, |i| put(&i.to_string(), &content(i))).await;
    assert!(proxy.faults() > count / 10, "{} faults", proxy.faults());
    for i in 0..count {
        assert!(read(server, &i.to_string()).await == content(i), "{i}");
    }
}

/// One file in a hundred is large; the rest has a few kilobytes.
fn content(i: usize) -> Vec<u8> {
    let len = match i % 100 {
        0 => 17 * MIB,
        _ => i % 10_000 + 1,
    };
    noise(len, i as u64)
}

async fn open(server: &s3::Server, endpoint: &str) -> Arc<dyn Remote> {
    let url = format!("s3://{}/f?endpoint={endpoint}", s3::BUCKET);
    objects::open(&url, &server.environment()).await.unwrap()
}

async fn read(server: &s3::Server, name: &str) -> Vec<u8> {
    let get = server.client().get_object().bucket(s3::BUCKET);
    let answer = get.key(format!("f/original/{name}")).send().await.unwrap();
    answer.body.collect().await.unwrap().to_vec()
}
