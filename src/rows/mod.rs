//! Where stats rows go. A sink is one file in this folder behind the trait [`RowSink`], and a line
//! in [`open`]; one conformance suite (`tests/rows.rs`) runs against every one of them.

mod columns;
mod csv;
pub mod folder;
mod grouped;
mod json_lines;
mod json_path;
mod layout;
mod pattern;
mod postgres;
mod postgrest;
mod several;
mod sql;
mod sqlite;
mod target;

use std::sync::Arc;

use async_trait::async_trait;
pub use columns::PromotedColumn;
use csv::CsvSink;
use grouped::Grouped;
use json_lines::JsonLinesSink;
pub use json_path::JsonPath;
pub use pattern::FolderPattern;
use postgres::PostgresSink;
use postgrest::PostgrestSink;
use serde::Serialize;
use several::Several;
use sqlite::SqliteSink;

use crate::config::MountSettings;
use crate::remote::Environment;

/// A table of folder rows. A row is the folder's: writing it again replaces it.
#[async_trait]
pub trait RowSink: Send + Sync {
    /// For people: `sqlite:/srv/rows.db`; never a secret.
    fn describe(&self) -> String;

    /// Finds out whether rows can be written here; creates the table where that is allowed.
    async fn probe(&self) -> Result<(), RowError>;

    /// The rows lie with the objects, on their disk. Once there are any (now, if `has_rows`), a file that is not
    /// there is away, not new: the disk is not mounted.
    fn lies_with_objects(&self, _has_rows: bool) {}

    /// Inserts or replaces each folder's row, all of them or, as far as the sink has transactions,
    /// none. A row whose `version` is lower than that of the row already there for the same mount is
    /// left out. Several callers at once are as good as one: their rows go in one batch.
    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError>;

    /// Takes away the rows of folders whose objects are gone from the remote. A row that is newer
    /// than the removal stays.
    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError>;
}

/// A folder whose objects are gone from the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub mount_id: String,
    /// As in [`FolderRow::folder`].
    pub folder: String,
    /// The version that the removal made.
    pub version: i64,
}

/// What sinks need beside their URLs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Members of `stats.json` as columns of their own, in their order.
    pub columns: Vec<PromotedColumn>,
    /// Columns from the folder's name.
    pub folder_pattern: Option<FolderPattern>,
    pub credentials: Credentials,
}

/// Secrets that do not stand in URLs, because `ps` shows the command line to everybody.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `PGPASSWORD`: for PostgreSQL, where the URL has no password.
    pub postgres_password: Option<String>,
    /// `SUPABASE_SERVICE_KEY` or `SUPABASE_KEY`: the API key of a Supabase project.
    pub supabase_key: Option<String>,
    /// `POSTGREST_TOKEN` or `SUPABASE_TOKEN`: the bearer token for PostgREST, where it is not the API
    /// key.
    pub postgrest_token: Option<String>,
    /// They may go to other machines in the clear (`--insecure`).
    pub insecure: bool,
}

impl Credentials {
    pub fn find(environment: &Environment) -> Self {
        let token = environment.get("POSTGREST_TOKEN");
        let key = environment.get("SUPABASE_SERVICE_KEY");
        Self {
            insecure: environment.insecure(),
            postgres_password: environment.get("PGPASSWORD"),
            supabase_key: key.or_else(|| environment.get("SUPABASE_KEY")),
            postgrest_token: token.or_else(|| environment.get("SUPABASE_TOKEN")),
        }
    }
}

/// Says which are set and nothing of what they are.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("postgres_password", &self.postgres_password.is_some())
            .field("supabase_key", &self.supabase_key.is_some())
            .field("postgrest_token", &self.postgrest_token.is_some())
            .finish()
    }
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
    pub pictures: Vec<FileRef>,
    /// The other delivered files, by name; for sinks with a row for each file.
    pub other_files: Vec<FileRef>,
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

/// A delivered file as a row shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRef {
    pub name: String,
    /// URL of the original, or its key where the remote has no URLs.
    pub url: String,
    /// `None` if there is no thumbnail, as for what is no picture.
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
    /// Milliseconds since 1970-01-01 UTC.
    pub delivered_at: i64,
    /// What the service said of the original: see [`crate::remote::Proof`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
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

    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self {
            permanent: false,
            message: message.into(),
        }
    }
}

/// Opens the sinks that `urls` name as one; rows go to each of them. Says what is wrong with a URL,
/// and nothing of files and networks: that is [`RowSink::probe`]'s.
pub fn open(urls: &[impl AsRef<str>], options: &Options) -> Result<Arc<dyn RowSink>, RowError> {
    let mut sinks = Vec::new();
    for url in urls {
        sinks.push(Grouped::new(open_one(url.as_ref(), options)?));
    }
    Ok(match sinks.len() {
        1 => Arc::new(sinks.remove(0)),
        _ => Arc::new(Several::new(sinks)),
    })
}

/// Opens the sinks of a mount; `None` if it has none. Passwords come from the environment, and the
/// file that stands in for it.
pub fn open_configured(settings: &MountSettings) -> Result<Option<Arc<dyn RowSink>>, RowError> {
    if settings.rows.is_empty() {
        return Ok(None);
    }
    let environment = Environment::configured(settings);
    let environment = environment.map_err(|error| RowError::permanent(error.message))?;
    let options = Options {
        columns: settings.row_columns.clone(),
        folder_pattern: settings.folder_pattern.clone(),
        credentials: Credentials::find(&environment),
    };
    open(&settings.rows, &options).map(Some)
}

/// Every kind of sink in a line.
fn open_one(url: &str, options: &Options) -> Result<Arc<dyn RowSink>, RowError> {
    Ok(match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => Arc::new(SqliteSink::open(url, options)?),
        "postgres" | "postgresql" => Arc::new(PostgresSink::open(url, options)?),
        "postgrest+https" | "postgrest+http" => Arc::new(PostgrestSink::open(url, options)?),
        "jsonl" => Arc::new(JsonLinesSink::open(url, options)?),
        "csv" => Arc::new(CsvSink::open(url, options)?),
        _ => {
            return Err(target::wrong(
                url,
                "its scheme is not known",
                "sqlite:/path/rows.db, postgres://user@host/database, \
                 postgrest+https://host/rest/v1/device_test, csv:/path/rows.csv or jsonl:/path/rows.jsonl",
            ));
        }
    })
}
