//! Opening the journal of a directory that no process has.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::Error;
use super::tree::Tree;
use crate::config::{self, MountSettings, Places, Settings};
use crate::daemon::identity;
use crate::daemon::lock::Lock;
use crate::glob::Globs;
use crate::journal::{self, Journal, JournalError, View};

/// Does something with the journal, as the last mount or push had it.
pub fn with_journal<T>(
    tree: &Tree,
    journal: &Path,
    work: impl FnOnce(&Journal) -> Result<T, JournalError>,
) -> Result<T, Error> {
    let offline = Offline::open(tree, journal, Settings::default())?;
    work(&offline.journal).map_err(|error| Error::Failed(error.to_string()))
}

/// The journal, while a command changes it.
pub struct Offline {
    pub journal: Journal,
    pub backing: OwnedFd,
    pub settings: MountSettings,
    _lock: Lock,
}

impl Offline {
    /// As the last mount or push had it; else with the settings of the command line, if it takes any.
    pub fn open(tree: &Tree, journal: &Path, settings: Settings) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
        let meta = View::open(journal).and_then(|view| view.meta());
        let meta = meta.map_err(|error| failed(&error))?;
        let priority: Vec<String> = meta.priority.lines().map(str::to_owned).collect();
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
            has_rows: meta.has_rows,
            sync_deletes: meta.sync_deletes,
            priority: Globs::new(&priority).map_err(|error| failed(&error))?,
            thumbnails: Vec::new(),
            batches: journal::BatchLimits::default(),
            remote: None,
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
