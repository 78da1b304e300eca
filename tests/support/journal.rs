//! A journal by itself, and short words for what is asked of it.
#![allow(dead_code)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::time::Duration;

use outboxfs::derive::thumbnail::ThumbnailState;
use outboxfs::glob::Globs;
use outboxfs::journal::{
    BatchLimits, Change, Delivered, FileClaim, FileOutcome, FileStat, Journal, Kind, Lane, Options,
    Settlement,
};
use outboxfs::path::RelPath;

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub settle: Duration,
    pub sync_deletes: bool,
    pub priority: Vec<String>,
    pub batches: BatchLimits,
    pub remote: Option<String>,
}

impl Fixture {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            settle: Duration::ZERO,
            sync_deletes: false,
            priority: Vec::new(),
            batches: BatchLimits::default(),
            remote: None,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            settle: self.settle,
            sync_deletes: self.sync_deletes,
            priority: Globs::new(&self.priority).unwrap(),
            batches: self.batches,
            remote: self.remote.clone(),
            ..options(&self.dir.path().join("state/journal.db"))
        }
    }

    pub fn open(&self) -> Journal {
        Journal::open(self.options()).unwrap()
    }
}

/// Of a directory with rows in which nothing waits.
pub fn options(journal: &Path) -> Options {
    Options {
        path: journal.to_owned(),
        directory: PathBuf::from("/srv/rig"),
        device: 1,
        inode: 2,
        settle: Duration::ZERO,
        has_rows: true,
        sync_deletes: false,
        priority: Globs::default(),
        thumbnails: Vec::new(),
        batches: BatchLimits::default(),
        remote: None,
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub fn stat(size: u64, inode: u64) -> FileStat {
    FileStat {
        size,
        mtime_ns: 1_000,
        inode,
        links: 1,
    }
}

pub fn written(journal: &Journal, name: &str, size: u64) {
    let inode = blake3::hash(name.as_bytes()).as_bytes()[0] as u64 + 1;
    journal
        .record_and_wait(Change::Written {
            path: path(name),
            stat: stat(size, inode),
        })
        .unwrap();
}

pub fn removed(journal: &Journal, name: &str) {
    let path = path(name);
    journal.record_and_wait(Change::Removed { path }).unwrap();
}

pub async fn claim(journal: &Journal) -> Vec<FileClaim> {
    journal.claim_files(Lane::Small, 100).await.unwrap().claims
}

pub fn delivered(claim: &FileClaim, size: u64, kind: Kind) -> Settlement {
    let outcome = FileOutcome::Delivered(Delivered {
        stat: stat(size, 1),
        hash: blake3::hash(b"content"),
        kind,
        dimensions: None,
        proof: Default::default(),
        thumbnail: ThumbnailState::None,
    });
    Settlement {
        id: claim.id,
        version: claim.version,
        path: claim.path.clone(),
        outcome,
    }
}

pub async fn deliver_all(journal: &Journal, kind: Kind) {
    let settlements = claim(journal)
        .await
        .iter()
        .map(|claim| delivered(claim, 1, kind))
        .collect();
    journal.settle_files(settlements).await.unwrap();
}

pub fn paths(claims: &[FileClaim]) -> Vec<String> {
    let mut paths: Vec<String> = claims.iter().map(|claim| claim.path.to_string()).collect();
    paths.sort();
    paths
}
