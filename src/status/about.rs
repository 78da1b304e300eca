//! What is known of one file: `.upload/files/NAME.json`, and its extended attributes.

use serde::Serialize;

use super::json;
use crate::journal::{About, Kind, State, View};
use crate::path::RelPath;
use crate::remote::{Artifact, Key, Remote, path_text};

/// The extended attributes of a file.
pub const ATTRIBUTES: &[&str] = &[
    "user.upload.state",
    "user.upload.url",
    "user.upload.thumbnail_url",
    "user.upload.blake3",
    "user.upload.version",
    "user.upload.attempts",
    "user.upload.error",
    "user.upload.delivered_at",
];

/// Times are RFC 3339 in UTC, sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileStatus {
    /// Below the mount point, in the text form of keys.
    pub path: String,
    pub state: &'static str,
    pub size: u64,
    pub modified_at: Option<String>,
    pub inode: u64,
    /// Raised by each change; and the one that the remote has, or `None`.
    pub version: i64,
    pub delivered_version: Option<i64>,
    pub delivered_at: Option<String>,
    pub key: String,
    /// Where a reader finds it, while the remote has its last version, and can tell.
    pub url: Option<String>,
    /// Of what was delivered last, where that is known for sure.
    pub blake3: Option<String>,
    pub etag: Option<String>,
    /// `picture`, `stats` or `other`.
    pub kind: &'static str,
    /// Of a picture, pixels.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub thumbnail_url: Option<String>,
    pub thumbnail_error: Option<String>,
    /// When the first change came that is not delivered, and when it is due.
    pub queued_at: Option<String>,
    pub due_at: Option<String>,
    /// Failed attempts to deliver this version.
    pub attempts: u32,
    /// Of the last one, or why the file is suspect.
    pub error: Option<String>,
    pub failed_at: Option<String>,
}

impl FileStatus {
    pub fn new(path: &RelPath, known: About, remote: &dyn Remote) -> Self {
        let delivered = known.delivered > 0;
        // Under the path of a file that was renamed there may be nothing yet.
        let current = delivered && known.delivered == known.version;
        let url = |artifact, is_there: bool| {
            let is_there = is_there && current;
            is_there
                .then(|| known.proof.url(remote, artifact, path))
                .flatten()
        };
        Self {
            url: url(Artifact::Original, true),
            thumbnail_url: url(Artifact::Thumbnail, known.thumbnail),
            path: path_text(path),
            state: known.state.name(),
            size: known.size,
            modified_at: time(known.mtime_ns.div_euclid(1_000_000)),
            inode: known.inode,
            version: known.version,
            delivered_version: delivered.then_some(known.delivered),
            delivered_at: known.delivered_at.and_then(time),
            key: Key::new(Artifact::Original, path).to_string(),
            blake3: known.hash.map(|hash| hash.to_hex().to_string()),
            etag: known.proof.etag,
            kind: match known.kind {
                Kind::Picture => "picture",
                Kind::Stats => "stats",
                Kind::Other => "other",
            },
            width: known.dimensions.map(|(width, _)| width),
            height: known.dimensions.map(|(_, height)| height),
            thumbnail_error: known.thumbnail_error,
            queued_at: known.queued_at.and_then(time),
            due_at: known
                .due_at
                .filter(|_| known.state == State::Queued)
                .and_then(time),
            attempts: known.attempts,
            error: known.error,
            failed_at: known.failed_at.and_then(time),
        }
    }

    /// Indented JSON (RFC 8259) with a newline at its end.
    pub fn render(&self) -> String {
        json::pretty(self)
    }

    /// The value of one of [`ATTRIBUTES`].
    pub fn attribute(self, name: &str) -> Option<String> {
        match name.strip_prefix("user.upload.")? {
            "state" => Some(self.state.to_owned()),
            "url" => self.url,
            "thumbnail_url" => self.thumbnail_url,
            "blake3" => self.blake3,
            "version" => Some(self.version.to_string()),
            "attempts" => Some(self.attempts.to_string()),
            "error" => self.error.or(self.thumbnail_error),
            "delivered_at" => self.delivered_at,
            _ => None,
        }
    }
}

fn time(milliseconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(milliseconds).ok()?;
    Some(format!("{time:.3}"))
}

/// `None` if nothing is known of the file, or the journal cannot be read.
pub fn look_up(view: &View, path: &RelPath, remote: &dyn Remote) -> Option<FileStatus> {
    let known = view.about(path).ok().flatten()?;
    Some(FileStatus::new(path, known, remote))
}
