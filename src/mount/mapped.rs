//! Shared mappings that outlive their descriptors. With passthrough they are mappings of the backing
//! file, so the kernel lets the handle go at close(2) and tells nobody of what is stored later.
//!
//! A file that could have been mapped for writing is therefore watched after its last handle is
//! gone, as long as anybody has the backing file open for writing, which a mapping does. Nearly
//! always that is nobody, and there is nothing to watch.
//!
//! Storing to a page that was stored to before moves no times until the page has gone to disk, so
//! times alone do not tell: when in doubt, it is a change.
//!
//! One thread, `mapped`, which sleeps while there is nothing to watch. It ends with the mount.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::fs::OutboxFs;
use super::handles::{Io, OpenInode};
use super::nodes::NodeId;
use crate::journal::{Change, Durability};

/// The first look. By then the kernel has closed what it had open itself, which at the release it
/// may be about to do.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// Looks at what is mapped: after this, then after twice that, and so on,
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// but not less often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A file that is still open after it was journaled is announced again within this time.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);

/// `F_SETSIG` of linux/fcntl.h.
const F_SETSIG: libc::c_int = 10;

/// What is watched, and what the thread waits for.
#[derive(Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: HashMap<NodeId, Watched>,
    announce_at: Option<Instant>,
    ended: bool,
}

struct Watched {
    /// With a descriptor for reading only: one for writing would look like a mapping.
    inode: Arc<OpenInode>,
    due: Instant,
    pause: Duration,
    /// Pages may be dirty, and stored to without a trace.
    in_doubt: bool,
    /// It was mapped still when it was looked at.
    seen_mapped: bool,
}

impl Watch {
    /// Some file's content was journaled while it is open. Cheap if that was so a moment ago.
    pub fn announce_soon(&self) {
        let mut state = self.state.lock();
        if state.announce_at.is_none() {
            state.announce_at = Some(Instant::now() + ANNOUNCE_AGAIN);
            self.changed.notify_one();
        }
    }

    /// Ends the thread, and hands out what was watched.
    fn end(&self) -> HashMap<NodeId, Watched> {
        let mut state = self.state.lock();
        state.ended = true;
        self.changed.notify_one();
        std::mem::take(&mut state.files)
    }
}

impl State {
    fn next_due(&self) -> Option<Instant> {
        let files = self.files.values().map(|file| file.due);
        files.chain(self.announce_at).min()
    }

    fn take_due(&mut self, now: Instant) -> Vec<(NodeId, Watched)> {
        self.files.extract_if(|_, file| file.due <= now).collect()
    }
}

impl OutboxFs {
    /// The thread's life.
    pub fn watch_mapped(&self) {
        let mut state = self.watch.state.lock();
        while !state.ended {
            let now = Instant::now();
            match state.next_due() {
                None => self.watch.changed.wait(&mut state),
                Some(due) if due > now => {
                    self.watch.changed.wait_until(&mut state, due);
                }
                Some(_) => {
                    let announce = state.announce_at.take_if(|at| *at <= now).is_some();
                    let due = state.take_due(now);
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        if announce {
                            self.announce_again();
                        }
                        for (_, file) in due {
                            self.look_at(file);
                        }
                    });
                }
            }
        }
    }

    /// The last handle of the inode is gone, and with it everything that held its file open but
    /// `inode`.
    pub fn watch(&self, inode: Arc<OpenInode>) {
        let node = inode.node;
        let passes_through = matches!(*inode.io.lock(), Io::Passthrough(_));
        if !inode.may_be_mapped() || !passes_through {
            return self.report_rest(&inode);
        }
        if !self.backing.nodes.pin(node) {
            return;
        }
        // What we hold open for writing ourselves looks like a mapping.
        let inode = match inode.close_for_writing() {
            Ok(inode) => inode,
            Err(error) => {
                tracing::warn!("A closed file is not watched for late changes: {error}");
                return self.backing.nodes.forget(node, 1);
            }
        };
        if is_open_for_writing(&inode.fd) == Some(false) {
            self.report_rest(&inode);
            return self.backing.nodes.forget(node, 1);
        }
        self.add_watched(Watched {
            in_doubt: inode.was_reported(),
            inode: Arc::new(inode),
            due: Instant::now() + FIRST_LOOK,
            pause: SECOND_LOOK,
            seen_mapped: false,
        });
    }

    /// Goes on with what is watched already, which knows more.
    fn add_watched(&self, file: Watched) {
        let node = file.inode.node;
        let mut state = self.watch.state.lock();
        if state.ended || state.files.contains_key(&node) {
            drop(state);
            return self.backing.nodes.forget(node, 1);
        }
        state.files.insert(node, file);
        self.watch.changed.notify_one();
    }

    fn look_at(&self, mut file: Watched) {
        // Open again: what is written now is news at its close.
        let open_again = self.handles.has_writers(file.inode.node);
        let go_on = open_again || self.report_mapped(&mut file);
        if !go_on {
            self.report_rest(&file.inode);
            return self.backing.nodes.forget(file.inode.node, 1);
        }
        file.due = Instant::now() + file.pause;
        file.pause = (file.pause * 2).min(LONGEST_PAUSE);
        self.add_watched(file);
    }

    /// Reports what was stored since the last look. False if nothing can be stored any more.
    fn report_mapped(&self, file: &mut Watched) -> bool {
        let mapped = is_open_for_writing(&file.inode.fd);
        if mapped == Some(true) {
            // Storing to a page that is clean moves the times.
            if let Err(error) = rustix::fs::fdatasync(&file.inode.fd) {
                tracing::warn!("A mapped file could not be synced: {error}");
            }
        }
        let ended = mapped == Some(false) && file.seen_mapped;
        if file.in_doubt || ended {
            file.inode.touch();
        }
        file.in_doubt = false;
        file.seen_mapped |= mapped == Some(true);
        self.report_late(&file.inode);
        mapped.unwrap_or(file.pause < LONGEST_PAUSE)
    }

    /// Tells the journal of what is still being written after it was journaled once, as `announce`
    /// does before the first time. Nobody waits for this.
    fn announce_again(&self) {
        for inode in self.handles.unannounced() {
            let _names = self.journal.names().read();
            let Some(path) = self.backing.nodes.path(inode.node) else {
                continue;
            };
            inode.set_announced();
            self.record(Change::Opening { path }, Durability::Committed, |result| {
                if let Err(error) = result {
                    tracing::error!("An open file could not be journaled: {error}");
                }
            });
        }
    }

    /// The mount has ended: what is still mapped is journaled as it is now.
    pub fn end_watch(&self) {
        for mut file in self.watch.end().into_values() {
            self.report_mapped(&mut file);
        }
    }
}

/// Whether anybody has the inode open for writing: then the kernel refuses a lease for reading
/// (fcntl(2), F_SETLEASE). `None` where the disk has no leases or we may not take them. The
/// descriptor must be open for reading only.
fn is_open_for_writing(fd: &OwnedFd) -> Option<bool> {
    let fd = fd.as_raw_fd();
    // Who opens the file for writing meanwhile waits for the moment until we give the lease back,
    // and we are told by a signal that by default is ignored.
    // SAFETY: all three take numbers and touch no memory.
    let taken = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK)
    };
    if taken == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Some(false);
    }
    let error = std::io::Error::last_os_error();
    (Errno::from_io_error(&error) == Some(Errno::AGAIN)).then_some(true)
}
