//! Settles what became of files, in groups: "delivered" is recorded only after the local bytes are
//! durable, and one syncfs(2) makes a whole group so. A power cut can then never leave a damaged
//! local file beside a record that says it was delivered.
//!
//! Who is writing has to wait for such a sync, so there are few until somebody waits for the end.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Context;
use super::blocking::blocking;
use crate::journal::{FileOutcome, Settlement, now_ms};

/// Outcomes that may wait; then finished files wait for the settler.
pub(super) const BACKLOG: usize = 1024;
/// A file whose local bytes could not be made durable is delivered again after this long.
const SYNC_FAILED: i64 = 10_000;

/// From one sync to the next, at least,
const INTERVAL: Duration = Duration::from_secs(1);
/// and when somebody waits for the end.
const HURRIED: Duration = Duration::from_millis(100);

/// Ends when all lanes and files have.
pub(super) async fn run(context: Arc<Context>, mut outcomes: mpsc::Receiver<Settlement>) {
    let mut group = Vec::new();
    let now = Instant::now();
    let mut synced = now.checked_sub(INTERVAL).unwrap_or(now);
    while outcomes.recv_many(&mut group, BACKLOG).await > 0 {
        gather(&context, &mut outcomes, &mut group, synced).await;
        make_durable(&context, &mut group).await;
        synced = Instant::now();
        let record = || context.journal.settle_files(group.clone());
        if !context.insist("deliveries", record).await {
            return;
        }
        group.clear();
    }
}

/// Adds what comes until the next sync is due, while the group is small and nobody is in a hurry.
async fn gather(
    context: &Context,
    outcomes: &mut mpsc::Receiver<Settlement>,
    group: &mut Vec<Settlement>,
    synced: Instant,
) {
    let mut stop = context.stop.clone();
    let mut ended = std::pin::pin!(async {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(synced + INTERVAL) => {}
            () = async {
                context.alarms.hurried().await;
                tokio::time::sleep_until(synced + HURRIED).await;
            } => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    while group.len() < BACKLOG {
        let room = BACKLOG - group.len();
        tokio::select! {
            biased;
            () = &mut ended => return,
            count = outcomes.recv_many(group, room) => if count == 0 { return },
        }
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
    let synced = blocking(move || rustix::fs::syncfs(its_context.backing.as_fd())).await;
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
