//! `kill -9` of the daemon at random moments: what was closed arrives, whole, in its last version.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rig::Rig;
use tree::contents;

const KILLS: u32 = 10;

/// Content of the last close that returned 0, and of those after it that did not return.
#[derive(Default, Clone)]
struct Expected {
    closed: Option<Vec<u8>>,
    perhaps: Vec<Vec<u8>>,
}

/// Writes like cp: create or truncate, write, close; and reports what close says.
fn write_and_close(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    // SAFETY: the descriptor was just taken out of its owner. std's File ignores what close says.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As rsync does it: under a temporary name, then renamed.
fn write_and_rename(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("part");
    write_and_close(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// What the writers and the one who kills share.
#[derive(Default)]
struct Shared {
    expected: Mutex<BTreeMap<String, Expected>>,
    stop: AtomicBool,
    /// Held for writing while nothing is mounted: what is written then goes past the mount.
    mounted: RwLock<()>,
}

/// Writes and rewrites files until told to stop, over the deaths of the daemon.
fn write_on(root: &Path, number: usize, shared: &Shared) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    while !shared.stop.load(Ordering::Relaxed) {
        let _mounted = shared.mounted.read().unwrap();
        let name = format!("{number}-{}/{}", random.usize(..8), random.usize(..40));
        let length = random.usize(..30_000);
        let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect();
        let path = root.join(&name);
        let result =
            fs::create_dir_all(path.parent().unwrap()).and_then(|()| match random.bool() {
                true => write_and_close(&path, &content),
                false => write_and_rename(&path, &content),
            });
        let mut expected = shared.expected.lock().unwrap();
        let file = expected.entry(name).or_default();
        match result {
            Ok(()) => {
                *file = Expected {
                    closed: Some(content),
                    perhaps: Vec::new(),
                }
            }
            Err(_) => {
                file.perhaps.push(content);
                drop(expected);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let Some(rig) = Rig::new() else { return };
    let shared = Arc::new(Shared::default());
    rig.mount_with(&["--settle", "20"]);
    let root = rig.pictures();
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let (root, shared) = (root.clone(), shared.clone());
            std::thread::spawn(move || write_on(&root, number, &shared))
        })
        .collect();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..700)));
        rig.kill();
        let _unmounted = shared.mounted.write().unwrap();
        rig.mount_with(&["--settle", "20"]);
    }
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    rig.unmount();

    let expected = shared.expected.lock().unwrap();
    let (local, remote) = (contents(&root), contents(&rig.remote().join("original")));
    let mut closed = 0;
    for (name, file) in expected.iter() {
        let arrived = remote.get(name).copied();
        if arrived.is_some() || file.closed.is_some() {
            let possible = file.closed.iter().chain(&file.perhaps);
            let whole = possible
                .map(|content| blake3::hash(content))
                .any(|hash| Some(hash) == arrived);
            let only_begun = file.closed.is_none() || !file.perhaps.is_empty();
            assert!(
                whole || only_begun,
                "{name}: what was closed is not what arrived"
            );
        }
        closed += usize::from(file.closed.is_some());
    }
    assert!(
        closed > 20,
        "only {closed} files were closed: the test was too short to mean anything"
    );
    for (name, hash) in &local {
        assert_eq!(
            remote.get(name),
            Some(hash),
            "{name} is not at the remote as it is here"
        );
    }
}
