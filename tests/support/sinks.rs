//! A place for rows of each kind, and how a reader who knows nothing of outboxfs reads it.

use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A place for rows, empty at first, gone when dropped.
pub trait Fixture {
    fn url(&self) -> String;

    /// All rows by `mount_id` and `folder`: an object with a member for each column, JSON columns
    /// parsed, times as RFC 3339 in UTC with milliseconds.
    fn rows(&self) -> impl Future<Output = Vec<Value>>;
}

pub struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    pub async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder }
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
        let connection = Connection::open(self.path()).unwrap();
        let mut query = connection
            .prepare("SELECT * FROM device_test ORDER BY mount_id, folder")
            .unwrap();
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
}

fn plain(column: &str, value: rusqlite::types::Value) -> Value {
    use rusqlite::types::Value::*;
    match value {
        Null => Value::Null,
        Integer(number) => json!(number),
        Text(text) if column == "stats" || column == "pictures" => {
            serde_json::from_str(&text).unwrap()
        }
        Text(text) => json!(text),
        other => panic!("{column} is {other:?}"),
    }
}
