//! Markers: `success.json` or `failed.json` in each finished folder, as older upload scripts left
//! them and other tools wait for. Ours say who wrote them; a file of somebody else with such a name
//! is an ordinary file, is delivered, and is never replaced.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::beneath::{self, Links};
use crate::path::RelPath;

const SUCCESS: &str = "success.json";
const FAILED: &str = "failed.json";
/// What a marker of ours begins with; `docs/cli.md` is the contract for the rest.
const WRITTEN_BY: &str = "outboxfs";
/// A marker is recognised by its first bytes.
const HEAD: u64 = 64;
const TEMPORARY: &str = ".outboxfs-marker";

/// The content of a marker. Times are RFC 3339, sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    written_by: String,
    /// Below the pushed directory, in the text form of keys; `.` for itself.
    pub folder: String,
    pub started_at: String,
    pub finished_at: String,
    /// Of the folder, not of those below it.
    pub files: u64,
    pub bytes: u64,
    pub delivered: Vec<Delivered>,
    pub failed: Vec<Failed>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    pub name: String,
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    pub name: String,
    pub error: String,
}

impl Marker {
    pub fn new(folder: String, started_at: String, finished_at: String) -> Self {
        Self {
            written_by: WRITTEN_BY.to_owned(),
            folder,
            started_at,
            finished_at,
            files: 0,
            bytes: 0,
            delivered: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Writes the marker into the folder at `path`, whole or not at all, and removes the other one
    /// if it is ours. False if there is a file of somebody else.
    pub fn write(&self, backing: &OwnedFd, path: &RelPath) -> io::Result<bool> {
        let folder = beneath::open_folder(backing, path, Links::Refused)?;
        let (name, other) = match self.failed.is_empty() {
            true => (SUCCESS, FAILED),
            false => (FAILED, SUCCESS),
        };
        if exists(folder.as_fd(), name) && !is_ours(folder.as_fd(), name.as_bytes()) {
            return Ok(false);
        }
        // What lies there is left from a push that died, or is another name of somebody's file.
        match rustix::fs::unlinkat(&folder, TEMPORARY, AtFlags::empty()) {
            Err(error) if error != rustix::io::Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let mut file = File::from(rustix::fs::openat(&folder, TEMPORARY, flags, mode)?);
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file.write_all(&text)?;
        rustix::fs::renameat(&folder, TEMPORARY, &folder, name)?;
        if is_ours(folder.as_fd(), other.as_bytes()) {
            rustix::fs::unlinkat(&folder, other, AtFlags::empty())?;
        }
        Ok(true)
    }
}

/// Whether a marker of ours has this name. Others may have files with such names.
pub fn may_be_ours(name: &[u8]) -> bool {
    [SUCCESS, FAILED, TEMPORARY]
        .iter()
        .any(|marker| name == marker.as_bytes())
}

/// Whether a file is a marker that we wrote, or one that we did not get done: not to be delivered.
pub fn is_ours(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    if !may_be_ours(name) || name == TEMPORARY.as_bytes() {
        return may_be_ours(name);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else {
        return false;
    };
    let mut head = Vec::new();
    let read = File::from(file).take(HEAD).read_to_end(&mut head);
    let expected = format!("{{\n  \"written_by\": \"{WRITTEN_BY}\",");
    read.is_ok() && head.starts_with(expected.as_bytes())
}

fn exists(folder: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
