//! What the sinks that are tables have in common: the columns and how a row fills them.

use super::{FolderRow, RowError};

/// The table that rows go to unless the URL names another.
pub const DEFAULT_TABLE: &str = "device_test";

/// The columns of a folder's row, in the order of the schema.
pub const COLUMNS: [&str; 16] = [
    "mount_id",
    "folder",
    "name",
    "host",
    "test_status",
    "stats",
    "stats_error",
    "pictures",
    "picture_count",
    "files",
    "bytes",
    "hash",
    "version",
    "first_delivered_at",
    "last_delivered_at",
    "outboxfs_version",
];

/// What makes a row the row of a folder.
pub const KEY: [&str; 2] = ["mount_id", "folder"];

/// The pictures as a JSON array.
pub fn pictures_json(row: &FolderRow) -> Result<String, RowError> {
    serde_json::to_string(&row.pictures)
        .map_err(|error| RowError::permanent(format!("the pictures are not JSON: {error}")))
}

/// Milliseconds since 1970-01-01 UTC as RFC 3339.
pub fn time_text(milliseconds: i64) -> Result<String, RowError> {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => Ok(format!("{time:.3}")),
        Err(error) => Err(RowError::permanent(format!(
            "{milliseconds} is not a time: {error}"
        ))),
    }
}

/// An identifier as SQL takes any name: in double quotes.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The statement that inserts or replaces a row, unless the one there is newer. `place` says how
/// the nth value, from 1, is written.
pub fn upsert_sql(table: &str, place: impl Fn(usize) -> String) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|column| quoted(column)).collect();
    let values: Vec<String> = (1..=COLUMNS.len()).map(place).collect();
    let changes: Vec<String> = COLUMNS
        .iter()
        .filter(|column| !KEY.contains(column))
        .map(|column| format!("{0} = excluded.{0}", quoted(column)))
        .collect();
    format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {} \
         WHERE excluded.\"version\" >= {table}.\"version\"",
        columns.join(", "),
        values.join(", "),
        KEY.map(quoted).join(", "),
        changes.join(", "),
        table = quoted(table),
    )
}
