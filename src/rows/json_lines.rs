//! Rows as JSON lines: `jsonl:/path/rows.jsonl`. The file only grows. Of a folder's lines those with
//! the highest version count, the last one where several are of the same folder or file; a line
//! with `"removed": true` says that nothing is left.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::layout::{Layout, newest};
use super::{FolderRow, Options, Removed, RowError, RowSink, target};

pub struct JsonLinesSink {
    path: Arc<PathBuf>,
    layout: Layout,
}

impl JsonLinesSink {
    pub fn open(url: &str, options: &Options) -> Result<Self, RowError> {
        let wrong = |why: String| target::wrong(url, &why, "jsonl:/path/rows.jsonl");
        let (path, mut query) = target::file(url).map_err(wrong)?;
        let per = query.per().map_err(wrong)?;
        query.finish().map_err(wrong)?;
        Ok(Self {
            path: Arc::new(path),
            layout: Layout::new(per, options)?,
        })
    }

    async fn append(&self, lines: Vec<u8>) -> Result<(), RowError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || append(&path, &lines)).await;
        let result = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        result.map_err(|error| {
            RowError::transient(format!(
                "cannot write rows to {}: {error}",
                self.path.display()
            ))
        })
    }

    /// A line for each record. A folder without any has a line that says so, because the lines of
    /// its older versions count until a newer one comes.
    fn lines(&self, rows: &[FolderRow]) -> Result<Vec<u8>, RowError> {
        let mut lines = Vec::new();
        for row in newest(rows) {
            let records = self.layout.records(row)?;
            if records.is_empty() {
                push(
                    &mut lines,
                    &nothing_left(&row.mount_id, &row.folder, row.version),
                )?;
            }
            for record in &records {
                push(&mut lines, &self.layout.object(record))?;
            }
        }
        Ok(lines)
    }
}

fn push(lines: &mut Vec<u8>, line: &impl serde::Serialize) -> Result<(), RowError> {
    serde_json::to_writer(&mut *lines, line)
        .map_err(|error| RowError::permanent(format!("a row is not JSON: {error}")))?;
    lines.push(b'\n');
    Ok(())
}

fn nothing_left(mount_id: &str, folder: &str, version: i64) -> serde_json::Value {
    json!({ "mount_id": mount_id, "folder": folder, "version": version, "removed": true })
}

#[async_trait]
impl RowSink for JsonLinesSink {
    fn describe(&self) -> String {
        format!("jsonl:{}", self.path.display())
    }

    async fn probe(&self) -> Result<(), RowError> {
        self.append(Vec::new()).await
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        self.append(self.lines(rows)?).await
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        let mut lines = Vec::new();
        for gone in folders {
            push(
                &mut lines,
                &nothing_left(&gone.mount_id, &gone.folder, gone.version),
            )?;
        }
        self.append(lines).await
    }
}

/// Opens the file anew for each batch, so that it may be rotated. On failure the file is as it was.
fn append(path: &PathBuf, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let end = end_of_last_line(&mut file)?;
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // The rows are brought again, so what of them is in the file only has to be whole lines.
        let _ = file.set_len(end);
    }
    written
}

/// Where to append. Half a line is what a power cut left of rows that are brought again; a whole
/// one without its end is somebody else's, and gets its end.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut tail = Vec::new();
    let mut start = len;
    while start > 0 && !tail.contains(&b'\n') {
        let from = start.saturating_sub(64 * 1024);
        let mut piece = vec![0; (start - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut piece)?;
        piece.extend_from_slice(&tail);
        (tail, start) = (piece, from);
    }
    let line = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if line == tail.len() {
        return Ok(len);
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(&tail[line..]).is_ok() {
        file.write_all(b"\n")?;
        return Ok(len + 1);
    }
    let end = start + line as u64;
    file.set_len(end)?;
    Ok(end)
}
