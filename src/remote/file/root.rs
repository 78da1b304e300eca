//! The directory itself, and whether it is there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use super::{TEMPORARY, Temporary, explain};
use crate::remote::{Artifact, RemoteError};

/// A temporary file that has not been touched for so long belongs to nobody any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory. Where a disk belongs that is not mounted, it is not there, or empty, and nothing must be
/// written.
pub(super) struct Root {
    path: PathBuf,
    /// Something was delivered here.
    is_used: AtomicBool,
}

impl std::ops::Deref for Root {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            is_used: AtomicBool::new(false),
        }
    }

    /// From now on it has objects.
    pub(super) fn use_it(&self) {
        self.is_used.store(true, Relaxed);
    }

    /// Where the originals are; there as soon as something was delivered.
    pub(super) fn originals(&self) -> PathBuf {
        self.path.join(Artifact::Original.folder())
    }

    /// Whether it is there, with what was delivered; else `what` waits.
    pub(super) fn is_there(&self, what: &str) -> Result<(), RemoteError> {
        let shown = self.path.display();
        let why = match self.is_used.load(Relaxed) {
            _ if !self.path.is_dir() => format!("the remote's directory {shown} is not there"),
            true if !self.originals().is_dir() => format!(
                "the remote's directory {shown} has nothing of what was delivered there (if it was \
                 emptied on purpose, make {})",
                self.originals().display()
            ),
            _ => return Ok(()),
        };
        // Not created here: it may be where a disk is to be mounted.
        Err(RemoteError::unreachable(format!(
            "{what} waits: {why}; is its disk mounted?"
        )))
    }

    /// Creates it if nothing was ever delivered there, and removes what a crash left of earlier writes.
    pub(super) fn probe(&self) -> Result<(), RemoteError> {
        let shown = self.path.display();
        if self.is_used.load(Relaxed) {
            self.is_there("delivery")?;
        } else {
            std::fs::create_dir_all(&self.path)
                .map_err(|error| explain(&format!("creating the remote {shown}"), &error))?;
        }
        let failed = |error| explain(&format!("writing to {shown}"), &error);
        let trial = Temporary::create(self).map_err(failed)?;
        drop(trial);
        let folder = self.path.join(TEMPORARY);
        remove_abandoned(&folder).map_err(failed)?;
        match std::fs::remove_dir(&folder) {
            // Somebody else is writing there just now.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed),
        }
    }
}

fn remove_abandoned(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // One that vanishes meanwhile was not abandoned.
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if now.duration_since(modified).unwrap_or_default() > ABANDONED {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
