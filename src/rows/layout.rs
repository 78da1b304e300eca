//! What the sinks have in common: which columns a row has and how a folder's row fills them, once
//! for the folder or once for each picture or file.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{FileRef, FolderRow, Options, RowError};

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Folder,
    Picture,
    File,
}

impl Per {
    /// The table that rows go to unless the URL names another.
    pub fn default_table(self) -> &'static str {
        match self {
            Self::Folder => "device_test",
            Self::Picture => "device_picture",
            Self::File => "device_file",
        }
    }

    /// The columns that make a row the row of its folder or file; the first ones of the layout.
    pub fn key(self) -> &'static [&'static str] {
        match self {
            Self::Folder => &["mount_id", "folder"],
            Self::Picture | Self::File => &["mount_id", "folder", "file"],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    /// Any decimal number, kept digit by digit.
    Number,
    Boolean,
    Time,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

/// A value in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Integer(i64),
    /// As JSON writes numbers.
    Number(String),
    Boolean(bool),
    Time(jiff::Timestamp),
    /// Valid JSON.
    Json(String),
}

impl Cell {
    /// As text, times as RFC 3339 in UTC; `None` for null.
    pub fn into_text(self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) | Self::Number(text) | Self::Json(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Time(time) => format!("{time:.3}"),
        })
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Number(raw) | Self::Json(raw) => RawValue::from_string(raw.clone())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Time(time) => serializer.collect_str(&format_args!("{time:.3}")),
        }
    }
}

/// A row of the sink: a cell for each column of the layout.
pub type Record = Vec<Cell>;

/// The columns of a sink's rows and how they are filled.
pub struct Layout {
    pub per: Per,
    pub columns: Vec<Column>,
    options: Options,
}

impl Layout {
    /// The error says which column would be there twice.
    pub fn new(per: Per, options: &Options) -> Result<Self, RowError> {
        let mut columns: Vec<Column> = base(per)
            .iter()
            .map(|(name, kind)| column(name, *kind))
            .collect();
        let extra = options
            .columns
            .iter()
            .map(|promoted| column(&promoted.name, promoted.kind));
        let pattern = options.folder_pattern.iter().flat_map(|pattern| {
            let groups = pattern.groups().map(|name| column(name, Kind::Text));
            groups.chain([column("folder_error", Kind::Text)])
        });
        for column in extra.chain(pattern) {
            if columns.iter().any(|there| there.name == column.name) {
                return Err(RowError::permanent(format!(
                    "rows cannot have two columns '{}'; give the one from stats.json or from the \
                     folder pattern another name",
                    column.name
                )));
            }
            columns.push(column);
        }
        Ok(Self {
            per,
            columns,
            options: options.clone(),
        })
    }

    pub fn key(&self) -> &'static [&'static str] {
        self.per.key()
    }

    /// Names of the columns that a table does not have.
    pub fn missing(&self, there: impl Fn(&str) -> bool) -> Vec<&Column> {
        let absent = |column: &&Column| !there(&column.name);
        self.columns.iter().filter(absent).collect()
    }

    /// The folder's records: one for the folder, or one for each of its pictures or files.
    pub fn records(&self, row: &FolderRow) -> Result<Vec<Record>, RowError> {
        let (promoted, complaint) = self.promoted(row);
        let tail = promoted.into_iter().chain(self.name_cells(row));
        let tail: Vec<Cell> = tail.collect();
        let with_tail = |mut record: Record| {
            record.extend(tail.iter().cloned());
            record
        };
        Ok(match self.per {
            Per::Folder => vec![with_tail(folder_record(row, complaint)?)],
            Per::Picture => file_records(row, row.pictures.iter(), with_tail)?,
            Per::File => {
                let files = row.pictures.iter().chain(&row.other_files);
                file_records(row, files, with_tail)?
            }
        })
    }

    /// The promoted members of `stats.json`, and what is wrong with the first that does not fit.
    fn promoted(&self, row: &FolderRow) -> (Vec<Cell>, Option<String>) {
        let mut complaint = None;
        let cells = self.options.columns.iter().map(|promoted| {
            let stats = row.stats.as_deref().unwrap_or("{}");
            promoted.cell(stats).unwrap_or_else(|error| {
                complaint.get_or_insert(error);
                Cell::Null
            })
        });
        (cells.collect(), complaint)
    }

    fn name_cells(&self, row: &FolderRow) -> Vec<Cell> {
        match &self.options.folder_pattern {
            Some(pattern) => pattern.cells(&row.name),
            None => Vec::new(),
        }
    }

    /// The record as a JSON object.
    pub fn object<'a>(&'a self, record: &'a Record) -> impl Serialize + 'a {
        Object(self, record)
    }
}

struct Object<'a>(&'a Layout, &'a Record);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.len()))?;
        for (column, cell) in self.0.columns.iter().zip(self.1) {
            map.serialize_entry(&column.name, cell)?;
        }
        map.end()
    }
}

/// The newest row of each folder, by key. A statement must not name a row twice, and writers that
/// go in the same order do not wait for each other in a circle.
pub fn newest(rows: &[FolderRow]) -> Vec<&FolderRow> {
    let mut newest: BTreeMap<(&str, &str), &FolderRow> = BTreeMap::new();
    for row in rows {
        let there = newest.entry((&row.mount_id, &row.folder)).or_insert(row);
        if row.version >= there.version {
            *there = row;
        }
    }
    newest.into_values().collect()
}

fn column(name: &str, kind: Kind) -> Column {
    Column {
        name: name.to_owned(),
        kind,
    }
}

fn base(per: Per) -> &'static [(&'static str, Kind)] {
    match per {
        Per::Folder => &[
            ("mount_id", Kind::Text),
            ("folder", Kind::Text),
            ("name", Kind::Text),
            ("host", Kind::Text),
            ("test_status", Kind::Text),
            ("stats", Kind::Json),
            ("stats_error", Kind::Text),
            ("pictures", Kind::Json),
            ("picture_count", Kind::Integer),
            ("files", Kind::Integer),
            ("bytes", Kind::Integer),
            ("hash", Kind::Text),
            ("version", Kind::Integer),
            ("first_delivered_at", Kind::Time),
            ("last_delivered_at", Kind::Time),
            ("outboxfs_version", Kind::Text),
        ],
        Per::Picture | Per::File => &[
            ("mount_id", Kind::Text),
            ("folder", Kind::Text),
            ("file", Kind::Text),
            ("folder_name", Kind::Text),
            ("host", Kind::Text),
            ("test_status", Kind::Text),
            ("url", Kind::Text),
            ("thumbnail_url", Kind::Text),
            ("thumbnail_error", Kind::Text),
            ("bytes", Kind::Integer),
            ("width", Kind::Integer),
            ("height", Kind::Integer),
            ("hash", Kind::Text),
            ("version", Kind::Integer),
            ("delivered_at", Kind::Time),
            ("object_id", Kind::Text),
            ("object_version", Kind::Text),
            ("etag", Kind::Text),
            ("outboxfs_version", Kind::Text),
        ],
    }
}

fn folder_record(row: &FolderRow, complaint: Option<String>) -> Result<Record, RowError> {
    let pictures = serde_json::to_string(&row.pictures)
        .map_err(|error| RowError::permanent(format!("the pictures are not JSON: {error}")))?;
    Ok(vec![
        text(&row.mount_id),
        text(&row.folder),
        text(&row.name),
        text(&row.host),
        optional(row.test_status.map(|status| status.as_str())),
        row.stats.clone().map_or(Cell::Null, Cell::Json),
        optional(row.stats_error.clone().or(complaint).as_deref()),
        Cell::Json(pictures),
        integer(row.pictures.len() as u64),
        integer(row.files),
        integer(row.bytes),
        text(&row.hash),
        Cell::Integer(row.version),
        time(row.first_delivered_at)?,
        time(row.last_delivered_at)?,
        text(&row.outboxfs_version),
    ])
}

fn file_records<'a>(
    row: &FolderRow,
    files: impl Iterator<Item = &'a FileRef>,
    with_tail: impl Fn(Record) -> Record,
) -> Result<Vec<Record>, RowError> {
    files
        .map(|file| file_record(row, file).map(&with_tail))
        .collect()
}

fn file_record(row: &FolderRow, file: &FileRef) -> Result<Record, RowError> {
    let pixels = |pixels: Option<u32>| pixels.map_or(Cell::Null, |n| Cell::Integer(n.into()));
    Ok(vec![
        text(&row.mount_id),
        text(&row.folder),
        text(&file.name),
        text(&row.name),
        text(&row.host),
        optional(row.test_status.map(|status| status.as_str())),
        text(&file.url),
        optional(file.thumbnail_url.as_deref()),
        optional(file.thumbnail_error.as_deref()),
        integer(file.bytes),
        pixels(file.width),
        pixels(file.height),
        text(&file.hash),
        Cell::Integer(row.version),
        time(file.delivered_at)?,
        optional(file.object_id.as_deref()),
        optional(file.object_version.as_deref()),
        optional(file.etag.as_deref()),
        text(&row.outboxfs_version),
    ])
}

/// U+0000 can stand in no PostgreSQL text; it could only come from a service's error message.
fn text(text: &str) -> Cell {
    Cell::Text(text.replace('\0', "\u{fffd}"))
}

fn optional(value: Option<&str>) -> Cell {
    value.map_or(Cell::Null, text)
}

fn integer(number: u64) -> Cell {
    Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn time(milliseconds: i64) -> Result<Cell, RowError> {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => Ok(Cell::Time(time)),
        Err(error) => Err(RowError::permanent(format!(
            "{milliseconds} milliseconds since 1970 is not a time: {error}"
        ))),
    }
}
