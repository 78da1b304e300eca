//! One daemon per backing directory, held by a lock on the directory itself, and one per journal.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use super::DaemonError;
use crate::config::MountSettings;
use crate::private;

/// How long a daemon that is only draining may take to give way.
const GIVE_WAY: Duration = Duration::from_secs(10);

/// Held for the daemon's life; given back by the kernel however it ends.
pub(crate) struct Lock {
    state: PathBuf,
    journal: Option<File>,
}

/// What the holder is doing, written beside the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Mounted,
    Draining,
    Pushing,
}

impl Lock {
    /// Locks the directory. A daemon that is only draining is told to stop, and the new one goes on
    /// with what it leaves; one that has the directory mounted is left alone, and this is an error.
    pub(crate) fn acquire(directory: &File, settings: &MountSettings) -> Result<Self, DaemonError> {
        let state = settings.journal.with_extension("state");
        let deadline = Instant::now() + GIVE_WAY;
        let mut told = None;
        loop {
            match try_lock(directory) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    return Err(DaemonError::Failed(format!(
                        "{} cannot be locked: {error}",
                        settings.directory.display()
                    )));
                }
            }
            let holder = read_state(&state);
            match holder {
                Some((pid, State::Draining)) if Instant::now() < deadline => {
                    if told != Some(pid) {
                        told = Some(pid);
                        let _ = rustix::process::kill_process(pid, Signal::TERM);
                    }
                }
                holder => return Err(busy(settings, holder)),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            journal: None,
            state,
        })
    }

    /// Locks the journal too, once it is clear that the mount will not be refused: the lock's file
    /// lies beside it. An existing journal may be given by mistake while another directory uses it.
    pub(crate) fn take_journal(&mut self, settings: &MountSettings) -> Result<(), DaemonError> {
        let path = settings.journal.with_extension("lock");
        settings.create_state_dir().map_err(|error| {
            DaemonError::Failed(format!(
                "{} cannot be made: {error}",
                settings.state_dir().display()
            ))
        })?;
        // A file of its own: SQLite has its own locks on the database.
        let file = private::open(&path).map_err(|error| {
            DaemonError::Failed(format!("{} cannot be opened: {error}", path.display()))
        })?;
        match try_lock(&file) {
            Ok(true) => {
                self.journal = Some(file);
                Ok(())
            }
            Ok(false) => Err(DaemonError::Failed(format!(
                "the journal {} is in use by another outboxfs; name another one with --journal",
                settings.journal.display()
            ))),
            Err(error) => Err(DaemonError::Failed(format!(
                "{} cannot be locked: {error}",
                path.display()
            ))),
        }
    }

    /// Tells who holds the lock and what for.
    pub(crate) fn write_state(&mut self, state: State) {
        let what = match state {
            State::Mounted => "mounted",
            State::Draining => "draining",
            State::Pushing => "pushing",
        };
        let written = private::write(&self.state, format!("{} {what}\n", std::process::id()));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.state.display(), "cannot be written");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.journal.is_some() {
            let _ = fs::remove_file(&self.state);
        }
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_state(path: &Path) -> Option<(Pid, State)> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, what) = text.trim_end().split_once(' ')?;
    let pid = Pid::from_raw(pid.parse().ok()?)?;
    let state = match what {
        "draining" => State::Draining,
        "pushing" => State::Pushing,
        _ => State::Mounted,
    };
    Some((pid, state))
}

fn busy(settings: &MountSettings, holder: Option<(Pid, State)>) -> DaemonError {
    let process = holder.map_or(String::new(), |(pid, _)| {
        format!(" (process {})", pid.as_raw_nonzero())
    });
    let directory = settings.directory.display();
    DaemonError::Failed(match holder {
        Some((_, State::Pushing)) => {
            format!("another outboxfs{process} is pushing {directory}; wait until it ends")
        }
        Some(_) => {
            format!("another outboxfs{process} has {directory} mounted; unmount it first")
        }
        // It tells what it does beside its journal.
        None => format!(
            "another outboxfs has {directory}, with another journal; wait until its push ends, \
             or unmount it first"
        ),
    })
}
