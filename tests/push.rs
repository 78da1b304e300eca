//! Delivering without a mount: `outboxfs push`, and what belongs to it.

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
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Body, Environment, Key, Put, Remote, open_with};
use rig::{Rig, eventually};
use serde_json::Value;
use tree::{contents, make_picture};
use world::{World, assert_says};

/// A world with a directory remote, or an S3 bucket, and a tree to push.
struct Push {
    world: World,
    remote: String,
}

impl Push {
    fn to_directory() -> Self {
        let world = World::new();
        let remote = format!("file://{}", world.path("remote").display());
        Self { world, remote }
    }

    fn to_s3(server: &s3::Server) -> Self {
        let mut push = Self::to_directory();
        push.world.variables = vec![
            ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
        ];
        push.remote = server.url("p");
        push
    }

    fn command(&self, path: &str, more: &[&str]) -> Command {
        let mut command = self.world.outboxfs();
        command
            .args(["push", path, "--remote", &self.remote])
            .args(more);
        command
    }

    fn run(&self, path: &str, more: &[&str]) -> Output {
        self.command(path, more).output().unwrap()
    }

    /// Expects that everything is delivered; returns the summary.
    #[track_caller]
    fn push(&self, path: &str, more: &[&str]) -> String {
        let output = self.run(path, more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Expects that all is as it was delivered; returns what is said.
    #[track_caller]
    fn run_verify(&self, more: &[&str]) -> String {
        let output = self.verify("pictures", more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn verify(&self, path: &str, more: &[&str]) -> Output {
        let mut command = self.world.outboxfs();
        command
            .args(["verify", path, "--remote", &self.remote])
            .args(more);
        command.output().unwrap()
    }

    #[track_caller]
    fn events(&self, path: &str, more: &[&str], code: i32) -> Vec<Value> {
        let output = self.run(path, &[&["--json"], more].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        events(&output.stdout)
    }

    fn tree(&self) -> PathBuf {
        self.world.path("pictures")
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn objects(&self) -> Vec<String> {
        let original = self.world.path("remote/original");
        match original.exists() {
            true => contents(&original).into_keys().collect(),
            false => Vec::new(),
        }
    }

    #[track_caller]
    fn assert_arrived(&self) {
        assert_eq!(
            contents(&self.world.path("remote/original")),
            contents(&self.tree())
        );
    }
}

fn events(stdout: &[u8]) -> Vec<Value> {
    let lines = stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The paths of events of one kind, with one of their members.
fn of_kind<'a>(events: &'a [Value], kind: &str, member: &str) -> BTreeMap<&'a str, String> {
    let of_kind = events.iter().filter(|event| event["event"] == kind);
    of_kind
        .map(|event| {
            let value = match &event[member] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (event["path"].as_str().unwrap(), value)
        })
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_tree_arrives_with_thumbnails_and_rows() {
    let push = Push::to_directory();
    push.write("rig1/stats.json", r#"{"status": "passed"}"#);
    make_picture(&push.tree().join("rig1/a.png"), 60, 40);
    push.write("deep/er/notes.txt", "nothing to see");
    push.write("empty", "");
    let summary = push.push("pictures", &[]);
    assert_says(&summary, &["uploaded 4 files"]);
    push.assert_arrived();
    assert!(push.world.path("remote/thumbnail/rig1/a.png").exists());
    let rows = rusqlite::Connection::open(push.world.path("remote/rows.db")).unwrap();
    let row = "SELECT folder || ' ' || test_status FROM device_test";
    let row: String = rows.query_row(row, [], |row| row.get(0)).unwrap();
    assert_eq!(row, "rig1 pass");
}

#[test]
fn a_tree_arrives_in_s3() {
    let server = s3::Server::in_process();
    let push = Push::to_s3(&server);
    for n in 0..40 {
        push.write(&format!("{}/{n}", n % 7), &"x".repeat(n));
    }
    assert_says(&push.push("pictures", &[]), &["uploaded 40 files"]);
    assert_says(&push.push("pictures", &[]), &["nothing to upload"]);
    let verified = push.run_verify(&[]);
    assert_says(&verified, &["40 files"]);
}

#[test]
fn only_what_is_new_or_has_changed_is_sent_again() {
    let push = Push::to_directory();
    for path in ["same", "changed", "touched", "shorter", "gone"] {
        push.write(path, "the first content");
    }
    push.push("pictures", &[]);
    let same = inode(&push.world.path("remote/original/same"));
    let touched = inode(&push.world.path("remote/original/touched"));

    push.write("changed", "other content, longer");
    push.write("shorter", "less");
    push.write("new", "new");
    fs::remove_file(push.tree().join("gone")).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(push.tree().join("touched"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let events = push.events("pictures", &[], 0);
    let queued = of_kind(&events, "queued", "reason");
    let expected = [
        ("changed", "changed"),
        ("new", "new"),
        ("shorter", "changed"),
        ("touched", "changed"),
    ];
    assert_eq!(
        queued,
        expected.map(|(path, why)| (path, why.to_owned())).into()
    );
    let uploaded = of_kind(&events, "uploaded", "bytes");
    assert_eq!(
        uploaded.into_keys().collect::<Vec<_>>(),
        ["changed", "new", "shorter"]
    );
    assert!(of_kind(&events, "skipped", "reason")["touched"].starts_with("unchanged"));

    let original = push.world.path("remote/original");
    assert_eq!(inode(&original.join("same")), same);
    assert_eq!(inode(&original.join("touched")), touched);
    assert_eq!(fs::read(original.join("shorter")).unwrap(), b"less");
    assert!(
        original.join("gone").exists(),
        "the remote keeps what is deleted"
    );
}

#[test]
fn a_folder_of_a_known_directory_is_pushed_into_its_place() {
    let push = Push::to_directory();
    push.write("a/one", "1");
    push.push("pictures", &[]);
    push.write("a/two", "2");
    push.write("b/three", "3");
    push.write("c", "4");
    push.push("pictures/b", &[]);
    assert_eq!(push.objects(), ["a/one", "b/three"]);
    push.push("pictures/c", &[]);
    assert_eq!(push.objects(), ["a/one", "b/three", "c"]);
    push.push("pictures", &[]);
    push.assert_arrived();
}

#[test]
fn scan_only_records_and_a_later_push_delivers() {
    let push = Push::to_directory();
    push.write("a/one", "1");
    push.write("two", "2");
    assert_says(
        &push.push("pictures", &["--scan-only"]),
        &["queued 2 files"],
    );
    assert!(!push.world.path("remote").exists());
    let output = push
        .world
        .outboxfs()
        .args(["status", "pictures", "--json"])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["queued_files"], 2);
    push.push("pictures", &[]);
    push.assert_arrived();
}

#[test]
fn a_dry_run_says_what_and_why_and_changes_nothing() {
    let push = Push::to_directory();
    push.write("a/new", "12345");
    push.write("b", "1");
    let before = push.world.everything();
    let text = push.push("pictures", &["--dry-run"]);
    assert_eq!(push.world.everything(), before);
    assert_eq!(
        text,
        "b\t1\tnew\na/new\t5\tnew\nwould send 2 files (6 B): 2 new\n"
    );

    push.push("pictures", &[]);
    push.write("b", "changed");
    push.write("c", "left");
    push.push("pictures/c", &["--scan-only"]);
    let events = push.events("pictures", &["--dry-run"], 0);
    let reasons = of_kind(&events, "would_send", "reason");
    let expected = [("b", "changed"), ("c", "left from before")];
    assert_eq!(
        reasons,
        expected.map(|(path, why)| (path, why.to_owned())).into()
    );
    assert_eq!(push.objects(), ["a/new", "b"]);
}

#[test]
fn what_is_not_wanted_is_left_out() {
    let push = Push::to_directory();
    for path in [
        "a.jpg",
        "b.tmp",
        "raw/c.jpg",
        "raw/keep/d.jpg",
        "cache/e.jpg",
        "large.jpg",
        "f.txt",
    ] {
        push.write(path, "content");
    }
    push.write("large.jpg", &"x".repeat(2000));
    push.write(".outboxignore", "cache/\n*.tmp\n");
    push.write("raw/.outboxignore", "c.jpg\n");
    let more = [
        "--include",
        "*.jpg",
        "--exclude",
        "keep/",
        "--max-size",
        "1K",
    ];
    let summary = push.push("pictures", &more);
    assert_says(
        &summary,
        &["uploaded 1 file ", "1 larger than --max-size left out"],
    );
    assert_eq!(push.objects(), ["a.jpg"]);
    push.push("pictures", &[]);
    assert_eq!(
        push.objects(),
        [
            ".outboxignore",
            "a.jpg",
            "f.txt",
            "large.jpg",
            "raw/.outboxignore",
            "raw/keep/d.jpg"
        ]
    );
}

#[test]
fn listed_files_are_delivered_and_no_others() {
    let push = Push::to_directory();
    for path in [
        "a/one",
        "two",
        "three",
        "new\nline",
        "100%25.txt",
        "folder/x",
        "folder/y",
        "not",
    ] {
        push.write(path, path);
    }
    let two = push.tree().join("two").display().to_string();
    for (arguments, input) in [
        (
            &["--files-from", "-"][..],
            format!("a/one\n{two}\nfolder\n\n"),
        ),
        (
            &["--files-from", "-", "--null"],
            "three\0new\nline\0".to_owned(),
        ),
        (
            &["--files-from", "-"],
            "{\"path\": \"100%2525.txt\", \"more\": 1}\n".to_owned(),
        ),
    ] {
        let mut child = push
            .command("pictures", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{input}");
    }
    assert_eq!(
        push.objects(),
        [
            "100%2525.txt",
            "a/one",
            "folder/x",
            "folder/y",
            "new%0Aline",
            "three",
            "two"
        ]
    );
}

#[test]
fn a_listed_file_that_is_not_there_is_a_failure_and_the_rest_arrives() {
    let push = Push::to_directory();
    push.write("here", "1");
    fs::write(push.world.path("list"), "missing\nhere\n../outside\n").unwrap();
    let events = push.events("pictures", &["--files-from", "list"], 1);
    let failed = of_kind(&events, "failed", "error");
    assert!(failed["missing"].contains("No such file"), "{failed:?}");
    assert!(failed["../outside"].contains("no path in"), "{failed:?}");
    assert_eq!(push.objects(), ["here"]);
}

#[test]
fn a_program_that_drives_it_hears_of_each_file_before_it_closes_the_list() {
    use std::io::{BufRead, BufReader};
    let push = Push::to_directory();
    push.write("a", "1");
    push.write("b", "2");
    let mut child = push
        .command("pictures", &["--files-from", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |kind: &str| {
        let line = lines.next().unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], kind, "{line}");
        event
    };
    for name in ["a", "b"] {
        list.write_all(format!("{name}\n").as_bytes()).unwrap();
        assert_eq!(next("queued")["path"], name);
        let uploaded = next("uploaded");
        assert_eq!(uploaded["path"], name);
        assert!(
            uploaded["url"]
                .as_str()
                .unwrap()
                .ends_with(&format!("original/{name}"))
        );
    }
    drop(list);
    assert_eq!(next("summary")["uploaded_files"], 2);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_first_push_does_not_send_what_the_remote_has() {
    let server = s3::Server::in_process();
    for push in [Push::to_directory(), Push::to_s3(&server)] {
        for n in 0..20 {
            push.write(&format!("f/{n}"), &format!("content {n}"));
        }
        make_picture(&push.tree().join("f/p.png"), 50, 50);
        push.push("pictures", &[]);
        // The journal is lost, a file has changed, and another one is new.
        fs::remove_dir_all(push.world.path("state")).unwrap();
        push.write("f/3", "CONTENT 3");
        push.write("f/new", "content 3");
        let events = push.events("pictures", &[], 0);
        let uploaded = of_kind(&events, "uploaded", "bytes");
        assert_eq!(uploaded.into_keys().collect::<Vec<_>>(), ["f/3", "f/new"]);
        let skipped = of_kind(&events, "skipped", "reason");
        assert_eq!(skipped.len(), 20);
        assert!(
            skipped.values().all(|why| why.contains("has it already")),
            "{skipped:?}"
        );
        assert_says(&push.run_verify(&["--full"]), &["22 files"]);

        fs::remove_dir_all(push.world.path("state")).unwrap();
        let summary = push.push("pictures", &["--no-skip-existing"]);
        assert_says(&summary, &["uploaded 22 files"]);
    }
}

#[test]
fn told_to_stop_it_ends_and_the_next_one_goes_on() {
    let server = s3::Server::in_process();
    let push = Push::to_s3(&server);
    for n in 0..2000 {
        push.write(&format!("{}/{n}", n % 50), &format!("content {n}"));
    }
    let child = push
        .command("pictures", &["--workers", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    eventually("some have arrived", || {
        let status = push
            .world
            .outboxfs()
            .args(["status", "pictures", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&status.stdout)
            .is_ok_and(|status| status["delivered_files"].as_u64() > Some(20))
    });
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_says(
        &stderr(&output),
        &["told to stop", "the next push or mount goes on"],
    );

    let events = push.events("pictures", &[], 0);
    let again = of_kind(&events, "uploaded", "bytes").len();
    assert!(again < 1990, "{again} were sent again");
    assert_says(&push.run_verify(&[]), &["2,000 files"]);
}

#[test]
fn a_remote_that_does_not_work_is_said_and_nothing_is_recorded() {
    let mut push = Push::to_directory();
    push.write("a", "1");
    push.remote = "s3://none/p?endpoint=http://127.0.0.1:1".to_owned();
    push.world.variables = vec![
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
    ];
    let before = push.world.everything();
    let output = push.run("pictures", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_says(&stderr(&output), &["127.0.0.1:1"]);
    assert_eq!(push.world.everything(), before);
}

#[test]
fn a_tree_that_holds_its_own_journal_or_remote_is_refused() {
    let push = Push::to_directory();
    let inside = push.tree();
    let inside = inside.display();
    for (flag, value) in [
        ("--remote", format!("file://{inside}/sent")),
        ("--journal", format!("{inside}/j.db")),
        ("--rows", format!("sqlite:{inside}/rows.db")),
    ] {
        let line = push.world.refusal(&["push", "pictures", flag, &value]);
        assert_says(&line, &["would lie inside", flag]);
    }
    let line = push.world.refusal(&["push", "nowhere"]);
    assert_says(&line, &["nowhere does not exist"]);
    let line = push
        .world
        .refusal(&["push", "pictures", "--exclude", "[z-a]"]);
    assert_says(&line, &["'[z-a]'"]);
    let line = push
        .world
        .refusal(&["push", "pictures", "--max-size", "big"]);
    assert_says(&line, &["--max-size", "no size"]);
}

#[test]
fn an_empty_tree_is_delivered_at_once() {
    let push = Push::to_directory();
    assert_says(&push.push("pictures", &[]), &["nothing to upload"]);
}

#[test]
fn links_loops_and_pipes_stay_where_they_are() {
    let push = Push::to_directory();
    push.write("a/file", "1");
    symlink("..", push.tree().join("a/loop")).unwrap();
    symlink("/etc/passwd", push.tree().join("out")).unwrap();
    symlink("self", push.tree().join("self")).unwrap();
    let pipe = Command::new("mkfifo")
        .arg(push.tree().join("pipe"))
        .status();
    assert!(pipe.unwrap().success());
    push.push("pictures", &[]);
    assert_eq!(push.objects(), ["a/file"]);
}

#[test]
fn odd_names_are_one_line_each_in_every_output() {
    let push = Push::to_directory();
    let names: [&[u8]; 5] = [
        b"new\nline",
        b"tab\there",
        b"quote\"'",
        b"inv\xff\xfealid",
        b"esc\x1b[31m",
    ];
    for name in names {
        fs::write(push.tree().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    let text = push.push("pictures", &["--dry-run"]);
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(
        text.lines()
            .take(5)
            .all(|line| line.split('\t').count() == 3),
        "{text}"
    );
    assert!(!text.contains('\x1b'));
    let events = push.events("pictures", &[], 0);
    let uploaded = of_kind(&events, "uploaded", "bytes");
    let expected = [
        "esc%1B[31m",
        "inv%FF%FEalid",
        "new%0Aline",
        "quote\"'",
        "tab%09here",
    ];
    assert_eq!(uploaded.into_keys().collect::<Vec<_>>(), expected);
    assert_says(&push.run_verify(&[]), &["5 files"]);
}

#[test]
fn what_cannot_be_read_is_said_and_counted_and_the_rest_arrives() {
    let push = Push::to_directory();
    push.write("open", "1");
    push.write("secret", "2");
    push.write("locked/file", "3");
    let lock = |path: &str, mode| {
        fs::set_permissions(push.tree().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    lock("secret", 0o000);
    lock("locked", 0o000);
    let mut command = push.command("pictures", &[]);
    if rustix::process::geteuid().is_root() {
        // Root may read everything.
        for path in ["", "pictures"] {
            let path = push.world.root.path().join(path);
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    lock("locked", 0o755);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert_says(
        &said,
        &[
            "secret: it cannot be looked at",
            "locked: it",
            "2 unreadable",
        ],
    );
    assert_eq!(push.objects(), ["open"]);
}

#[test]
fn a_key_that_is_too_long_fails_at_once_and_says_so() {
    let server = s3::Server::in_process();
    let push = Push::to_s3(&server);
    push.write("short", "1");
    let deep = format!("{}/x", vec!["a".repeat(200); 6].join("/"));
    push.write(&deep, "2");
    let events = push.events("pictures", &[], 1);
    let failed = of_kind(&events, "failed", "error");
    assert!(failed[deep.as_str()].contains("1,024"), "{failed:?}");
    let summary = events.last().unwrap();
    assert_eq!(
        (&summary["failed_files"], &summary["uploaded_files"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn what_failed_is_tried_again_by_the_next_push_and_by_retry() {
    let push = Push::to_directory();
    push.write("a/b", "1");
    push.write("c", "2");
    // A file where a folder has to be.
    fs::create_dir_all(push.world.path("remote/original")).unwrap();
    fs::write(push.world.path("remote/original/a"), "in the way").unwrap();
    let output = push.run("pictures", &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_says(&stderr(&output), &["a/b: ", "left: 1 failed file"]);

    let retry = |arguments: &[&str]| {
        let output = push
            .world
            .outboxfs()
            .arg("retry")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_says(&retry(&["pictures/c"]), &["nothing has failed there"]);
    assert_says(&retry(&["pictures/a"]), &["1 upload queued again"]);
    assert_says(
        &retry(&["--all", "pictures/c"]),
        &["nothing has failed there"],
    );

    fs::remove_file(push.world.path("remote/original/a")).unwrap();
    push.push("pictures", &[]);
    push.assert_arrived();
}

#[test]
fn finished_folders_are_marked_and_markers_are_no_files() {
    let push = Push::to_directory();
    push.write("good/a", "1");
    push.write("bad/b", "2");
    push.write("bad/sub/c", "3");
    push.write("theirs/success.json", "{}");
    fs::create_dir_all(push.world.path("remote/original/bad")).unwrap();
    fs::write(push.world.path("remote/original/bad/sub"), "in the way").unwrap();
    let output = push.run("pictures", &["--markers"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let marker = |path: &str| -> Option<Value> {
        let text = fs::read(push.tree().join(path)).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    };
    let good = marker("good/success.json").unwrap();
    assert_eq!(
        (&good["folder"], &good["files"]),
        (&"good".into(), &1.into())
    );
    assert!(
        good["delivered"][0]["url"]
            .as_str()
            .unwrap()
            .ends_with("original/good/a")
    );
    let bad = marker("bad/sub/failed.json").unwrap();
    assert_eq!(bad["failed"][0]["name"], "c");
    assert!(
        bad["failed"][0]["error"]
            .as_str()
            .unwrap()
            .contains("is a file there")
    );
    assert!(marker("bad/success.json").is_some());
    assert_eq!(
        marker("theirs/success.json").unwrap(),
        serde_json::json!({})
    );

    fs::remove_file(push.world.path("remote/original/bad/sub")).unwrap();
    push.push("pictures", &["--markers"]);
    assert!(marker("bad/sub/success.json").is_some());
    assert!(marker("bad/sub/failed.json").is_none());
    assert_says(&push.push("pictures", &[]), &["nothing to upload"]);
    assert_eq!(
        push.objects(),
        ["bad/b", "bad/sub/c", "good/a", "theirs/success.json"]
    );
}

#[test]
fn a_mounted_tree_is_delivered_by_its_daemon() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir(rig.world.path("view")).unwrap();
    let remote = format!("file://{}", rig.remote().display());
    for (mountpoint, below) in [("pictures", false), ("view", true)] {
        let mounted = rig.run(&["mount", "pictures", mountpoint, "--remote", &remote]);
        assert_eq!(mounted.status.code(), Some(0), "{mounted:?}");
        let name = format!("in-{mountpoint}");
        fs::write(rig.world.path(mountpoint).join(&name), "through the mount").unwrap();
        if below {
            fs::create_dir(rig.pictures().join("deep")).unwrap();
            fs::write(rig.pictures().join("deep/below"), "below the mount").unwrap();
            // What is new there may still be being written.
            std::thread::sleep(std::time::Duration::from_millis(2100));
        }
        let output = rig.run(&["push", mountpoint]);
        let unmounted = rig.run(&["unmount", mountpoint]);
        assert_eq!(unmounted.status.code(), Some(0), "{unmounted:?}");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_says(
            &String::from_utf8(output.stdout).unwrap(),
            &["everything is delivered"],
        );
        assert_eq!(rig.delivered(&name), b"through the mount");
    }
    assert_eq!(rig.delivered("deep/below"), b"below the mount");
}

#[test]
fn a_daemon_retries_when_asked() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir_all(rig.remote().join("original")).unwrap();
    fs::write(rig.remote().join("original/a"), "in the way").unwrap();
    fs::create_dir(rig.pictures().join("a")).unwrap();
    fs::write(rig.pictures().join("a/b"), "1").unwrap();
    eventually("it has failed", || {
        rig.snapshot().is_some_and(|now| now.failed_files == 1)
    });
    fs::remove_file(rig.remote().join("original/a")).unwrap();
    let output = rig.run(&["retry", "--all", "pictures"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "1 upload queued again\n"
    );
    rig.delivered_all();
    assert_eq!(rig.delivered("a/b"), b"1");
    rig.unmount();
}

#[test]
fn verify_finds_what_is_missing_different_and_extra() {
    let server = s3::Server::in_process();
    for push in [Push::to_directory(), Push::to_s3(&server)] {
        for name in ["same", "missing", "shorter", "other", "in/deep", "inside"] {
            push.write(name, &format!("the content of {name}"));
        }
        make_picture(&push.tree().join("p.png"), 20, 20);
        push.push("pictures", &[]);
        assert_says(&push.run_verify(&[]), &["7 files", "as delivered"]);
        push.write("waiting", "not delivered");
        push.push("pictures", &["--scan-only"]);

        let remote = push.open_remote();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            remote.delete(&key("missing")).await.unwrap();
            remote
                .delete(&Key::new(Artifact::Thumbnail, &path("p.png")))
                .await
                .unwrap();
            for (name, content) in [
                ("shorter", "short"),
                ("other", "The content of other"),
                ("in/extra", "x"),
            ] {
                remote.put(put(name, content)).await.unwrap();
            }
        });
        for more in [&["--json"][..], &["--json", "--full"]] {
            let output = push.verify("pictures", more);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let mut events = events(&output.stdout);
            let summary = events.pop().unwrap();
            let mut found: Vec<String> = events
                .iter()
                .map(|event| format!("{} {}", event["event"], event["key"]).replace('"', ""))
                .collect();
            found.sort();
            assert_eq!(
                found,
                [
                    "different original/other",
                    "different original/shorter",
                    "extra original/in/extra",
                    "missing original/missing",
                    "missing thumbnail/p.png"
                ]
            );
            assert_eq!(
                (&summary["verified_files"], &summary["pending_files"]),
                (&7.into(), &1.into())
            );
        }
        let of_folder = push.verify("pictures/in", &[]);
        assert_eq!(of_folder.status.code(), Some(0), "{of_folder:?}");
        let said = String::from_utf8(of_folder.stdout).unwrap();
        assert_says(&said, &["extra\toriginal/in/extra\n", "1 file "]);
    }
}

#[test]
fn verify_in_full_reads_what_a_listing_does_not_show() {
    let push = Push::to_directory();
    push.write("a", "the content");
    push.push("pictures", &[]);
    let object = push.world.path("remote/original/a");
    let mut file = fs::File::options().write(true).open(object).unwrap();
    file.write_all(b"THE").unwrap();
    assert_says(&push.run_verify(&[]), &["1 file "]);
    let output = push.verify("pictures", &["--full"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(
        &said,
        &["different\toriginal/a\tits content is not what was delivered"],
    );
}

#[test]
fn a_directory_that_was_never_pushed_cannot_be_verified() {
    let world = World::new();
    let line = world.refusal(&["verify", "pictures"]);
    assert_says(&line, &["never mounted or pushed"]);
    let line = world.refusal(&["retry", "pictures"]);
    assert_says(&line, &["never mounted or pushed"]);
}

#[test]
fn check_says_each_step_and_leaves_nothing() {
    let server = s3::Server::in_process();
    for push in [Push::to_directory(), Push::to_s3(&server)] {
        let rows = format!("sqlite:{}", push.world.path("rows.db").display());
        let arguments = ["check", "--remote", &push.remote, "--rows", &rows];
        let output = push.world.outboxfs().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        for step in ["write", "look", "list", "read", "delete", "rows"] {
            assert!(
                said.lines()
                    .any(|line| line.starts_with(step) && line.contains("ok")),
                "{said}"
            );
        }
        assert_eq!(push.objects(), Vec::<String>::new());
    }
}

#[test]
fn check_says_what_does_not_work() {
    let mut push = Push::to_directory();
    push.world.variables = vec![
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
    ];
    let remote = "s3://none/p?endpoint=http://127.0.0.1:1";
    let output = push
        .world
        .outboxfs()
        .args(["check", "--remote", remote])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("write"), "{said}");
    assert_says(&said, &["FAILED", "127.0.0.1:1"]);
}

impl Push {
    fn open_remote(&self) -> std::sync::Arc<dyn Remote> {
        let environment = Environment::process()
            .with("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
            .with("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY);
        let url = self.remote.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(open_with(&url, &environment)).unwrap()
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(Artifact::Original, &path(text))
}

fn put(name: &str, content: &str) -> Put {
    Put {
        key: key(name),
        hash: blake3::hash(content.as_bytes()),
        body: Body::Bytes(content.to_owned().into()),
        content_type: "text/plain".to_owned(),
        decoded: None,
        metadata: Vec::new(),
    }
}
