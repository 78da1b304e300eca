//! Files that may not be what the remote should have: after the machine went down, or after the
//! journal was lost. They are looked at before they are sent, so that no damaged or older content
//! takes the place of good.

use std::sync::Arc;

use super::Context;
use super::load::{LoadError, Loaded, blocking};
use super::stat_file;
use crate::journal::{Doubt, FileClaim};
use crate::remote::{Artifact, Key, ObjectInfo, Proof, Put, RemoteError};
use crate::scan::{has_hole, is_zero};

/// What is to become of a file in doubt.
pub(super) enum Verdict {
    Send,
    /// The remote has this content.
    Arrived(Proof),
    /// It looks damaged, or what the remote has looks newer; a sentence.
    Suspect(String),
}

pub(super) async fn judge(
    context: &Arc<Context>,
    claim: &FileClaim,
    loaded: &Loaded,
) -> Result<Verdict, RemoteError> {
    let Some(doubt) = claim.doubt else {
        return Ok(Verdict::Send);
    };
    if let Doubt::Crashed {
        size,
        mtime_ns,
        inode,
        delivered,
    } = doubt
    {
        let local = &loaded.stat;
        let as_recorded = (local.size, local.mtime_ns, local.inode) == (size, mtime_ns, inode);
        let why = if local.size < size {
            format!("the local file is {} bytes, {size} were closed", local.size)
        } else if local.inode != inode || delivered && !as_recorded {
            "the local file is not the one that was closed last".into()
        } else if delivered && local.size == 0 {
            // Truncated to be written anew, in most cases.
            "the local file is empty, and what was delivered before was perhaps not".into()
        } else {
            String::new()
        };
        if !why.is_empty() {
            return Ok(Verdict::Suspect(format!("the machine went down: {why}")));
        }
    }
    let hollow = is_hollow(context, claim, loaded).await?;
    let remote = match doubt {
        Doubt::Crashed { .. } => None,
        Doubt::Rebuilt if context.remote.capabilities().reads => {
            context.remote.head(&original(claim)).await?
        }
        Doubt::Rebuilt => None,
    };
    if let Some(object) = remote {
        return compare(context, claim, loaded, hollow, object).await;
    }
    Ok(match (doubt, hollow) {
        (Doubt::Crashed { .. }, true) => Verdict::Suspect(
            "the machine went down: the local file has zeros where content may have been".into(),
        ),
        _ => Verdict::Send,
    })
}

/// The journal was lost, and the remote has an object for the file.
async fn compare(
    context: &Context,
    claim: &FileClaim,
    loaded: &Loaded,
    hollow: bool,
    object: ObjectInfo,
) -> Result<Verdict, RemoteError> {
    let mut hash = object.blake3;
    if hash.is_none() && object.content_size() == loaded.stat.size {
        // Put there by something else than this program, which may have been a predecessor.
        let mut hasher = blake3::Hasher::new();
        context.remote.get(&original(claim), &mut hasher).await?;
        hash = Some(hasher.finalize());
    }
    if object.content_size() == loaded.stat.size && hash == Some(loaded.hash) {
        return Ok(Verdict::Arrived(Proof::of_etag(object.etag)));
    }
    let newer = object
        .mtime_ns
        .is_some_and(|delivered| loaded.stat.mtime_ns > delivered);
    if newer && !hollow && loaded.stat.size > 0 {
        return Ok(Verdict::Send);
    }
    Ok(Verdict::Suspect(
        "the journal does not know this file, and the remote has other content that is not older \
         than the local file; the copy at the remote is kept"
            .into(),
    ))
}

/// The proof of an object if the remote has it already, for a file of a journal that was lost.
pub(super) async fn existing(
    context: &Context,
    claim: &FileClaim,
    put: &Put,
) -> Result<Option<Proof>, RemoteError> {
    if claim.doubt != Some(Doubt::Rebuilt) || !context.remote.capabilities().reads {
        return Ok(None);
    }
    let object = context.remote.head(&put.key).await?;
    Ok(object
        .filter(|object| object.size == put.body.len() && object.blake3 == Some(put.hash))
        .map(|object| Proof::of_etag(object.etag)))
}

fn original(claim: &FileClaim) -> Key {
    Key::new(Artifact::Original, &claim.path)
}

/// Whether the file has holes or nothing but zeros. One that cannot be read fails elsewhere; another one that has
/// come into its place says nothing of what was loaded.
async fn is_hollow(
    context: &Arc<Context>,
    claim: &FileClaim,
    loaded: &Loaded,
) -> Result<bool, RemoteError> {
    let (context, path, expected) = (context.clone(), claim.path.clone(), loaded.stat);
    let look = move || {
        let mut file = context.open_file(&path).map_err(LoadError::from)?;
        let is_hollow = has_hole(&file)? || is_zero(&mut file)?;
        let (stat, _) = stat_file(&file).map_err(LoadError::from)?;
        let is_same = (stat.size, stat.mtime_ns, stat.inode)
            == (expected.size, expected.mtime_ns, expected.inode);
        Ok(is_same.then_some(stat.size > 0 && is_hollow))
    };
    match blocking(look).await {
        Ok(Some(hollow)) => Ok(hollow),
        Ok(None) => Err(RemoteError::content_changed()),
        Err(_) => Ok(false),
    }
}
