//! Waking the claimers when there may be something to claim.

use tokio::sync::{Notify, watch};

use super::{Context, until};

/// One bell for each claimer. A bell that rings while its claimer is busy is heard afterwards.
#[derive(Default)]
pub(super) struct Alarms {
    pub small: Notify,
    pub large: Notify,
    pub rows: Notify,
    pub deletions: Notify,
    pub uploads: Notify,
    /// Draining: nothing settles any more.
    hurried: watch::Sender<bool>,
    /// Counts how often somebody had all made due that waited.
    flushed: watch::Sender<u64>,
}

impl Alarms {
    /// The journal has new work.
    pub(super) fn ring(&self) {
        let bells = [
            &self.small,
            &self.large,
            &self.rows,
            &self.deletions,
            &self.uploads,
        ];
        for bell in bells {
            bell.notify_one();
        }
    }

    /// From now on new work is due at once.
    pub(super) fn hurry(&self) {
        self.hurried.send_replace(true);
        self.ring();
    }

    /// What waited is due now.
    pub(super) fn flush(&self) {
        self.flushed.send_modify(|times| *times += 1);
        self.ring();
    }

    /// Returns once there is a hurry.
    pub(super) async fn hurried(&self) {
        // Fails only when the sender is gone, and it is ours.
        let _ = self.hurried.subscribe().wait_for(|hurried| *hurried).await;
    }
}

impl Context {
    /// Sleeps until there may be something due: at `next_due`, or a settle time after new work.
    /// False when it is time to stop.
    pub(super) async fn wait_for_work(&self, bell: &Notify, next_due: Option<i64>) -> bool {
        let due = async {
            match next_due {
                Some(due) => tokio::time::sleep(until(due)).await,
                None => std::future::pending().await,
            }
        };
        let mut flushed = self.alarms.flushed.subscribe();
        let changed = async {
            bell.notified().await;
            tokio::select! {
                () = tokio::time::sleep(self.options.settle) => {}
                () = self.alarms.hurried() => {}
                _ = flushed.changed() => {}
            }
        };
        let mut stop = self.stop.clone();
        tokio::select! {
            () = due => true,
            () = changed => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }
}
