//! Pushes over a line, or to a service, that does not always work.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::faults::{Fault, Proxy};
use crate::world::assert_says;
use crate::{Push, of_kind, s3};

const FILES_OF_A_FOLDER: usize = 10;

/// A fifth of all requests fails in each of the ways that networks and services have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_whole_and_each_folder_has_one_row() {
    let Some(server) = s3::Server::seaweedfs() else {
        return;
    };
    let proxy = Proxy::start(
        &server.endpoint,
        Box::new(|_| (fastrand::u32(..5) == 0).then(|| Fault::ALL[fastrand::usize(..8)])),
    );
    let push = through(&server, &proxy);
    let count = file_count();
    let content = |n: usize| format!("{n} ").repeat(n % 2000 + 1);
    for n in 0..count {
        push.write(&name(n), &content(n));
    }
    let folders = count.div_ceil(FILES_OF_A_FOLDER);
    for folder in 0..folders {
        push.write(&format!("{folder}/stats.json"), r#"{"status": "passed"}"#);
    }
    let rows = push.world.path("rows.db");
    let sink = format!("sqlite:{}", rows.display());
    let bad = ["--max-retries", "50", "--retry-delay", "10ms"];
    let more = [&bad[..], &["--workers", "16", "--rows", &sink]].concat();
    let summary = tokio::task::block_in_place(|| push.push("pictures", &more));
    assert_says(&summary, &[&format!("uploaded {} files", count + folders)]);
    assert!(proxy.faults() > count / 10, "{} faults", proxy.faults());

    for n in 0..count {
        let key = format!("p/original/{}", name(n));
        let get = server.client().get_object().bucket(s3::BUCKET).key(key);
        let bytes = get.send().await.unwrap().body.collect().await.unwrap();
        assert!(bytes.to_vec() == content(n).as_bytes(), "{}", name(n));
    }
    let rows = rusqlite::Connection::open(rows).unwrap();
    let counted = "SELECT count(*), count(DISTINCT folder) FROM device_test";
    let counted: (u32, u32) = rows
        .query_row(counted, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(counted, (folders as u32, folders as u32));
}

/// A trial object and a listing that fail once, as on a service that is busy for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_busy_for_a_moment_is_asked_again() {
    let server = s3::Server::in_process();
    let (tried, listed) = (AtomicBool::new(false), AtomicBool::new(false));
    let proxy = Proxy::start(
        &server.endpoint,
        Box::new(move |request| {
            let first = |was: &AtomicBool| !was.swap(true, Ordering::Relaxed);
            let query = request.uri().query().unwrap_or_default();
            match request.method().as_str() {
                "PUT" if first(&tried) => Some(Fault::InternalError),
                "GET" if query.contains("list-type=2") && first(&listed) => Some(Fault::Reset),
                _ => None,
            }
        }),
    );
    let mut push = through(&server, &proxy);
    push.write("a", "content");
    let remote = std::mem::replace(&mut push.remote, server.url("p"));
    tokio::task::block_in_place(|| push.push("pictures", &[]));

    push.remote = remote;
    let journal = push.world.path("another.db");
    let journal = ["--journal", journal.to_str().unwrap()];
    let events = tokio::task::block_in_place(|| push.events("pictures", &journal, 0));
    assert_eq!(proxy.faults(), 2);
    let skipped = of_kind(&events, "skipped", "reason");
    assert_says(&skipped["a"], &["the remote has it already"]);
}

fn name(n: usize) -> String {
    format!("{}/{n}", n / FILES_OF_A_FOLDER)
}

/// Files to send; more by `OUTBOXFS_TEST_FILES`.
fn file_count() -> usize {
    let count = std::env::var("OUTBOXFS_TEST_FILES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(300)
}

fn through(server: &s3::Server, proxy: &Proxy) -> Push {
    let mut push = Push::to_s3(server);
    push.remote = server.url("p").replace(&server.endpoint, &proxy.endpoint);
    push
}
