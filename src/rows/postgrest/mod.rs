//! Rows through PostgREST, as Supabase offers it:
//! `postgrest+https://PROJECT.supabase.co/rest/v1/device_test`.
//!
//! An upsert in PostgREST replaces whatever is there, so the versions are read first and older rows
//! are not sent. A mount has one daemon, which makes that enough; the trigger in docs/rows.md makes
//! it certain.

mod error;
mod request;

use std::collections::HashMap;

use async_trait::async_trait;
use request::{Api, quoted_list};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::layout::{Layout, Per, newest};
use super::{FolderRow, Options, Removed, RowError, RowSink, target};

/// Rows and bytes of a request at most; proxies commonly refuse bodies of more than 1 MiB.
const ROWS: usize = 500;
const BODY: usize = 900 * 1024;

/// Bytes of a URL's folder names, as they are before percent-encoding triples them at worst;
/// proxies commonly refuse URLs of more than 8 KiB.
const NAMES: usize = 2 * 1024;

pub struct PostgrestSink {
    api: Api,
    layout: Layout,
}

#[derive(Deserialize)]
struct There {
    mount_id: String,
    folder: String,
    version: i64,
}

/// Highest version of folders that are there, by mount and folder.
type Versions = HashMap<(String, String), i64>;

impl PostgrestSink {
    pub fn open(url: &str, options: &Options) -> Result<Self, RowError> {
        let example = "postgrest+https://PROJECT.supabase.co/rest/v1/device_test";
        let wrong = |why: String| target::wrong(url, &why, example);
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut query = target::Query::parse(query);
        let per = query.per().map_err(wrong)?;
        let api = Api::open(address, query.take("schema"), &options.credentials).map_err(wrong)?;
        query.finish().map_err(wrong)?;
        Ok(Self {
            api,
            layout: Layout::new(per, options)?,
        })
    }

    /// What is there of these folders.
    async fn versions(&self, rows: &[&FolderRow]) -> Result<Versions, RowError> {
        let mut versions = Versions::new();
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.askable(rest));
            for there in self.ask(now).await? {
                let version = versions.entry((there.mount_id, there.folder)).or_insert(0);
                *version = there.version.max(*version);
            }
            rest = later;
        }
        Ok(versions)
    }

    /// How many of the rows' folders fit into a question. Those with a row for each file go one by
    /// one, because the service may cut long answers.
    fn askable(&self, rows: &[&FolderRow]) -> usize {
        if self.layout.per != Per::Folder {
            return 1;
        }
        let mut bytes = 0;
        let fits = rows.iter().take_while(|row| {
            bytes += row.folder.len() + 3;
            bytes <= NAMES && row.mount_id == rows[0].mount_id
        });
        fits.count().max(1)
    }

    async fn ask(&self, rows: &[&FolderRow]) -> Result<Vec<There>, RowError> {
        let folders = quoted_list(rows.iter().map(|row| row.folder.as_str()));
        let query = [
            ("select", "mount_id,folder,version".to_owned()),
            ("mount_id", format!("eq.{}", rows[0].mount_id)),
            ("folder", format!("in.({folders})")),
            ("order", "version.desc".to_owned()),
            ("limit", rows.len().to_string()),
        ];
        let answer = self.api.get(&query).await?;
        serde_json::from_str(&answer).map_err(|error| {
            RowError::transient(format!(
                "{} answered something that is not its rows: {error}",
                self.api.describe()
            ))
        })
    }

    async fn post(&self, records: &[&RawValue]) -> Result<(), RowError> {
        let query = [
            ("on_conflict", self.layout.key().join(",")),
            (
                "columns",
                quoted_list(
                    self.layout
                        .columns
                        .iter()
                        .map(|column| column.name.as_str()),
                ),
            ),
        ];
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 2;
            let fits = rest.iter().take(ROWS).take_while(|record| {
                bytes += record.get().len() + 1;
                bytes <= BODY
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let body = serde_json::to_string(now).map_err(not_json)?;
            self.api.post(&query, body).await?;
            rest = later;
        }
        Ok(())
    }

    async fn delete(&self, mount_id: &str, folder: &str, version: String) -> Result<(), RowError> {
        let query = [
            ("mount_id", format!("eq.{mount_id}")),
            ("folder", format!("eq.{folder}")),
            ("version", version),
        ];
        self.api.delete(&query).await
    }
}

fn not_json(error: serde_json::Error) -> RowError {
    RowError::permanent(format!("a row is not JSON: {error}"))
}

#[async_trait]
impl RowSink for PostgrestSink {
    fn describe(&self) -> String {
        self.api.describe()
    }

    async fn probe(&self) -> Result<(), RowError> {
        let columns = quoted_list(
            self.layout
                .columns
                .iter()
                .map(|column| column.name.as_str()),
        );
        let query = [("select", columns), ("limit", "0".to_owned())];
        self.api.get(&query).await.map(drop)
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let rows = newest(rows);
        // Before anything is sent, so that a row that cannot be written keeps all of them back.
        let mut written = Vec::with_capacity(rows.len());
        for row in &rows {
            let objects: Result<Vec<_>, _> = self
                .layout
                .records(row)?
                .iter()
                .map(|record| serde_json::value::to_raw_value(&self.layout.object(record)))
                .collect();
            written.push((*row, objects.map_err(not_json)?));
        }
        let versions = self.versions(&rows).await?;
        let there = |row: &FolderRow| {
            let key = (row.mount_id.clone(), row.folder.clone());
            versions.get(&key).copied()
        };
        written.retain(|(row, _)| there(row) <= Some(row.version));
        let records: Vec<&RawValue> = written
            .iter()
            .flat_map(|(_, records)| records)
            .map(|r| &**r)
            .collect();
        self.post(&records).await?;
        if self.layout.per != Per::Folder {
            for (row, _) in written {
                if there(row).is_some_and(|version| version < row.version) {
                    let older = format!("lt.{}", row.version);
                    self.delete(&row.mount_id, &row.folder, older).await?;
                }
            }
        }
        Ok(())
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        for gone in folders {
            let up_to = format!("lte.{}", gone.version);
            self.delete(&gone.mount_id, &gone.folder, up_to).await?;
        }
        Ok(())
    }
}
