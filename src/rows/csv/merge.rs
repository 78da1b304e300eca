//! Rows into the text of a CSV file. Records that do not change are copied as they are written.

use std::collections::HashMap;

use csv::{ByteRecord, QuoteStyle, ReaderBuilder, WriterBuilder};

use super::dialect::Dialect;
use crate::rows::layout::{Layout, Record};
use crate::rows::{FolderRow, Removed, RowError};

/// What a folder's rows become.
pub struct FolderChange {
    mount_id: String,
    folder: String,
    version: i64,
    /// As text, in the layout's order of columns.
    records: Vec<Vec<String>>,
}

impl FolderChange {
    pub fn row(row: &FolderRow, layout: &Layout) -> Result<Self, RowError> {
        let text = |record: Record| {
            let cells = record
                .into_iter()
                .map(|cell| cell.into_text().unwrap_or_default());
            cells.collect()
        };
        Ok(Self {
            mount_id: row.mount_id.clone(),
            folder: row.folder.clone(),
            version: row.version,
            records: layout.records(row)?.into_iter().map(text).collect(),
        })
    }

    pub fn removal(gone: &Removed) -> Self {
        Self {
            mount_id: gone.mount_id.clone(),
            folder: gone.folder.clone(),
            version: gone.version,
            records: Vec::new(),
        }
    }
}

/// The text with the changes in it. The error says what is wrong with the text.
pub fn merge(
    text: &str,
    dialect: &Dialect,
    layout: &Layout,
    changes: &[FolderChange],
) -> Result<String, String> {
    let header = Header::read(text, dialect, layout);
    let mut plan = Plan::new(changes, layout);
    each_record(text, dialect, |place| {
        if place.is_header {
            return Ok(());
        }
        header.check(&place)?;
        plan.see(&header, place.record);
        Ok(())
    })?;

    let writer = RecordWriter::new(dialect);
    let mut out = String::with_capacity(text.len() + 1024);
    each_record(text, dialect, |place| {
        out.push_str(place.before);
        let new = match place.is_header {
            true => Fate::Keep,
            false => plan.fate(&header, place.record),
        };
        match new {
            Fate::Drop => return Ok(()),
            Fate::Keep => {
                out.push_str(place.raw);
                out.push_str(&writer.more(&header.added, place.is_header)?);
            }
            Fate::Become(cells) => out.push_str(&writer.write(&cells)?),
        }
        out.push_str(place.after);
        Ok(())
    })?;
    if header.width == 0 {
        out.push_str(&writer.write(&header.added)?);
        out.push_str(dialect.line_end);
    }
    for record in plan.rest() {
        if !out.ends_with(['\n', '\r']) {
            out.push_str(dialect.line_end);
        }
        out.push_str(&writer.write(&header.fill(&[], record))?);
        out.push_str(dialect.line_end);
    }
    Ok(out)
}

/// A record where it stands in the text.
struct Place<'a> {
    record: &'a ByteRecord,
    is_header: bool,
    /// Empty lines before it.
    before: &'a str,
    raw: &'a str,
    /// Its line end.
    after: &'a str,
    text: &'a str,
    /// Where in the text it begins.
    at: usize,
}

impl Place<'_> {
    /// The line in which it begins, from 1.
    fn line(&self) -> usize {
        let line_end = if self.text.contains('\n') { '\n' } else { '\r' };
        self.text[..self.at].matches(line_end).count() + 1
    }
}

/// Whether the record would go on if the text did.
fn is_open(record: &str, dialect: &Dialect) -> bool {
    let longer = format!("{record}\nx");
    let reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(dialect.delimiter)
        .from_reader(longer.as_bytes());
    reader.into_byte_records().count() == 1
}

fn each_record(
    text: &str,
    dialect: &Dialect,
    mut take: impl FnMut(Place) -> Result<(), String>,
) -> Result<(), String> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(dialect.delimiter)
        .from_reader(text.as_bytes());
    let mut record = ByteRecord::new();
    let (mut start, mut is_header) = (0, true);
    loop {
        // The parser may leave the second character of a line end to the next record.
        let more = reader
            .read_byte_record(&mut record)
            .map_err(|error| error.to_string())?;
        let mut end = reader.position().byte() as usize;
        if !more {
            return Ok(());
        }
        if text[..end].ends_with('\r') && text[end..].starts_with('\n') {
            end += 1;
        }
        let span = &text[start..end];
        let raw = span.trim_start_matches(['\r', '\n']);
        let before = &span[..span.len() - raw.len()];
        let content = raw.trim_end_matches(['\r', '\n']);
        let after = &raw[content.len()..];
        let place = Place {
            record: &record,
            is_header,
            before,
            raw: content,
            after,
            text,
            at: start + before.len(),
        };
        if end == text.len() && is_open(content, dialect) {
            return Err(format!(
                "a quotation mark in line {} is never closed",
                place.line()
            ));
        }
        take(place)?;
        (start, is_header) = (end, false);
    }
}

/// Which column of the file is which of the layout.
struct Header {
    /// Columns of the file as it is.
    width: usize,
    /// Names of the columns that the file lacks; they come after the others.
    added: Vec<String>,
    /// For each column of the layout, its place in the new file.
    places: Vec<usize>,
}

impl Header {
    fn read(text: &str, dialect: &Dialect, layout: &Layout) -> Self {
        let mut names: Vec<String> = Vec::new();
        // A header that cannot be read is found by whoever reads the whole text next.
        let _ = each_record(text, dialect, |place| match place.is_header {
            true => {
                let fields = place.record.iter().map(String::from_utf8_lossy);
                names = fields.map(|name| name.trim().to_lowercase()).collect();
                Ok(())
            }
            false => Err(String::new()),
        });
        let width = names.len();
        let mut added = Vec::new();
        let places = layout.columns.iter().map(|column| {
            let there = names
                .iter()
                .position(|name| *name == column.name.to_lowercase());
            there.unwrap_or_else(|| {
                added.push(column.name.clone());
                width + added.len() - 1
            })
        });
        Self {
            places: places.collect(),
            width,
            added,
        }
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        if place.record.len() == self.width {
            return Ok(());
        }
        Err(format!(
            "line {} has {} fields where the first line has {}; put it right and rows go on",
            place.line(),
            place.record.len(),
            self.width
        ))
    }

    /// The file's cell for a column of the layout; empty where the file has no such column.
    fn cell<'a>(&self, record: &'a ByteRecord, column: usize) -> &'a str {
        let cell = record.get(self.places[column]).unwrap_or(b"");
        std::str::from_utf8(cell).unwrap_or("")
    }

    /// `there` with the cells of the layout's columns replaced.
    fn fill(&self, there: &[&str], cells: &[String]) -> Vec<String> {
        let mut filled: Vec<String> = there.iter().map(|cell| cell.to_string()).collect();
        filled.resize(self.width + self.added.len(), String::new());
        for (place, cell) in self.places.iter().zip(cells) {
            filled[*place].clone_from(cell);
        }
        filled
    }
}

enum Fate {
    Keep,
    Drop,
    Become(Vec<String>),
}

/// The changes, found by what records of the file say.
struct Plan<'a> {
    changes: &'a [FolderChange],
    /// Changes by folder; several mounts may have one of that name.
    by_folder: HashMap<&'a str, Vec<usize>>,
    /// For each change, whether the file has something newer.
    outdated: Vec<bool>,
    /// For each change, which of its records are in the file.
    placed: Vec<Vec<bool>>,
    version_at: usize,
    /// Columns of the key beside mount and folder.
    file_at: Option<usize>,
}

impl<'a> Plan<'a> {
    fn new(changes: &'a [FolderChange], layout: &Layout) -> Self {
        let mut by_folder: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, change) in changes.iter().enumerate() {
            by_folder.entry(&change.folder).or_default().push(at);
        }
        let version = layout
            .columns
            .iter()
            .position(|column| column.name == "version");
        Self {
            changes,
            by_folder,
            outdated: vec![false; changes.len()],
            placed: changes
                .iter()
                .map(|change| vec![false; change.records.len()])
                .collect(),
            version_at: version.unwrap_or_default(),
            file_at: (layout.key().len() > 2).then_some(2),
        }
    }

    /// The change that a record of the file belongs to, and whether a mount has written the record.
    /// One that names no mount was written by a person, and is taken over.
    fn change_of(&self, header: &Header, record: &ByteRecord) -> Option<(usize, bool)> {
        let changes = self.by_folder.get(header.cell(record, 1))?;
        let mount_id = header.cell(record, 0);
        let at = match mount_id {
            "" => *changes.first()?,
            _ => *changes
                .iter()
                .find(|at| self.changes[**at].mount_id == mount_id)?,
        };
        Some((at, !mount_id.is_empty()))
    }

    fn version(&self, header: &Header, record: &ByteRecord) -> i64 {
        header
            .cell(record, self.version_at)
            .trim()
            .parse()
            .unwrap_or(i64::MIN)
    }

    fn see(&mut self, header: &Header, record: &ByteRecord) {
        if let Some((at, _)) = self.change_of(header, record) {
            self.outdated[at] |= self.version(header, record) > self.changes[at].version;
        }
    }

    fn fate(&mut self, header: &Header, record: &ByteRecord) -> Fate {
        let Some((at, ours)) = self.change_of(header, record) else {
            return Fate::Keep;
        };
        if self.outdated[at] {
            return Fate::Keep;
        }
        let change = &self.changes[at];
        let same = |new: &Vec<String>| match self.file_at {
            Some(file) => new[file] == header.cell(record, file),
            None => true,
        };
        match change.records.iter().position(same) {
            // A second row of the same picture: the first one has been filled.
            Some(new) if self.placed[at][new] => Fate::Keep,
            Some(new) => {
                self.placed[at][new] = true;
                let there: Vec<&str> = record
                    .iter()
                    .map(|cell| std::str::from_utf8(cell).unwrap_or(""))
                    .collect();
                let filled = header.fill(&there, &change.records[new]);
                match header.added.is_empty() && filled == there {
                    true => Fate::Keep,
                    false => Fate::Become(filled),
                }
            }
            None if ours => Fate::Drop,
            None => Fate::Keep,
        }
    }

    /// Records that the file does not have yet.
    fn rest(&self) -> impl Iterator<Item = &'a Vec<String>> {
        let current = self.changes.iter().zip(&self.placed).zip(&self.outdated);
        current
            .filter(|(_, outdated)| !**outdated)
            .flat_map(|((change, placed), _)| change.records.iter().zip(placed))
            .filter(|(_, placed)| !**placed)
            .map(|(record, _)| record)
    }
}

struct RecordWriter {
    builder: WriterBuilder,
    delimiter: char,
    empty: &'static str,
}

impl RecordWriter {
    fn new(dialect: &Dialect) -> Self {
        let (style, empty) = match dialect.quote_all {
            true => (QuoteStyle::Always, "\"\""),
            false => (QuoteStyle::Necessary, ""),
        };
        let mut builder = WriterBuilder::new();
        builder
            .delimiter(dialect.delimiter)
            .quote_style(style)
            .flexible(true);
        Self {
            builder,
            delimiter: dialect.delimiter as char,
            empty,
        }
    }

    /// A record without its line end.
    fn write(&self, cells: &[String]) -> Result<String, String> {
        let mut writer = self.builder.from_writer(Vec::new());
        writer
            .write_record(cells)
            .map_err(|error| error.to_string())?;
        let bytes = writer.into_inner().map_err(|error| error.to_string())?;
        let mut text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// What makes a record as wide as the new header.
    fn more(&self, added: &[String], is_header: bool) -> Result<String, String> {
        if added.is_empty() {
            return Ok(String::new());
        }
        Ok(match is_header {
            true => format!("{}{}", self.delimiter, self.write(added)?),
            false => format!("{}{}", self.delimiter, self.empty).repeat(added.len()),
        })
    }
}
