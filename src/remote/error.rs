use std::time::Duration;

/// Why a remote did not do what it was asked, as delivery has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteErrorKind {
    /// May go away by itself: a timeout, a 5xx, SlowDown. Tried again with backoff.
    Transient,
    /// Nobody answers at all: no route, refused, no such host. The remote as a whole is away.
    Unreachable,
    /// Will not go away by itself: credentials, no such bucket, an invalid key. Not tried again.
    Permanent,
    /// The local file changed while it was being read; the object was not stored. Superseded by
    /// the change that is coming.
    ContentChanged,
}

/// A failed call to a remote: a sentence that says what failed, why, and what a person can do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    pub kind: RemoteErrorKind,
    pub message: String,
    /// How long the service asked us to wait (Retry-After).
    pub retry_after: Option<Duration>,
    /// Whether the service asked us to slow down.
    pub throttled: bool,
}

impl RemoteError {
    pub fn new(kind: RemoteErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            throttled: false,
        }
    }

    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(RemoteErrorKind::Permanent, message)
    }

    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(RemoteErrorKind::Transient, message)
    }

    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(RemoteErrorKind::Unreachable, message)
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.kind,
            RemoteErrorKind::Transient | RemoteErrorKind::Unreachable
        )
    }

    pub fn content_changed() -> Self {
        Self::new(
            RemoteErrorKind::ContentChanged,
            "the file changed while it was being uploaded; its next version will be sent",
        )
    }
}
