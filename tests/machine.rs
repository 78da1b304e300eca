//! Faults of the machine: full, read-only and missing disks, a damaged journal, a clock that jumps.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use disk::Disk;
use rig::{Rig, eventually};
use tree::{contents, make_picture};

/// Writes like cp, and reports what close says.
fn write_and_close(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    // SAFETY: the descriptor was just taken out of its owner. std's File ignores what close says.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn assert_arrived(rig: &Rig) {
    rig.delivered_all();
    assert_eq!(
        contents(&rig.remote().join("original")),
        contents(&rig.pictures())
    );
}

/// Overwrites the journal from its second page on.
fn damage(journal: &Path) {
    let database = rusqlite::Connection::open(journal).unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    database.query_row(checkpoint, [], |_| Ok(())).unwrap();
    drop(database);
    let file = File::options().write(true).open(journal).unwrap();
    let length = file.metadata().unwrap().len();
    for at in (4096..length).step_by(4096) {
        file.write_all_at(&[0xa5; 4000], at).unwrap();
    }
}

fn kept_aside(rig: &Rig) -> Vec<PathBuf> {
    let entries = fs::read_dir(rig.journal().parent().unwrap()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("journal.damaged-"))
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect()
}

#[test]
fn a_damaged_journal_is_made_anew_and_nothing_is_sent_twice() {
    let Some(rig) = Rig::new() else { return };
    let pictures = rig.pictures();
    fs::create_dir(pictures.join("deep")).unwrap();
    for number in 0..50 {
        fs::write(pictures.join(format!("deep/{number}")), "x".repeat(number)).unwrap();
    }
    for name in ["newer", "older", "emptied"] {
        fs::write(pictures.join(name), "delivered").unwrap();
    }
    make_picture(&pictures.join("a.png"), 300, 200);
    rig.mount();
    rig.unmount();
    let inode = |key: &str| rig.remote().join(key).metadata().unwrap().ino();
    let keys = ["original/deep/7", "original/a.png", "thumbnail/a.png"];
    let before = keys.map(inode);

    damage(&rig.journal());
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let older = File::create(pictures.join("older")).unwrap();
    (&older).write_all(b"restored from a backup").unwrap();
    older.set_modified(yesterday).unwrap();
    fs::write(pictures.join("newer"), "changed").unwrap();
    File::create(pictures.join("emptied")).unwrap();
    fs::write(pictures.join("unknown"), "unknown").unwrap();
    let output = rig.mount();
    assert!(output.contains("mounted"), "{output}");
    eventually("everything is compared", || {
        rig.snapshot().is_some_and(|now| {
            now.scanning.is_none() && now.queued_files == 0 && now.queued_rows == 0
        })
    });

    let now = rig.snapshot().unwrap();
    let kept = kept_aside(&rig);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(now.journal_error.unwrap().contains("damaged"));
    assert!(rig.upload("status").contains("journal: it was damaged"));
    assert_eq!(keys.map(inode), before, "nothing was stored anew");
    assert_eq!(rig.delivered("newer"), b"changed");
    assert_eq!(rig.delivered("unknown"), b"unknown");
    assert_eq!(rig.delivered("older"), b"delivered");
    assert_eq!(rig.delivered("emptied"), b"delivered");
    assert_eq!(now.suspect_files, 2, "{}", rig.upload("suspect"));
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "1");

    let output = rig.run(&["restore", "pictures/older", "pictures/emptied"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_arrived(&rig);
    // Told once.
    rig.unmount();
    rig.mount();
    assert_arrived(&rig);
    assert_eq!(rig.snapshot().unwrap().journal_error, None);
}

#[test]
fn damage_that_was_met_is_dealt_with_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    fs::write(rig.pictures().join("a"), "a").unwrap();
    rig.mount();
    rig.unmount();
    let note = rig.journal().with_extension("damaged");
    fs::write(&note, "database disk image is malformed").unwrap();
    rig.mount();
    assert_arrived(&rig);
    assert_eq!(kept_aside(&rig).len(), 1);
    assert!(!note.exists());
}

#[test]
fn a_full_disk_is_the_writers_error_and_delivery_goes_on() {
    let Some(rig) = Rig::new() else { return };
    let Some(disk) = Disk::ext4(&rig.pictures(), 24) else {
        return;
    };
    rig.mount();
    let content = vec![7; 1 << 20];
    let mut written = 0;
    let error = loop {
        match write_and_close(&rig.pictures().join(format!("{written}")), &content) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    assert!(written > 10);
    // What is there of the last one is what its writer has left: it was closed, too.
    assert_arrived(&rig);
    fs::remove_file(rig.pictures().join("0")).unwrap();
    write_and_close(&rig.pictures().join("after"), b"there is room again").unwrap();
    rig.delivered_all();
    assert_eq!(rig.delivered("after"), b"there is room again");
    rig.unmount();
    drop(disk);
}

#[test]
fn when_the_journals_disk_is_full_close_says_so() {
    let Some(rig) = Rig::new() else { return };
    let state = rig.world.path("state");
    fs::create_dir(&state).unwrap();
    let Some(_disk) = Disk::ext4(&state, 16) else {
        return;
    };
    rig.mount();
    write_and_close(&rig.pictures().join("before"), b"before").unwrap();
    rig.delivered_all();
    let ballast = state.join("ballast");
    fill(&ballast);

    let mut closed = Vec::new();
    let mut refused = None;
    for number in 0..2_000 {
        let name = format!("{number}");
        match write_and_close(&rig.pictures().join(&name), name.as_bytes()) {
            Ok(()) => closed.push(name),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("the journal has room for everything");
    assert!(
        [libc::EIO, libc::ENOSPC].contains(&refused.raw_os_error().unwrap()),
        "{refused}"
    );
    // Now and then something small finds room.
    eventually("the status says it", || {
        let close = write_and_close(&rig.pictures().join("refused"), b"refused");
        let now = rig.snapshot().unwrap();
        let said = now.journal_error.unwrap_or_default();
        close.is_err() && said.contains("could not be written") && !now.safe_to_unplug
    });
    fs::remove_file(&ballast).unwrap();
    eventually("it works again", || {
        write_and_close(&rig.pictures().join("again"), b"again").is_ok()
    });
    rig.delivered_all();
    for name in closed {
        assert_eq!(rig.delivered(&name), name.as_bytes());
    }
    assert_eq!(rig.delivered("again"), b"again");
    assert_eq!(rig.snapshot().unwrap().journal_error, None);
    // What was refused is found by the next mount.
    rig.unmount();
    rig.mount();
    assert_arrived(&rig);
    rig.unmount();
}

/// Real errors of a disk: what the journal's cannot keep must not be called durable.
#[test]
fn when_the_journals_disk_fails_fsync_says_so() {
    let Some(rig) = Rig::new() else { return };
    let state = rig.world.path("state");
    fs::create_dir(&state).unwrap();
    let Some(disk) = Disk::that_can_break(&state, 32) else {
        return;
    };
    rig.mount();
    let write_and_sync = |name: &str| {
        let mut file = File::create(rig.pictures().join(name))?;
        file.write_all(name.as_bytes())?;
        file.sync_all()
    };
    write_and_sync("before").unwrap();
    rig.delivered_all();

    disk.break_down();
    let mut synced = vec!["before".to_owned()];
    let refused = (0..5_000).find_map(|number| {
        let name = format!("{number}");
        match write_and_sync(&name) {
            Ok(()) => synced.push(name),
            Err(error) => return Some(error),
        }
        None
    });
    let refused = refused.expect("the broken disk keeps everything");
    assert_eq!(refused.raw_os_error(), Some(libc::EIO), "{refused}");
    // The daemon lives, and says it.
    let said = rig.snapshot().unwrap().journal_error;
    assert!(said.is_some(), "nothing is said of the error");

    disk.repair();
    eventually("it works again", || write_and_sync("again").is_ok());
    assert_arrived(&rig);
    for name in synced {
        assert_eq!(rig.delivered(&name), name.as_bytes());
    }
    rig.unmount();
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let _ = file.sync_all();
}

#[test]
fn a_disk_that_becomes_read_only_is_the_writers_error() {
    let Some(rig) = Rig::new() else { return };
    let Some(disk) = Disk::ext4(&rig.pictures(), 24) else {
        return;
    };
    rig.mount_to(
        "s3://pictures/p?endpoint=http://127.0.0.1:1&region=us-east-1",
        &[],
    );
    write_and_close(&rig.pictures().join("a"), b"waits").unwrap();
    rig.kill();
    rig.take_away();
    disk.remount("ro");
    rig.mount();
    let error = write_and_close(&rig.pictures().join("b"), b"b").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    eventually("what waits is delivered", || {
        rig.remote().join("original/a").exists()
    });
    rig.kill();
    rig.take_away();
    disk.remount("rw");
    rig.mount();
    write_and_close(&rig.pictures().join("b"), b"b").unwrap();
    rig.delivered_all();
    assert_eq!(rig.delivered("b"), b"b");
    rig.unmount();
}

#[test]
fn a_directory_whose_disk_is_not_mounted_is_refused() {
    let Some(rig) = Rig::new() else { return };
    let Some(disk) = Disk::ext4(&rig.pictures(), 24) else {
        return;
    };
    fs::write(rig.pictures().join("a"), "a").unwrap();
    rig.mount();
    rig.unmount();
    disk.unmount();
    let remote = format!("file://{}", rig.remote().display());
    for command in ["mount", "push"] {
        let output = rig.run(&[command, "pictures", "--remote", &remote]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(0), "{output:?}");
        assert!(error.contains("mount its disk first"), "{error}");
    }
    disk.mount();
    rig.mount();
    assert_arrived(&rig);
    rig.unmount();
}

#[test]
fn work_does_not_wait_for_a_time_that_the_clock_has_left() {
    // Longer than any wait for a further attempt, and shorter.
    for ahead in [365 * 86_400_000, 45 * 60_000] {
        work_waits_for_no_clock_that_was_ahead_by(ahead);
    }
}

fn work_waits_for_no_clock_that_was_ahead_by(milliseconds: i64) {
    let Some(rig) = Rig::new() else { return };
    rig.mount_to(
        "s3://pictures/p?endpoint=http://127.0.0.1:1&region=us-east-1",
        &[],
    );
    for name in ["a", "b"] {
        fs::write(rig.pictures().join(name), name).unwrap();
    }
    rig.kill();
    rig.take_away();
    let journal = rusqlite::Connection::open(rig.journal()).unwrap();
    journal
        .execute(
            "UPDATE work SET due_at = due_at + ?1, queued_at = queued_at + ?1",
            [milliseconds],
        )
        .unwrap();
    drop(journal);
    // Made while the clock was wrong, and while nothing was mounted.
    let ahead = SystemTime::now() + Duration::from_millis(milliseconds as u64);
    fs::write(rig.pictures().join("c"), "c").unwrap();
    File::options()
        .write(true)
        .open(rig.pictures().join("c"))
        .unwrap()
        .set_modified(ahead)
        .unwrap();
    rig.mount();
    assert_arrived(&rig);
}

/// Where the remote's disk is not mounted there is no directory, or an empty one: nothing is written there, by
/// nobody, and what waits arrives when the disk is back.
#[test]
fn nothing_is_written_where_the_remotes_disk_belongs() {
    let Some(rig) = Rig::new() else { return };
    let (remote, away) = (rig.remote(), rig.world.path("away"));
    rig.mount();
    make_picture(&rig.pictures().join("first.jpg"), 64, 48);
    eventually("its row is there", || rig.remote().join("rows.db").exists());
    rig.delivered_all();
    for (number, leaves_a_directory) in [false, true].into_iter().enumerate() {
        fs::rename(&remote, &away).unwrap();
        if leaves_a_directory {
            fs::create_dir(&remote).unwrap();
        }
        let is_untouched = || match leaves_a_directory {
            true => fs::read_dir(&remote).unwrap().next().is_none(),
            false => !remote.exists(),
        };
        let name = format!("second {number}");
        fs::write(rig.pictures().join(&name), "2").unwrap();
        eventually("it is noticed", || {
            rig.snapshot().unwrap().remote_error.is_some()
        });
        // The remote is probed several times.
        std::thread::sleep(Duration::from_secs(3));
        let now = rig.snapshot().unwrap();
        assert!(!now.safe_to_unplug && is_untouched());
        assert!(now.remote_error.unwrap().contains("is its disk mounted?"));
        rig.run(&["unmount", "pictures", "--timeout", "1s"]);
        eventually("it is unmounted", || !rig.is_mounted());
        rig.mount();
        std::thread::sleep(Duration::from_secs(1));
        assert!(!rig.snapshot().unwrap().safe_to_unplug && is_untouched());
        if leaves_a_directory {
            fs::remove_dir(&remote).unwrap();
        }
        fs::rename(&away, &remote).unwrap();
        rig.delivered_all();
        assert_eq!(rig.delivered(&name), b"2");
    }
    rig.unmount();
    fs::rename(&remote, &away).unwrap();
    fs::write(rig.pictures().join("third"), "3").unwrap();
    let url = format!("file://{}", remote.display());
    let output = rig.run(&["push", "pictures", "--remote", &url]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!remote.exists(), "{output:?}");
}
