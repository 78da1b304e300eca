//! What is deleted and renamed here, and what becomes of it at the remote.

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

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use faults::Proxy;
use rig::{Rig, eventually};
use tree::{contents, make_picture};

impl Rig {
    fn original(&self, name: &str) -> bool {
        self.remote().join("original").join(name).exists()
    }

    fn thumbnail(&self, name: &str) -> bool {
        self.remote().join("thumbnail").join(name).exists()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.pictures().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Everything at the remote is as it is here, and nothing else is there.
    #[track_caller]
    fn assert_same(&self) {
        let local: BTreeMap<_, _> = contents(&self.pictures());
        let remote = self.remote().join("original");
        let remote = match remote.exists() {
            true => contents(&remote),
            false => BTreeMap::new(),
        };
        let names = |of: &BTreeMap<String, blake3::Hash>,
                     other: &BTreeMap<String, blake3::Hash>| {
            let differ = of
                .iter()
                .filter(|(name, hash)| other.get(*name) != Some(hash));
            differ
                .map(|(name, _)| name.clone())
                .take(9)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&remote, &local),
            [""; 0],
            "at the remote, and not here"
        );
        assert_eq!(
            names(&local, &remote),
            [""; 0],
            "here, and not at the remote"
        );
    }
}

#[test]
fn what_is_deleted_here_is_deleted_there_with_its_row() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    for name in ["a", "b"] {
        fs::create_dir_all(rig.pictures().join("rig")).unwrap();
        make_picture(&rig.pictures().join(format!("rig/{name}.jpg")), 40, 30);
    }
    rig.write("notes/text", "kept");
    rig.delivered_all();
    assert_eq!(rig.row("SELECT picture_count FROM device_test"), "2");

    fs::remove_file(rig.pictures().join("rig/a.jpg")).unwrap();
    eventually("original and thumbnail are gone", || {
        !rig.original("rig/a.jpg") && !rig.thumbnail("rig/a.jpg")
    });
    assert!(rig.original("rig/b.jpg") && rig.thumbnail("rig/b.jpg"));
    assert_eq!(rig.row("SELECT picture_count FROM device_test"), "1");

    fs::remove_dir_all(rig.pictures().join("rig")).unwrap();
    eventually("the folder is gone", || {
        !rig.remote().join("original/rig").exists() && !rig.remote().join("thumbnail").exists()
    });
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "0");
    assert!(rig.original("notes/text"));
    rig.unmount();
}

#[test]
fn without_the_flag_the_remote_keeps_everything() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    rig.write("rig/stats.json", "{}");
    rig.write("rig/old", "content");
    rig.delivered_all();
    fs::rename(rig.pictures().join("rig/old"), rig.pictures().join("new")).unwrap();
    fs::remove_dir_all(rig.pictures().join("rig")).unwrap();
    rig.delivered_all();
    for name in ["rig/stats.json", "rig/old", "new"] {
        assert!(rig.original(name), "{name}");
    }
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "1");
    rig.unmount();
}

#[test]
fn deletions_survive_the_death_of_the_daemon() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    for number in 0..300 {
        rig.write(&format!("many/{number}"), &number.to_string());
    }
    rig.unmount();
    rig.mount_with(&["--sync-deletes", "--settle", "3600000"]);
    fs::remove_dir_all(rig.pictures().join("many")).unwrap();
    eventually("all of it is journaled", || {
        rig.snapshot()
            .is_some_and(|now| now.queued_deletions == 300)
    });
    rig.kill();
    assert_eq!(contents(&rig.remote().join("original")).len(), 300);
    rig.mount_with(&["--sync-deletes"]);
    rig.unmount();
    rig.assert_same();
}

#[test]
fn a_file_that_is_made_again_keeps_its_new_object() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    for round in 0..300 {
        for name in ["a", "in/b"] {
            rig.write(name, &format!("{round}"));
        }
        if round % 3 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(..12)));
        }
        fs::remove_file(rig.pictures().join("a")).unwrap();
        fs::remove_dir_all(rig.pictures().join("in")).unwrap();
    }
    rig.write("a", "last");
    rig.unmount();
    rig.assert_same();
    assert_eq!(rig.delivered("a"), b"last");
}

#[test]
fn a_file_takes_the_place_of_a_folder_and_the_other_way_round() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    rig.write("a", "a file");
    rig.write("b/c", "in a folder");
    rig.delivered_all();
    fs::remove_file(rig.pictures().join("a")).unwrap();
    fs::remove_dir_all(rig.pictures().join("b")).unwrap();
    rig.write("a/c", "now a folder");
    rig.write("b", "now a file");
    rig.unmount();
    rig.assert_same();
}

#[test]
fn renames_of_files_and_folders_leave_what_is_here() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    for folder in 0..4 {
        for file in 0..8 {
            rig.write(&format!("{folder}/in/{file}"), &format!("{folder} {file}"));
        }
        rig.write(&format!("{folder}/stats.json"), "{}");
    }
    let root = rig.pictures();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..1500 {
        let (a, b) = (random.usize(..6), random.usize(..6));
        let (from, to) = match random.usize(..4) {
            0 => (format!("{a}"), format!("{b}")),
            1 => (format!("{a}/in"), format!("{b}/in")),
            2 => (format!("{a}/in"), format!("{b}/in{round}")),
            _ => (format!("{a}/in/{b}"), format!("{b}/in/{a}")),
        };
        // Most of them cannot be: not there, or not empty.
        let _ = fs::rename(root.join(from), root.join(to));
        if random.usize(..5) == 0 {
            let path = root.join(format!("{a}/in"));
            if path.exists() {
                fs::write(path.join(format!("{b}")), format!("round {round}")).unwrap();
            }
        }
        if random.usize(..40) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(random.u64(..30)));
        }
    }
    rig.unmount();
    rig.assert_same();
    let folders =
        "SELECT group_concat(folder, ' ') FROM (SELECT folder FROM device_test ORDER BY 1)";
    let mut with_stats: Vec<String> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("stats.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    with_stats.sort();
    assert_eq!(rig.row(folders), with_stats.join(" "));
}

#[test]
fn a_push_deletes_what_it_finds_missing() {
    let Some(rig) = Rig::new() else { return };
    let remote = format!("file://{}", rig.remote().display());
    let push = |more: &[&str]| {
        let output = rig.run(&[&["push", "pictures", "--remote", &remote], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for name in ["file", "kept", "a/b/c/file", "a/stats.json", "left/out"] {
        rig.write(name, name);
    }
    push(&["--sync-deletes"]);
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "1");
    fs::remove_file(rig.pictures().join("file")).unwrap();
    fs::remove_dir_all(rig.pictures().join("a")).unwrap();
    let said = push(&["--sync-deletes", "--exclude", "left/"]);
    assert!(said.contains("3 files deleted at the remote"), "{said}");
    rig.assert_same();
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "0");
}

/// What a server was asked for.
#[derive(Default)]
struct Requests {
    uploads: AtomicUsize,
    copies: AtomicUsize,
}

impl Requests {
    fn counted(&self) -> (usize, usize) {
        let taken = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        (taken(&self.uploads), taken(&self.copies))
    }
}

struct Counted {
    rig: Rig,
    server: s3::Server,
    requests: Arc<Requests>,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Counted {
    fn new() -> Option<Self> {
        let mut rig = Rig::new()?;
        let server = s3::Server::seaweedfs()?;
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY),
        ] {
            rig.world.variables.push((name, value.to_owned()));
        }
        let requests = Arc::new(Requests::default());
        let seen = requests.clone();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let in_runtime = runtime.enter();
        let proxy = Proxy::start(
            &server.endpoint,
            Box::new(move |request| {
                if request.method() == "PUT" && !request.uri().path().contains("probe") {
                    match request.headers().contains_key("x-amz-copy-source") {
                        true => seen.copies.fetch_add(1, Ordering::Relaxed),
                        false => seen.uploads.fetch_add(1, Ordering::Relaxed),
                    };
                }
                None
            }),
        );
        drop(in_runtime);
        let url = format!("s3://{}/p?endpoint={}", s3::BUCKET, proxy.endpoint);
        Some(Self {
            rig,
            server,
            requests,
            url,
            _runtime: runtime,
        })
    }

    fn keys(&self) -> Vec<String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let list = self.server.client().list_objects_v2().bucket(s3::BUCKET);
        let answer = runtime.block_on(list.prefix("p/").send()).unwrap();
        let keys = answer.contents().iter().filter_map(|object| object.key());
        keys.map(|key| key["p/".len()..].to_owned()).collect()
    }
}

#[test]
fn renamed_files_and_folders_are_copied_at_the_remote() {
    for (flags, deleted) in [(&["--sync-deletes"][..], true), (&[], false)] {
        let Some(on) = Counted::new() else { return };
        let rig = &on.rig;
        rig.mount_to(&on.url, &[flags, &["--settle", "200"]].concat());
        fs::create_dir_all(rig.pictures().join("a/deep")).unwrap();
        make_picture(&rig.pictures().join("a/deep/p.jpg"), 60, 40);
        rig.write("a/text.tmp", "some text");
        rig.delivered_all();
        assert_eq!(on.requests.counted(), (3, 0));
        let root = rig.pictures();
        fs::rename(root.join("a/text.tmp"), root.join("a/text.txt")).unwrap();
        rig.delivered_all();
        assert_eq!(on.requests.counted(), (0, 1));
        fs::rename(root.join("a"), root.join("b")).unwrap();
        rig.delivered_all();
        assert_eq!(on.requests.counted(), (0, 3));
        rig.unmount();
        let mut keys = vec![
            "original/b/deep/p.jpg",
            "original/b/text.txt",
            "thumbnail/b/deep/p.jpg",
        ];
        if !deleted {
            keys.extend([
                "original/a/deep/p.jpg",
                "original/a/text.tmp",
                "original/a/text.txt",
                "thumbnail/a/deep/p.jpg",
            ]);
        }
        keys.sort();
        assert_eq!(on.keys(), keys);
    }
}

#[test]
fn a_renamed_file_that_the_remote_lost_is_sent() {
    let Some(on) = Counted::new() else { return };
    let rig = &on.rig;
    rig.mount_to(&on.url, &["--sync-deletes"]);
    rig.write("a", "content");
    rig.delivered_all();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let delete = on.server.client().delete_object().bucket(s3::BUCKET);
    runtime.block_on(delete.key("p/original/a").send()).unwrap();
    fs::rename(rig.pictures().join("a"), rig.pictures().join("b")).unwrap();
    rig.unmount();
    assert_eq!(on.requests.counted(), (2, 0));
    assert_eq!(on.keys(), ["original/b"]);
}

#[test]
fn equal_content_is_sent_once() {
    let Some(on) = Counted::new() else { return };
    let rig = &on.rig;
    // Pictures are written in several steps.
    rig.mount_to(&on.url, &["--settle", "200"]);
    make_picture(&rig.pictures().join("a.png"), 300, 200);
    rig.delivered_all();
    assert_eq!(on.requests.counted(), (2, 0));
    fs::copy(rig.pictures().join("a.png"), rig.pictures().join("b.png")).unwrap();
    rig.delivered_all();
    assert_eq!(on.requests.counted(), (0, 2));
    // What one of them becomes is none of the other's.
    make_picture(&rig.pictures().join("a.png"), 200, 300);
    rig.write("small", "few bytes");
    rig.delivered_all();
    rig.write("small too", "few bytes");
    rig.unmount();
    assert_eq!(on.requests.counted(), (4, 0));
}

#[test]
fn what_cannot_be_deleted_is_tried_again() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    rig.write("a", "content");
    rig.delivered_all();
    let elsewhere = rig.world.path("elsewhere");
    fs::rename(rig.remote(), &elsewhere).unwrap();
    fs::remove_file(rig.pictures().join("a")).unwrap();
    rig.write("b", "waits too");
    eventually("the remote is known to be away", || {
        rig.snapshot().is_some_and(|now| now.remote_error.is_some())
    });
    let _ = fs::remove_dir_all(rig.remote());
    fs::rename(&elsewhere, rig.remote()).unwrap();
    rig.unmount();
    rig.assert_same();
}

/// Removes a file while nothing can be written to the journal: whether that had to wait.
fn removal_waits_for_the_journal(rig: &Rig, name: &str) -> bool {
    let journal = rusqlite::Connection::open(rig.journal()).unwrap();
    journal
        .busy_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    let path = rig.pictures().join(name);
    let (sender, receiver) = std::sync::mpsc::channel();
    let remover = std::thread::spawn(move || sender.send(fs::remove_file(path)).unwrap());
    let done = receiver.recv_timeout(std::time::Duration::from_secs(1));
    journal.execute_batch("ROLLBACK").unwrap();
    let waited = done.is_err();
    done.or_else(|_| receiver.recv()).unwrap().unwrap();
    remover.join().unwrap();
    waited
}

#[test]
fn a_deletion_that_counts_is_in_the_journal_before_the_call_returns() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--sync-deletes"]);
    for name in ["a", "b"] {
        rig.write(name, name);
    }
    rig.delivered_all();
    assert!(removal_waits_for_the_journal(&rig, "a"));
    rig.kill();
    rig.mount_with(&["--sync-deletes"]);
    rig.delivered_all();
    assert!(!rig.original("a"));
    rig.unmount();
    // Where nothing comes of it, nobody waits.
    rig.mount();
    assert!(!removal_waits_for_the_journal(&rig, "b"));
    rig.unmount();
}

#[test]
fn a_directory_that_is_suddenly_empty_deletes_nothing() {
    let Some(rig) = Rig::new() else { return };
    let remote = format!("file://{}", rig.remote().display());
    let push = || rig.run(&["push", "pictures", "--remote", &remote, "--sync-deletes"]);
    rig.write("a/b", "one");
    rig.write("c", "two");
    let output = push();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::remove_dir_all(rig.pictures().join("a")).unwrap();
    fs::remove_file(rig.pictures().join("c")).unwrap();
    let output = push();
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("is empty, and --sync-deletes would delete all its 2 files"),
        "{said}"
    );
    assert!(rig.original("a/b") && rig.original("c"));
    // As it says.
    rig.write("left", "on purpose");
    let output = push();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!rig.original("a/b") && !rig.original("c") && rig.original("left"));
}
