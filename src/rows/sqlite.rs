use async_trait::async_trait;

use super::{FolderRow, RowError, RowSink};

pub struct SqliteSink;

impl SqliteSink {
    pub fn open(_path: &str) -> Result<Self, RowError> {
        todo!()
    }
}

#[async_trait]
impl RowSink for SqliteSink {
    fn describe(&self) -> String {
        todo!()
    }
    async fn probe(&self) -> Result<(), RowError> {
        todo!()
    }
    async fn upsert(&self, _rows: &[FolderRow]) -> Result<(), RowError> {
        todo!()
    }
}
