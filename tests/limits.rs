//! How fast, when and whether at all things are delivered.

#[path = "support/faults.rs"]
mod faults;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use faults::{Fault, Proxy};
use rig::{Rig, eventually};
use tree::contents;
use world::assert_says;

fn write(rig: &Rig, name: &str, length: usize) {
    // No two alike, for what is equal is copied.
    let content: Vec<u8> = name.bytes().cycle().take(length).collect();
    fs::write(rig.pictures().join(name), content).unwrap();
}

fn use_s3(rig: &mut Rig) {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY),
    ] {
        rig.world.variables.push((name, value.to_owned()));
    }
}

fn push(rig: &Rig, remote: &str, more: &[&str]) -> Duration {
    let started = Instant::now();
    let output = rig.run(&[&["push", "pictures", "--remote", remote], more].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    started.elapsed()
}

#[test]
fn a_pause_outlasts_the_daemon() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let output = rig.run(&["pause", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    write(&rig, "waits", 10);
    let status = rig.upload("status");
    assert_says(
        &status,
        &["NOT safe to unplug", "paused", "outboxfs resume"],
    );
    let output = rig.run(&["unmount", "pictures"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["1 file", "paused"]);
    rig.mount();
    write(&rig, "waits too", 10);
    assert_eq!(rig.snapshot().unwrap().queued_files, 2);
    assert!(!rig.remote().join("original").exists());
    let output = rig.run(&["resume", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    rig.delivered_all();
    rig.unmount();
    // Without a daemon it is said to the journal.
    for (command, waits) in [("pause", true), ("resume", false)] {
        let output = rig.run(&[command, "pictures"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let status = rig.run(&["status", "pictures", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["waits_for"].is_string(), waits);
    }
}

#[test]
fn no_more_bytes_a_second_than_allowed() {
    let Some(mut rig) = Rig::new() else { return };
    use_s3(&mut rig);
    let server = s3::Server::in_process();
    for (number, remote) in [
        format!("file://{}", rig.remote().display()),
        server.url("p"),
    ]
    .iter()
    .enumerate()
    {
        for file in 0..3 {
            write(&rig, &format!("{number} {file}"), 1_000_000);
        }
        // Larger than what is sent with one request, or held in memory.
        write(&rig, &format!("{number} film"), 17 << 20);
        let journal = rig.world.path(&format!("state/{number}.db"));
        let more = ["--bwlimit", "8M", "--journal", journal.to_str().unwrap()];
        let took = push(&rig, remote, &more);
        let bytes = 3_000_000.0 + f64::from(17 << 20);
        assert!(took.as_secs_f64() > 0.9 * bytes / 8e6, "{remote}: {took:?}");
        for entry in fs::read_dir(rig.pictures()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn no_more_requests_a_second_than_allowed() {
    let Some(mut rig) = Rig::new() else { return };
    use_s3(&mut rig);
    let server = s3::Server::in_process();
    for file in 0..40 {
        write(&rig, &file.to_string(), 100);
    }
    let took = push(&rig, &server.url("p"), &["--tps-limit", "20"]);
    assert!(took.as_secs_f64() > 1.8, "{took:?}");
}

#[test]
fn outside_of_its_hours_nothing_is_delivered() {
    let Some(rig) = Rig::new() else { return };
    let now = jiff::Zoned::now();
    let hour = |after: i64| {
        let time = now.checked_add(jiff::Span::new().hours(after)).unwrap();
        time.strftime("%H:%M").to_string()
    };
    let closed = format!("{}-{}", hour(2), hour(3));
    rig.mount_with(&["--upload-hours", &closed]);
    write(&rig, "waits", 10);
    eventually("it says what it waits for", || {
        rig.upload("status").contains(&closed)
    });
    assert_eq!(rig.snapshot().unwrap().queued_files, 1);
    assert!(!rig.remote().join("original").exists());
    rig.kill();
    rig.mount_with(&["--upload-hours", &format!("{}-{}", hour(-1), hour(1))]);
    rig.delivered_all();
    rig.unmount();
}

#[test]
fn a_service_that_asks_to_slow_down_gets_everything_in_the_end() {
    let Some(mut rig) = Rig::new() else { return };
    use_s3(&mut rig);
    let server = s3::Server::in_process();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let in_runtime = runtime.enter();
    let window = Mutex::new((Instant::now(), 0));
    let busy = move |request: &hyper::Request<hyper::body::Incoming>| {
        let mut window = window.lock().unwrap();
        if window.0.elapsed() > Duration::from_millis(500) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        let too_many = request.method() == "PUT" && window.1 > 40;
        too_many.then_some(Fault::SlowDown)
    };
    let proxy = Proxy::start(&server.endpoint, Box::new(busy));
    drop(in_runtime);
    let url = format!("s3://{}/p?endpoint={}", s3::BUCKET, proxy.endpoint);
    // Being asked to slow down uses up no attempts.
    rig.mount_to(&url, &["--workers", "64", "--max-retries", "0"]);
    for file in 0..300 {
        write(&rig, &file.to_string(), 100);
    }
    let mut fewest = 64;
    eventually("all is delivered", || {
        let now = rig.snapshot().unwrap();
        assert_eq!(now.failed_files, 0, "{:?}", now.last_errors);
        fewest = fewest.min(now.workers);
        now.safe_to_unplug
    });
    assert!(proxy.faults() > 0 && fewest < 33, "{fewest} workers");
    rig.unmount();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let list = server.client().list_objects_v2().bucket(s3::BUCKET);
    let answer = runtime.block_on(list.prefix("p/original/").send()).unwrap();
    assert_eq!(answer.contents().len(), contents(&rig.pictures()).len());
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let Some(rig) = Rig::new() else { return };
    for (flag, value, says) in [
        ("--workers", "0", "1 to 256"),
        ("--workers", "257", "1 to 256"),
        ("--bwlimit", "fast", "20M"),
        ("--bwlimit", "0", "outboxfs pause"),
        ("--tps-limit", "0", "from 1"),
        ("--upload-hours", "22", "22:00-06:00"),
        ("--retry-delay", "soon", "500ms"),
    ] {
        let line = rig.world.refusal(&["mount", "pictures", flag, value]);
        assert_says(&line, &[says]);
    }
}
