//! Delivered files that are damaged while nobody watches: reported, not sent, and decided on by a
//! person.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rig::{Rig, eventually};
use tree::contents;

/// Files of every kind of damage, delivered and unmounted.
fn delivered() -> Option<Rig> {
    let rig = Rig::new()?;
    let pictures = rig.pictures();
    fs::create_dir_all(pictures.join("a/b")).unwrap();
    for name in [
        "same",
        "shorter",
        "zeroed",
        "hollow",
        "half",
        "gone",
        "a/b/with its folder",
    ] {
        fs::write(pictures.join(name), name.repeat(5_000)).unwrap();
    }
    File::create(pictures.join("sparse"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    rig.mount();
    rig.unmount();
    Some(rig)
}

/// Runs `damage` and takes the file back to the time that it had.
fn behind_the_back(path: &Path, damage: impl FnOnce(&Path)) {
    let before = path.metadata().unwrap().modified().unwrap();
    damage(path);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(before)
        .unwrap();
}

fn set_len(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Zeros without blocks, as a power cut leaves them.
fn make_hollow(path: &Path) {
    let size = path.metadata().unwrap().size();
    set_len(path, 0);
    set_len(path, size);
}

fn damage(rig: &Rig) {
    let pictures = rig.pictures();
    behind_the_back(&pictures.join("shorter"), |path| set_len(path, 100));
    behind_the_back(&pictures.join("hollow"), make_hollow);
    behind_the_back(&pictures.join("half"), |path| {
        let size = path.metadata().unwrap().size();
        set_len(path, 8192);
        set_len(path, size);
    });
    let size = pictures.join("zeroed").metadata().unwrap().size();
    let zeros = vec![0; size as usize];
    let file = File::options().write(true).open(pictures.join("zeroed"));
    std::io::Write::write_all(&mut file.unwrap(), &zeros).unwrap();
    fs::remove_file(pictures.join("gone")).unwrap();
    fs::remove_dir_all(pictures.join("a")).unwrap();
}

const DAMAGED: [&str; 6] = [
    "a/b/with its folder",
    "gone",
    "half",
    "hollow",
    "shorter",
    "zeroed",
];

/// Waits until the scan is through and nothing waits.
fn at_rest(rig: &Rig) -> outboxfs::status::Snapshot {
    eventually("the scan is through, and nothing waits", || {
        rig.snapshot()
            .is_some_and(|now| now.scanning.is_none() && now.queued_files == 0)
    });
    rig.snapshot().unwrap()
}

fn suspects(rig: &Rig) -> Vec<String> {
    let text = rig.upload("suspect");
    let mut names: Vec<String> = text
        .lines()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn damage_is_reported_and_not_sent() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.remote().join("original"));
    damage(&rig);
    rig.mount();
    let now = at_rest(&rig);
    assert_eq!(now.suspect_files, DAMAGED.len() as u64);
    assert!(!now.safe_to_unplug);
    assert_eq!(suspects(&rig), DAMAGED);
    assert!(rig.upload("status").contains("see .upload/suspect"));
    assert_eq!(rig.upload("failed"), "", "suspect is not failed");
    assert_eq!(contents(&rig.remote().join("original")), before);
    // Nor is it after another start.
    rig.kill();
    rig.mount();
    assert_eq!(at_rest(&rig).suspect_files, DAMAGED.len() as u64);
    assert_eq!(contents(&rig.remote().join("original")), before);
}

#[test]
fn restore_brings_the_copies_back() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.pictures());
    let times = |name: &str| rig.pictures().join(name).metadata().unwrap().mtime_nsec();
    let time = times("gone");
    damage(&rig);
    rig.mount();
    assert_eq!(at_rest(&rig).suspect_files, DAMAGED.len() as u64);
    // So that the kernel remembers that it is not there.
    assert!(!rig.pictures().join("gone").exists());
    assert!(!rig.pictures().join("a").exists());

    let output = rig.run(&["restore", "pictures/gone", "pictures/a"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 files restored"));
    assert_eq!(times("gone"), time);
    let output = rig.run(&["restore", "--all", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(contents(&rig.pictures()), before);
    let now = rig.snapshot().unwrap();
    assert!(now.safe_to_unplug, "{now:?}");
    // Nothing is new to the next scan.
    rig.unmount();
    rig.mount();
    rig.delivered_all();
    assert_eq!(contents(&rig.remote().join("original")), before);
}

#[test]
fn accept_delivers_what_is_there_and_forgets_what_is_not() {
    let Some(rig) = delivered() else { return };
    damage(&rig);
    rig.mount();
    at_rest(&rig);
    let output = rig.run(&["accept", "pictures/shorter"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    eventually("the short one arrives", || {
        rig.delivered("shorter").len() == 100
    });
    assert_eq!(at_rest(&rig).suspect_files, DAMAGED.len() as u64 - 1);
    let output = rig.run(&["accept", "--all", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    rig.delivered_all();
    assert_eq!(
        rig.delivered("zeroed"),
        fs::read(rig.pictures().join("zeroed")).unwrap()
    );
    assert!(
        rig.remote().join("original/gone").exists(),
        "what is delivered stays"
    );
    assert_eq!(rig.upload("suspect"), "");
}

#[test]
fn both_work_without_a_mount() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.pictures());
    damage(&rig);
    rig.mount();
    at_rest(&rig);
    let output = rig.run(&["unmount", "pictures"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "something is left: {output:?}"
    );
    let output = rig.run(&["accept", "pictures/shorter"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let remote = format!("file://{}", rig.remote().display());
    let output = rig.run(&["restore", "--all", "pictures", "--remote", &remote]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut after = contents(&rig.pictures());
    let short = after.insert("shorter".into(), before["shorter"]).unwrap();
    assert_eq!(after, before);
    rig.mount();
    rig.delivered_all();
    assert_eq!(contents(&rig.remote().join("original"))["shorter"], short);
}

#[test]
fn a_copy_that_is_damaged_too_restores_nothing() {
    let Some(rig) = delivered() else { return };
    behind_the_back(&rig.pictures().join("shorter"), |path| set_len(path, 100));
    let copy = rig.remote().join("original/shorter");
    let mut wrong = fs::read(&copy).unwrap();
    wrong[1234] ^= 1;
    fs::write(&copy, wrong).unwrap();
    rig.mount();
    at_rest(&rig);
    let output = rig.run(&["restore", "pictures/shorter"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("checksum differs"));
    assert_eq!(
        rig.pictures().join("shorter").metadata().unwrap().len(),
        100
    );
    assert_eq!(
        fs::read_dir(rig.pictures()).unwrap().count(),
        8,
        "nothing is left behind"
    );
}

#[test]
fn a_disk_that_is_back_is_no_longer_suspect() {
    let Some(rig) = delivered() else { return };
    let away = rig.pictures().with_extension("away");
    fs::create_dir(&away).unwrap();
    for name in ["gone", "same"] {
        fs::rename(rig.pictures().join(name), away.join(name)).unwrap();
    }
    rig.mount();
    assert_eq!(at_rest(&rig).suspect_files, 2);
    rig.kill();
    rig.take_away();
    for name in ["gone", "same"] {
        fs::rename(away.join(name), rig.pictures().join(name)).unwrap();
    }
    rig.mount();
    rig.delivered_all();
}

/// As if the machine had gone down: the journal was last used in another run of it.
fn go_down(rig: &Rig) {
    rig.kill();
    rig.take_away();
    let journal = rig.journal();
    let journal = rusqlite::Connection::open(journal).unwrap();
    // What these tests do now has happened before that.
    let soon = outboxfs::journal::now_ms() + 1_000;
    let changed = journal.execute("UPDATE meta SET boot = 'before', crashed_at = ?", [soon]);
    assert_eq!(changed.unwrap(), 1);
}

fn said(rig: &Rig, command: &str) {
    let output = rig.run(&[command, "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_waited_when_the_machine_went_down_is_sent_only_if_it_is_whole() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.remote().join("original"));
    said(&rig, "pause");
    rig.mount();
    for name in ["same", "shorter", "hollow", "new"] {
        fs::write(rig.pictures().join(name), "newer".repeat(9_000)).unwrap();
    }
    // Truncated to be written anew, and no more.
    set_len(&rig.pictures().join("half"), 0);
    // Written anew, and the old one is back.
    let older = fs::read(rig.pictures().join("zeroed")).unwrap();
    fs::write(rig.pictures().join("temporary"), "z".repeat(older.len())).unwrap();
    fs::rename(
        rig.pictures().join("temporary"),
        rig.pictures().join("zeroed"),
    )
    .unwrap();
    go_down(&rig);
    fs::write(rig.pictures().join("older"), older).unwrap();
    fs::rename(rig.pictures().join("older"), rig.pictures().join("zeroed")).unwrap();
    set_len(&rig.pictures().join("shorter"), 0);
    make_hollow(&rig.pictures().join("hollow"));
    set_len(&rig.pictures().join("new"), 4096);
    rig.mount();
    said(&rig, "resume");
    let now = at_rest(&rig);
    assert_eq!(
        suspects(&rig),
        ["half", "hollow", "new", "shorter", "zeroed"],
        "{now:?}"
    );
    let after = contents(&rig.remote().join("original"));
    assert_eq!(after["shorter"], before["shorter"]);
    for name in ["half", "hollow", "zeroed"] {
        assert_eq!(after[name], before[name]);
    }
    assert!(!after.contains_key("new"));
    assert_eq!(rig.delivered("same"), "newer".repeat(9_000).as_bytes());

    // What the remote has is older, and good.
    let output = rig.run(&["restore", "pictures/shorter", "pictures/hollow"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(contents(&rig.pictures())["shorter"], before["shorter"]);
}

/// The folder was renamed, and its files damaged before they were delivered under their new names: the only good
/// copies are under the old ones.
#[test]
fn what_was_renamed_and_then_damaged_is_restored_from_where_it_was() {
    for mode in [&[][..], &["--sync-deletes"]] {
        let Some(rig) = delivered() else { return };
        let name = "a/b/with its folder";
        let content = fs::read(rig.pictures().join(name)).unwrap();
        fs::create_dir(rig.pictures().join("new")).unwrap();
        rig.mount_with(mode);
        // Another file, which has the name before.
        fs::create_dir_all(rig.pictures().join("c/b")).unwrap();
        fs::write(rig.pictures().join("c/b/with its folder"), "another one").unwrap();
        rig.delivered_all();
        said(&rig, "pause");
        fs::rename(
            rig.pictures().join(name),
            rig.pictures().join("c/b/with its folder"),
        )
        .unwrap();
        fs::rename(rig.pictures().join("same"), rig.pictures().join("new/same")).unwrap();
        go_down(&rig);
        set_len(&rig.pictures().join("c/b/with its folder"), 12);
        set_len(&rig.pictures().join("new/same"), 0);
        rig.mount_with(mode);
        said(&rig, "resume");
        at_rest(&rig);
        assert_eq!(suspects(&rig), ["c/b/with its folder", "new/same"]);
        let output = rig.run(&["restore", "--all", "pictures"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("2 files restored"));
        rig.delivered_all();
        for (name, content) in [
            ("c/b/with its folder", &content[..]),
            ("new/same", "same".repeat(5_000).as_bytes()),
        ] {
            assert!(fs::read(rig.pictures().join(name)).unwrap() == content);
            assert!(rig.delivered(name) == content);
        }
        let stays = rig.remote().join("original/same").exists();
        assert_eq!(stays, mode.is_empty(), "{mode:?}");
        rig.unmount();
    }
}

/// Under its old name lies what the other one was.
#[test]
fn what_has_changed_places_is_not_restored_from_the_others_copy() {
    let Some(rig) = delivered() else { return };
    rig.mount();
    rig.delivered_all();
    said(&rig, "pause");
    let path = |name: &str| rig.pictures().join(name);
    let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(cwd, path("same"), cwd, path("zeroed"), flags).unwrap();
    fs::rename(path("same"), path("renamed")).unwrap();
    go_down(&rig);
    set_len(&path("renamed"), 100);
    rig.mount();
    said(&rig, "resume");
    at_rest(&rig);
    assert_eq!(suspects(&rig), ["renamed"]);
    let output = rig.run(&["restore", "--all", "pictures"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no copy of it is known"), "{said}");
    assert_eq!(path("renamed").metadata().unwrap().len(), 100);
}

#[test]
fn a_change_that_the_journal_lost_is_suspect() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.remote().join("original"));
    rig.mount();
    rig.delivered_all();
    go_down(&rig);
    // Renamed over, and the journal's last pages were not on the disk.
    fs::write(rig.pictures().join("temporary"), "half of it").unwrap();
    fs::rename(
        rig.pictures().join("temporary"),
        rig.pictures().join("same"),
    )
    .unwrap();
    fs::write(rig.pictures().join("new"), "new").unwrap();
    rig.mount();
    at_rest(&rig);
    assert_eq!(suspects(&rig), ["same"]);
    let mut after = contents(&rig.remote().join("original"));
    assert!(
        after.remove("new").is_some(),
        "what never was there is sent"
    );
    assert_eq!(after, before);
}

/// The journal has the new name, and the disk has forgotten it: under the old one lies half a file, and at the remote
/// the whole one.
#[test]
fn a_name_from_before_the_crash_does_not_replace_what_was_delivered_there() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.remote().join("original"));
    rig.mount();
    fs::rename(rig.pictures().join("same"), rig.pictures().join("renamed")).unwrap();
    rig.delivered_all();
    go_down(&rig);
    fs::rename(rig.pictures().join("renamed"), rig.pictures().join("same")).unwrap();
    behind_the_back(&rig.pictures().join("same"), |path| set_len(path, 100));
    rig.mount();
    at_rest(&rig);
    assert_eq!(suspects(&rig), ["renamed", "same"]);
    let after = contents(&rig.remote().join("original"));
    assert_eq!(after["same"], before["same"]);
    assert_eq!(after["renamed"], before["same"]);
}

#[test]
fn nothing_but_zeros_is_suspect_whatever_its_size_and_time() {
    let Some(rig) = delivered() else { return };
    let before = contents(&rig.remote().join("original"));
    make_hollow(&rig.pictures().join("same"));
    set_len(&rig.pictures().join("same"), 30_000);
    rig.mount();
    at_rest(&rig);
    assert_eq!(suspects(&rig), ["same"]);
    assert_eq!(contents(&rig.remote().join("original")), before);
}

#[test]
fn what_a_restore_left_when_it_died_is_taken_away() {
    let Some(rig) = Rig::new() else { return };
    let left = ["", "a/"].map(|folder| format!("{folder}.outboxfs-restore-0123456789abcdef"));
    fs::create_dir(rig.pictures().join("a")).unwrap();
    for name in left.iter().map(String::as_str).chain(["a/file"]) {
        fs::write(rig.pictures().join(name), "half of").unwrap();
    }
    rig.mount();
    rig.delivered_all();
    assert_eq!(
        contents(&rig.pictures()).into_keys().collect::<Vec<_>>(),
        ["a/file"]
    );
    assert_eq!(
        contents(&rig.remote().join("original")),
        contents(&rig.pictures())
    );
    rig.unmount();
}
