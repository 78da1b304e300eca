//! Writers against the uploader: whatever is written while something is being sent, the last content
//! of each file is what the remote has at the end.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use rig::Rig;
use tree::contents;

const WRITERS: u64 = 4;
const REWRITES: usize = 1500;
const FILES: usize = 6;

/// One of the ways in which programs replace what is in a file.
fn rewrite(random: &mut fastrand::Rng, path: &Path, content: &[u8]) {
    match random.usize(..6) {
        // As editors do.
        0 => {
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, content).unwrap();
            fs::rename(&temporary, path).unwrap();
        }
        // In place, without a moment at which it is empty.
        1 => {
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(false);
            let mut file = options.open(path).unwrap();
            file.write_all(content).unwrap();
            file.set_len(content.len() as u64).unwrap();
        }
        2 => {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            file.write_all(b"more").unwrap();
        }
        3 if path.exists() => {
            let away = path.with_extension("away");
            fs::rename(path, &away).unwrap();
            fs::rename(&away, path).unwrap();
        }
        4 if path.exists() => fs::remove_file(path).unwrap(),
        _ => fs::write(path, content).unwrap(),
    }
}

fn write_on(root: &Path, writer: u64) {
    let mut random = fastrand::Rng::with_seed(writer);
    let folder = root.join(writer.to_string());
    fs::create_dir_all(&folder).unwrap();
    for round in 0..REWRITES {
        let path = folder.join(random.usize(..FILES).to_string());
        // Few enough to come back to what was delivered before, some too large for one moment.
        let content = format!("content {} ", random.usize(..5));
        let length = match random.usize(..20) {
            0 => 400_000,
            _ => content.len(),
        };
        let content: Vec<u8> = content.bytes().cycle().take(length).collect();
        rewrite(&mut random, &path, &content);
        if round % 50 == 0 {
            // Lets the uploader catch up with some of it, now and then.
            std::thread::sleep(std::time::Duration::from_millis(random.u64(..20)));
        }
    }
}

fn race(flags: &[&str]) {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(flags);
    let root = rig.pictures();
    std::thread::scope(|threads| {
        for writer in 0..WRITERS {
            let root = &root;
            threads.spawn(move || write_on(root, writer));
        }
    });
    let deliveries = rig.snapshot().unwrap().delivered_files;
    eprintln!("{deliveries} files at rest when the writers ended");
    rig.unmount();
    let (local, remote) = (contents(&root), contents(&rig.remote().join("original")));
    assert!(!local.is_empty());
    for (name, hash) in &local {
        assert_eq!(
            remote.get(name),
            Some(hash),
            "{name} is not what was written last"
        );
    }
    if flags.contains(&"--sync-deletes") {
        let extra = remote.keys().find(|name| !local.contains_key(*name));
        assert_eq!(extra, None, "at the remote, and not here");
    }
}

#[test]
fn the_last_content_wins() {
    race(&["--workers", "16"]);
}

#[test]
fn the_last_content_wins_and_what_is_deleted_stays_so() {
    race(&["--workers", "16", "--sync-deletes"]);
}
