//! Rows in an SQLite database file: `sqlite:/path/rows.db`, or `sqlite:/path/rows.db?table=NAME`.
//! Several daemons may write to the same file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, params};
use url::Url;

use super::table::{COLUMNS, DEFAULT_TABLE, KEY, pictures_json, quoted, time_text, upsert_sql};
use super::{FolderRow, RowError, RowSink};

/// How long to wait for another writer.
const BUSY: Duration = Duration::from_secs(10);

pub struct SqliteSink {
    file: Arc<DatabaseFile>,
}

struct DatabaseFile {
    path: PathBuf,
    table: String,
    /// Opened by the first call, and again when the file was replaced. Held by the one blocking
    /// task that writes.
    open: Mutex<Option<Open>>,
}

struct Open {
    connection: Connection,
    /// Device and inode; tells whether the file at the path is still this one.
    identity: (u64, u64),
}

impl SqliteSink {
    pub fn open(url: &str) -> Result<Self, RowError> {
        let wrong = |why: &str| {
            RowError::permanent(format!(
                "cannot use '{url}' as a row sink: {why}; write sqlite:/path/rows.db"
            ))
        };
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.cannot_be_a_base() || parsed.has_host() && parsed.host_str() != Some("") {
            return Err(wrong("the path must be absolute"));
        }
        let path: Vec<u8> = percent_encoding::percent_decode_str(parsed.path()).collect();
        if path.ends_with(b"/") || path.contains(&0) {
            return Err(wrong("the path must name a file"));
        }
        let mut table = DEFAULT_TABLE.to_owned();
        for (name, value) in parsed.query_pairs() {
            match &*name {
                "table" if !value.is_empty() => table = value.into_owned(),
                _ => return Err(wrong(&format!("'{name}={value}' means nothing here"))),
            }
        }
        Ok(Self {
            file: Arc::new(DatabaseFile {
                path: PathBuf::from(OsStr::from_bytes(&path)),
                table,
                open: Mutex::new(None),
            }),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DatabaseFile) -> Result<T, RowError> + Send + 'static,
    ) -> Result<T, RowError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || work(&file))
            .await
            .unwrap_or_else(|error| {
                Err(RowError::transient(format!(
                    "writing rows was interrupted: {error}"
                )))
            })
    }
}

#[async_trait]
impl RowSink for SqliteSink {
    fn describe(&self) -> String {
        let path = self.file.path.display();
        match self.file.table.as_str() {
            DEFAULT_TABLE => format!("sqlite:{path}"),
            table => format!("sqlite:{path}?table={table}"),
        }
    }

    async fn probe(&self) -> Result<(), RowError> {
        self.blocking(|file| file.with_connection(|_| Ok(()))).await
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let rows = rows.to_vec();
        self.blocking(move |file| file.with_connection(|connection| file.write(connection, &rows)))
            .await
    }
}

impl DatabaseFile {
    /// Runs `work` on the connection to the file that is at the path now.
    fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, RowError>,
    ) -> Result<T, RowError> {
        let mut open = self.open.lock();
        if open
            .as_ref()
            .is_some_and(|open| Some(open.identity) != identity(&self.path))
        {
            *open = None;
        }
        let open = match &mut *open {
            Some(open) => open,
            none => none.insert(self.connect()?),
        };
        work(&mut open.connection)
    }

    fn connect(&self) -> Result<Open, RowError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            // It may be a disk that is not there yet, so it is worth another try.
            return Err(RowError::transient(format!(
                "cannot keep rows in {}: there is no folder {}; create it or choose another with --rows",
                self.path.display(),
                folder.display()
            )));
        }
        let connection = Connection::open(&self.path).map_err(|error| self.error(error))?;
        connection
            .busy_timeout(BUSY)
            .map_err(|error| self.error(error))?;
        // A row counts as delivered when upsert returns, so a power cut must not take it back.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .map_err(|error| self.error(error))?;
        self.prepare_table(&connection)?;
        let identity = identity(&self.path)
            .ok_or_else(|| RowError::transient(format!("{} was removed", self.path.display())))?;
        Ok(Open {
            connection,
            identity,
        })
    }

    /// Creates the table, or checks the one that is there.
    fn prepare_table(&self, connection: &Connection) -> Result<(), RowError> {
        let schema = include_str!("sqlite.sql").replace("\"device_test\"", &quoted(&self.table));
        connection
            .execute_batch(&schema)
            .map_err(|error| self.error(error))?;
        let columns = self.texts(connection, "SELECT name FROM pragma_table_info(?1)")?;
        let missing: Vec<&str> = COLUMNS
            .into_iter()
            .filter(|column| {
                !columns
                    .iter()
                    .any(|there| there.eq_ignore_ascii_case(column))
            })
            .collect();
        if !missing.is_empty() {
            return Err(self.unfit(&format!("has no column {}", missing.join(", "))));
        }
        let keys = self.texts(
            connection,
            "SELECT (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY name))
             FROM pragma_index_list(?1) i WHERE i.\"unique\" AND NOT i.partial",
        )?;
        let mut key = KEY;
        key.sort();
        if !keys
            .iter()
            .any(|there| there.eq_ignore_ascii_case(&key.join(",")))
        {
            return Err(self.unfit(&format!("has no unique key ({})", KEY.join(", "))));
        }
        Ok(())
    }

    fn texts(&self, connection: &Connection, query: &str) -> Result<Vec<String>, RowError> {
        let read = || {
            connection
                .prepare(query)?
                .query_map([&self.table], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()
        };
        read().map_err(|error| self.error(error))
    }

    fn unfit(&self, what: &str) -> RowError {
        RowError::permanent(format!(
            "the table {} in {} {what}; add it, or choose another table with ?table=NAME",
            self.table,
            self.path.display()
        ))
    }

    fn write(&self, connection: &mut Connection, rows: &[FolderRow]) -> Result<(), RowError> {
        let sql = upsert_sql(&self.table, |at| format!("?{at}"));
        let transaction = connection
            .transaction()
            .map_err(|error| self.error(error))?;
        {
            let mut upsert = transaction
                .prepare_cached(&sql)
                .map_err(|error| self.error(error))?;
            for row in rows {
                upsert
                    .execute(params![
                        row.mount_id,
                        row.folder,
                        row.name,
                        row.host,
                        row.test_status.map(|status| status.as_str()),
                        row.stats,
                        row.stats_error,
                        pictures_json(row)?,
                        row.pictures.len() as i64,
                        row.files as i64,
                        row.bytes as i64,
                        row.hash,
                        row.version,
                        time_text(row.first_delivered_at)?,
                        time_text(row.last_delivered_at)?,
                        row.outboxfs_version,
                    ])
                    .map_err(|error| self.error(error))?;
            }
        }
        transaction.commit().map_err(|error| self.error(error))
    }

    fn error(&self, error: rusqlite::Error) -> RowError {
        let permanent = matches!(
            error.sqlite_error_code(),
            None | Some(
                ErrorCode::NotADatabase
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::TypeMismatch
                    | ErrorCode::TooBig
                    | ErrorCode::Unknown
            )
        );
        RowError {
            permanent,
            message: format!("cannot keep rows in {}: {error}", self.path.display()),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
