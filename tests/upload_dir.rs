//! `.upload` in every directory, and what files say of themselves, as a person and his scripts use
//! them.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

#[path = "upload_dir/attributes.rs"]
mod attributes;
#[path = "upload_dir/control.rs"]
mod control;
#[path = "upload_dir/files.rs"]
mod files;
#[path = "upload_dir/metrics.rs"]
mod metrics;
#[path = "upload_dir/wait.rs"]
mod wait;

use std::fs;
use std::path::PathBuf;

use outboxfs::status::Snapshot;
use rig::Rig;

/// Makes a file at `path` impossible to deliver, and what is below it: at the remote a directory is in
/// its place.
fn block(rig: &Rig, path: &str) {
    fs::create_dir_all(rig.remote().join("original").join(path).join("in the way")).unwrap();
}

fn unblock(rig: &Rig, path: &str) {
    fs::remove_dir_all(rig.remote().join("original").join(path)).unwrap();
}

/// A file of `.upload` in a directory of the mount.
fn of(rig: &Rig, directory: &str, name: &str) -> PathBuf {
    rig.pictures().join(directory).join(".upload").join(name)
}

#[track_caller]
fn read(rig: &Rig, directory: &str, name: &str) -> String {
    fs::read_to_string(of(rig, directory, name)).unwrap()
}

#[track_caller]
fn snapshot(rig: &Rig, directory: &str) -> Snapshot {
    serde_json::from_str(&read(rig, directory, "status.json")).unwrap()
}

fn write(rig: &Rig, path: &str, content: &str) {
    let path = rig.pictures().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
