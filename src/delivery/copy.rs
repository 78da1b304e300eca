//! Content that the remote has already, under another path: copied there instead of being sent.

use super::Context;
use super::busy::Entered;
use super::load::Loaded;
use super::send::mtime_text;
use crate::journal::{CopySource, FileClaim};
use crate::path::RelPath;
use crate::remote::{Artifact, Copies, Copy, Described, Key, Proof, RemoteError, media_type};

/// Smaller files are sent as quickly as copied, unless they were renamed, bytes.
const WORTH_COPYING: u64 = 4096;

/// Where the content is. Nothing else is done to that path as long as this lives.
pub(super) struct Source<'a> {
    pub found: &'a CopySource,
    _entered: Entered<'a>,
}

/// Another object of this content, as far as the journal knows.
pub(super) fn look_up(context: &Context, claim: &FileClaim, loaded: &Loaded) -> Option<CopySource> {
    let can = context.remote.capabilities();
    let only_renamed = match can.copies {
        _ if !can.names => true,
        Copies::Always => loaded.stat.size < WORTH_COPYING,
        Copies::AsMoves if context.options.sync_deletes => true,
        _ => return None,
    };
    let found = context
        .view
        .lock()
        .copy_source(claim.id, &loaded.hash, only_renamed);
    let found = found.unwrap_or_else(|error| {
        tracing::warn!(%error, "what could be copied cannot be looked up");
        None
    })?;
    (found.path != claim.path).then_some(found)
}

/// Takes the source, if it still is one.
pub(super) fn enter<'a>(
    context: &'a Context,
    claim: &FileClaim,
    loaded: &Loaded,
    found: &'a CopySource,
) -> Option<Source<'a>> {
    let entered = context.busy.enter(&found.path)?;
    // It may have been claimed after it was found; since it was entered that makes no difference.
    let still = look_up(context, claim, loaded)?;
    (still == *found).then_some(Source {
        found,
        _entered: entered,
    })
}

/// `None` if there is nothing to be copied after all.
pub(super) async fn original(
    context: &Context,
    found: &CopySource,
    to: &RelPath,
    loaded: &Loaded,
) -> Result<Option<Proof>, RemoteError> {
    if !context.remote.capabilities().names {
        // It was never under the old name either.
        return Ok(Some(found.proof.clone()));
    }
    let from = &found.path;
    let copy = Copy {
        from: Key::new(Artifact::Original, from),
        to: Key::new(Artifact::Original, to),
        expected: ("blake3", loaded.hash.to_hex().to_string()),
        described: Some(Described {
            content_type: media_type(to.name(), &loaded.head),
            hash: loaded.hash,
            metadata: vec![("mtime", mtime_text(loaded.stat.mtime_ns))],
        }),
        // What a renamed file leaves behind is deleted with `sync_deletes` in any case.
        moves: found.renamed && context.options.sync_deletes,
    };
    context.remote.copy(&copy).await
}

/// As [`original`], of the thumbnail in `folder`.
pub(super) async fn thumbnail(
    context: &Context,
    folder: &str,
    from: &RelPath,
    to: &RelPath,
    loaded: &Loaded,
) -> Result<Option<Proof>, RemoteError> {
    let copy = Copy {
        from: Key::below(folder, from),
        to: Key::below(folder, to),
        expected: ("original-blake3", loaded.hash.to_hex().to_string()),
        described: None,
        moves: false,
    };
    context.remote.copy(&copy).await
}
