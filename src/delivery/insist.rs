use std::time::Duration;

use super::Context;
use crate::journal::JournalError;

/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);

impl Context {
    /// Records what became of claims, again and again until the journal can be written: what is
    /// claimed and not settled would wait for the next start. False if delivery stops before.
    pub(super) async fn insist<F>(&self, what: &str, record: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<(), JournalError>>,
    {
        while let Err(error) = record().await {
            tracing::error!(%error, "{what} could not be recorded; trying again");
            if self.is_stopping() {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
        true
    }
}
