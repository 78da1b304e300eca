//! Takes away the rows of folders that are gone, or have nothing left that a row would tell of.

use super::Context;
use super::row_writer::outcome_of;
use crate::journal::{GoneRow, Outcome, RowClaim};
use crate::path::RelPath;
use crate::remote::path_text;
use crate::rows::{Removed, RowError, RowSink};

/// Rows of folders that are gone. Called by the row writer, between its own batches: the sink hears
/// of a folder in the order of what happened to it.
pub(super) async fn remove(context: &Context, sink: &dyn RowSink, claims: Vec<GoneRow>) {
    if claims.is_empty() {
        return;
    }
    let meta = context.view.lock().meta();
    let result = match meta {
        Ok(meta) => {
            let rows: Vec<Removed> = claims
                .iter()
                .map(|row| gone(&meta.mount_id, &row.path, row.version))
                .collect();
            sink.remove(&rows).await
        }
        Err(error) => Err(RowError::transient(error.to_string())),
    };
    tracing::info!(rows = claims.len(), ok = result.is_ok(), "rows removed");
    let outcomes = claims.into_iter().map(|row| {
        let outcome = outcome_of(context, &row.path, row.attempts, result.clone());
        (row, outcome)
    });
    let outcomes: Vec<_> = outcomes.collect();
    let record = || context.journal.settle_gone_rows(outcomes.clone());
    context.insist("removed rows", record).await;
}

/// Rows of folders that are there, and have nothing to tell.
pub(super) async fn remove_empty(
    context: &Context,
    sink: &dyn RowSink,
    claims: Vec<RowClaim>,
) -> Vec<(RowClaim, Outcome)> {
    if claims.is_empty() {
        return Vec::new();
    }
    let meta = context.view.lock().meta();
    let result = match meta {
        Ok(meta) => {
            let rows: Vec<Removed> = claims
                .iter()
                .map(|claim| gone(&meta.mount_id, &claim.path, claim.version))
                .collect();
            sink.remove(&rows).await
        }
        Err(error) => return super::row_writer::all_retry(context, claims, &error.to_string()),
    };
    claims
        .into_iter()
        .map(|claim| {
            let outcome = outcome_of(context, &claim.path, claim.attempts, result.clone());
            (claim, outcome)
        })
        .collect()
}

fn gone(mount_id: &str, folder: &RelPath, version: i64) -> Removed {
    Removed {
        mount_id: mount_id.to_owned(),
        folder: match folder.is_root() {
            true => ".".to_owned(),
            false => path_text(folder),
        },
        version,
    }
}
