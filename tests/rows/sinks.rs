//! A place for rows of each kind, and how a reader who knows nothing of outboxfs reads it.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;
use std::path::PathBuf;

use outboxfs::rows::{Credentials, Options};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::server::{Database, PASSWORD};
use super::service::Service;

#[allow(async_fn_in_trait)] // the tests of one thread call it
/// A place for rows, empty at first, gone when dropped.
pub trait Fixture {
    fn url(&self) -> String;

    /// What the sink needs beside its URL.
    fn options(&self) -> Options {
        Options::default()
    }

    /// For sinks whose tables only their owner changes.
    async fn add_columns(&self, _definitions: &[&str]) {}

    /// All rows by `mount_id` and `folder`: an object with a member for each column, JSON columns
    /// parsed, times as RFC 3339 in UTC with milliseconds.
    async fn rows(&self) -> Vec<Value>;
}

pub struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    pub async fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        Some(Self { folder })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("rows.db")
    }

    pub fn execute(&self, sql: &str) {
        Connection::open(self.path())
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    pub fn number(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.path()).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn table(&self, table: &str) -> Vec<Value> {
        let connection = Connection::open(self.path()).unwrap();
        let query = format!("SELECT * FROM {table} ORDER BY mount_id, folder");
        let mut query = connection.prepare(&query).unwrap();
        let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
        let rows = query.query_map([], |row| {
            let mut object = Map::new();
            for (at, column) in columns.iter().enumerate() {
                let value: rusqlite::types::Value = row.get(at)?;
                object.insert(column.clone(), plain(column, value));
            }
            Ok(Value::Object(object))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    pub fn remove_files(&self) {
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

impl Fixture for Sqlite {
    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    async fn rows(&self) -> Vec<Value> {
        self.table("device_test")
    }
}

fn plain(column: &str, value: rusqlite::types::Value) -> Value {
    use rusqlite::types::Value::*;
    match value {
        Null => Value::Null,
        Integer(number) => json!(number),
        Real(number) => json!(number),
        Text(text) if column == "stats" || column == "pictures" => {
            serde_json::from_str(&text).unwrap()
        }
        Text(text) => json!(text),
        other => panic!("{column} is {other:?}"),
    }
}

pub struct Postgres {
    pub database: Database,
}

impl Postgres {
    pub async fn new() -> Option<Self> {
        let database = Database::new().await?;
        Some(Self { database })
    }
}

impl Fixture for Postgres {
    fn url(&self) -> String {
        self.database.url("postgres")
    }

    fn options(&self) -> Options {
        Options {
            credentials: Credentials {
                postgres_password: Some(PASSWORD.into()),
                ..Credentials::default()
            },
            ..Options::default()
        }
    }

    async fn rows(&self) -> Vec<Value> {
        table_rows(&self.database, "device_test").await
    }
}

pub async fn table_rows(database: &Database, table: &str) -> Vec<Value> {
    let query = format!(
        r#"SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY mount_id COLLATE "C", folder COLLATE "C"), '[]')::text
           FROM {table} t"#
    );
    let rows: Vec<Value> = serde_json::from_str(&database.text(&query).await).unwrap();
    rows.into_iter().map(with_utc_times).collect()
}

fn with_utc_times(mut row: Value) -> Value {
    for (column, value) in row.as_object_mut().unwrap() {
        if column.ends_with("_at") {
            let time: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
            *value = json!(format!("{time:.3}"));
        }
    }
    row
}

/// The double of PostgREST, over a real database whose tables are those of docs/rows.md.
pub struct Postgrest {
    pub service: Service,
}

impl Postgrest {
    pub async fn new() -> Option<Self> {
        let service = Service::start(Database::new().await?).await;
        for schema in [
            include_str!("../../src/rows/schema/postgres_folder.sql"),
            include_str!("../../src/rows/schema/postgrest_guard.sql"),
        ] {
            service.database.execute(schema).await;
        }
        Some(Self { service })
    }
}

impl Fixture for Postgrest {
    fn url(&self) -> String {
        format!("postgrest+{}/rest/v1/device_test", self.service.url())
    }

    fn options(&self) -> Options {
        Options {
            credentials: Credentials {
                supabase_key: Some("service-key".into()),
                ..Credentials::default()
            },
            ..Options::default()
        }
    }

    async fn add_columns(&self, definitions: &[&str]) {
        for definition in definitions {
            let alter = format!("ALTER TABLE device_test ADD COLUMN {definition}");
            self.service.database.execute(&alter).await;
        }
    }

    async fn rows(&self) -> Vec<Value> {
        table_rows(&self.service.database, "device_test").await
    }
}

pub struct Csv {
    folder: TempDir,
}

impl Csv {
    pub async fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        Some(Self { folder })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("products.csv")
    }

    /// The records as objects of text.
    pub fn records(&self) -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path()).unwrap();
        reader.deserialize().map(Result::unwrap).collect()
    }
}

impl Fixture for Csv {
    fn url(&self) -> String {
        format!("csv:{}", self.path().display())
    }

    async fn rows(&self) -> Vec<Value> {
        let numbers = ["picture_count", "files", "bytes", "version"];
        let typed = |(column, text): (String, String)| {
            let value = match column.as_str() {
                "stats" | "pictures" if !text.is_empty() => serde_json::from_str(&text).unwrap(),
                name if numbers.contains(&name) => json!(text.parse::<i64>().unwrap()),
                "host" => json!(text),
                _ if text.is_empty() => Value::Null,
                _ => json!(text),
            };
            (column, value)
        };
        let row = |record: BTreeMap<String, String>| {
            Value::Object(record.into_iter().map(typed).collect())
        };
        sorted(self.records().into_iter().map(row).collect())
    }
}

pub struct JsonLines {
    folder: TempDir,
}

impl JsonLines {
    pub async fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        Some(Self { folder })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("rows.jsonl")
    }

    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Fixture for JsonLines {
    fn url(&self) -> String {
        format!("jsonl:{}", self.path().display())
    }

    /// What counts of the file, as docs/rows.md tells readers.
    async fn rows(&self) -> Vec<Value> {
        let mut counts: BTreeMap<String, Value> = BTreeMap::new();
        for line in self.lines() {
            let key = format!("{}/{}", line["mount_id"], line["folder"]);
            let older = counts
                .get(&key)
                .is_some_and(|there| there["version"].as_i64() > line["version"].as_i64());
            if !older {
                counts.insert(key, line);
            }
        }
        let rows = counts.into_values().filter(|line| line["removed"] != true);
        sorted(rows.collect())
    }
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    let key =
        |row: &Value| ["mount_id", "folder"].map(|name| row[name].as_str().unwrap().to_owned());
    rows.sort_by_key(key);
    rows
}
