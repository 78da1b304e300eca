use super::{Artifact, Key, Remote};
use crate::path::RelPath;

/// What the remote answered when it had stored an object; kept in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// The service's entity tag, without quotes.
    pub etag: Option<String>,
    /// What the service calls the object, where that is not the key: a public id, a signed id.
    pub id: Option<String>,
    /// Which of the contents that the object ever had this is, as the service counts them.
    pub version: Option<String>,
    /// Where readers find the object, if the service made that URL.
    pub url: Option<String>,
    /// Where they find the picture's thumbnail, if the service [makes it](super::Thumbnails::Made).
    pub thumbnail_url: Option<String>,
    /// Width and height of the picture in pixels, if the service told them.
    pub picture: Option<(u32, u32)>,
}

impl Proof {
    /// All that is known of an object that is there already.
    pub fn of_etag(etag: Option<String>) -> Self {
        Self {
            etag,
            ..Self::default()
        }
    }

    /// Where readers find what was delivered of the file at `path`, of whose original this is the
    /// proof: what the service said, else what the remote knows by the key.
    pub fn url(&self, remote: &dyn Remote, artifact: Artifact, path: &RelPath) -> Option<String> {
        let said = match artifact {
            Artifact::Original => &self.url,
            Artifact::Thumbnail => &self.thumbnail_url,
        };
        said.clone()
            .or_else(|| remote.url(&Key::new(artifact, path)))
    }
}
