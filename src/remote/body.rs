use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// The bytes of an object: small ones in memory (read once for hash, thumbnail and upload), large
/// ones streamed from the file, whose position is not used (`pread`).
#[derive(Debug, Clone)]
pub enum Body {
    Bytes(Bytes),
    File { file: Arc<File>, len: u64 },
}

impl Body {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
