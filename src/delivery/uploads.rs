//! Uploads in parts, over the deaths of the daemon: what they are called is noted in the journal. The
//! next attempt goes on with those of the same content; what nobody will go on with is given up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Context;
use crate::journal::{self, FileClaim, JournalError, UploadId, UploadPart};
use crate::remote::{
    Body, Proof, Put, RemoteError, RemoteErrorKind, StoredPart, Unfinished, UploadNotes,
};

/// After a failure of the remote to give an upload up.
const PAUSE: Duration = Duration::from_secs(30);

/// Stores a claimed file; a large one goes on where an earlier attempt ended, and any with a remote that
/// has notes kept of all.
pub(super) async fn put(
    context: &Context,
    claim: &FileClaim,
    put: Put,
) -> Result<Proof, RemoteError> {
    if matches!(put.body, Body::Bytes(_)) && !context.remote.capabilities().notes_all {
        return context.remote.put(put).await;
    }
    let found = find(context, claim, &put.hash).map_err(unreadable)?;
    let notes = Notes {
        context,
        claim,
        hash: put.hash,
        upload: Mutex::new(found.as_ref().map(|(id, _)| *id)),
    };
    let unfinished = found.as_ref().map(|(_, unfinished)| unfinished);
    if let Some(unfinished) = unfinished {
        let parts = unfinished.parts.len();
        tracing::info!(path = %claim.path, parts, "going on with an unfinished upload");
    }
    context.remote.put_resumable(put, unfinished, &notes).await
}

/// The last upload of this content to this path.
fn find(
    context: &Context,
    claim: &FileClaim,
    hash: &blake3::Hash,
) -> Result<Option<(UploadId, Unfinished)>, JournalError> {
    let view = context.view.lock();
    let mut uploads = view.unfinished_uploads(&claim.path)?;
    uploads.retain(|upload| upload.hash == *hash);
    let Some(upload) = uploads.pop() else {
        return Ok(None);
    };
    let parts = view.upload_parts(upload.id)?.into_iter();
    let parts = parts.map(|part| StoredPart {
        number: part.number,
        etag: part.etag,
        checksum: part.checksum,
    });
    let unfinished = Unfinished {
        name: upload.name,
        parts: parts.collect(),
    };
    Ok(Some((upload.id, unfinished)))
}

fn unreadable(error: JournalError) -> RemoteError {
    RemoteError::transient(format!("what was sent before cannot be looked up: {error}"))
}

/// Notes of one attempt.
struct Notes<'a> {
    context: &'a Context,
    claim: &'a FileClaim,
    hash: blake3::Hash,
    upload: Mutex<Option<UploadId>>,
}

#[async_trait]
impl UploadNotes for Notes<'_> {
    async fn began(&self, name: String) -> Result<(), RemoteError> {
        let noted = self
            .context
            .journal
            .begin_upload(self.claim, &self.hash, name);
        let id = noted.await.map_err(|error| {
            RemoteError::transient(format!("the upload could not be noted: {error}"))
        })?;
        *self.upload.lock() = Some(id);
        Ok(())
    }

    fn stored(&self, part: StoredPart) {
        let Some(id) = *self.upload.lock() else {
            return;
        };
        let part = UploadPart {
            number: part.number,
            etag: part.etag,
            checksum: part.checksum,
        };
        self.context.journal.part_stored(id, part);
    }

    async fn completed(&self) {
        let id = *self.upload.lock();
        if let Some(id) = id {
            warn(self.context.journal.upload_completed(id).await);
        }
    }

    async fn given_up(&self) {
        let id = self.upload.lock().take();
        if let Some(id) = id {
            warn(self.context.journal.end_upload(id).await);
        }
    }
}

fn warn(noted: Result<(), JournalError>) {
    if let Err(error) = noted {
        tracing::warn!(%error, "the end of an upload could not be noted");
    }
}

/// Gives up what is left over: from before the start, and whenever something was settled.
pub(super) async fn run(context: Arc<Context>) {
    let mut stop = context.stop.clone();
    loop {
        tokio::select! {
            biased;
            () = context.health.wait() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let stopping = context.is_stopping();
        let failed = match context.health.is_away() {
            true => false,
            false => !sweep(&context).await,
        };
        if stopping {
            return;
        }
        let bell = async {
            if failed {
                tokio::time::sleep(PAUSE).await;
            } else {
                context.alarms.uploads.rung().await;
            }
        };
        tokio::select! {
            biased;
            () = bell => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// False if something failed that may go well later.
async fn sweep(context: &Context) -> bool {
    match leftovers(context).await {
        Ok(leftovers) => {
            let mut well = true;
            for upload in leftovers {
                well &= give_up(context, upload).await;
            }
            well
        }
        Err(error) => {
            tracing::error!(%error, "unfinished uploads cannot be looked up");
            false
        }
    }
}

async fn leftovers(context: &Context) -> Result<Vec<journal::Unfinished>, JournalError> {
    // Nearly always there are none, and the writer need not be asked.
    match context.view.lock().has_unfinished_uploads()? {
        true => {}
        false => return Ok(Vec::new()),
    }
    context.journal.leftover_uploads().await
}

/// False if that failed and may go well later.
async fn give_up(context: &Context, upload: journal::Unfinished) -> bool {
    // Whoever is sending to the path may be about to take it up; settling that rings the bell.
    let Some(_entered) = context.busy.enter(&upload.path) else {
        return true;
    };
    if !upload.completed {
        match context.remote.abandon(&upload.name).await {
            Ok(()) => tracing::info!(path = %upload.path, "gave up an unfinished upload"),
            Err(error) if error.kind == RemoteErrorKind::Permanent => {
                tracing::warn!(path = %upload.path, %error, "an unfinished upload is left at the remote");
            }
            Err(error) => {
                tracing::debug!(path = %upload.path, %error, "an unfinished upload is given up later");
                return false;
            }
        }
    }
    warn(context.journal.end_upload(upload.id).await);
    true
}
