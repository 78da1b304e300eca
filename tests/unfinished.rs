//! What is being written is not delivered: only what somebody has closed, or synced.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use rig::{Rig, eventually};

fn write(rig: &Rig, name: &str, content: &str) {
    fs::write(rig.pictures().join(name), content).unwrap();
}

fn arrives(rig: &Rig, name: &str) {
    write(rig, name, name);
    eventually("a later file has arrived", || {
        rig.remote().join("original").join(name).exists()
    });
}

/// One after the other: a program that is started by another thread inherits what is open here, and
/// closes it, as everybody who does.
#[test]
fn what_is_being_written_is_not_delivered() {
    a_file_that_is_emptied_to_be_written_anew_is_not_delivered_empty();
    half_a_file_is_not_delivered_for_the_whole_one_that_was_there();
    half_a_file_is_not_delivered_under_the_name_that_it_gets_meanwhile();
}

fn a_file_that_is_emptied_to_be_written_anew_is_not_delivered_empty() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    write(&rig, "file", "before");
    rig.delivered_all();
    let mut file = File::create(rig.pictures().join("file")).unwrap();
    // The next file's arrival shows that there was time for this one, too.
    arrives(&rig, "later");
    assert_eq!(rig.delivered("file"), b"before");
    // And it waits for nothing but its close.
    rig.delivered_all();
    file.write_all(b"after").unwrap();
    drop(file);
    rig.delivered_all();
    assert_eq!(rig.delivered("file"), b"after");
    // truncate(2) has no close to wait for.
    let shorter = Command::new("python3")
        .args(["-c", "import os, sys; os.truncate(sys.argv[1], 0)"])
        .arg(rig.pictures().join("file"))
        .status();
    assert!(shorter.unwrap().success());
    rig.delivered_all();
    assert_eq!(rig.delivered("file"), b"");
    rig.unmount();
}

fn half_a_file_is_not_delivered_for_the_whole_one_that_was_there() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    write(&rig, "file", "first");
    rig.unmount();
    rig.mount_with(&["--settle", "2000"]);
    write(&rig, "file", "second, never read");
    // Nothing may be run while it is open: what inherits it closes it, too.
    let mut file = File::create(rig.pictures().join("file")).unwrap();
    file.write_all(b"half of ").unwrap();
    for later in ["one", "two", "three"] {
        arrives(&rig, later);
    }
    assert_eq!(rig.delivered("file"), b"first");
    eventually("it alone waits", || {
        rig.snapshot().is_some_and(|now| now.queued_files == 1)
    });
    // What is synced is delivered, though the file stays open.
    file.sync_all().unwrap();
    eventually("it is delivered", || rig.delivered("file") == b"half of ");
    file.write_all(b"the third").unwrap();
    drop(file);
    rig.delivered_all();
    assert_eq!(rig.delivered("file"), b"half of the third");
    rig.unmount();
}

fn half_a_file_is_not_delivered_under_the_name_that_it_gets_meanwhile() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let path = |name: &str| rig.pictures().join(name);
    let mut file = File::create(path("file.part")).unwrap();
    file.write_all(b"half of ").unwrap();
    fs::rename(path("file.part"), path("file")).unwrap();
    fs::hard_link(path("file"), path("link")).unwrap();
    for later in ["one", "two", "three"] {
        arrives(&rig, later);
    }
    for name in ["file", "link"] {
        assert!(!rig.remote().join("original").join(name).exists(), "{name}");
    }
    file.write_all(b"a file").unwrap();
    drop(file);
    rig.delivered_all();
    for name in ["file", "link"] {
        assert_eq!(rig.delivered(name), b"half of a file", "{name}");
    }
    rig.unmount();
}
