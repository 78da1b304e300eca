use std::time::Duration;

use tokio::task::JoinError;

use crate::clock;

/// Runs what blocks on the disk where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if !clock::is_simulated() {
        return tokio::task::spawn_blocking(body).await;
    }
    // Others get their turns before and after.
    let pause = || tokio::time::sleep(Duration::from_millis(fastrand::u64(..4)));
    pause().await;
    let result = body();
    pause().await;
    Ok(result)
}
