//! A journal in which any bytes have others in their place: it is opened, read, kept aside or refused, and what
//! is opened works.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outboxfs::glob::Globs;
use outboxfs::journal::{BatchLimits, Change, FileStat, Journal, JournalError, Options, View};
use outboxfs::path::RelPath;
use rusqlite::Connection;
use tempfile::TempDir;

/// A page's number, where in it, and what stands there then.
type Damage = (u8, u16, u8);

const PAGE: usize = 4096;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
});

/// One of schema version 1, with something of everything in it.
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = FOLDER.path().join("whole.db");
    let whole = Connection::open(&file).expect("a database");
    whole
        .execute_batch(include_str!("../../journal/version-1.sql"))
        .expect("the journal is made");
    drop(whole);
    fs::read(file).expect("it is there")
});

fn options(path: PathBuf) -> Options {
    Options {
        path,
        directory: "/srv/rig".into(),
        device: 1,
        inode: 2,
        settle: Duration::ZERO,
        has_rows: true,
        sync_deletes: true,
        priority: Globs::default(),
        thumbnails: Vec::new(),
        batches: BatchLimits::default(),
        remote: None,
    }
}

fn look(file: &Path) -> Result<(), JournalError> {
    let view = View::open(file)?;
    view.meta()?;
    view.totals()?;
    view.failures(9)?;
    view.batches(9)?;
    Ok(())
}

fuzz_target!(|damage: Vec<Damage>| {
    let mut bytes = WHOLE.clone();
    for (page, at, byte) in damage {
        let at = page as usize * PAGE + at as usize % PAGE;
        let length = bytes.len();
        bytes[at % length] = byte;
    }
    let folder = tempfile::tempdir_in(FOLDER.path()).expect("a folder");
    let file = folder.path().join("journal.db");
    fs::write(&file, bytes).expect("there is room");
    let _ = look(&file);
    match Journal::open(options(file.clone())) {
        Ok(journal) => {
            let path = RelPath::parse(b"new/file").expect("it is a path");
            let stat = FileStat {
                size: 1,
                mtime_ns: 1,
                inode: 9,
                links: 1,
            };
            // What is met later may make calls fail; it does not end anything.
            let _ = journal.record_and_wait(Change::Written { path, stat });
            let _ = journal.retry(&RelPath::root());
            drop(journal);
            let _ = look(&file);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
});
