//! What is taken of a tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use outboxfs::status::Snapshot;

use crate::Push;
use crate::rig::{Rig, eventually};
use crate::tree::contents;
use crate::world::assert_says;

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
fn links_are_followed_within_the_tree_if_wanted() {
    let push = Push::to_directory();
    push.write("real/a", "1");
    push.write("real/deep/b", "2");
    fs::create_dir(push.tree().join("links")).unwrap();
    fs::write(push.world.path("outside"), "3").unwrap();
    for (target, link) in [
        ("../real/a", "links/file"),
        ("../real", "links/folder"),
        ("..", "links/loop"),
        ("../..", "real/deep/up"),
        ("../../outside", "links/out"),
        ("/etc/passwd", "links/absolute"),
        ("nowhere", "links/dangling"),
        ("self", "links/self"),
    ] {
        symlink(target, push.tree().join(link)).unwrap();
    }
    let more = ["--follow-symlinks"];
    push.push("pictures", &more);
    let expected = [
        "links/file",
        "links/folder/a",
        "links/folder/deep/b",
        "real/a",
        "real/deep/b",
    ];
    assert_eq!(push.objects(), expected);
    assert_says(&push.push("pictures", &more), &["nothing to upload"]);
    push.write("real/a", "changed");
    assert_says(&push.push("pictures", &more), &["uploaded 3 files"]);
    let delivered = push.world.path("remote/original/links/folder/a");
    assert_eq!(fs::read_to_string(delivered).unwrap(), "changed");
}

/// Files on their way at a time, as seen now and then while they are pushed slowly.
fn seen_uploading(push: &Push, more: &[&str]) -> Vec<Vec<String>> {
    let slowly = [&["--bwlimit", "60K", "--quiet"], more].concat();
    let mut child = push.command("pictures", &slowly).spawn().unwrap();
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let status = push
            .world
            .outboxfs()
            .args(["status", "pictures", "--json"])
            .output()
            .unwrap();
        let Ok(status) = serde_json::from_slice::<Snapshot>(&status.stdout) else {
            continue;
        };
        seen.push(status.uploading.into_iter().map(|file| file.path).collect());
    }
    assert!(child.wait().unwrap().success());
    push.assert_arrived();
    seen
}

fn folders_of(files: &[String]) -> BTreeMap<&str, usize> {
    let mut folders = BTreeMap::new();
    for file in files {
        *folders.entry(file.split_once('/').unwrap().0).or_default() += 1;
    }
    folders
}

#[test]
fn folders_and_files_of_a_folder_at_a_time_are_limited() {
    let push = Push::to_directory();
    for folder in ["a", "b", "c", "d"] {
        for n in 0..8 {
            push.write(
                &format!("{folder}/{n}"),
                &format!("{folder}{n}").repeat(10_000),
            );
        }
    }
    let seen = seen_uploading(&push, &["--folder-workers", "2", "--file-workers", "3"]);
    let seen: Vec<_> = seen.iter().map(|files| folders_of(files)).collect();
    assert!(seen.iter().all(|folders| folders.len() <= 2), "{seen:?}");
    assert!(
        seen.iter()
            .flat_map(|folders| folders.values())
            .all(|files| *files <= 3),
        "{seen:?}"
    );
    let both =
        |folders: &BTreeMap<&str, usize>| folders.values().filter(|files| **files > 1).count() == 2;
    assert!(seen.iter().any(both), "{seen:?}");
}

#[test]
fn one_file_after_the_other_if_wanted() {
    let push = Push::to_directory();
    for n in 0..6 {
        push.write(&format!("a/{n}"), &format!("{n}").repeat(40_000));
    }
    let seen = seen_uploading(&push, &["--sequential", "--workers", "8"]);
    assert!(seen.iter().any(|files| files.len() == 1), "{seen:?}");
    assert!(seen.iter().all(|files| files.len() <= 1), "{seen:?}");
}

#[test]
fn a_mount_takes_what_a_scan_takes() {
    let Some(rig) = Rig::new() else { return };
    let pictures = rig.pictures();
    let write = |path: &str, content: &str| {
        let path = pictures.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let settings = ["--exclude", "secret*", "--max-size", "1K"];
    rig.mount_with(&settings);
    write(".outboxignore", "*.tmp\ncache/\n");
    write("keep/.outboxignore", "!*.tmp\n");
    for path in [
        "a.jpg",
        "b.tmp",
        "keep/c.tmp",
        "cache/d.jpg",
        "secret.jpg",
        "was.jpg",
        "folder/e.jpg",
        "folder/f.tmp",
    ] {
        write(path, path);
    }
    write("large.jpg", &"x".repeat(2000));
    write("success.json", "{\n  \"written_by\": \"outboxfs\",\n}");
    write("theirs/success.json", "{}");
    write("upload.tmp", "made under another name");
    fs::rename(pictures.join("upload.tmp"), pictures.join("upload.jpg")).unwrap();
    rig.delivered_all();
    let delivered = [
        ".outboxignore",
        "a.jpg",
        "folder/e.jpg",
        "keep/.outboxignore",
        "keep/c.tmp",
        "theirs/success.json",
        "upload.jpg",
        "was.jpg",
    ];
    let objects = || -> Vec<String> {
        contents(&rig.remote().join("original"))
            .into_keys()
            .collect()
    };
    assert_eq!(objects(), delivered);
    assert_eq!(rig.snapshot().unwrap().delivered_files, 8);

    // Names that are not taken any more, and a folder that is now.
    fs::rename(pictures.join("was.jpg"), pictures.join("was.tmp")).unwrap();
    fs::rename(pictures.join("cache"), pictures.join("found")).unwrap();
    eventually("what was left out has arrived", || {
        rig.remote().join("original/found/d.jpg").exists()
    });
    rig.delivered_all();
    assert_eq!(rig.snapshot().unwrap().delivered_files, 8);
    // Rules that do not hold any more.
    fs::remove_file(pictures.join("folder/f.tmp")).unwrap();
    write(".outboxignore", "was.tmp\n");
    eventually("what was left out has arrived", || {
        rig.remote().join("original/b.tmp").exists()
    });
    rig.delivered_all();
    let before = objects();
    rig.unmount();

    // A scan agrees.
    rig.mount_with(&settings);
    rig.delivered_all();
    let snapshot = rig.snapshot().unwrap();
    assert_eq!((snapshot.suspect_files, snapshot.delivered_files), (0, 9));
    assert_eq!(objects(), before);
    rig.unmount();
}
