//! Deletes at the remote what was deleted here: in batches, several at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Context;
use crate::journal::{Deletion, Outcome, StrayId, now_ms};
use crate::remote::{Artifact, Key, RemoteError, RemoteErrorKind};

/// Paths of one batch: with a thumbnail each a thousand keys, as many as S3 deletes with one request.
const BATCH: usize = 500;
/// Batches on their way at a time.
const BATCHES: usize = 4;
/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A path that is being sent to, or copied from, waits this long, milliseconds.
const BUSY: i64 = 50;

pub(super) async fn run(context: Arc<Context>) {
    let mut batches = JoinSet::new();
    while !context.is_stopping() {
        let mut stop = context.stop.clone();
        tokio::select! {
            biased;
            () = context.health.wait() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        tokio::select! {
            biased;
            () = context.wait_for_hours() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let claimed = match context.journal.claim_deletions(BATCH).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "no deletions can be claimed from the journal");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if claimed.claims.is_empty() {
            let bell = &context.alarms.deletions;
            if !context.wait_for_work(bell, claimed.next_due).await {
                break;
            }
            continue;
        }
        if batches.len() >= BATCHES {
            batches.join_next().await;
        }
        batches.spawn(one_batch(context.clone(), claimed.claims));
    }
    while batches.join_next().await.is_some() {}
}

async fn one_batch(context: Arc<Context>, deletions: Vec<Deletion>) {
    let outcomes = delete(&context, &deletions).await;
    let record = || context.journal.settle_deletions(outcomes.clone());
    context.insist("deletions", record).await;
}

async fn delete(context: &Context, deletions: &[Deletion]) -> Vec<(StrayId, Outcome)> {
    let mut outcomes = Vec::with_capacity(deletions.len());
    let (mut ours, mut entered, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for deletion in deletions {
        let Some(guard) = context.busy.enter(&deletion.path) else {
            let due = now_ms() + BUSY;
            outcomes.push((deletion.id, Outcome::Released { due }));
            continue;
        };
        entered.push(guard);
        keys.push(Key::new(Artifact::Original, &deletion.path));
        let before = keys.len();
        if deletion.thumbnail {
            keys.extend(context.thumbnails.keys(&deletion.path));
        }
        ours.push((deletion, 1 + keys.len() - before));
    }
    let mut answers = context.remote.delete_all(&keys).await.into_iter();
    let mut everything: Option<Result<(), RemoteError>> = None;
    for (deletion, artifacts) in ours {
        let answers: Vec<_> = answers.by_ref().take(artifacts).collect();
        let outcome = match answers.into_iter().collect::<Result<(), RemoteError>>() {
            Ok(()) => {
                tracing::info!(path = %deletion.path, "deleted at the remote");
                if let Some(observer) = &context.options.observer {
                    observer.deleted(&deletion.path);
                }
                Outcome::Done
            }
            Err(error) if error.kind == RemoteErrorKind::Permanent => {
                if everything.is_none() {
                    everything = Some(context.remote.probe().await);
                }
                refused(context, deletion, error, everything.as_ref())
            }
            Err(error) => failed(context, deletion, &error),
        };
        outcomes.push((deletion.id, outcome));
    }
    outcomes
}

/// Is it this one, or everything: revoked credentials, a bucket that is gone?
fn refused(
    context: &Context,
    deletion: &Deletion,
    error: RemoteError,
    everything: Option<&Result<(), RemoteError>>,
) -> Outcome {
    if let Some(Err(everything)) = everything {
        context.remote_is_away(everything);
        return Outcome::Released { due: now_ms() };
    }
    tracing::warn!(path = %deletion.path, %error, "not deleted at the remote");
    Outcome::Failed {
        error: error.message,
    }
}

fn failed(context: &Context, deletion: &Deletion, error: &RemoteError) -> Outcome {
    if error.kind == RemoteErrorKind::Unreachable {
        context.remote_is_away(error);
        return Outcome::Released { due: now_ms() };
    }
    if error.throttled {
        context.slow_down(error.retry_after);
    }
    let wait = error.retry_after.unwrap_or_default();
    let error = error.message.clone();
    if deletion.attempts >= context.options.max_retries {
        return Outcome::Failed { error };
    }
    let wait = wait.max(context.options.backoff.delay(deletion.attempts));
    let due = now_ms() + wait.as_millis() as i64;
    Outcome::Retry { error, due }
}
