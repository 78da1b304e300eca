//! Waking the claimers when there may be something to claim.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

use super::{Context, until};

/// A bell that rings while its claimer is busy is heard afterwards.
#[derive(Default)]
pub(super) struct Bell {
    rung: Notify,
    /// It rang for something that is due now.
    now: AtomicBool,
    /// What its claimer lets settle is due. (Not one channel for all: tokio wakes those who wait for that in an
    /// order of its own, and a seed of the simulation would not be one story.)
    hastened: Notify,
}

impl Bell {
    /// Returns once it rings.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

/// One bell for each claimer.
#[derive(Default)]
pub(super) struct Alarms {
    pub small: Bell,
    pub large: Bell,
    pub rows: Bell,
    pub deletions: Bell,
    pub uploads: Bell,
    /// Draining: nothing settles any more.
    hurried: watch::Sender<bool>,
}

impl Alarms {
    /// The journal has new work.
    pub(super) fn ring(&self) {
        for bell in self.bells() {
            bell.rung.notify_one();
        }
    }

    fn bells(&self) -> [&Bell; 5] {
        [
            &self.small,
            &self.large,
            &self.rows,
            &self.deletions,
            &self.uploads,
        ]
    }

    /// From now on new work is due at once.
    pub(super) fn hurry(&self) {
        self.hurried.send_replace(true);
        for bell in self.bells() {
            bell.hastened.notify_one();
        }
        self.ring();
    }

    /// What waited is due now.
    pub(super) fn ring_now(&self) {
        for bell in self.bells() {
            bell.now.store(true, Ordering::Release);
            bell.hastened.notify_one();
        }
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
    pub(super) async fn wait_for_work(&self, bell: &Bell, next_due: Option<i64>) -> bool {
        let due = async {
            match next_due {
                Some(due) => tokio::time::sleep(until(due)).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            bell.rung().await;
            if bell.now.swap(false, Ordering::AcqRel) || *self.alarms.hurried.borrow() {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.options.settle) => {}
                () = bell.hastened.notified() => {}
            }
        };
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = due => true,
            () = changed => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }
}
