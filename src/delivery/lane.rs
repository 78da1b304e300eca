//! A lane claims what is due, oldest first, and gives each file a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::blocking::blocking;
use super::gate::{Gate, Held, Place};
use super::spread::Seat;
use super::{Context, load, send, spread};
use crate::journal::{Claimed, FileClaim, FileOutcome, JournalError, Lane, Settlement, now_ms};

/// Claims taken with one visit to the journal, at most.
const BATCH: usize = 32;
/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A path whose older content is still on its way waits this long, milliseconds.
const BUSY: i64 = 50;

pub(super) async fn run(context: Arc<Context>, lane: Lane, outcomes: mpsc::Sender<Settlement>) {
    let (gate, bell) = match lane {
        Lane::Small => (&context.small, &context.alarms.small),
        Lane::Large => (&context.large, &context.alarms.large),
    };
    let mut stop = context.stop.clone();
    while !context.is_stopping() {
        let places = tokio::select! {
            biased;
            places = take(&context, gate) => places,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (mut claimed, seats) = match claim(&context, lane, places.len()).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "nothing can be claimed from the journal");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if claimed.claims.is_empty() {
            drop(places);
            let go_on = tokio::select! {
                biased;
                go_on = context.wait_for_work(bell, claimed.next_due) => go_on,
                () = spread::freed(&context.spread, lane) => true,
            };
            if !go_on {
                return;
            }
            continue;
        }
        let mut seats = seats.into_iter();
        for (claim, place) in claimed.claims.drain(..).zip(places) {
            let (context, outcomes) = (context.clone(), outcomes.clone());
            let seat = seats.next();
            // What is logged in detail on the way says which file it was about.
            let span = tracing::debug_span!("delivery", path = %claim.path, version = claim.version, attempt = claim.attempts + 1);
            let task = async move {
                let place = Held::new(place);
                let settlement = deliver(&context, claim, &place).await;
                drop((place, seat));
                if let Some(settlement) = settlement {
                    // The settler ends after all senders; only a stopped runtime closes it.
                    let _ = outcomes.send(settlement).await;
                }
            };
            tokio::spawn(task.instrument(span));
        }
    }
}

/// What is due and has a place, and for each its seat where folders have limits.
async fn claim(
    context: &Context,
    lane: Lane,
    limit: usize,
) -> Result<(Claimed<FileClaim>, Vec<Seat>), JournalError> {
    match &context.spread {
        Some(spread) => spread.claim(&context.journal, lane, limit).await,
        None => Ok((context.journal.claim_files(lane, limit).await?, Vec::new())),
    }
}

/// Places for the next files: one at least, once the remote is there and these are hours to upload.
async fn take(context: &Context, gate: &Arc<Gate>) -> Vec<Place> {
    context.health.wait().await;
    context.wait_for_hours().await;
    context.make_way().await;
    gate.take(BATCH).await
}

/// What became of the claim; `None` if the journal was told already.
async fn deliver(context: &Arc<Context>, claim: FileClaim, place: &Held) -> Option<Settlement> {
    let started = Instant::now();
    let mut outcome = match context.busy.enter(&claim.path) {
        None => FileOutcome::Unsent {
            due: now_ms() + BUSY,
            remote_hash: claim.remote_hash,
        },
        Some(_entered) => send::send(context, &claim, place).await,
    };
    let gone = matches!(outcome, FileOutcome::Gone);
    if gone && !settle_if_gone(context, &claim).await {
        // It came back, or its rename was not yet in the journal, or that could not be written.
        outcome = FileOutcome::Released { due: now_ms() };
    }
    if matches!(
        outcome,
        FileOutcome::Failed { .. } | FileOutcome::Retry { .. }
    ) {
        context.progress.failed();
    }
    if let Some(observer) = &context.options.observer {
        observer.attempted(&claim, &outcome, started.elapsed());
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
/// looks once more while nothing can be renamed through the mount. Whether it was gone, and that is
/// recorded.
async fn settle_if_gone(context: &Arc<Context>, claim: &FileClaim) -> bool {
    let (context, claim) = (context.clone(), claim.clone());
    let (done, answer) = oneshot::channel();
    let looked = blocking(move || {
        let names = context.journal.names().read();
        let gone = load::is_gone(&context, &claim.path);
        if gone {
            context.journal.gone(&claim, &names, |result| {
                let _ = done.send(result.is_ok());
            });
        }
        gone
    });
    looked.await.unwrap_or(false) && answer.await.unwrap_or(false)
}
