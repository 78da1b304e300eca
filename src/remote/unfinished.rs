//! Uploads in parts that outlive who began them.

use async_trait::async_trait;

use super::RemoteError;

/// An upload that was begun, as it was noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// As [`UploadNotes::began`] was told.
    pub name: String,
    pub parts: Vec<StoredPart>,
}

/// A part that the remote has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// From 1 on.
    pub number: u32,
    /// The remote's entity tag, if it told one.
    pub etag: Option<String>,
    /// The checksum that went with it, as it was written in the request.
    pub checksum: String,
}

/// Keeps what must be known to go on with an upload after a crash.
#[async_trait]
pub trait UploadNotes: Send + Sync {
    /// The remote has begun an upload and calls it so. Returns when that is written down: what is
    /// not known could never be given up.
    async fn began(&self, name: String) -> Result<(), RemoteError>;

    /// The remote has a part.
    fn stored(&self, part: StoredPart);

    /// The parts have become an object.
    async fn completed(&self);

    /// Nothing is left of the upload.
    async fn given_up(&self);
}
