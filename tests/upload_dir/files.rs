//! Status, lists and what is known of each file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::attributes::attribute as attribute_of;
use crate::rig::{Rig, eventually};
use crate::{block, of, read, snapshot, write};

#[test]
fn each_directory_tells_of_what_is_below_it() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "a/b/bad");
    rig.mount();
    write(&rig, "a/one", "1");
    write(&rig, "a/b/two", "22");
    write(&rig, "a/b/bad", "333");
    write(&rig, "c/three", "4444");
    eventually("all but one is delivered", || {
        snapshot(&rig, "a").failed_files == 1 && snapshot(&rig, "").queued_files == 0
    });

    let (all, a, b, c) = (
        snapshot(&rig, ""),
        snapshot(&rig, "a"),
        snapshot(&rig, "a/b"),
        snapshot(&rig, "c"),
    );
    let told = |s: &outboxfs::status::Snapshot| {
        (
            s.delivered_files,
            s.delivered_bytes,
            s.failed_files,
            s.safe_to_unplug,
        )
    };
    assert_eq!(told(&all), (3, 7, 1, false));
    assert_eq!(told(&a), (2, 3, 1, false));
    assert_eq!(told(&b), (1, 2, 1, false));
    assert_eq!(told(&c), (1, 4, 0, true));
    assert_eq!(
        (all.below.as_deref(), b.below.as_deref()),
        (None, Some("a/b"))
    );
    assert_eq!(b.last_errors.len(), 1);
    assert_eq!(b.last_errors[0].path, "a/b/bad");
    assert!(c.last_errors.is_empty());

    let text = read(&rig, "c", "status");
    assert_eq!(
        text.lines().next(),
        Some("Safe to unplug, as far as 'c' goes: the only file is delivered.")
    );
    let text = read(&rig, "a", "status");
    assert_eq!(
        text.lines().next(),
        Some("NOT safe to unplug: 1 file failed below 'a'.")
    );

    // Failures are named as they are seen from there.
    let failed = |directory| {
        let text = read(&rig, directory, "failed");
        let paths = text.lines().map(|line| line.split('\t').next().unwrap());
        paths.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(failed(""), ["a/b/bad"]);
    assert_eq!(failed("a"), ["b/bad"]);
    assert_eq!(failed("a/b"), ["bad"]);
    assert!(failed("c").is_empty());

    // A folder takes along what is told of it.
    fs::rename(rig.pictures().join("a/b"), rig.pictures().join("c/b")).unwrap();
    eventually("the folder is delivered where it is now", || {
        let (a, c) = (snapshot(&rig, "a"), snapshot(&rig, "c"));
        a.safe_to_unplug && c.delivered_files == 3 && c.safe_to_unplug
    });
    rig.unmount();
}

#[test]
fn what_waits_is_listed_page_by_page_and_stays_as_it_was_opened() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let paused = rig.run(&["pause", "pictures"]);
    assert!(paused.status.success(), "{paused:?}");
    // More than one page, in more than one folder; long names, so that it is more than one read(2).
    let long = "x".repeat(200);
    let mut all = BTreeSet::new();
    for number in 0..1500 {
        let path = format!("{}/{number}-{long}", number % 3);
        write(&rig, &path, "content");
        all.insert(path);
    }
    let paths = |text: &str| -> BTreeSet<String> {
        let fields = text
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        fields
            .map(|fields| {
                assert_eq!(fields[1..], ["7", "queued", "0", ""]);
                fields[0].to_owned()
            })
            .collect()
    };
    let text = read(&rig, "", "pending");
    assert_eq!(text.lines().count(), all.len());
    assert_eq!(paths(&text), all);
    let below: BTreeSet<_> = paths(&read(&rig, "1", "pending"))
        .iter()
        .map(|path| format!("1/{path}"))
        .collect();
    assert!(below.len() == 500 && below.is_subset(&all));

    // Opened, it stays as it was, forwards and backwards, whatever happens.
    let list = File::open(of(&rig, "", "pending")).unwrap();
    let at = |offset: u64| {
        let mut buffer = [0; 1000];
        let count = list.read_at(&mut buffer, offset).unwrap();
        buffer[..count].to_vec()
    };
    let first = at(0);
    let resumed = rig.run(&["resume", "pictures"]);
    assert!(resumed.status.success(), "{resumed:?}");
    rig.delivered_all();
    assert_eq!(at(0), first);
    assert_eq!(at(100_000), text.as_bytes()[100_000..101_000]);
    assert_eq!(at(50_000), text.as_bytes()[50_000..51_000]);
    assert_eq!(at(text.len() as u64), b"");
    assert_eq!(read(&rig, "", "pending"), "");
    drop(list);
    rig.unmount();
}

#[test]
fn what_is_written_down_is_pending_at_once() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .retain(|(name, _)| *name != "OUTBOXFS_SETTLE");
    rig.world
        .variables
        .push(("OUTBOXFS_SETTLE", "3600000".into()));
    rig.mount();
    for number in 0..200 {
        write(&rig, &format!("d/{number}"), "content");
        let pending = read(&rig, "d", "pending");
        assert_eq!(pending.lines().count(), number + 1);
        assert_eq!(snapshot(&rig, "d").queued_files, number as u64 + 1);
        let about = read(&rig, "d", &format!("files/{number}.json"));
        assert!(about.contains("\"state\": \"queued\""), "{about}");
    }
    rig.unmount();
}

#[test]
fn all_that_is_known_of_one_file_is_a_file() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "d/bad");
    rig.mount();
    fs::create_dir(rig.pictures().join("d")).unwrap();
    crate::tree::make_picture(&rig.pictures().join("d/a.png"), 300, 200);
    write(&rig, "d/bad", "content");
    let about = |name: &str| -> Option<serde_json::Value> {
        let text = fs::read(of(&rig, "d", &format!("files/{name}.json"))).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    };
    eventually("one is delivered and the other is not", || {
        let state = |name| Some(about(name)?["state"].clone());
        state("a.png") == Some("delivered".into()) && state("bad") == Some("failed".into())
    });
    let picture = about("a.png").unwrap();
    let content = fs::read(rig.pictures().join("d/a.png")).unwrap();
    assert_eq!(picture["path"], "d/a.png");
    assert_eq!(picture["blake3"], *blake3::hash(&content).to_hex());
    assert_eq!(picture["size"], content.len());
    assert_eq!(picture["version"], picture["delivered_version"]);
    assert_eq!(
        (&picture["width"], &picture["height"]),
        (&300.into(), &200.into())
    );
    assert_eq!(picture["error"], serde_json::Value::Null);
    let url = |artifact: &str| format!("file://{}/{artifact}/d/a.png", rig.remote().display());
    assert_eq!(picture["url"], url("original"));
    assert_eq!(picture["thumbnail_url"], url("thumbnail"));
    let bad = about("bad").unwrap();
    assert!(bad["error"].as_str().unwrap().contains("d/bad"), "{bad}");
    assert!(bad["attempts"].as_u64().unwrap() > 0);
    assert_eq!(
        (&bad["url"], &bad["blake3"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );

    let names: BTreeSet<_> = fs::read_dir(of(&rig, "d", "files"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["a.png.json".to_owned(), "bad.json".to_owned()])
    );
    assert!(about("nobody").is_none());
    // It comes with its file, however soon it was asked for.
    write(&rig, "d/nobody", "here I am");
    assert!(about("nobody").is_some());
    fs::remove_file(rig.pictures().join("d/nobody")).unwrap();
    eventually("it goes with its file", || about("nobody").is_none());
}

/// Every file, and every attribute, of what has arrived, of what is being sent, and of what waits.
#[test]
fn all_is_told_while_a_file_is_on_its_way() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--workers", "1", "--bwlimit", "20K"]);
    write(&rig, "d/first", "arrived");
    rig.delivered_all();
    write(&rig, "d/film", &"x".repeat(600_000));
    eventually("some of it is there", || {
        let now = snapshot(&rig, "");
        now.uploading.first().is_some_and(|one| one.sent_bytes > 0)
    });
    write(&rig, "d/next", "waits");

    let text = read(&rig, "", "status");
    assert!(text.starts_with("NOT safe to unplug: 2 files"), "{text}");
    let uploading = text.split("\nuploading\n").nth(1).unwrap();
    assert!(uploading.contains("d/film"), "{text}");
    let now = snapshot(&rig, "d");
    assert_eq!((now.delivered_files, now.queued_files), (1, 2));
    assert_eq!(now.uploading[0].bytes, 600_000);
    assert!(now.uploading[0].sent_bytes < 600_000);
    let pending = read(&rig, "d", "pending");
    let told: Vec<Vec<&str>> = pending
        .lines()
        .map(|line| line.split('\t').take(3).collect())
        .collect();
    let film = ["film", "600000", "uploading"];
    assert_eq!(told, [film, ["next", "5", "queued"]]);
    assert_eq!(read(&rig, "", "failed") + &read(&rig, "", "suspect"), "");
    // The first has ended; the other goes on.
    let batches = read(&rig, "", "batches");
    assert!(batches.ends_with("\t1\t1\t0\n"), "{batches}");
    assert_eq!(batches.lines().count(), 1);
    let url = format!("file://{}/original/d/first", rig.remote().display());
    assert_eq!(read(&rig, "d", "recent"), format!("first\t{url}\n"));
    let metrics = read(&rig, "", "metrics");
    assert!(
        metrics.contains("\noutboxfs_uploads_total 1\n"),
        "{metrics}"
    );
    let about = |name: &str| -> serde_json::Value {
        let text = read(&rig, "d", &format!("files/{name}.json"));
        serde_json::from_str(&text).unwrap()
    };
    for (name, state) in [
        ("first", "delivered"),
        ("film", "uploading"),
        ("next", "queued"),
    ] {
        let (told, is_there) = (about(name), state == "delivered");
        assert_eq!(told["state"], state);
        for key in ["url", "blake3", "delivered_at"] {
            assert_eq!(told[key].is_null(), !is_there, "{key}: {told}");
        }
        let of = |attribute: &str| attribute_of(&rig, &format!("d/{name}"), attribute);
        assert_eq!(of("state").as_deref(), Some(state));
        assert_eq!(of("version").as_deref(), Some("1"));
        assert_eq!(of("attempts").as_deref(), Some("0"));
        for attribute in ["url", "blake3", "delivered_at"] {
            assert_eq!(of(attribute).is_some(), is_there, "{attribute} of {name}");
        }
        assert_eq!((of("thumbnail_url"), of("error")), (None, None));
    }
    fs::write(of(&rig, "d", "control"), "flush").unwrap();
}

#[test]
fn many_files_are_listed_completely() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    for number in 0..1200 {
        write(&rig, &format!("d/{number}"), "");
    }
    rig.delivered_all();
    let mut names = BTreeSet::new();
    for (seen, entry) in fs::read_dir(of(&rig, "d", "files")).unwrap().enumerate() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().is_file());
        names.insert(entry.file_name());
        assert_eq!(
            names.len(),
            seen + 1,
            "{:?} is listed twice",
            entry.file_name()
        );
    }
    assert_eq!(names.len(), 1200);
    rig.unmount();
}

#[test]
fn it_is_listed_in_the_root_on_request_only() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir(rig.pictures().join("d")).unwrap();
    let names = |directory: &str| {
        let entries = fs::read_dir(rig.pictures().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    rig.mount();
    assert_eq!(names(""), BTreeSet::from(["d".to_owned()]));
    rig.unmount();
    rig.mount_with(&["--show-upload-dir"]);
    let both = BTreeSet::from([".upload".to_owned(), "d".to_owned()]);
    assert_eq!(names(""), both);
    assert!(names("d").is_empty());
    let found = std::process::Command::new("ls")
        .args(["-A", "-l"])
        .arg(rig.pictures())
        .output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    assert!(
        found.contains(" .upload\n") && found.contains(" d\n"),
        "{found}"
    );
    rig.unmount();
}

#[test]
fn suspect_files_and_batches_are_listed() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    write(&rig, "d/file", "content");
    write(&rig, "e/file", "content");
    rig.delivered_all();
    rig.unmount();
    // Damaged while nobody watched.
    fs::write(rig.pictures().join("d/file"), "con").unwrap();
    File::options()
        .write(true)
        .open(rig.pictures().join("d/file"))
        .unwrap()
        .set_len(1)
        .unwrap();
    rig.mount();
    eventually("it is found", || snapshot(&rig, "d").suspect_files == 1);
    let suspect = read(&rig, "d", "suspect");
    assert!(
        suspect.starts_with("file\tthe local file is 1 bytes"),
        "{suspect}"
    );
    assert_eq!(read(&rig, "e", "suspect"), "");
    assert!(read(&rig, "", "suspect").starts_with("d/file\t"));
    let batches = read(&rig, "", "batches");
    let fields: Vec<&str> = batches.lines().next_back().unwrap().split('\t').collect();
    assert_eq!(fields.len(), 6, "{batches}");
    assert!(
        fields[1].ends_with('Z') && fields[1] <= fields[2],
        "{batches}"
    );
}

#[test]
fn what_has_its_name_below_the_mount_is_not_taken() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir_all(rig.pictures().join("d/.upload")).unwrap();
    fs::write(rig.pictures().join("d/.upload/mine"), "content").unwrap();
    fs::write(rig.pictures().join("d/file"), "content").unwrap();
    rig.mount();
    rig.delivered_all();
    assert_eq!(snapshot(&rig, "d").delivered_files, 1);
    assert!(!of(&rig, "d", "mine").exists());
    rig.unmount();
    assert!(!rig.remote().join("original/d/.upload").exists());
    assert_eq!(
        fs::read(rig.pictures().join("d/.upload/mine")).unwrap(),
        b"content"
    );
}
