//! What no tree should hold, and some do.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Key};

use crate::s3;
use crate::tree::contents;
use crate::world::assert_says;
use crate::{Push, of_kind, stderr};

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
    let again = push.run("pictures", &[]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let said = String::from_utf8(again.stdout).unwrap();
    assert_says(&said, &["nothing was uploaded"]);
}

#[test]
fn a_path_of_5000_bytes_is_found_and_its_failure_is_said() {
    let push = Push::to_directory();
    push.write("short", "1");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    let mut folder = rustix::fs::open(push.tree(), flags, mode).unwrap();
    let name = "d".repeat(199);
    for _ in 0..25 {
        rustix::fs::mkdirat(&folder, &*name, mode).unwrap();
        folder = rustix::fs::openat(&folder, &*name, flags, mode).unwrap();
    }
    let create = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    drop(rustix::fs::openat(&folder, "file", create, mode).unwrap());
    let planned = push.run("pictures", &["--dry-run"]);
    assert_says(&String::from_utf8(planned.stdout).unwrap(), &["2 files"]);
    let events = push.events("pictures", &[], 1);
    let failed = of_kind(&events, "failed", "error");
    let (path, error) = failed.iter().next().unwrap();
    assert_eq!(path.len(), 25 * 200 + 4);
    assert_says(error, &["File name too long", "4,096"]);
    assert_eq!(push.objects(), ["short"]);
}

#[test]
fn files_that_grow_and_vanish_while_they_are_pushed_arrive_whole_or_not_at_all() {
    let push = Push::to_directory();
    for n in 0..300 {
        push.write(&format!("{}/{n}", n % 10), &"x".repeat(n));
    }
    let mut child = push
        .command("pictures", &["--workers", "2", "--quiet"])
        .spawn()
        .unwrap();
    let mut round = 0;
    while child.try_wait().unwrap().is_none() {
        for n in (0..300).step_by(7) {
            push.write(&format!("{}/{n}", n % 10), &"y".repeat(n + round));
            let _ = fs::remove_file(push.tree().join(format!("{}/{}", (n + 1) % 10, n + 1)));
        }
        round += 1;
        if round == 50 {
            break;
        }
    }
    // What was changed at the last moment is found by the next one.
    child.wait().unwrap();
    push.push("pictures", &[]);
    let objects = contents(&push.world.path("remote/original"));
    for (path, content) in contents(&push.tree()) {
        assert_eq!(objects[&path], content, "{path}");
    }
}

#[test]
fn odd_names_fail_in_one_line_each() {
    let push = Push::to_directory();
    let names: [&[u8]; 4] = [b"new\nline", b"tab\there", b"quote\"'", b"inv\xff\xfealid"];
    fs::create_dir_all(push.world.path("remote/original")).unwrap();
    for name in names {
        let folder = push.tree().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
        // A file where a folder has to be.
        let key = Key::new(Artifact::Original, &RelPath::parse(name).unwrap());
        fs::write(push.world.path("remote").join(key.as_str()), "in the way").unwrap();
    }
    let output = push.run("pictures", &["--markers"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert_eq!(
        said.lines()
            .filter(|line| line.contains("is a file there"))
            .count(),
        4
    );
    assert!(
        !said.contains('\t') && !said.contains("quote\"'\n"),
        "{said}"
    );
    let status = |more: &[&str]| {
        let arguments = [&["status", "pictures"], more].concat();
        let output = push.world.outboxfs().args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = status(&[]);
    assert_says(&text, &["4 files failed", "new\\nline/x", "tab\\there/x"]);
    assert!(!text.contains('\t'), "{text}");
    let json: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert_eq!(json["folders"]["failed"], 4);
    assert_eq!(json["last_errors"].as_array().unwrap().len(), 4);
    let marker = push.tree().join("new\nline/failed.json");
    let marker: serde_json::Value = serde_json::from_slice(&fs::read(marker).unwrap()).unwrap();
    assert_eq!(marker["folder"], "new%0Aline");
}
