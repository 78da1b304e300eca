//! SQL that SQLite and PostgreSQL share.

use super::layout::Layout;

/// An identifier as SQL takes any name: in double quotes.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The columns' names as a list.
pub fn names(layout: &Layout) -> String {
    let names: Vec<String> = layout
        .columns
        .iter()
        .map(|column| quoted(&column.name))
        .collect();
    names.join(", ")
}

/// What an upsert does with a row that is there: replaces all of it, unless it is newer. `table` is
/// quoted.
pub fn on_conflict(table: &str, layout: &Layout) -> String {
    let key: Vec<String> = layout.key().iter().map(|column| quoted(column)).collect();
    let changes: Vec<String> = layout.columns[key.len()..]
        .iter()
        .map(|column| format!("{0} = excluded.{0}", quoted(&column.name)))
        .collect();
    format!(
        "ON CONFLICT ({}) DO UPDATE SET {} WHERE excluded.\"version\" >= {table}.\"version\"",
        key.join(", "),
        changes.join(", "),
    )
}
