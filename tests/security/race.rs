//! Somebody who may write in the directory swaps folders for links to another place, as quickly as he
//! can, while outboxfs reads and writes there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, openat, renameat_with};

use crate::rig::{PATIENCE, Rig, eventually};
use crate::world::World;

const NAMES: usize = 40;

/// Swaps a folder for a link to another folder with the same names, and back, until it is dropped.
struct Attacker {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    /// Makes `folder` and `outside`, and begins.
    fn start(folder: PathBuf, outside: &Path) -> Self {
        make_both(&folder, outside);
        Self::begin(folder, outside)
    }

    fn begin(folder: PathBuf, outside: &Path) -> Self {
        let link = outside.with_extension("link");
        let _ = fs::remove_file(&link);
        symlink(outside, &link).unwrap();
        let (stop, swaps) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (its_stop, its_swaps) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !its_stop.load(Ordering::Relaxed) {
                for _ in 0..2 {
                    renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
                its_swaps.fetch_add(2, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            swaps,
            thread: Some(thread),
        }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// The folder, and the other one with the same names.
fn make_both(folder: &Path, outside: &Path) {
    for (at, content) in [(folder, "inside"), (outside, "outside")] {
        fs::create_dir(at).unwrap();
        for number in 0..NAMES {
            fs::write(at.join(format!("file{number}")), content).unwrap();
        }
    }
}

/// How many files below a folder have this content.
fn count(folder: &Path, content: &str) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found += count(&entry.path(), content),
            false => found += usize::from(fs::read(entry.path()).unwrap() == content.as_bytes()),
        }
    }
    found
}

/// Nothing was written, made or removed there.
fn is_untouched(outside: &Path) -> bool {
    count(outside, "outside") == NAMES && fs::read_dir(outside).unwrap().count() == NAMES
}

#[test]
fn scan_delivery_and_markers_stay_in_the_directory() {
    for links in [&[][..], &["--follow-symlinks"]] {
        let world = World::new();
        let outside = world.path("outside");
        let attacker = Attacker::start(world.path("pictures/d"), &outside);
        let mut inside = 0;
        for round in 0..12 {
            let remote = world.path(&format!("remote{round}"));
            let mut push = world.outboxfs();
            push.args(["push", "pictures", "--quiet", "--max-retries", "0"])
                .args(links)
                .args(["--remote", &format!("file://{}", remote.display())])
                .env("XDG_STATE_HOME", world.path(&format!("state{round}")));
            if links.is_empty() {
                push.arg("--markers");
            }
            // Files that are away just then are no success.
            let output = push.output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
            assert_eq!(count(&remote, "outside"), 0, "{output:?}");
            inside += count(&remote, "inside");
        }
        assert!(attacker.swaps.load(Ordering::Relaxed) > 100);
        drop(attacker);
        assert!(inside > 0, "nothing was delivered at all");
        assert!(is_untouched(&outside));
    }
}

#[test]
fn what_is_restored_comes_into_the_directory() {
    let Some(rig) = Rig::new() else { return };
    let (folder, outside) = (rig.pictures().join("d"), rig.world.path("outside"));
    make_both(&folder, &outside);
    rig.mount();
    rig.unmount();
    let remote = format!("file://{}", rig.remote().display());
    let run = |arguments: &[&str]| {
        let output = rig.run(arguments);
        // What is away just then is found another time.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    };
    let (mut restored, mut swaps) = (0, 0);
    for _ in 0..8 {
        // Shorter than they were, and of the same time: suspect for the next mount.
        for number in 0..NAMES {
            let file = File::options()
                .write(true)
                .open(folder.join(format!("file{number}")));
            let file = file.unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            file.set_len(0).unwrap();
            file.set_modified(before).unwrap();
        }
        rig.mount();
        eventually("all is looked at", || {
            rig.snapshot().unwrap().suspect_files == NAMES as u64
        });
        run(&["unmount", "pictures"]);
        let attacker = Attacker::begin(folder.clone(), &outside);
        run(&["restore", "pictures", "--all", "--remote", &remote]);
        swaps += attacker.swaps.load(Ordering::Relaxed);
        drop(attacker);
        assert!(is_untouched(&outside));
        restored += count(&folder, "inside");
        run(&["restore", "pictures", "--all", "--remote", &remote]);
        assert_eq!(count(&folder, "inside"), NAMES);
    }
    assert!(
        swaps > 100 && restored > 0,
        "{swaps} swaps, {restored} restored"
    );
}

#[test]
fn a_mount_reads_and_writes_in_the_directory_alone() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir(rig.world.path("kept")).unwrap();
    let outside = rig.world.path("outside");
    fs::create_dir(rig.world.path("kept/d")).unwrap();
    let remote = format!("file://{}", rig.remote().display());
    let output = rig.run(&["mount", "kept", "pictures", "--remote", &remote]);
    assert!(output.status.success(), "{output:?}");
    fs::remove_dir(rig.world.path("kept/d")).unwrap();
    let attacker = Attacker::start(rig.world.path("kept/d"), &outside);

    // By the folder that the mount showed: the caller's own kernel follows no link here.
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let path = rig.pictures().join("d");
    let (mut read, mut written) = (0, 0);
    let began = std::time::Instant::now();
    let mut round = 0;
    // The kernel may believe for a second at a time that there is a link.
    while began.elapsed().as_secs() < 4 || (read == 0 && began.elapsed() < PATIENCE) {
        round += 1;
        let Ok(folder) = openat(CWD, &path, way, Mode::empty()) else {
            continue;
        };
        for _ in 0..20 {
            let mut content = String::new();
            if let Ok(file) = openat(&folder, "file7", OFlags::RDONLY, Mode::empty())
                && File::from(file).read_to_string(&mut content).is_ok()
            {
                assert_eq!(content, "inside");
                read += 1;
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let name = format!("new{}", round % 50);
        if let Ok(file) = openat(&folder, name, flags, Mode::from_raw_mode(0o644)) {
            written += usize::from(File::from(file).write_all(b"inside").is_ok());
        }
    }
    drop(attacker);
    assert!(read > 0, "nothing was read at all");
    assert!(is_untouched(&outside), "after {written} were written");
    rig.run(&["unmount", "pictures"]);
    assert_eq!(count(&rig.remote(), "outside"), 0);
}

#[test]
fn links_laid_for_our_own_files_are_not_written_through() {
    let world = World::new();
    let outside = world.path("outside");
    fs::write(&outside, "outside").unwrap();
    fs::write(world.path("pictures/stats.json"), "{\"a\": 1}").unwrap();
    symlink(&outside, world.path(".rows.csv.outboxfs-new")).unwrap();
    fs::hard_link(&outside, world.path("pictures/.outboxfs-marker")).unwrap();
    let output = world
        .outboxfs()
        .args(["push", "pictures", "--markers", "--remote"])
        .arg(format!("file://{}", world.path("remote").display()))
        .args([
            "--rows",
            &format!("csv:{}", world.path("rows.csv").display()),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(world.path("pictures/success.json").exists());
    assert!(!fs::read(world.path("rows.csv")).unwrap().is_empty());
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
}
