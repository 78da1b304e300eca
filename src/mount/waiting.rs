//! Readers of `.upload/wait`: parked until all in their directory is delivered, or nothing of it can be.
//!
//! One thread, `waiting`, which sleeps while nobody waits. It ends with the mount. [`MOST`] may wait at
//! a time.
//!
//! A reader that gets a signal is let go. The kernel would tell of it (FUSE_INTERRUPT), but fuser 0.18
//! answers that it knows no such request; so the thread looks for signals that are pending for the
//! readers. Until it has answered nothing can end them.

use std::sync::Arc;
use std::time::Duration;

use fuser::ReplyData;
use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;

use super::fs::OutboxFs;
use super::nodes::NodeId;
use super::upload_files::{VirtualFile, part};

/// How often the journal is asked, and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(100);
const MOST: usize = 1024;

/// How waiting ended.
pub(super) enum Outcome {
    Delivered,
    /// What has failed, for people.
    Failed(String),
}

impl Outcome {
    /// The text, then its end, which after a failure is EIO.
    pub fn answer(&self, offset: u64, size: u32, reply: ReplyData) {
        match self {
            Self::Delivered => reply.data(&[]),
            Self::Failed(text) if offset < text.len() as u64 => {
                reply.data(part(text.as_bytes(), offset, size));
            }
            Self::Failed(_) => reply.error(fuser::Errno::EIO),
        }
    }
}

/// A read(2) that is not answered yet.
pub(super) struct Parked {
    pub file: Arc<VirtualFile>,
    pub directory: NodeId,
    /// Offset and size.
    pub range: (u64, u32),
    /// The thread that reads; 0 if it is not to be known.
    pub reader: u32,
    pub reply: ReplyData,
}

impl Parked {
    fn end(self, outcome: Outcome) {
        outcome.answer(self.range.0, self.range.1, self.reply);
        if let VirtualFile::Wait { outcome: kept, .. } = &*self.file {
            *kept.lock() = Some(outcome);
        }
    }
}

/// Who waits.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    parked: Vec<Parked>,
    /// How often all were let go.
    released: u64,
    ended: bool,
}

impl Waiting {
    pub fn park(&self, parked: Parked) {
        let mut state = self.state.lock();
        if state.parked.len() >= MOST {
            return parked.reply.error(fuser::Errno::EBUSY);
        }
        state.parked.push(parked);
        self.changed.notify_one();
    }

    /// Lets all go that wait now, because the mount is taken away.
    pub fn release(&self) {
        let parked = {
            let mut state = self.state.lock();
            state.released += 1;
            std::mem::take(&mut state.parked)
        };
        cancel(parked);
    }

    /// Ends the thread.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
        self.release();
    }
}

fn cancel(parked: Vec<Parked>) {
    for parked in parked {
        parked.reply.error(fuser::Errno::ECANCELED);
    }
}

impl OutboxFs {
    /// The thread's life.
    pub fn serve_waiting(&self) {
        loop {
            let (parked, released) = {
                let mut state = self.waiting.state.lock();
                while state.parked.is_empty() && !state.ended {
                    self.waiting.changed.wait(&mut state);
                }
                if state.ended {
                    return;
                }
                (std::mem::take(&mut state.parked), state.released)
            };
            let mut still = Vec::new();
            for parked in parked {
                match self.outcome(&parked) {
                    Some(outcome) => parked.end(outcome),
                    None if is_signalled(parked.reader) => {
                        parked.reply.error(fuser::Errno::EINTR);
                    }
                    None => still.push(parked),
                }
            }
            let mut state = self.waiting.state.lock();
            if state.released != released {
                drop(state);
                cancel(still);
                continue;
            }
            // Together with those that have come meanwhile.
            state.parked.append(&mut still);
            if !state.parked.is_empty() && !state.ended {
                self.waiting.changed.wait_for(&mut state, INTERVAL);
            }
        }
    }

    /// `None` while there is something to wait for.
    fn outcome(&self, parked: &Parked) -> Option<Outcome> {
        let Some(path) = self.backing.nodes.path(parked.directory) else {
            // It was removed, with all that was in it.
            return Some(Outcome::Delivered);
        };
        Some(match self.files.waited(&path)? {
            Ok(()) => Outcome::Delivered,
            Err(text) => Outcome::Failed(text),
        })
    }
}

/// Whether a signal is pending for a thread that would interrupt it (proc(5)). One that stops it does
/// not: it would be told of an interruption when it goes on.
fn is_signalled(thread: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{thread}/status")) else {
        return false;
    };
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .unwrap_or(0)
    };
    let stops = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
    let stops = stops
        .iter()
        .fold(0, |set, signal| set | 1 << (signal.as_raw() - 1));
    let pending = set("SigPnd:") | set("ShdPnd:");
    pending & !set("SigBlk:") & !set("SigIgn:") & !stops != 0
}
