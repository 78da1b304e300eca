//! Sending one file: the original, and beside it the thumbnail where it is a picture.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::compress::{self, Encoded};
use super::doubt::{self, Verdict};
use super::gate::Held;
use super::load::{LoadError, Loaded, load};
use super::{Context, copy, thumbnails, uploads};
use crate::derive::thumbnail::ThumbnailState;
use crate::journal::{Delivered, FileClaim, FileOutcome, Kind, now_ms};
use crate::remote::{Artifact, Key, Proof, Put, RemoteError, RemoteErrorKind, media_type};

/// A file that was changed while it was read is looked at again after this long, milliseconds.
const CHANGED: i64 = 500;

/// How long larger files take says more about the line than about the remote, bytes.
const TELLING: u64 = 64 << 10;

/// Gives `place` back as soon as the remote is free for the next file.
pub(super) async fn send(context: &Arc<Context>, claim: &FileClaim, place: &Held) -> FileOutcome {
    let loaded = match load(context, &claim.path).await {
        Ok(loaded) => loaded,
        Err(LoadError::Gone) => return FileOutcome::Gone,
        Err(LoadError::Changed) => {
            return FileOutcome::Unsent {
                due: now_ms() + CHANGED,
                remote_hash: claim.remote_hash,
            };
        }
        Err(LoadError::Io(error)) => {
            let refused = error.kind() == std::io::ErrorKind::PermissionDenied;
            let error = format!("{} could not be read: {error}", claim.path);
            if refused {
                tracing::warn!(path = %claim.path, error, "failed for good");
                return FileOutcome::Failed { error };
            }
            return retry_or_fail(context, claim, error);
        }
    };
    let arrived = match doubt::judge(context, claim, &loaded).await {
        Ok(Verdict::Send) => None,
        Ok(Verdict::Arrived(proof)) => Some(proof),
        Ok(Verdict::Suspect(why)) => {
            tracing::warn!(path = %claim.path, why, "suspect");
            return FileOutcome::Suspect { why };
        }
        Err(error) => return failed(context, claim, error).await,
    };
    if claim.remote_hash == Some(loaded.hash) {
        return FileOutcome::Unchanged {
            stat: loaded.stat,
            hash: loaded.hash,
        };
    }
    let started = Instant::now();
    let uploading = context.progress.begin(&claim.path, loaded.stat.size);
    let found = match &arrived {
        Some(_) => None,
        None => copy::look_up(context, claim, &loaded),
    };
    let source = found
        .as_ref()
        .and_then(|found| copy::enter(context, claim, &loaded, found));
    let sending = Sending {
        claim,
        loaded: &loaded,
        source: source.as_ref(),
        place,
    };
    let artifacts = sending.put_artifacts(context, arrived);
    match uploading.sent.during(artifacts).await {
        Ok(delivered) => {
            let is_picture = loaded.kind == Kind::Picture;
            let took = started.elapsed();
            context.progress.arrived(loaded.stat.size, is_picture, took);
            note_arrival(context, &loaded, took);
            let url = delivered
                .proof
                .url(context.remote.as_ref(), Artifact::Original, &claim.path);
            context.progress.note_url(&claim.path, url);
            tracing::info!(
                path = %claim.path,
                bytes = loaded.stat.size,
                ms = took.as_millis() as u64,
                attempt = claim.attempts + 1,
                "delivered"
            );
            FileOutcome::Delivered(delivered)
        }
        Err(error) => failed(context, claim, error).await,
    }
}

/// A file that is on its way.
struct Sending<'a> {
    claim: &'a FileClaim,
    loaded: &'a Loaded,
    source: Option<&'a copy::Source<'a>>,
    place: &'a Held,
}

impl Sending<'_> {
    /// Both artifacts at a time. The thumbnail's failure is the picture's affair; the remote's failure
    /// to store it is the delivery's.
    async fn put_artifacts(
        &self,
        context: &Context,
        arrived: Option<Proof>,
    ) -> Result<Delivered, RemoteError> {
        let Self {
            claim,
            loaded,
            source,
            place,
        } = *self;
        let original = async {
            let proof = put_original(context, claim, loaded, arrived, source).await?;
            // Making the thumbnail may take longer: the next original need not wait for it, unless
            // many do already.
            let waits = context.waiting_pictures.try_acquire().ok();
            if waits.is_some() {
                place.give_back();
            }
            Ok::<_, RemoteError>((proof, waits))
        };
        let thumbnail = thumbnails::deliver(context, claim, loaded, source);
        let (original, thumbnail) = tokio::join!(original, thumbnail);
        let (thumbnail, dimensions) = thumbnail?;
        let (proof, _waits) = original?;
        // Made by the service, of the original.
        let is_wanted = !context.options.pictures.thumbnails.is_empty();
        let thumbnail = match &proof.thumbnail_url {
            Some(_) if is_wanted => ThumbnailState::Delivered,
            _ => thumbnail,
        };
        Ok(Delivered {
            stat: loaded.stat,
            hash: loaded.hash,
            kind: loaded.kind,
            dimensions: dimensions.or(proof.picture),
            proof,
            thumbnail,
        })
    }
}

async fn put_original(
    context: &Context,
    claim: &FileClaim,
    loaded: &Loaded,
    arrived: Option<Proof>,
    source: Option<&copy::Source<'_>>,
) -> Result<Proof, RemoteError> {
    if let Some(proof) = arrived {
        return Ok(proof);
    }
    if let Some(source) = source
        && let Some(proof) = copy::original(context, source.found, &claim.path, loaded).await?
    {
        tracing::debug!(path = %claim.path, from = %source.found.path, "copied at the remote");
        return Ok(proof);
    }
    let Encoded {
        body,
        hash,
        decoded,
    } = compress::encode(context, &claim.path, loaded).await?;
    let put = Put {
        key: Key::new(Artifact::Original, &claim.path),
        body,
        content_type: media_type(claim.path.name(), &loaded.head),
        hash,
        decoded,
        metadata: vec![("mtime", mtime_text(loaded.stat.mtime_ns))],
    };
    uploads::put(context, claim, put).await
}

/// Arrivals open the gate, and those of small files tell how quickly the remote answers.
fn note_arrival(context: &Context, loaded: &Loaded, took: Duration) {
    let telling = loaded.kind != Kind::Picture && loaded.stat.size <= TELLING;
    context.small.arrived(telling.then_some(took));
    context.large.arrived(None);
    context.progress.set_workers(context.small.limit());
}

/// What a failed upload means for the file, and for the remote as a whole.
async fn failed(context: &Context, claim: &FileClaim, error: RemoteError) -> FileOutcome {
    match error.kind {
        RemoteErrorKind::ContentChanged => FileOutcome::Released {
            due: now_ms() + CHANGED,
        },
        RemoteErrorKind::Unreachable => {
            context.remote_is_away(&error);
            FileOutcome::Released { due: now_ms() }
        }
        RemoteErrorKind::Transient if error.throttled => {
            // It is not this file's fault: no attempt is used up.
            context.slow_down(error.retry_after);
            let wait = context.options.backoff.delay(1);
            let wait = wait.max(error.retry_after.unwrap_or_default());
            tracing::debug!(path = %claim.path, %error, ?wait, "asked to slow down");
            FileOutcome::Released {
                due: now_ms() + wait.as_millis() as i64,
            }
        }
        RemoteErrorKind::Transient => match retry_or_fail(context, claim, error.to_string()) {
            FileOutcome::Retry { error: text, due } => {
                let asked = error.retry_after.unwrap_or_default().as_millis() as i64;
                let due = due.max(now_ms() + asked);
                FileOutcome::Retry { error: text, due }
            }
            outcome => outcome,
        },
        RemoteErrorKind::Permanent => {
            // Is it this file, or everything: revoked credentials, a bucket that is gone?
            match context.remote.probe().await {
                Err(everything) => {
                    context.remote_is_away(&everything);
                    FileOutcome::Released { due: now_ms() }
                }
                // A file where a folder was, or the other way round: what was there is still to go.
                Ok(()) if deletions_wait(context) => {
                    retry_or_fail(context, claim, error.to_string())
                }
                Ok(()) => {
                    tracing::warn!(path = %claim.path, %error, "failed for good");
                    FileOutcome::Failed {
                        error: error.to_string(),
                    }
                }
            }
        }
    }
}

fn deletions_wait(context: &Context) -> bool {
    let totals = context.view.lock().totals();
    totals.is_ok_and(|totals| totals.queued_deletions > 0)
}

fn retry_or_fail(context: &Context, claim: &FileClaim, error: String) -> FileOutcome {
    if claim.attempts >= context.options.max_retries {
        tracing::warn!(path = %claim.path, error, attempts = claim.attempts + 1, "failed; tried often enough");
        return FileOutcome::Failed { error };
    }
    let delay = context.options.backoff.delay(claim.attempts);
    tracing::debug!(path = %claim.path, error, ?delay, "failed; will be tried again");
    FileOutcome::Retry {
        error,
        due: now_ms() + delay.as_millis() as i64,
    }
}

/// Seconds since 1970-01-01 UTC with nine decimals, as rclone and s3fs keep it.
pub(super) fn mtime_text(mtime_ns: i64) -> String {
    format!(
        "{}.{:09}",
        mtime_ns.div_euclid(1_000_000_000),
        mtime_ns.rem_euclid(1_000_000_000)
    )
}
