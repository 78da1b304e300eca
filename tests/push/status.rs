//! `outboxfs status`, with and without somebody at work.

use std::fs;

use outboxfs::status::Snapshot;

use crate::Push;
use crate::rig::eventually;
use crate::tree::make_picture;
use crate::world::assert_says;

impl Push {
    fn status(&self) -> Snapshot {
        let output = self
            .world
            .outboxfs()
            .args(["status", "pictures", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn status_text(&self, more: &[&str], code: i32) -> String {
        let output = self
            .world
            .outboxfs()
            .args([&["status", "pictures"], more].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn folders_are_counted_by_what_became_of_their_files() {
    let push = Push::to_directory();
    push.write("good/a", "1");
    push.write("good/deeper/b", "2");
    push.write("bad/sub/c", "3");
    fs::create_dir_all(push.world.path("remote/original/bad")).unwrap();
    fs::write(push.world.path("remote/original/bad/sub"), "in the way").unwrap();
    push.run("pictures", &[]);
    push.write("waiting/d", "4");
    push.push("pictures/waiting", &["--scan-only"]);
    let folders = push.status().folders.unwrap();
    // A push of one folder does not queue again what failed in others.
    assert_eq!(
        (
            folders.total,
            folders.delivered,
            folders.queued,
            folders.failed
        ),
        (4, 2, 1, 1)
    );
    let text = push.status_text(&[], 0);
    assert_says(
        &text,
        &[
            "1 queued, 1 failed, 2 delivered",
            "2/3 folders successful",
            "bad/sub/c (original, 1 attempt, given up)",
        ],
    );
}

#[test]
fn a_push_at_work_tells_how_far_it_is() {
    let push = Push::to_directory();
    for n in 0..30 {
        push.write(&format!("{n}"), &format!("{n} ").repeat(5_000));
    }
    make_picture(&push.tree().join("p.png"), 20, 20);
    let mut child = push
        .command("pictures", &["--bwlimit", "30K", "--workers", "3"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is under way", || {
        let status = push
            .world
            .outboxfs()
            .args(["status", "pictures", "--json"])
            .output();
        serde_json::from_slice::<Snapshot>(&status.unwrap().stdout).is_ok_and(|status| {
            status.bytes_per_second > 0.0
                && status.mean_upload_milliseconds.is_some()
                && !status.uploading.is_empty()
        })
    });
    let status = push.status();
    assert!(status.pushing);
    assert_eq!(status.pid, Some(child.id()));
    assert!((1..=3).contains(&status.workers));
    assert!(status.mean_upload_milliseconds.unwrap() > 0.0);
    assert!(status.p95_upload_milliseconds.unwrap() > 0.0);
    let used = status.resources.unwrap();
    assert!(used.memory_bytes > 1 << 20 && used.cpu_seconds > 0.0);
    assert!(
        status
            .uploading
            .iter()
            .all(|file| file.sent_bytes <= file.bytes)
    );
    assert_says(
        &push.status_text(&[], 0),
        &["95 in 100 within", "pushed by", "of a processor", "B/s"],
    );

    // It is watched to its end.
    let watched = push.status_text(&["--watch"], 0);
    assert!(child.wait().unwrap().success());
    let lines: Vec<&str> = watched.lines().collect();
    assert!(lines[0].starts_with("NOT safe to unplug, "), "{watched}");
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("safe to unplug: everything is delivered, 31 files"),
        "{watched}"
    );
}

#[test]
fn watching_ends_where_nobody_delivers() {
    let push = Push::to_directory();
    push.write("a", "1");
    push.push("pictures", &["--scan-only"]);
    let text = push.status_text(&["--watch"], 1);
    assert_says(&text, &["nobody delivers", "1 queued"]);
}
