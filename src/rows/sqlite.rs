//! Rows in an SQLite database file: `sqlite:/path/rows.db`, with `?table=NAME` and
//! `?per=picture` or `?per=file` if wanted.
//! Several daemons may write to the same file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params_from_iter};

use super::layout::{Cell, Kind, Layout, Per, newest};
use super::sql::{names, on_conflict, quoted};
use super::{FolderRow, Options, Removed, RowError, RowSink, target};

/// How long to wait for another writer.
const BUSY: Duration = Duration::from_secs(10);

pub struct SqliteSink {
    file: Arc<DatabaseFile>,
}

struct DatabaseFile {
    path: PathBuf,
    table: String,
    layout: Layout,
    /// Opened by the first call, and again when the file was replaced. Held by the one blocking
    /// task that writes.
    open: Mutex<Option<Open>>,
    /// It is on the disk of the objects: once rows were written, it is never made anew.
    is_with_objects: AtomicBool,
    is_used: AtomicBool,
}

struct Open {
    connection: Connection,
    /// Device and inode; tells whether the file at the path is still this one.
    identity: (u64, u64),
}

impl SqliteSink {
    pub fn open(url: &str, options: &Options) -> Result<Self, RowError> {
        let wrong =
            |why: String| target::wrong(url, &why, "sqlite:/path/rows.db?table=device_test");
        let (path, mut query) = target::file(url).map_err(wrong)?;
        let per = query.per().map_err(wrong)?;
        let table = query.table(per).map_err(wrong)?;
        query.finish().map_err(wrong)?;
        Ok(Self {
            file: Arc::new(DatabaseFile {
                path,
                table,
                layout: Layout::new(per, options)?,
                open: Mutex::new(None),
                is_with_objects: AtomicBool::new(false),
                is_used: AtomicBool::new(false),
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
            table if table == self.file.layout.per.default_table() => format!("sqlite:{path}"),
            table => format!("sqlite:{path}?table={table}"),
        }
    }

    async fn probe(&self) -> Result<(), RowError> {
        self.blocking(|file| file.with_connection(|_| Ok(()))).await
    }

    fn lies_with_objects(&self, has_rows: bool) {
        self.file.is_with_objects.store(true, Relaxed);
        self.file.is_used.store(has_rows, Relaxed);
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let rows = rows.to_vec();
        self.blocking(move |file| file.with_connection(|connection| file.write(connection, &rows)))
            .await?;
        self.file.is_used.store(true, Relaxed);
        Ok(())
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        let folders = folders.to_vec();
        self.blocking(move |file| {
            file.with_connection(|connection| file.remove(connection, &folders))
        })
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
        let is_expected = self.is_with_objects.load(Relaxed) && self.is_used.load(Relaxed);
        if is_expected && !self.path.exists() {
            let shown = self.path.display();
            return Err(RowError::transient(format!(
                "the rows that were written to {shown} are not there; is its disk mounted? (if they were removed on \
                 purpose, make an empty file of that name)"
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

    /// Creates the table, or checks the one that is there and adds columns that it lacks.
    fn prepare_table(&self, connection: &Connection) -> Result<(), RowError> {
        let (schema, name) = match self.layout.per {
            Per::Folder => (include_str!("schema/sqlite_folder.sql"), "\"device_test\""),
            Per::Picture | Per::File => (include_str!("schema/sqlite_file.sql"), "\"device_file\""),
        };
        let schema = schema.replace(name, &quoted(&self.table));
        connection
            .execute_batch(&schema)
            .map_err(|error| self.error(error))?;
        self.check_key(connection)?;
        let there = self.texts(connection, "SELECT lower(name) FROM pragma_table_info(?1)")?;
        for column in self
            .layout
            .missing(|name| there.contains(&name.to_lowercase()))
        {
            let add = format!(
                "ALTER TABLE {} ADD COLUMN {} {}",
                quoted(&self.table),
                quoted(&column.name),
                affinity(column.kind)
            );
            connection
                .execute_batch(&add)
                .map_err(|error| self.error(error))?;
        }
        Ok(())
    }

    fn check_key(&self, connection: &Connection) -> Result<(), RowError> {
        let keys = self.texts(
            connection,
            "SELECT (SELECT group_concat(lower(name)) FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY name))
             FROM pragma_index_list(?1) i WHERE i.\"unique\" AND NOT i.partial",
        )?;
        let mut key = self.layout.key().to_vec();
        key.sort();
        if keys.contains(&key.join(",")) {
            return Ok(());
        }
        Err(RowError::permanent(format!(
            "the table {} in {} has no unique key ({}), so rows cannot be replaced in it; \
             add one, or choose another table with ?table=NAME",
            self.table,
            self.path.display(),
            self.layout.key().join(", ")
        )))
    }

    fn texts(&self, connection: &Connection, query: &str) -> Result<Vec<String>, RowError> {
        let read = || {
            connection
                .prepare(query)?
                .query_map([&self.table], |row| row.get::<_, Option<String>>(0))?
                .filter_map(Result::transpose)
                .collect::<Result<Vec<String>, _>>()
        };
        read().map_err(|error| self.error(error))
    }

    fn write(&self, connection: &mut Connection, rows: &[FolderRow]) -> Result<(), RowError> {
        let error = |error| self.error(error);
        let table = quoted(&self.table);
        let places: Vec<String> = (1..=self.layout.columns.len())
            .map(|at| format!("?{at}"))
            .collect();
        let upsert = format!(
            "INSERT INTO {table} ({}) VALUES ({}) {}",
            names(&self.layout),
            places.join(", "),
            on_conflict(&table, &self.layout)
        );
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(error)?;
        for row in newest(rows) {
            if self.newer_is_there(&transaction, row)? {
                continue;
            }
            let mut upsert = transaction.prepare_cached(&upsert).map_err(error)?;
            for record in self.layout.records(row)? {
                upsert
                    .execute(params_from_iter(record.into_iter().map(value)))
                    .map_err(error)?;
            }
            self.forget_older(&transaction, row)?;
        }
        transaction.commit().map_err(error)
    }

    /// Whether rows of a newer version of the folder are there.
    fn newer_is_there(&self, connection: &Connection, row: &FolderRow) -> Result<bool, RowError> {
        let query = format!(
            "SELECT 1 FROM {} WHERE mount_id = ?1 AND folder = ?2 AND version > ?3",
            quoted(&self.table)
        );
        connection
            .prepare_cached(&query)
            .and_then(|mut query| query.exists((&row.mount_id, &row.folder, row.version)))
            .map_err(|error| self.error(error))
    }

    /// Deletes the rows of files that the folder no longer has.
    fn forget_older(&self, connection: &Connection, row: &FolderRow) -> Result<(), RowError> {
        let delete = format!(
            "DELETE FROM {} WHERE mount_id = ?1 AND folder = ?2 AND version < ?3",
            quoted(&self.table)
        );
        connection
            .prepare_cached(&delete)
            .and_then(|mut delete| delete.execute((&row.mount_id, &row.folder, row.version)))
            .map_err(|error| self.error(error))?;
        Ok(())
    }

    fn remove(&self, connection: &mut Connection, folders: &[Removed]) -> Result<(), RowError> {
        let mut work = || {
            let transaction = connection.transaction()?;
            let delete = format!(
                "DELETE FROM {} WHERE mount_id = ?1 AND folder = ?2 AND version <= ?3",
                quoted(&self.table)
            );
            for gone in folders {
                transaction.prepare_cached(&delete)?.execute((
                    &gone.mount_id,
                    &gone.folder,
                    gone.version,
                ))?;
            }
            transaction.commit()
        };
        work().map_err(|error| self.error(error))
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

/// The declared type of a column of a person's own; NUMERIC keeps whole numbers whole.
fn affinity(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Time | Kind::Json => "TEXT",
        Kind::Integer | Kind::Boolean => "INTEGER",
        Kind::Number => "NUMERIC",
    }
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Integer(number) => Value::Integer(number),
        Cell::Boolean(value) => Value::Integer(value.into()),
        other => other.into_text().map_or(Value::Null, Value::Text),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
