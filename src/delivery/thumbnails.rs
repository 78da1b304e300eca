//! Delivering what is made of a picture: a thumbnail for each size, in a folder of its own. Where there
//! is none any more, the one of earlier content is taken away.

use super::load::Loaded;
use super::{Context, Pictures, copy, doubt};
use crate::derive::thumbnail::{self, Thumbnail, ThumbnailState};
use crate::journal::{FileClaim, Kind};
use crate::path::RelPath;
use crate::remote::{
    Artifact, Body, Key, Put, RemoteError, RemoteErrorKind, Thumbnails, media_type,
};

/// Where thumbnails are at the remote.
pub(super) struct Folders {
    /// One for each that is made.
    wanted: Vec<String>,
    /// All that there ever were.
    known: Vec<String>,
}

impl Folders {
    /// `further` are those of earlier mounts, as the journal remembers them. A remote that does not
    /// keep thumbnails has no folders of them.
    pub(super) fn new(pictures: &Pictures, further: Vec<String>, kept: Thumbnails) -> Self {
        if kept != Thumbnails::Kept {
            return Self {
                wanted: Vec::new(),
                known: Vec::new(),
            };
        }
        let mut known = vec![Artifact::Thumbnail.folder().to_owned()];
        known.extend(further);
        Self {
            wanted: thumbnail::folders(&pictures.thumbnails).collect(),
            known,
        }
    }

    /// The keys of all thumbnails that there may be of a path.
    pub(super) fn keys(&self, path: &RelPath) -> impl Iterator<Item = Key> {
        self.known.iter().map(|folder| Key::below(folder, path))
    }
}

/// What became of the thumbnails, and the picture's size in pixels where it is known.
pub(super) async fn deliver(
    context: &Context,
    claim: &FileClaim,
    loaded: &Loaded,
    source: Option<&copy::Source<'_>>,
) -> Result<(ThumbnailState, Option<(u32, u32)>), RemoteError> {
    if loaded.kind != Kind::Picture || context.thumbnails.wanted.is_empty() {
        remove(context, claim, &[]).await?;
        return Ok((ThumbnailState::None, None));
    }
    if let Some(source) = source.filter(|source| source.found.thumbnail)
        && copied(context, claim, loaded, source).await?
    {
        remove(context, claim, &context.thumbnails.wanted).await?;
        return Ok((ThumbnailState::Delivered, source.found.dimensions));
    }
    let made = match context.pictures.make(loaded.body.clone()).await {
        Ok(made) => made,
        Err(error) => {
            tracing::warn!(path = %claim.path, %error, "no thumbnail");
            remove(context, claim, &[]).await?;
            return Ok((ThumbnailState::Failed(error.to_string()), None));
        }
    };
    let picture = made.first().map(|thumbnail| thumbnail.picture);
    for (folder, thumbnail) in context.thumbnails.wanted.iter().zip(made) {
        put(context, claim, loaded, folder, thumbnail).await?;
    }
    remove(context, claim, &context.thumbnails.wanted).await?;
    Ok((ThumbnailState::Delivered, picture))
}

/// Whether all thumbnails could be copied from those of the same picture elsewhere.
async fn copied(
    context: &Context,
    claim: &FileClaim,
    loaded: &Loaded,
    source: &copy::Source<'_>,
) -> Result<bool, RemoteError> {
    let from = &source.found.path;
    for folder in &context.thumbnails.wanted {
        let copied = copy::thumbnail(context, folder, from, &claim.path, loaded).await?;
        if copied.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn put(
    context: &Context,
    claim: &FileClaim,
    loaded: &Loaded,
    folder: &str,
    thumbnail: Thumbnail,
) -> Result<(), RemoteError> {
    let put = Put {
        key: Key::below(folder, &claim.path),
        hash: blake3::hash(&thumbnail.bytes),
        body: Body::Bytes(thumbnail.bytes.into()),
        decoded: None,
        content_type: thumbnail.format.media_type().into(),
        metadata: vec![
            ("width", thumbnail.width.to_string()),
            ("height", thumbnail.height.to_string()),
            ("original-blake3", loaded.hash.to_hex().to_string()),
        ],
    };
    if doubt::existing(context, claim, &put).await?.is_none() {
        context.remote.put(put).await?;
    }
    Ok(())
}

/// Takes away the thumbnails of earlier content in all folders but `kept`: whoever finds one takes it
/// for the file's. A remote where nothing may be deleted keeps them.
async fn remove(context: &Context, claim: &FileClaim, kept: &[String]) -> Result<(), RemoteError> {
    // The journal does not know what an earlier file of this name has left.
    let may_be_there = claim.thumbnail
        || (kept.is_empty() && media_type(claim.path.name(), b"").starts_with("image/"));
    if !may_be_there || !context.remote.capabilities().deletes {
        return Ok(());
    }
    let known = context.thumbnails.known.iter();
    let keys: Vec<Key> = known
        .filter(|folder| !kept.contains(folder))
        .map(|folder| Key::below(folder, &claim.path))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    for answer in context.remote.delete_all(&keys).await {
        match answer {
            Err(error) if error.kind == RemoteErrorKind::Permanent => {
                tracing::warn!(path = %claim.path, %error, "the thumbnail of earlier content stays");
            }
            answer => answer?,
        }
    }
    Ok(())
}
