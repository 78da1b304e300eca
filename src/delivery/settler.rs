//! Settles what became of files, in groups: "delivered" is recorded only after the local bytes are
//! durable, and one syncfs(2) makes a whole group so. A power cut can then never leave a damaged
//! local file beside a record that says it was delivered.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Context;
use crate::journal::{FileOutcome, Settlement, now_ms};

/// Outcomes that may wait; then finished files wait for the settler.
pub(super) const BACKLOG: usize = 1024;
/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A file whose local bytes could not be made durable is delivered again after this long.
const SYNC_FAILED: i64 = 10_000;

/// Ends when all lanes and files have.
pub(super) async fn run(context: Arc<Context>, mut outcomes: mpsc::Receiver<Settlement>) {
    let mut group = Vec::new();
    while outcomes.recv_many(&mut group, BACKLOG).await > 0 {
        make_durable(&context, &mut group).await;
        while let Err(error) = context.journal.settle_files(group.clone()).await {
            tracing::error!(%error, "deliveries could not be recorded; trying again");
            if context.is_stopping() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        group.clear();
    }
}

/// Syncs the backing filesystem if any of the group was delivered.
async fn make_durable(context: &Arc<Context>, group: &mut [Settlement]) {
    let was_delivered = |settlement: &Settlement| {
        matches!(
            settlement.outcome,
            FileOutcome::Delivered(_) | FileOutcome::Unchanged { .. }
        )
    };
    if !group.iter().any(was_delivered) {
        return;
    }
    let its_context = context.clone();
    let synced =
        tokio::task::spawn_blocking(move || rustix::fs::syncfs(its_context.backing.as_fd())).await;
    let error = match synced {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(
        error,
        "the backing directory's disk could not be synced; its files are not recorded as delivered"
    );
    for settlement in group
        .iter_mut()
        .filter(|settlement| was_delivered(settlement))
    {
        settlement.outcome = FileOutcome::Retry {
            error: format!("the local file could not be made durable: {error}"),
            due: now_ms() + SYNC_FAILED,
        };
    }
}
