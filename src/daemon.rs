//! A mount's life: from the lock on the directory to the drained queue.

use serde::{Deserialize, Serialize};

use crate::config::MountSettings;
use crate::status::Snapshot;

/// What a daemon says of itself when its mount is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Where files and rows go, for people; no secrets.
    pub remote: String,
    pub rows: Option<String>,
    /// Whether the kernel reads and writes the backing files by itself.
    pub passthrough: bool,
    /// What does not keep the mount from working and should be known; sentences.
    pub warnings: Vec<String>,
}

/// Why there is no mount, or why it ended; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DaemonError(pub String);

/// Mounts, calls `ready` once that is done, serves until unmounted or told to stop, drains; returns
/// what is left.
pub fn run(_settings: &MountSettings, _ready: impl FnOnce(Ready)) -> Result<Snapshot, DaemonError> {
    Err(DaemonError("mounting is not built yet".to_owned()))
}
