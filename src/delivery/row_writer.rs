//! Brings the rows of folders to the sink. While it takes a batch, the next one is made.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::gone_rows;
use super::row_builder::{Batch, Builder, Built};
use crate::journal::{Outcome, RowClaim, now_ms};
use crate::path::RelPath;
use crate::rows::{FolderRow, RowError, RowSink};

/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A folder whose statistics are newer than what was delivered is looked at again after this
/// long, milliseconds; its change is on its way.
const CHANGED: i64 = 500;

pub(super) async fn run(context: Arc<Context>) {
    let Some(sink) = context.rows.clone() else {
        return;
    };
    let mut builder = Builder::default();
    let mut batch = Batch::default();
    // What is claimed and not written at the end is the next start's.
    while !context.is_stopping() {
        let idle = batch.is_empty();
        let write = write(&context, sink.as_ref(), batch);
        let ((), next) = tokio::join!(write, builder.next(&context));
        batch = match next {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "no rows can be claimed from the journal");
                tokio::time::sleep(PAUSE).await;
                batch = Batch::default();
                continue;
            }
        };
        if idle
            && batch.is_empty()
            && !context
                .wait_for_work(&context.alarms.rows, batch.next_due)
                .await
        {
            return;
        }
    }
}

/// Brings the sink what happened, in the order in which the journal had it.
async fn write(context: &Context, sink: &dyn RowSink, batch: Batch) {
    gone_rows::remove(context, sink, batch.gone).await;
    let mut outcomes = Vec::with_capacity(batch.rows.len());
    let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
    let mut empty = Vec::new();
    for (claim, built) in batch.rows {
        match built {
            Built::Row(row) => {
                rows.push(*row);
                of_rows.push(claim);
            }
            Built::Nothing if context.options.sync_deletes => empty.push(claim),
            Built::Nothing => outcomes.push((claim, Outcome::Done)),
            Built::Refused(error) => outcomes.push((claim, Outcome::Failed { error })),
            Built::Later => outcomes.push((
                claim,
                Outcome::Released {
                    due: now_ms() + CHANGED,
                },
            )),
        }
    }
    if let Some((claims, error)) = batch.failed {
        outcomes.extend(all_retry(context, claims, &error));
    }
    outcomes.extend(upsert(context, sink, rows, of_rows).await);
    outcomes.extend(gone_rows::remove_empty(context, sink, empty).await);
    if outcomes.is_empty() {
        return;
    }
    let record = || context.journal.settle_rows(outcomes.clone());
    context.insist("written rows", record).await;
}

/// All rows at once; if the sink refuses them, each alone, so that one bad row harms no other.
async fn upsert(
    context: &Context,
    sink: &dyn RowSink,
    rows: Vec<FolderRow>,
    claims: Vec<RowClaim>,
) -> Vec<(RowClaim, Outcome)> {
    if rows.is_empty() {
        return Vec::new();
    }
    let result = sink.upsert(&rows).await;
    match result {
        Ok(()) => {
            context.progress.set_rows_error(None);
            tracing::info!(rows = rows.len(), "rows written");
            claims
                .into_iter()
                .map(|claim| (claim, Outcome::Done))
                .collect()
        }
        Err(error) if error.permanent && rows.len() > 1 => {
            let mut outcomes = Vec::with_capacity(claims.len());
            for (row, claim) in rows.into_iter().zip(claims) {
                let result = sink.upsert(std::slice::from_ref(&row)).await;
                let outcome = outcome(context, &claim, result);
                outcomes.push((claim, outcome));
            }
            outcomes
        }
        Err(error) => {
            if !error.permanent {
                tracing::warn!(rows = rows.len(), %error, "rows wait");
            }
            let outcomes = claims.into_iter().map(|claim| {
                let outcome = outcome(context, &claim, Err(error.clone()));
                (claim, outcome)
            });
            outcomes.collect()
        }
    }
}

fn outcome(context: &Context, claim: &RowClaim, result: Result<(), RowError>) -> Outcome {
    outcome_of(context, &claim.path, claim.attempts, result)
}

/// What the sink's answer about a folder's row means for it.
pub(super) fn outcome_of(
    context: &Context,
    folder: &RelPath,
    attempts: u32,
    result: Result<(), RowError>,
) -> Outcome {
    let Err(error) = result else {
        return Outcome::Done;
    };
    if error.permanent {
        tracing::warn!(folder = %folder, %error, "row not written");
        return Outcome::Failed {
            error: error.message,
        };
    }
    // A sink that is away delays its rows, however long: no number of attempts is too many.
    context.progress.set_rows_error(Some(error.message.clone()));
    let due = now_ms() + context.options.backoff.delay(attempts).as_millis() as i64;
    Outcome::Retry {
        error: error.message,
        due,
    }
}

pub(super) fn all_retry(
    context: &Context,
    claims: Vec<RowClaim>,
    error: &str,
) -> Vec<(RowClaim, Outcome)> {
    let retry = |claim: &RowClaim| Outcome::Retry {
        error: format!("the row of {} could not be made: {error}", claim.path),
        due: now_ms() + context.options.backoff.delay(claim.attempts).as_millis() as i64,
    };
    claims
        .into_iter()
        .map(|claim| (claim.clone(), retry(&claim)))
        .collect()
}
