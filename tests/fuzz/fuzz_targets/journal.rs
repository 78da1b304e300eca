//! A journal in which any bytes have others in their place: it is opened, read, kept aside or refused, and what
//! is opened works.
#![no_main]

#[path = "../../support/journal.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outboxfs::journal::{Change, Journal, JournalError, Options, View};
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
    let options = Options {
        sync_deletes: true,
        ..support::options(&file)
    };
    match Journal::open(options) {
        Ok(journal) => {
            let (path, stat) = (support::path("new/file"), support::stat(1, 9));
            // What is met later may make calls fail; it does not end anything.
            let _ = journal.record_and_wait(Change::Written { path, stat });
            let _ = journal.retry(&RelPath::root());
            drop(journal);
            let _ = look(&file);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
});
