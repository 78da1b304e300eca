//! Where stats rows go. A sink is one file in this folder behind the trait [`RowSink`], and a line
//! in [`open`]; one conformance suite (`tests/rows.rs`) runs against every one of them.

mod sqlite;

use async_trait::async_trait;
use serde::Serialize;

/// A table of folder rows. A row is the folder's: writing it again replaces it.
#[async_trait]
pub trait RowSink: Send + Sync {
    /// For people: `sqlite:/srv/rows.db`; never a secret.
    fn describe(&self) -> String;

    /// Finds out whether rows can be written here; creates the table where that is allowed.
    async fn probe(&self) -> Result<(), RowError>;

    /// Inserts or replaces each folder's row, all of them or none. A row whose `version` is lower
    /// than that of the row already there for the same mount is left out.
    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError>;
}

/// One row of `device_test`: what was measured in a folder, beside what was photographed there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FolderRow {
    /// Path of the folder below the mount, in the text form of keys; `.` for the root. With
    /// `mount_id` it is the row's key.
    pub folder: String,
    /// Last component of `folder`.
    pub name: String,
    /// `pass`, `fail` or `unknown`, from `stats.json`; `None` where there is none.
    pub test_status: Option<TestStatus>,
    /// The text of `stats.json`, valid JSON; `None` where there is none or it is not valid.
    pub stats: Option<String>,
    /// What is wrong with `stats.json`, one sentence.
    pub stats_error: Option<String>,
    /// The delivered pictures, by name.
    pub pictures: Vec<PictureRef>,
    /// Delivered files in the folder, not in folders below it.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// BLAKE3 over name and hash of each file, by name, in hexadecimal.
    pub hash: String,
    /// Name of the machine.
    pub host: String,
    /// Made once for each backing directory; tells machines and mounts apart.
    pub mount_id: String,
    /// Raised by each change in the folder.
    pub version: i64,
    /// First and last delivery of a file of the folder, milliseconds since 1970-01-01 UTC.
    pub first_delivered_at: i64,
    pub last_delivered_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestStatus {
    Pass,
    Fail,
    Unknown,
}

/// A delivered picture as a row shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureRef {
    pub name: String,
    /// URL of the original, or its key where the remote has no URLs.
    pub url: String,
    /// `None` if there is no thumbnail.
    pub thumbnail_url: Option<String>,
    /// Why there is none, one sentence.
    pub thumbnail_error: Option<String>,
}

/// A failed call to a sink, a sentence for people. Permanent ones are not tried again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    pub permanent: bool,
    pub message: String,
}

/// Opens the sink that `url` names.
pub fn open(url: &str) -> Result<std::sync::Arc<dyn RowSink>, RowError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(std::sync::Arc::new(sqlite::SqliteSink::open(path)?)),
        _ => Err(RowError {
            permanent: true,
            message: format!("unknown row sink '{url}' (known: sqlite:/path/rows.db)"),
        }),
    }
}
