//! Whether the remote is there at all. While it is away nothing is claimed, no attempts are used
//! up, and one probe at a time finds out when it is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Context;
use crate::remote::RemoteError;

/// Between two probes: the first delay and the longest.
const FIRST_PROBE: Duration = Duration::from_millis(500);
const LONGEST_PROBE: Duration = Duration::from_secs(30);

pub(super) struct Health {
    away: watch::Sender<bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            away: watch::Sender::new(false),
        }
    }
}

impl Health {
    pub(super) fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Returns when the remote is there.
    pub(super) async fn wait(&self) {
        // Fails only when the sender is gone, and it is ours.
        let _ = self.away.subscribe().wait_for(|away| !away).await;
    }
}

impl Context {
    /// Notes that the remote does not work at all, whatever the file.
    pub(super) fn remote_is_away(&self, error: &RemoteError) {
        if !self.health.away.send_replace(true) {
            tracing::warn!(remote = self.remote.describe(), %error, "the remote is away; changes wait in the journal");
        }
        self.progress.set_remote_error(Some(error.message.clone()));
    }
}

/// Probes a remote that is away until it is back.
pub(super) async fn run(context: Arc<Context>) {
    let mut away = context.health.away.subscribe();
    let mut stop = context.stop.clone();
    loop {
        tokio::select! {
            biased;
            _ = away.wait_for(|away| *away) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut delay = FIRST_PROBE;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(delay) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            match context.remote.probe().await {
                Ok(()) => break,
                Err(error) => context.progress.set_remote_error(Some(error.message)),
            }
            delay = (delay * 2).min(LONGEST_PROBE);
        }
        tracing::info!(remote = context.remote.describe(), "the remote is back");
        context.progress.set_remote_error(None);
        context.health.away.send_replace(false);
    }
}
