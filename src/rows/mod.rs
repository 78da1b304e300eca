//! Where stats rows go. A sink is one file in this folder behind the trait [`RowSink`], and a line
//! in [`open`]; one conformance suite (`tests/rows.rs`) runs against every one of them.

pub mod folder;
mod sqlite;
mod table;

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
    /// `pass`, `fail` or `unknown`, from `stats.json`; `None` where there is none. One that is not
    /// valid is unknown.
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
    /// BLAKE3 over hash and name of each file, by name, in hexadecimal; see [`folder::build`].
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
    /// Version of the program that wrote the row.
    pub outboxfs_version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestStatus {
    Pass,
    Fail,
    Unknown,
}

impl TestStatus {
    /// As it stands in a table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
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
    /// Size of the original.
    pub bytes: u64,
    /// Pixels as shown (upright); `None` if not known.
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// BLAKE3 of the original in hexadecimal.
    pub hash: String,
}

/// A failed call to a sink, a sentence for people. Permanent ones are not tried again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RowError {
    pub permanent: bool,
    pub message: String,
}

impl RowError {
    fn permanent(message: impl Into<String>) -> Self {
        Self {
            permanent: true,
            message: message.into(),
        }
    }

    fn transient(message: impl Into<String>) -> Self {
        Self {
            permanent: false,
            message: message.into(),
        }
    }
}

/// Opens the sink that `url` names. Says what is wrong with the URL, and nothing of files and
/// networks: that is [`RowSink::probe`]'s.
pub fn open(url: &str) -> Result<std::sync::Arc<dyn RowSink>, RowError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Ok(std::sync::Arc::new(sqlite::SqliteSink::open(url)?)),
        _ => Err(RowError::permanent(format!(
            "unknown row sink '{url}' (known: sqlite:/path/rows.db)"
        ))),
    }
}
