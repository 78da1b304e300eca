//! A journal without threads, for the simulation: it writes when it is told to, and fails when that is
//! wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::JournalError;
use super::checkpoint;
use super::writer::Loop;

/// What writes a journal that was opened [by hand](super::Journal::by_hand), in the place of its threads.
pub struct Hand {
    writer: Loop,
    checkpoints: Receiver<()>,
    refuses: Arc<AtomicBool>,
}

impl Hand {
    pub(super) fn new(writer: Loop, checkpoints: Receiver<()>) -> Self {
        Self {
            writer,
            checkpoints,
            refuses: Arc::default(),
        }
    }

    /// After how long there is something to do; `None` if there is nothing.
    pub fn patience(&self) -> Option<Duration> {
        match self.writer.is_asked() {
            true => Some(Duration::ZERO),
            false => self.writer.patience(),
        }
    }

    /// Serves who has asked so far, as a group, and goes on with what takes more than one turn.
    pub fn turn(&mut self) {
        self.writer.turn(Some(Duration::ZERO));
    }

    /// Whether so much was written since the last checkpoint that the next one is due.
    pub fn checkpoint_is_due(&self) -> bool {
        self.checkpoints.try_recv().is_ok()
    }

    /// Moves the write-ahead log into the database; syncs both.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        checkpoint::once(&self.writer.store.lock().conn)?;
        Ok(())
    }

    /// From now on no transaction can be committed, as on a disk that is full; until told otherwise.
    pub fn refuse(&mut self, refuses: bool) -> Result<(), JournalError> {
        self.refuses.store(refuses, Ordering::Relaxed);
        let refuses = self.refuses.clone();
        let hook = move || refuses.load(Ordering::Relaxed);
        self.writer.store.lock().conn.commit_hook(Some(hook))?;
        Ok(())
    }
}
