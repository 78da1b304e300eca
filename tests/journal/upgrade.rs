//! Journals that earlier versions wrote: `version-N.sql` is one of schema version N, with something of
//! everything in it. It is never changed; a version that comes after it brings its own, which
//! `OUTBOXFS_TEST_WRITE=1 cargo test --test journal of_this_version` writes.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use outboxfs::journal::{FileOutcome, Journal, Kind, Outcome};
use rusqlite::Connection;

use crate::settlement;
use crate::support::*;

const THIS_VERSION: u32 = 1;

fn kept(version: u32) -> PathBuf {
    let name = format!("tests/journal/version-{version}.sql");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.sync_deletes = true;
    fixture
}

/// Something of everything: what is delivered with its row, has failed, is suspect, is to be deleted, and waits.
async fn fill(journal: &Journal) {
    journal.mounted().unwrap();
    for name in ["other/notes", "rig/1.jpg", "rig/2.jpg", "rig/stats.json"] {
        written(journal, name, 1);
        let kind = match name {
            "rig/stats.json" => Kind::Stats,
            "other/notes" => Kind::Other,
            _ => Kind::Picture,
        };
        deliver_all(journal, kind).await;
    }
    let rows = journal.claim_rows(9).await.unwrap().claims.into_iter();
    let rows = rows.map(|row| (row, Outcome::Done)).collect();
    journal.settle_rows(rows).await.unwrap();
    for (name, is_suspect) in [("rig/broken.jpg", false), ("rig/1.jpg", true)] {
        written(journal, name, 2);
        let outcome = match is_suspect {
            true => FileOutcome::Suspect {
                why: "it was 1 byte and is 0 bytes".to_owned(),
            },
            false => FileOutcome::Failed {
                error: "it was refused".to_owned(),
            },
        };
        let settled = settlement(&claim(journal).await[0], outcome);
        journal.settle_files(vec![settled]).await.unwrap();
    }
    removed(journal, "other/notes");
    written(journal, "new/waits", 3);
}

/// All that is in a database, as SQL that makes it again: tables, what is in them, then the rest.
fn dump(file: &Path) -> String {
    let database = Connection::open(file).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut sql = String::new();
    for name in ["application_id", "user_version"] {
        let value: i64 = database
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap();
        writeln!(sql, "PRAGMA {name} = {value};").unwrap();
    }
    for made in schema(&database, "type = 'table' AND name NOT LIKE 'sqlite_%'") {
        writeln!(sql, "{made};").unwrap();
    }
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    for table in texts(tables) {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let quoted: Vec<_> = columns
            .iter()
            .map(|name| format!("quote(\"{name}\")"))
            .collect();
        let quoted = quoted.join(" || ', ' || ");
        for values in texts(&format!("SELECT {quoted} FROM {table}")) {
            writeln!(sql, "INSERT INTO {table} VALUES ({values});").unwrap();
        }
    }
    for made in schema(&database, "type <> 'table' AND sql IS NOT NULL") {
        writeln!(sql, "{made};").unwrap();
    }
    sql
}

fn schema(database: &Connection, which: &str) -> Vec<String> {
    let sql = format!("SELECT sql FROM sqlite_schema WHERE {which} ORDER BY rowid");
    let mut statement = database.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Everything but the contents.
fn whole_schema(file: &Path) -> Vec<String> {
    let all = schema(&Connection::open(file).unwrap(), "sql IS NOT NULL");
    let mut all: Vec<String> = all.iter().map(|sql| words(sql)).collect();
    all.sort();
    all
}

/// Without comments, in one line.
fn words(sql: &str) -> String {
    let code = sql.lines().map(|line| line.split("--").next().unwrap());
    let words = code.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_journal_of_each_version_is_read_to_its_end() {
    for version in 1..=THIS_VERSION {
        let fixture = fixture();
        let file = fixture.options().path;
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let old = Connection::open(&file).unwrap();
        old.execute_batch(&fs::read_to_string(kept(version)).unwrap())
            .unwrap();
        drop(old);

        let journal = fixture.open();
        let view = journal.view().unwrap();
        let totals = view.totals().unwrap();
        let counts = [
            totals.delivered_files,
            totals.queued_files,
            totals.failed_files,
            totals.suspect_files,
        ];
        assert_eq!(counts, [2, 1, 1, 1], "version {version}");
        assert_eq!(view.failures(9).unwrap()[0].error, "it was refused");
        let batches = view.batches(9).unwrap();
        assert!(!batches.is_empty());
        drop(view);

        assert_eq!(paths(&claim(&journal).await), ["new/waits"]);
        let deletions = journal.claim_deletions(9).await.unwrap().claims;
        assert_eq!(deletions[0].path, path("other/notes"));
        journal.retry(&path("rig")).unwrap();
        assert_eq!(paths(&claim(&journal).await), ["rig/broken.jpg"]);
        written(&journal, "rig/2.jpg", 9);
        deliver_all(&journal, Kind::Picture).await;
        drop(journal);

        let new = Fixture::new();
        drop(new.open());
        assert_eq!(
            whole_schema(&file),
            whole_schema(&new.options().path),
            "version {version} has become another database than one that is new"
        );
    }
}

/// Who changes the schema in its place changes it for journals that are out there.
#[tokio::test]
async fn a_new_journal_is_of_this_version() {
    let fixture = fixture();
    let journal = fixture.open();
    fill(&journal).await;
    let file = fixture.options().path;
    // As a daemon leaves it that is killed now.
    if std::env::var_os("OUTBOXFS_TEST_WRITE").is_some() {
        fs::write(kept(THIS_VERSION), dump(&file)).unwrap();
    }
    let as_kept = fixture.dir.path().join("kept.db");
    let database = Connection::open(&as_kept).unwrap();
    let sql = fs::read_to_string(kept(THIS_VERSION)).unwrap();
    database.execute_batch(&sql).unwrap();
    assert_eq!(whole_schema(&file), whole_schema(&as_kept));
    let version: u32 = Connection::open(&file)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, THIS_VERSION, "a new version brings its own");
}
