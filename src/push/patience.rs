//! A service that is busy for a moment is no reason to refuse a push, or to send all that it has.

use std::time::Duration;

use crate::remote::{RemoteError, RemoteErrorKind};

const ATTEMPTS: u32 = 5;

/// After the first failure; twice as long after each further one. What a service asks for besides
/// (Retry-After), the remote waits for by itself.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks again after failures that pass by themselves. Where nobody answers at all, the person who
/// waits is told at once.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, RemoteError>
where
    F: Future<Output = Result<T, RemoteError>>,
{
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error) if error.kind == RemoteErrorKind::Transient => {
                tracing::info!("{error}; asking again");
            }
            result => return result,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    ask().await
}
