//! What happens during a push, for people and programs.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::derive::thumbnail::ThumbnailState;
use crate::journal::{FileClaim, FileOutcome, FileStat};
use crate::path::RelPath;
use crate::remote::{Artifact, Key, Proof, Remote, path_text};
use crate::{delivery, scan};

use super::finished::Touched;

/// Something that happened to a file. `docs/cli.md` is the contract. Paths are below the pushed
/// directory, in the text form of keys; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Will be delivered; `reason` is `new` or `changed`.
    Queued {
        path: String,
        bytes: u64,
        reason: &'static str,
    },
    /// The remote has it, and said so.
    Uploaded {
        path: String,
        bytes: u64,
        /// Of the content, in hexadecimal.
        blake3: String,
        etag: Option<String>,
        url: Option<String>,
        /// `none`, `delivered` or `failed`.
        thumbnail: &'static str,
        /// One sentence, if it failed.
        thumbnail_error: Option<String>,
        milliseconds: u64,
    },
    /// Not sent, and why.
    Skipped {
        path: String,
        bytes: u64,
        reason: &'static str,
    },
    /// Deleted at the remote, as it was here.
    Deleted { path: String },
    /// An attempt failed.
    Failed {
        path: String,
        error: String,
        /// So far; 0 if it could not even be looked at.
        attempts: u32,
        will_retry: bool,
    },
}

/// Counts of one push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub queued_files: u64,
    pub queued_bytes: u64,
    pub uploaded_files: u64,
    pub uploaded_bytes: u64,
    /// The remote had them already.
    pub skipped_files: u64,
    pub skipped_bytes: u64,
    /// At the remote, because they were deleted here.
    pub deleted_files: u64,
    /// Larger than wanted.
    pub too_large_files: u64,
    /// Files and folders that could not be looked at, or were asked for and are not there.
    pub unreadable: u64,
}

#[derive(Default)]
struct Counts {
    queued: [AtomicU64; 2],
    uploaded: [AtomicU64; 2],
    skipped: [AtomicU64; 2],
    deleted: AtomicU64,
    too_large: AtomicU64,
    unreadable: AtomicU64,
}

fn count(counts: &[AtomicU64; 2], bytes: u64) {
    counts[0].fetch_add(1, Ordering::Relaxed);
    counts[1].fetch_add(bytes, Ordering::Relaxed);
}

/// Hears scan and delivery, counts, and passes on.
pub struct Events {
    counts: Counts,
    /// Keys of originals that were found at the remote, and why they count as the same, until
    /// delivery says that they are done: as many as are on their way.
    existing: Mutex<HashMap<String, &'static str>>,
    remote: Mutex<Option<Arc<dyn Remote>>>,
    /// For markers, where they are wanted.
    pub(super) touched: Option<Touched>,
    hearer: Box<dyn Fn(Event) + Send + Sync>,
}

impl Events {
    /// `markers`: whether folders are to be marked as finished.
    pub fn new(markers: bool, hearer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            counts: Counts::default(),
            existing: Mutex::default(),
            remote: Mutex::default(),
            touched: markers.then(Touched::default),
            hearer: Box::new(hearer),
        }
    }

    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            queued_files: read(&self.counts.queued[0]),
            queued_bytes: read(&self.counts.queued[1]),
            uploaded_files: read(&self.counts.uploaded[0]),
            uploaded_bytes: read(&self.counts.uploaded[1]),
            skipped_files: read(&self.counts.skipped[0]),
            skipped_bytes: read(&self.counts.skipped[1]),
            deleted_files: read(&self.counts.deleted),
            too_large_files: read(&self.counts.too_large),
            unreadable: read(&self.counts.unreadable),
        }
    }

    /// Something was asked for that is no path in the tree.
    pub fn unlisted(&self, path: &str, error: &str) {
        self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
        (self.hearer)(Event::Failed {
            path: path.to_owned(),
            error: error.to_owned(),
            attempts: 0,
            will_retry: false,
        });
    }

    /// Who knows the URLs of what is uploaded.
    pub(super) fn set_remote(&self, remote: Arc<dyn Remote>) {
        *self.remote.lock() = Some(remote);
    }

    /// The remote has the object already, as `reason` tells.
    pub(super) fn exists(&self, key: &Key, reason: &'static str) {
        self.existing.lock().insert(key.to_string(), reason);
    }

    fn url(&self, proof: &Proof, path: &RelPath) -> Option<String> {
        let remote = self.remote.lock();
        proof.url(remote.as_deref()?, Artifact::Original, path)
    }

    fn skip(&self, path: String, bytes: u64, reason: &'static str) -> Event {
        count(&self.counts.skipped, bytes);
        Event::Skipped {
            path,
            bytes,
            reason,
        }
    }
}

impl delivery::Observer for Events {
    fn attempted(&self, claim: &FileClaim, outcome: &FileOutcome, took: Duration) {
        if let Some(touched) = &self.touched {
            touched.note(&claim.path);
        }
        let path = || path_text(&claim.path);
        let key = Key::new(Artifact::Original, &claim.path);
        let existing = self.existing.lock().remove(key.as_str());
        let event = match outcome {
            FileOutcome::Delivered(delivered) => match existing {
                Some(reason) => self.skip(path(), delivered.stat.size, reason),
                None => {
                    count(&self.counts.uploaded, delivered.stat.size);
                    Event::Uploaded {
                        path: path(),
                        bytes: delivered.stat.size,
                        blake3: delivered.hash.to_hex().to_string(),
                        etag: delivered.proof.etag.clone(),
                        url: self.url(&delivered.proof, &claim.path),
                        thumbnail: match delivered.thumbnail {
                            ThumbnailState::None => "none",
                            ThumbnailState::Delivered => "delivered",
                            ThumbnailState::Failed(_) => "failed",
                        },
                        thumbnail_error: match &delivered.thumbnail {
                            ThumbnailState::Failed(why) => Some(why.clone()),
                            ThumbnailState::None | ThumbnailState::Delivered => None,
                        },
                        milliseconds: took.as_millis() as u64,
                    }
                }
            },
            FileOutcome::Unchanged { stat, .. } => {
                self.skip(path(), stat.size, "unchanged since it was delivered")
            }
            FileOutcome::Retry { error, .. } | FileOutcome::Failed { error } => Event::Failed {
                path: path(),
                error: error.clone(),
                attempts: claim.attempts + 1,
                will_retry: matches!(outcome, FileOutcome::Retry { .. }),
            },
            FileOutcome::Gone => Event::Skipped {
                path: path(),
                bytes: 0,
                reason: "it is gone",
            },
            FileOutcome::Suspect { why } => Event::Failed {
                path: path(),
                error: why.clone(),
                attempts: claim.attempts,
                will_retry: false,
            },
            // Not of deliveries.
            FileOutcome::Restored { .. } => return,
            FileOutcome::Released { .. } | FileOutcome::Unsent { .. } => return,
        };
        (self.hearer)(event);
    }

    fn deleted(&self, path: &RelPath) {
        self.counts.deleted.fetch_add(1, Ordering::Relaxed);
        (self.hearer)(Event::Deleted {
            path: path_text(path),
        });
    }
}

impl scan::Observer for Events {
    fn queued(&self, path: &RelPath, stat: &FileStat, is_new: bool) {
        count(&self.counts.queued, stat.size);
        (self.hearer)(Event::Queued {
            path: path_text(path),
            bytes: stat.size,
            reason: if is_new { "new" } else { "changed" },
        });
    }

    fn trouble(&self, path: &RelPath, error: &io::Error) {
        self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
        (self.hearer)(Event::Failed {
            path: path_text(path),
            error: format!("it cannot be looked at: {error}"),
            attempts: 0,
            will_retry: false,
        });
    }

    fn too_large(&self, path: &RelPath, size: u64) {
        self.counts.too_large.fetch_add(1, Ordering::Relaxed);
        (self.hearer)(Event::Skipped {
            path: path_text(path),
            bytes: size,
            reason: "larger than --max-size",
        });
    }
}
