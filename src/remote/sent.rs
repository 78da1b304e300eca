//! How much of an object has been given to the remote so far, for whoever shows progress. Only who
//! wants to know it looks: a remote counts what it sends, and need not know for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static SENT: Sent;
}

/// Bytes, counted by the remote; what has to be sent again counts again.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<AtomicU64>);

impl Sent {
    /// What the current task counts with; a count that nobody looks at, outside of [`Self::during`].
    pub fn current() -> Self {
        SENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// What is sent while `upload` goes on counts here.
    pub async fn during<F: Future>(&self, upload: F) -> F::Output {
        SENT.scope(self.clone(), upload).await
    }

    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
