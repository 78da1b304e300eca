//! The journal of a directory that no daemon has, opened for writing by a command.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::tree::Tree;
use crate::config::{self, MountSettings, Places, Settings};
use crate::daemon::identity;
use crate::daemon::lock::Lock;
use crate::journal::{self, Journal, View};

/// Held while a command changes the journal.
pub struct Offline {
    pub journal: Journal,
    pub backing: OwnedFd,
    pub settings: MountSettings,
    _lock: Lock,
}

impl Offline {
    /// With the settings that were given on the command line, if the command takes any.
    pub fn open(tree: &Tree, journal: &Path, settings: Settings) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
        let has_rows = View::open(journal)
            .and_then(|view| view.meta())
            .map_err(|error| failed(&error))?
            .has_rows;
        let settings = Settings {
            journal: Some(journal.to_owned()),
            ..settings
        };
        let directory = tree.directory.clone();
        let settings =
            config::resolve(settings, directory.clone(), directory, &Places::from_env()?)?;
        let directory = File::open(&settings.directory).map_err(|error| failed(&error))?;
        let mut lock = Lock::acquire(&directory, &settings).map_err(|error| failed(&error))?;
        lock.take_journal(&settings)
            .map_err(|error| failed(&error))?;
        let (device, inode) = identity(&directory).map_err(|error| failed(&error))?;
        let journal = Journal::open(journal::Options {
            path: settings.journal.clone(),
            directory: settings.directory.clone(),
            device,
            inode,
            settle: Duration::ZERO,
            has_rows,
        })
        .map_err(|error| failed(&error))?;
        Ok(Self {
            journal,
            backing: directory.into(),
            settings,
            _lock: lock,
        })
    }
}
