//! Waiting until everything is delivered.

use std::time::Duration;

use tokio::time::Instant;

use super::Delivery;
use crate::journal::JournalError;

/// How often the journal is asked.
const INTERVAL: Duration = Duration::from_millis(50);

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is left that could be delivered.
    Empty,
    /// Nothing arrived for the whole of the patience; the journal holds what is left.
    Stalled,
}

impl Delivery {
    /// Delivers what waits, without letting it settle, until nothing is left, or nothing at all
    /// has arrived for `patience`.
    pub async fn drain(&self, patience: Duration) -> Result<Drained, JournalError> {
        self.context.journal.hurry().await?;
        self.context.alarms.hurry();
        let view = self.context.journal.view()?;
        let mut last = (self.context.progress.arrived_files(), view.totals()?);
        let mut since = Instant::now();
        loop {
            let totals = view.totals()?;
            if totals.is_drained() {
                return Ok(Drained::Empty);
            }
            if totals.paused {
                return Ok(Drained::Stalled);
            }
            let now = (self.context.progress.arrived_files(), totals);
            let large_on_the_way =
                !self.context.health.is_away() && !self.context.progress.uploading().is_empty();
            if now != last || large_on_the_way {
                last = now;
                since = Instant::now();
            } else if since.elapsed() > patience {
                return Ok(Drained::Stalled);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
