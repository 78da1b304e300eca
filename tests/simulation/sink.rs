//! A table of rows that fails and loses answers, and sees to it that what its rows name is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outboxfs::rows::{FolderRow, Removed, RowError, RowSink};
use parking_lot::Mutex;

use crate::remote::SimRemote;
use crate::story::Story;

/// Outlives daemons.
pub struct SimSink {
    story: Arc<Story>,
    remote: Arc<SimRemote>,
    pub is_flaky: Mutex<bool>,
    pub rows: Mutex<BTreeMap<String, FolderRow>>,
}

impl SimSink {
    pub fn new(story: Arc<Story>, remote: Arc<SimRemote>) -> Arc<Self> {
        Arc::new(Self {
            story,
            remote,
            is_flaky: Mutex::default(),
            rows: Mutex::default(),
        })
    }

    /// Each picture and file that a row names is at the remote.
    pub fn check(&self) {
        let (rows, remote) = (self.rows.lock(), self.remote.state.lock());
        for row in rows.values() {
            for file in row.pictures.iter().chain(&row.other_files) {
                if !remote.objects.contains_key(&file.url) {
                    self.story.broken(format!(
                        "the row of {} points at {}, which is not there",
                        row.folder, file.url
                    ));
                }
            }
        }
    }

    async fn travel(&self) {
        let wait = Duration::from_millis(self.story.below("sink", 60));
        tokio::time::sleep(wait).await;
    }

    fn fails(&self, percent: u64) -> Result<(), RowError> {
        match *self.is_flaky.lock() && self.story.chance("sink", percent) {
            true => Err(RowError {
                permanent: false,
                message: "the table is locked".into(),
            }),
            false => Ok(()),
        }
    }
}

/// What a daemon has of it.
pub struct Connection(pub Arc<SimSink>);

#[async_trait]
impl RowSink for Connection {
    fn describe(&self) -> String {
        "sim:rows".into()
    }

    async fn probe(&self) -> Result<(), RowError> {
        Ok(())
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let sink = &self.0;
        sink.travel().await;
        sink.fails(25)?;
        for row in rows {
            let mut table = sink.rows.lock();
            let newer = table
                .get(&row.folder)
                .is_some_and(|other| other.version > row.version);
            if !newer {
                let (folder, files) = (&row.folder, row.files);
                sink.story
                    .tell(format!("sink: row of {folder}, {files} files"));
                table.insert(row.folder.clone(), row.clone());
            }
        }
        sink.check();
        sink.travel().await;
        sink.fails(15)
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        let sink = &self.0;
        sink.travel().await;
        sink.fails(25)?;
        for removed in folders {
            let mut table = sink.rows.lock();
            if table
                .get(&removed.folder)
                .is_some_and(|row| row.version <= removed.version)
            {
                sink.story
                    .tell(format!("sink: no row of {}", removed.folder));
                table.remove(&removed.folder);
            }
        }
        sink.travel().await;
        sink.fails(15)
    }
}
