//! Which folders a push has touched, and a marker in each when they are finished.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;

use crate::journal::{JournalError, Proved, View};
use crate::marker::{Delivered, Failed, Marker};
use crate::path::RelPath;
use crate::remote::{Artifact, Remote, path_text};

/// Folders of which a file was attempted. Memory grows with their number.
pub struct Touched {
    started_at: jiff::Timestamp,
    folders: Mutex<BTreeSet<RelPath>>,
}

impl Default for Touched {
    fn default() -> Self {
        Self {
            started_at: jiff::Timestamp::now(),
            folders: Mutex::default(),
        }
    }
}

impl Touched {
    pub fn note(&self, file: &RelPath) {
        if let Some((folder, _)) = file.split() {
            self.folders.lock().insert(folder);
        }
    }

    /// Writes the markers. A folder of which something waits without having failed is not finished
    /// and gets none.
    pub fn mark(
        &self,
        view: &View,
        backing: &OwnedFd,
        remote: &dyn Remote,
    ) -> Result<(), JournalError> {
        for folder in std::mem::take(&mut *self.folders.lock()) {
            let Some(marker) = self.marker(view, &folder, remote)? else {
                continue;
            };
            match marker.write(backing, &folder) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(folder = %folder, "has a marker of somebody else, which is kept");
                }
                Err(error) => {
                    tracing::warn!(folder = %folder, %error, "no marker could be written")
                }
            }
        }
        Ok(())
    }

    fn marker(
        &self,
        view: &View,
        folder: &RelPath,
        remote: &dyn Remote,
    ) -> Result<Option<Marker>, JournalError> {
        let text = match folder.is_root() {
            true => ".".to_owned(),
            false => path_text(folder),
        };
        let seconds = |time: jiff::Timestamp| format!("{time:.0}");
        let finished_at = seconds(jiff::Timestamp::now());
        let mut marker = Marker::new(text, seconds(self.started_at), finished_at);
        let name = |name: &[u8]| path_text(&RelPath::root().join(name));
        for (file, error) in view.waiting_files(folder)? {
            let Some(error) = error else {
                return Ok(None);
            };
            marker.files += 1;
            marker.failed.push(Failed {
                name: name(&file),
                error,
            });
        }
        view.each_proved_in(folder, |file: Proved| {
            if file.current {
                marker.files += 1;
                marker.bytes += file.size;
                marker.delivered.push(Delivered {
                    name: name(file.path.name()),
                    url: file.proof.url(remote, Artifact::Original, &file.path),
                });
            }
        })?;
        marker.failed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(marker))
    }
}
