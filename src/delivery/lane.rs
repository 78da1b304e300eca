//! A lane claims what is due, oldest first, and gives each file a task of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Context, load, send};
use crate::journal::{FileClaim, FileOutcome, Lane, Settlement, now_ms};

/// Claims taken with one visit to the journal, at most.
const BATCH: usize = 32;
/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A path whose older content is still on its way waits this long, milliseconds.
const BUSY: i64 = 50;

pub(super) async fn run(context: Arc<Context>, lane: Lane, outcomes: mpsc::Sender<Settlement>) {
    let (places, bell) = match lane {
        Lane::Small => (context.options.workers, &context.alarms.small),
        Lane::Large => (context.options.workers.div_ceil(4), &context.alarms.large),
    };
    let places = Arc::new(Semaphore::new(places));
    let mut stop = context.stop.clone();
    while !context.is_stopping() {
        let permits = tokio::select! {
            permits = take(&context, &places) => permits,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let mut claimed = match context.journal.claim_files(lane, permits.len()).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "nothing can be claimed from the journal");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if claimed.claims.is_empty() {
            drop(permits);
            if !context.wait_for_work(bell, claimed.next_due).await {
                return;
            }
            continue;
        }
        for (claim, permit) in claimed.claims.drain(..).zip(permits) {
            let (context, outcomes) = (context.clone(), outcomes.clone());
            tokio::spawn(async move {
                let settlement = deliver(&context, claim).await;
                drop(permit);
                if let Some(settlement) = settlement {
                    // The settler ends after all senders; only a stopped runtime closes it.
                    let _ = outcomes.send(settlement).await;
                }
            });
        }
    }
}

/// Places for the next files: one at least, once the remote is there.
async fn take(context: &Context, places: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    context.health.wait().await;
    let mut permits = Vec::new();
    if let Ok(first) = places.clone().acquire_owned().await {
        permits.push(first);
    }
    while permits.len() < BATCH {
        match places.clone().try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    permits
}

/// What became of the claim; `None` if the journal was told already.
async fn deliver(context: &Arc<Context>, claim: FileClaim) -> Option<Settlement> {
    let started = Instant::now();
    let mut outcome = match context.busy.enter(&claim.path) {
        None => FileOutcome::Unsent {
            due: now_ms() + BUSY,
            remote_hash: claim.remote_hash,
        },
        Some(_entered) => send::send(context, &claim).await,
    };
    let gone = matches!(outcome, FileOutcome::Gone);
    if gone && !settle_if_gone(context, &claim).await {
        // It came back, or its rename was not yet in the journal.
        outcome = FileOutcome::Released { due: now_ms() };
    }
    if let Some(observer) = &context.options.observer {
        (observer.0)(&claim, &outcome, started.elapsed());
    }
    if matches!(outcome, FileOutcome::Gone) {
        return None;
    }
    Some(Settlement {
        id: claim.id,
        version: claim.version,
        path: claim.path,
        outcome,
    })
}

/// A file that was not there may be on its way to another name, which the journal is about to hear:
/// looks once more while nothing can be renamed through the mount. Whether it was gone.
async fn settle_if_gone(context: &Arc<Context>, claim: &FileClaim) -> bool {
    let (context, claim) = (context.clone(), claim.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let names = context.journal.names().read();
        let gone = load::is_gone(&context, &claim.path);
        if gone {
            context.journal.gone(&claim, &names);
        }
        gone
    });
    looked.await.unwrap_or(false)
}
