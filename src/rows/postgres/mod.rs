//! Rows in PostgreSQL, Supabase's direct connection and poolers included:
//! `postgres://user@host:5432/database?table=device_test`.
//!
//! Works through a pooler in transaction mode: no named prepared statements and nothing that is set
//! for a session. A batch is one statement, its columns sent as arrays.

mod connect;
mod error;
mod table;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect::Server;
use deadpool_postgres::Object;
use error::Failure;
use parking_lot::Mutex;
use table::Table;
use tokio_postgres::types::{ToSql, Type};

use super::layout::{Layout, Per, newest};
use super::target::Query;
use super::{FolderRow, Options, Removed, RowError, RowSink, target};

/// How long a call may take before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct PostgresSink {
    server: Server,
    table: Table,
    layout: Layout,
    /// Whether the table may be created and columns added to it.
    manage: bool,
    /// The upsert for the table as it was last seen; looked at again after each failure.
    upsert: Mutex<Option<Arc<str>>>,
}

impl PostgresSink {
    pub fn open(url: &str, options: &Options) -> Result<Self, RowError> {
        let example = "postgres://user@host:5432/database?table=device_test";
        let wrong = |why: String| target::wrong(url, &why, example);
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut query = Query::parse(query);
        let per = query.per().map_err(wrong)?;
        let name = query.table(per).map_err(wrong)?;
        let table = Table::new(query.take("schema"), name);
        let manage = match query.take("manage").as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(other) => return Err(wrong(format!("manage={other} is neither yes nor no"))),
        };
        let server = Server::open(address, &mut query, &options.credentials).map_err(wrong)?;
        query.finish().map_err(wrong)?;
        Ok(Self {
            server,
            table,
            layout: Layout::new(per, options)?,
            manage,
            upsert: Mutex::new(None),
        })
    }

    /// Runs `work` on a connection; once more if the pool's connection turns out to be dead. A
    /// connection on which something failed is not used again.
    async fn run(&self, work: Work) -> Result<(), RowError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut client = match self.server.connect().await {
                Ok(client) => client,
                Err(failure) => return Err(self.error(failure)),
            };
            let done = tokio::time::timeout(PATIENCE, self.perform(&mut client, &work)).await;
            let failure = match done.unwrap_or(Err(Failure::Silent(PATIENCE))) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            drop(Object::take(client));
            *self.upsert.lock() = None;
            if !failure.connection_was_closed() || attempts == 2 {
                return Err(self.error(failure));
            }
        }
    }

    fn error(&self, failure: Failure) -> RowError {
        failure.explain(
            &self.server.describe(),
            &self.table.to_string(),
            self.server.user(),
        )
    }

    /// Finds out how rows are written, creating what is missing where that is allowed.
    async fn prepared(&self, client: &Object) -> Result<Arc<str>, Failure> {
        if let Some(upsert) = self.upsert.lock().clone() {
            return Ok(upsert);
        }
        let types = self
            .table
            .prepare(client, &self.layout, self.manage)
            .await?;
        let upsert: Arc<str> = self.table.upsert_sql(&self.layout, &types).into();
        *self.upsert.lock() = Some(upsert.clone());
        Ok(upsert)
    }

    async fn perform(&self, client: &mut Object, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Prepare => {
                self.prepared(client).await?;
            }
            Work::Write(batch) => self.write(client, batch).await?,
            Work::Remove(folders) => {
                let delete = self.table.delete_sql("<=");
                client.execute_typed(&delete, &folders.values()).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, client: &mut Object, batch: &Batch) -> Result<(), Failure> {
        let upsert = self.prepared(client).await?;
        let values: Vec<(&(dyn ToSql + Sync), Type)> = batch
            .columns
            .iter()
            .map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY))
            .collect();
        if self.layout.per == Per::Folder {
            client.execute_typed(&upsert, &values).await?;
            return Ok(());
        }
        let transaction = client.transaction().await?;
        transaction.execute_typed(&upsert, &values).await?;
        let forget = self.table.delete_sql("<");
        transaction
            .execute_typed(&forget, &batch.folders.values())
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl RowSink for PostgresSink {
    fn describe(&self) -> String {
        format!("{}?table={}", self.server.describe(), self.table)
    }

    async fn probe(&self) -> Result<(), RowError> {
        *self.upsert.lock() = None;
        self.run(Work::Prepare).await
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        self.run(Work::Write(Batch::new(&self.layout, rows)?)).await
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        self.run(Work::Remove(Folders::removed(folders))).await
    }
}

enum Work {
    /// Only see that the table is right.
    Prepare,
    Write(Batch),
    Remove(Folders),
}

/// Rows turned on their side: an array for each column.
struct Batch {
    columns: Vec<Vec<Option<String>>>,
    folders: Folders,
}

impl Batch {
    fn new(layout: &Layout, rows: &[FolderRow]) -> Result<Self, RowError> {
        let mut batch = Self {
            columns: vec![Vec::with_capacity(rows.len()); layout.columns.len()],
            folders: Folders::default(),
        };
        for row in newest(rows) {
            batch.folders.push(&row.mount_id, &row.folder, row.version);
            for record in layout.records(row)? {
                for (column, cell) in batch.columns.iter_mut().zip(record) {
                    column.push(cell.into_text());
                }
            }
        }
        Ok(batch)
    }
}

/// Folders and versions as arrays.
#[derive(Default)]
struct Folders {
    mount_ids: Vec<String>,
    folders: Vec<String>,
    versions: Vec<i64>,
}

impl Folders {
    fn removed(removed: &[Removed]) -> Self {
        let mut folders = Self::default();
        for gone in removed {
            folders.push(&gone.mount_id, &gone.folder, gone.version);
        }
        folders
    }

    fn push(&mut self, mount_id: &str, folder: &str, version: i64) {
        self.mount_ids.push(mount_id.to_owned());
        self.folders.push(folder.to_owned());
        self.versions.push(version);
    }

    fn values(&self) -> [(&(dyn ToSql + Sync), Type); 3] {
        [
            (&self.mount_ids, Type::TEXT_ARRAY),
            (&self.folders, Type::TEXT_ARRAY),
            (&self.versions, Type::INT8_ARRAY),
        ]
    }
}
