//! Which files are taken for a journal, and what a crash leaves of one.

use outboxfs::journal::{Journal, JournalError, Options, View};

use crate::support::*;

#[test]
fn a_journal_belongs_to_one_directory() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let moved = Options {
        directory: "/mnt/rig".into(),
        ..fixture.options()
    };
    drop(Journal::open(moved).unwrap());
    let other = Options {
        directory: "/srv/other".into(),
        inode: 3,
        ..fixture.options()
    };
    let error = Journal::open(other).err().unwrap();
    assert!(
        matches!(&error, JournalError::OtherDirectory { owner, .. } if owner == "/mnt/rig"),
        "{error}"
    );
}

#[test]
fn a_newer_schema_and_a_foreign_file_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let file = fixture.options().path;
    rusqlite::Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let error = fixture.open_error();
    assert!(
        matches!(error, JournalError::NewerSchema { found: 999, .. }),
        "{error}"
    );
    std::fs::write(
        &file,
        "this is no database, whatever its name says, and it is long enough to tell",
    )
    .unwrap();
    let error = fixture.open_error();
    assert!(matches!(error, JournalError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_crash_while_the_tables_are_made_is_harmless() {
    let fixture = Fixture::new();
    let file = fixture.options().path;
    let making = fixture.options().path.with_file_name("making.db");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let database = rusqlite::Connection::open(&making).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    // With next to no memory the log has the pages before they are committed.
    database.pragma_update(None, "cache_size", 1).unwrap();
    database
        .execute_batch(&format!(
            "BEGIN; {} PRAGMA user_version = 1;",
            include_str!("../../src/journal/schema.sql")
        ))
        .unwrap();
    let log = |of: &std::path::Path| of.with_extension("db-wal");
    assert!(std::fs::metadata(log(&making)).unwrap().len() > 10_000);
    // What is on the disk at that moment.
    std::fs::copy(&making, &file).unwrap();
    std::fs::copy(log(&making), log(&file)).unwrap();
    let journal = fixture.open();
    written(&journal, "a", 1);
    assert_eq!(paths(&claim(&journal).await), ["a"]);
}

#[test]
fn a_newer_journal_is_left_as_it_is() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    written(&journal, "a", 1);
    drop(journal);
    let file = fixture.options().path;
    let database = rusqlite::Connection::open(&file).unwrap();
    database
        .execute_batch("PRAGMA user_version = 2; CREATE TABLE later (x);")
        .unwrap();
    let error = fixture.open_error().to_string();
    assert!(
        error.contains("journal.db") && error.contains('2') && error.contains('1'),
        "{error}"
    );
    assert!(
        View::open(&file).is_err(),
        "nobody reads what he does not know"
    );
    let version: i64 = database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
    let beside = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let mut names = beside.map(|entry| entry.unwrap().file_name());
    assert!(!names.any(|name| name.to_string_lossy().contains("damaged")));
}

impl Fixture {
    fn open_error(&self) -> JournalError {
        Journal::open(self.options()).err().unwrap()
    }
}
