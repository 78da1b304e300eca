//! The directory as its users know it: which file is where, and what the journal has promised of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use outboxfs::journal::FileStat;
use outboxfs::path::RelPath;

use crate::promises::JPEG;

pub const FOLDERS: [&str; 4] = ["", "a", "a/c", "b"];
const NAMES: [&str; 5] = ["1.txt", "2.txt", "3.jpg", "4.jpg", "stats.json"];

/// A file, whatever it is called.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub names: BTreeSet<String>,
    /// What the journal has answered for: the file as it was closed or synced last.
    pub closed: Option<Closed>,
    /// What it held whenever that was told to the journal.
    pub contents: BTreeSet<[u8; 32]>,
    /// Changes that the journal was told of and has not answered.
    pub unanswered: u32,
    /// Somebody has it open.
    pub is_open: bool,
    /// By a power cut, or below the mount.
    pub is_damaged: bool,
    /// The journal may take it for damaged: a power cut came before it was synced, or nobody could be told that it
    /// was written.
    pub is_doubtful: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Closed {
    pub stat: FileStat,
    pub synced: bool,
}

pub struct Tree {
    pub root: PathBuf,
    /// The journal was told of all changes of names, as far as it has answered.
    pub is_known: bool,
    /// That was always so.
    pub was_always_known: bool,
    /// A change could not be journaled: the next scan finds it.
    pub needs_scan: bool,
    /// Under these names the journal may know other files.
    pub misnamed: BTreeSet<String>,
    /// Names of files whose last close could not be journaled; it may not know them.
    pub unheard: BTreeSet<String>,
    /// Where a file was put over one that is damaged or may be taken for it, and the journal has not answered yet.
    pub replaced: BTreeSet<String>,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<String, u64>,
    next_node: u64,
    next_content: u64,
}

impl Tree {
    pub fn new(root: PathBuf) -> Self {
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        Self {
            root,
            is_known: true,
            was_always_known: true,
            needs_scan: false,
            misnamed: BTreeSet::new(),
            unheard: BTreeSet::new(),
            replaced: BTreeSet::new(),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            next_node: 0,
            next_content: 0,
        }
    }

    /// All places where a file may come to be, those in folders that are not there included.
    pub fn places() -> Vec<String> {
        let places = FOLDERS.iter().chain(&["d"]).flat_map(|folder| {
            NAMES.iter().map(move |name| match folder.is_empty() {
                true => (*name).to_owned(),
                false => format!("{folder}/{name}"),
            })
        });
        places.collect()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn at(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn name_of(&self, id: u64) -> Option<String> {
        self.nodes[&id].names.first().cloned()
    }

    pub fn names(&self) -> Vec<(String, u64)> {
        let names = self.names.iter();
        names.map(|(name, id)| (name.clone(), *id)).collect()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn add(&mut self, name: &str) -> u64 {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, Node::default());
        self.link(id, name);
        id
    }

    pub fn link(&mut self, id: u64, name: &str) {
        self.unlink(name);
        self.names.insert(name.to_owned(), id);
        self.node(id).names.insert(name.to_owned());
    }

    pub fn unlink(&mut self, name: &str) -> Option<u64> {
        let id = self.names.remove(name)?;
        self.node(id).names.remove(name);
        Some(id)
    }

    /// Everything from `from` on is from `to` on now.
    pub fn rename(&mut self, from: &str, to: &str) {
        for (name, id) in self.names() {
            if name == from || name.starts_with(&format!("{from}/")) {
                let new = format!("{to}{}", &name[from.len()..]);
                self.unlink(&name);
                self.link(id, &new);
            }
        }
    }

    pub fn exchange(&mut self, a: &str, b: &str) {
        let (Some(id_a), Some(id_b)) = (self.unlink(a), self.unlink(b)) else {
            return;
        };
        self.link(id_a, b);
        self.link(id_b, a);
    }

    /// The nodes from `name` on.
    pub fn below(&self, name: &str) -> Vec<u64> {
        let folder = format!("{name}/");
        let names = self.names.iter();
        let below = names.filter(|(its, _)| *its == name || its.starts_with(&folder));
        below.map(|(_, id)| *id).collect()
    }

    /// New content for a file of this name, with a name of its own to tell it by.
    pub fn content(&mut self, name: &str, size: usize) -> (String, Vec<u8>) {
        self.next_content += 1;
        let number = self.next_content;
        let mut content = Vec::with_capacity(size + 40);
        if name.ends_with(".jpg") {
            content.extend(JPEG);
        }
        if name.ends_with("stats.json") {
            let status = if number.is_multiple_of(2) {
                "pass"
            } else {
                "fail"
            };
            let text = format!("{{\"number\":{number},\"status\":\"{status}\"}}");
            content.extend(text.as_bytes());
        } else {
            content.extend(format!("#{number:05}#").as_bytes());
        }
        content.resize(content.len() + size, b' ');
        (format!("content {number}"), content)
    }

    /// A time of modification that no file has.
    pub fn next_time(&mut self, now_ms: i64) -> i64 {
        self.next_content += 1;
        now_ms * 1_000_000 + (self.next_content % 1_000_000) as i64
    }
}

pub fn rel(name: &str) -> RelPath {
    RelPath::parse(name.as_bytes()).unwrap()
}

pub fn stat(file: &fs::File) -> FileStat {
    let metadata = file.metadata().unwrap();
    FileStat {
        size: metadata.size(),
        mtime_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        inode: metadata.ino(),
        links: metadata.nlink(),
    }
}

pub fn set_time(file: &fs::File, ns: i64) {
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: ns / 1_000_000_000,
            tv_nsec: ns % 1_000_000_000,
        },
    };
    rustix::fs::futimens(file, &times).unwrap();
}
