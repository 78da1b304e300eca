//! A bad line to Cloudinary: what is tried again, as delivery does, arrives whole, and once.

use outboxfs::remote::Put;

use super::cloudinary::{Service, url_at};
use super::each_fault::is_told_truly;
use super::faults::{Fault, Proxy};
use super::objects::store_all;
use super::{MIB, noise, open, put};

const FILES: usize = 120;

/// One of them goes in pieces.
fn content(i: usize) -> Vec<u8> {
    match i {
        7 => noise(21 * MIB, 7),
        i => noise(20_000 + i, i as u64),
    }
}

fn object(i: usize) -> Put {
    put(&format!("{i}.jpg"), &content(i))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_delivers_everything_whole_and_once() {
    let service = Service::start();
    let proxy = Proxy::start(
        service.endpoint(),
        Box::new(|_| (fastrand::u32(..5) == 0).then(|| Fault::ALL[fastrand::usize(..8)])),
    );
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
    assert!(
        service
            .state
            .lock()
            .created
            .values()
            .all(|times| *times == 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_is_told_truly() {
    let service = Service::start();
    // A POST is not truncated by the proxy.
    let unseen = [Fault::Delay, Fault::Truncate];
    is_told_truly(service.endpoint(), &unseen, async |endpoint| {
        let url = url_at(endpoint, "p", "");
        open(&url, &service.environment()).await.unwrap()
    })
    .await;
}
