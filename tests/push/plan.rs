//! Recording without sending, and not sending what is there.

use std::fs;

use crate::s3;
use crate::tree::make_picture;
use crate::world::assert_says;
use crate::{Push, of_kind};
use serde_json::Value;

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

    // What was never delivered, and is gone, would not be deleted.
    push.push("pictures", &[]);
    push.write("d", "never delivered");
    push.push("pictures", &["--scan-only"]);
    fs::remove_file(push.tree().join("d")).unwrap();
    fs::remove_file(push.tree().join("b")).unwrap();
    fs::remove_dir_all(push.tree().join("a")).unwrap();
    let text = push.push("pictures", &["--dry-run"]);
    assert_eq!(text, "would send 0 files (0 B)\n");
    let text = push.push("pictures", &["--dry-run", "--sync-deletes"]);
    let expected = "b\tdeleted\na/new\tdeleted\nwould send 0 files (0 B); would delete 2 files\n";
    assert_eq!(text, expected);
    let events = push.events("pictures", &["--dry-run", "--sync-deletes"], 0);
    let deleted = of_kind(&events, "would_delete", "event");
    assert_eq!(deleted.into_keys().collect::<Vec<_>>(), ["a/new", "b"]);
    assert_eq!(push.objects(), ["a/new", "b", "c"]);
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
