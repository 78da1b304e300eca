//! A bad line to Supabase: what is tried again, as delivery does, arrives whole; a large file that is
//! broken off is gone on with.

use std::sync::atomic::{AtomicUsize, Ordering};

use outboxfs::remote::{Put, Unfinished};

use super::each_fault::is_told_truly;
use super::faults::{Fault, Proxy};
use super::objects::{Noted, store_all};
use super::supabase::{Service, url_at};
use super::{MIB, noise, open, put};

const FILES: usize = 120;

/// Two of them go in pieces.
fn content(i: usize) -> Vec<u8> {
    match i % 60 {
        7 => noise(15 * MIB, i as u64),
        _ => noise(20_000 + i, i as u64),
    }
}

fn object(i: usize) -> Put {
    put(&format!("{i}.jpg"), &content(i))
}

/// All but bytes that change on the way, which the service has no means to see; TLS has.
fn fault() -> Option<Fault> {
    let fault = Fault::ALL[fastrand::usize(..8)];
    (fastrand::u32(..5) == 0 && fault != Fault::Corrupt).then_some(fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_delivers_everything_whole() {
    let service = Service::start();
    let proxy = Proxy::start(service.endpoint(), Box::new(|_| fault()));
    let url = url_at(&proxy.endpoint, "p", "");
    let remote = open(&url, &service.environment()).await.unwrap();
    store_all(&remote, FILES, object).await;
    assert!(proxy.faults() > FILES / 10, "{} faults", proxy.faults());
    let there = service.objects("p");
    assert_eq!(there.len(), FILES);
    for i in 0..FILES {
        assert!(
            there[&format!("original/{i}.jpg")].bytes == content(i),
            "{i}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_is_told_truly() {
    let service = Service::start();
    // A POST is not truncated by the proxy, and what is corrupted is not seen without TLS.
    let unseen = [Fault::Delay, Fault::Truncate, Fault::Corrupt];
    is_told_truly(service.endpoint(), &unseen, async |endpoint| {
        let url = url_at(endpoint, "p", "");
        open(&url, &service.environment()).await.unwrap()
    })
    .await;
}

/// Uploads through a line that dies after two pieces; returns what was noted of the upload.
async fn broken_off(service: &Service, content: &[u8]) -> Unfinished {
    let sent = AtomicUsize::new(0);
    let dies = move |request: &hyper::Request<hyper::body::Incoming>| {
        let counted = request.method() == "PATCH" && sent.fetch_add(1, Ordering::Relaxed) >= 2;
        (counted || sent.load(Ordering::Relaxed) > 2).then_some(Fault::Reset)
    };
    let proxy = Proxy::start(service.endpoint(), Box::new(dies));
    let url = url_at(&proxy.endpoint, "p", "");
    let remote = open(&url, &service.environment()).await.unwrap();
    let notes = Noted::default();
    let sent = remote
        .put_resumable(put("large.jpg", content), None, &notes)
        .await;
    let error = sent.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(notes.said().is_empty());
    assert_eq!(service.state.lock().unfinished(), 1);
    let unfinished = notes.unfinished();
    assert_eq!(unfinished.parts.len(), 2);
    service.requests();
    unfinished
}

async fn go_on(service: &Service, unfinished: &Unfinished, content: &[u8]) -> (Noted, usize) {
    let remote = open(&service.url("p", ""), &service.environment())
        .await
        .unwrap();
    let notes = Noted::default();
    let large = put("large.jpg", content);
    let done = remote.put_resumable(large, Some(unfinished), &notes).await;
    done.unwrap();
    let pieces = service
        .requests()
        .into_iter()
        .filter(|came| came.method == "PATCH");
    assert!(service.objects("p")["original/large.jpg"].bytes == content);
    assert_eq!(service.state.lock().unfinished(), 0);
    (notes, pieces.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_on_where_it_was_broken_off() {
    let service = Service::start();
    let content = noise(28 * MIB, 1);
    let unfinished = broken_off(&service, &content).await;
    let (notes, pieces) = go_on(&service, &unfinished, &content).await;
    assert_eq!(pieces, 3, "of 5 pieces 2 were there");
    assert_eq!(notes.began.load(Ordering::Relaxed), 0, "began anew");
    assert_eq!(notes.said(), ["completed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_other_content_or_one_that_is_forgotten_begins_anew() {
    let service = Service::start();
    let unfinished = broken_off(&service, &noise(28 * MIB, 1)).await;
    let other = noise(28 * MIB, 2);
    let (notes, pieces) = go_on(&service, &unfinished, &other).await;
    assert_eq!((pieces, notes.began.load(Ordering::Relaxed)), (5, 1));

    let unfinished = broken_off(&service, &other).await;
    service.state.lock().forget_uploads();
    let (notes, pieces) = go_on(&service, &unfinished, &other).await;
    assert_eq!((pieces, notes.began.load(Ordering::Relaxed)), (5, 1));
}
