//! What a push brings, and what a later one does.

use std::fs;
use std::process::Stdio;

use crate::rig::eventually;
use crate::s3;
use crate::tree::make_picture;
use crate::world::assert_says;
use crate::{Push, inode, of_kind, stderr};
use serde_json::Value;

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
fn a_thumbnail_that_cannot_be_made_is_said_once_and_the_original_arrives() {
    let push = Push::to_directory();
    let damaged = push.tree().join("damaged.png");
    make_picture(&damaged, 60, 40);
    let bytes = fs::read(&damaged).unwrap();
    fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    make_picture(&push.tree().join("good.png"), 60, 40);
    let output = push.run("pictures", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stderr(&output);
    let told = "damaged.png: no thumbnail: The PNG picture cannot be decoded: ";
    assert_eq!(said.matches(told).count(), 1, "{said}");
    push.assert_arrived();
    assert_says(&push.push("pictures", &[]), &["nothing to upload"]);

    let journal = push.world.path("another.db");
    let another = ["--no-skip-existing", "--journal", journal.to_str().unwrap()];
    let events = push.events("pictures", &another, 0);
    let errors = of_kind(&events, "uploaded", "thumbnail_error");
    assert_says(&errors["damaged.png"], &["cannot be decoded"]);
    assert_eq!(errors["good.png"], "null");
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
fn an_empty_tree_is_delivered_at_once() {
    let push = Push::to_directory();
    assert_says(&push.push("pictures", &[]), &["nothing to upload"]);
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
