//! Takes away the rows of folders that are gone, or have nothing left that a row would tell of.

use super::Context;
use super::row_writer::outcome_of;
use crate::journal::{JournalError, RowClaim, RowOutcome};
use crate::path::RelPath;
use crate::remote::path_text;
use crate::rows::{Removed, RowSink};

/// Rows removed with one visit to the sink, at most.
const BATCH: usize = 1000;

/// What a visit did.
pub(super) struct Gone {
    pub removed: usize,
    /// When there is more to do, milliseconds since 1970-01-01 UTC.
    pub next_due: Option<i64>,
}

/// Rows of folders that are gone. Called by the row writer, between its own batches: the sink hears
/// of a folder in the order of what happened to it.
pub(super) async fn remove(context: &Context, sink: &dyn RowSink) -> Result<Gone, JournalError> {
    let claimed = context.journal.claim_gone_rows(BATCH).await?;
    let removed = claimed.claims.len();
    if removed > 0 {
        let mount_id = context.view.lock().meta()?.mount_id;
        let rows: Vec<Removed> = claimed
            .claims
            .iter()
            .map(|row| gone(&mount_id, &row.path, row.version))
            .collect();
        let result = sink.remove(&rows).await;
        tracing::info!(rows = removed, ok = result.is_ok(), "rows removed");
        let outcomes = claimed.claims.into_iter().map(|row| {
            let outcome = outcome_of(context, &row.path, row.attempts, result.clone());
            (row, outcome)
        });
        context.journal.settle_gone_rows(outcomes.collect()).await?;
    }
    Ok(Gone {
        removed,
        next_due: claimed.next_due,
    })
}

/// Rows of folders that are there, and have nothing to tell.
pub(super) async fn remove_empty(
    context: &Context,
    sink: &dyn RowSink,
    claims: Vec<RowClaim>,
) -> Vec<(RowClaim, RowOutcome)> {
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
