//! A directory, mounted for real, with a real journal; gone when dropped, also after a failure.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outboxfs::glob::Globs;
use outboxfs::journal::{self, BatchLimits, Journal};
use outboxfs::mount::{self, Allow, Content, Kind, Mount, Unmounter, VirtualFiles};
use outboxfs::path::RelPath;
use rustix::io::Errno;
use tempfile::TempDir;

/// How it is mounted; every behaviour has to hold in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Passthrough,
    Ordinary,
    OverItself,
}

pub const MODES: [Mode; 3] = [Mode::Passthrough, Mode::Ordinary, Mode::OverItself];

pub struct Mounted {
    folder: Option<TempDir>,
    pub mode: Mode,
    pub root: PathBuf,
    pub below: PathBuf,
    unmounter: Unmounter,
    mount: Option<Mount>,
}

struct Files;

impl VirtualFiles for Files {
    fn names(&self) -> &'static [(&'static str, Kind)] {
        &[("status", Kind::Content)]
    }

    fn open(&self, _directory: &RelPath, _name: &str) -> Result<Content, Errno> {
        Ok(Content::Text(b"all is well\n".to_vec()))
    }

    fn about(&self, _file: &RelPath) -> Option<Vec<u8>> {
        None
    }

    fn known_names(&self, _directory: &RelPath, _after: &[u8], _limit: usize) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn waited(&self, _directory: &RelPath) -> Option<Result<(), String>> {
        None
    }

    fn usage(&self) -> &'static str {
        ""
    }

    fn command(&self, _directory: &RelPath, _line: &[u8]) -> Result<String, String> {
        Err("there are no commands".into())
    }

    fn attributes(&self) -> &'static [&'static str] {
        &[]
    }

    fn attribute(&self, _file: &RelPath, _name: &str) -> Option<Vec<u8>> {
        None
    }
}

/// Runs a test in every mode; says why where it cannot run.
pub fn in_every_mode(test: impl Fn(&mut Mounted)) {
    for mode in MODES {
        if let Some(mut mounted) = Mounted::start(mode) {
            eprintln!("mode: {mode:?}");
            test(&mut mounted);
        }
    }
}

impl Mounted {
    pub fn start(mode: Mode) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting takes /dev/fuse and root");
            return None;
        }
        let folder = TempDir::new().unwrap();
        Some(Self::mount(folder, mode))
    }

    fn mount(folder: TempDir, mode: Mode) -> Self {
        let (below, root) = match mode {
            Mode::OverItself => (folder.path().join("dir"), folder.path().join("dir")),
            _ => (folder.path().join("below"), folder.path().join("mount")),
        };
        std::fs::create_dir_all(&below).unwrap();
        std::fs::create_dir_all(&root).unwrap();
        let backing = std::fs::File::open(&below).unwrap();
        let metadata = backing.metadata().unwrap();
        let journal = Journal::open(journal::Options {
            path: folder.path().join("journal/journal.db"),
            directory: below.clone(),
            device: metadata.dev(),
            inode: metadata.ino(),
            settle: Duration::from_secs(3600),
            has_rows: true,
            sync_deletes: false,
            priority: Globs::default(),
            thumbnails: Vec::new(),
            batches: BatchLimits::default(),
            remote: None,
        })
        .unwrap();
        let options = mount::Options {
            passthrough: mode != Mode::Ordinary,
            allow: Allow::Everyone,
            ..mount::Options::default()
        };
        let (to_scan, _) = crossbeam_channel::bounded(1);
        let mount = mount::mount(
            backing.into(),
            &root,
            journal,
            Arc::new(Files),
            to_scan,
            &options,
        );
        let mount = mount.unwrap();
        if mode == Mode::Passthrough && !mount.passthrough() {
            eprintln!("no passthrough here: tested without");
        }
        Self {
            folder: Some(folder),
            mode,
            root,
            below,
            unmounter: mount.unmounter(),
            mount: Some(mount),
        }
    }

    /// Unmounts, and mounts the same directory with the same journal.
    pub fn remount(&mut self) {
        let folder = self.folder.take().unwrap();
        self.unmounter.unmount().unwrap();
        self.mount.take().unwrap().wait().unwrap();
        *self = Self::mount(folder, self.mode);
    }

    /// What everything of this mount lies in.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder().join("journal/journal.db")).unwrap()
    }

    /// Whether the journal knows that a file in the root is being written.
    pub fn is_open(&self, name: &str) -> bool {
        let query = "SELECT coalesce(
                         (SELECT size IS NULL FROM arrival WHERE CAST(path AS TEXT) = ?1
                          ORDER BY id DESC LIMIT 1),
                         (SELECT opened FROM file WHERE CAST(name AS TEXT) = ?1))";
        let opened = self.database().query_row(query, [name], |row| row.get(0));
        opened.unwrap()
    }

    /// Every file that the journal knows, by path, with its version: what is only written down, and
    /// not in the tables yet, included.
    pub fn journaled(&self) -> BTreeMap<String, i64> {
        let connection = self.database();
        let mut query = connection
            .prepare(
                "WITH RECURSIVE path (id, text) AS (
                     SELECT id, '' FROM folder WHERE parent_id IS NULL
                     UNION ALL
                     SELECT folder.id, path.text || CAST(folder.name AS TEXT) || '/'
                     FROM folder JOIN path ON folder.parent_id = path.id)
                 SELECT name, sum(version) FROM (
                     SELECT path.text || CAST(file.name AS TEXT) AS name, file.version
                     FROM file JOIN path ON file.folder_id = path.id
                     UNION ALL
                     SELECT CAST(path AS TEXT), 1 FROM arrival WHERE size IS NOT NULL)
                 WHERE NOT coalesce(
                     (SELECT CAST(renamed_from AS TEXT) = name FROM arrival
                      WHERE name IN (CAST(path AS TEXT), CAST(renamed_from AS TEXT))
                      ORDER BY id DESC LIMIT 1), 0)
                 GROUP BY name",
            )
            .unwrap();
        query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    /// The version of a file; 0 if the journal does not know it.
    pub fn version(&self, path: &str) -> i64 {
        self.journaled().get(path).copied().unwrap_or(0)
    }

    /// Asserts that the journal learns of exactly this file by what is done, once at least, before
    /// it returns.
    pub fn journals<T>(&self, path: &str, what: impl FnOnce() -> T) -> T {
        let before = self.journaled();
        let result = what();
        let after = self.journaled();
        let version = |versions: &BTreeMap<String, i64>| versions.get(path).copied().unwrap_or(0);
        assert!(
            version(&after) > version(&before),
            "{path} is not journaled: {after:?}"
        );
        for (other, version) in &after {
            let unchanged = before.get(other).copied().unwrap_or(0) == *version;
            assert!(other == path || unchanged, "{other} is journaled too");
        }
        result
    }

    /// Asserts that the journal learns of no content by what is done.
    pub fn journals_nothing<T>(&self, what: impl FnOnce() -> T) -> T {
        let before = self.journaled();
        let result = what();
        // A release comes a little after its close.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(self.journaled(), before);
        result
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mount) = self.mount.take() else {
            return;
        };
        if self.unmounter.unmount().is_ok() && !std::thread::panicking() {
            mount.wait().unwrap();
        }
    }
}
