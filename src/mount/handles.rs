//! Open files: what the kernel holds open, and whether its content is news for the journal.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::BackingId;
use parking_lot::{Mutex, RwLock};
use rustix::fs::{OFlags, Statx};

use super::attr;
use super::content::Wish;
use super::dirs::Folder;
use super::listing::VirtualFolder;
use super::nodes::NodeId;
use super::resolve::reopen;
use super::upload_files::VirtualFile;
use crate::journal::Writing;

/// Where the filesystem stamps times by a coarse clock, two writes within one tick look like one.
/// No kernel ticks slower than 100 Hz; twice that.
const COARSE_TICK: Duration = Duration::from_millis(20);

/// Something that the kernel has open.
#[derive(Clone)]
pub(super) enum Handle {
    File(Arc<OpenFile>),
    Folder(Arc<Folder>),
    /// A file of the virtual tree.
    Virtual(Arc<VirtualFile>),
    VirtualFolder(Arc<VirtualFolder>),
}

/// All handles and all inodes that are open.
pub(super) struct Handles {
    writing: Arc<Writing>,
    last: AtomicU64,
    open: RwLock<HashMap<u64, Handle>>,
    inodes: Mutex<HashMap<NodeId, Arc<OpenInode>>>,
}

/// One open(2).
pub(super) struct OpenFile {
    pub file: File,
    pub writable: bool,
    pub inode: Arc<OpenInode>,
}

/// What the handles of one inode share.
pub(super) struct OpenInode {
    pub node: NodeId,
    /// Its number on the disk.
    number: u64,
    /// A descriptor for questions about the inode; of the handle that was opened first.
    pub fd: OwnedFd,
    /// The kernel's reference to the backing file; all handles must use the same one.
    pub io: Mutex<Io>,
    /// The journal has been told that the file is being written in place, and of no content since.
    announced: AtomicBool,
    /// A handle for reading and writing was opened, which a shared mapping takes.
    mappable: AtomicBool,
    /// The journal was told of new content.
    reported: AtomicBool,
    /// It had a set-user-id or set-group-id bit when it was opened first.
    pub set_id: bool,
    /// Whether changes within one tick of the clock show in the inode's times.
    exact_times: bool,
    /// Counts what changed content and passed through us.
    touched: AtomicU64,
    /// Handles, and of these the writable ones.
    counts: Mutex<Counts>,
    /// The content that the journal knows, or that was there when writing began.
    known: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Counts {
    handles: usize,
    writers: usize,
}

/// How reads and writes go; the same for all handles of an inode while any is open.
pub(super) enum Io {
    Undecided,
    Passthrough(BackingId),
    Ordinary,
}

/// What tells whether content has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    touched: u64,
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    /// A later change might leave the times as they are.
    in_doubt: bool,
}

impl Handles {
    /// `writing` is told what is open for writing.
    pub fn new(writing: Arc<Writing>) -> Self {
        Self {
            writing,
            last: AtomicU64::new(0),
            open: RwLock::default(),
            inodes: Mutex::default(),
        }
    }

    pub fn add(&self, handle: Handle) -> u64 {
        let fh = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(fh, handle);
        fh
    }

    pub fn get(&self, fh: u64) -> Option<Handle> {
        self.open.read().get(&fh).cloned()
    }

    pub fn file(&self, fh: u64) -> Option<Arc<OpenFile>> {
        match self.open.read().get(&fh) {
            Some(Handle::File(file)) => Some(file.clone()),
            _ => None,
        }
    }

    pub fn folder(&self, fh: u64) -> Option<Arc<Folder>> {
        match self.open.read().get(&fh) {
            Some(Handle::Folder(folder)) => Some(folder.clone()),
            _ => None,
        }
    }

    pub fn remove(&self, fh: u64) -> Option<Handle> {
        self.open.write().remove(&fh)
    }

    /// The inode, if any handle to it is open.
    pub fn inode(&self, node: NodeId) -> Option<Arc<OpenInode>> {
        self.inodes.lock().get(&node).cloned()
    }

    /// Counts a handle in. `fd` and `stat` are of the backing file as it is now, opened and not
    /// truncated yet.
    pub fn enter(
        &self,
        node: NodeId,
        fd: &OwnedFd,
        stat: &Statx,
        wish: &Wish,
        exact_times: bool,
    ) -> std::io::Result<Arc<OpenInode>> {
        let mut inodes = self.inodes.lock();
        let inode = match inodes.get(&node) {
            Some(inode) => inode.clone(),
            None => {
                let inode = Arc::new(OpenInode {
                    node,
                    number: stat.stx_ino,
                    fd: fd.try_clone()?,
                    io: Mutex::new(Io::Undecided),
                    announced: AtomicBool::new(false),
                    mappable: AtomicBool::new(false),
                    reported: AtomicBool::new(false),
                    set_id: u32::from(stat.stx_mode) & (libc::S_ISUID | libc::S_ISGID) != 0,
                    exact_times,
                    touched: AtomicU64::new(0),
                    counts: Mutex::default(),
                    known: Arc::new(Mutex::new(Content::new(0, stat, exact_times))),
                });
                inodes.insert(node, inode.clone());
                inode
            }
        };
        let mut counts = inode.counts.lock();
        counts.handles += 1;
        if wish.writable {
            if counts.writers == 0 {
                let closed = (!wish.is_new).then(|| attr::file_stat(stat));
                self.writing.begins(inode.number, closed.as_ref());
                *inode.known.lock() = inode.content(stat);
            }
            counts.writers += 1;
        }
        drop(counts);
        Ok(inode)
    }

    /// Whether the inode is open for writing.
    pub fn has_writers(&self, node: NodeId) -> bool {
        let inodes = self.inodes.lock();
        inodes
            .get(&node)
            .is_some_and(|inode| inode.counts.lock().writers > 0)
    }

    /// What is open for writing without the journal knowing.
    pub fn unannounced(&self) -> Vec<Arc<OpenInode>> {
        let inodes = self.inodes.lock();
        let unannounced =
            |inode: &&Arc<OpenInode>| !inode.is_announced() && inode.counts.lock().writers > 0;
        inodes.values().filter(unannounced).cloned().collect()
    }

    /// Counts a handle out. Whether it was the inode's last one for writing, which [`Self::rests`] is
    /// to be told of, and its last one of all.
    pub fn leave(&self, file: &OpenFile) -> (bool, bool) {
        let mut inodes = self.inodes.lock();
        let mut counts = file.inode.counts.lock();
        counts.handles -= 1;
        counts.writers -= usize::from(file.writable);
        let last_writer = file.writable && counts.writers == 0;
        let last = counts.handles == 0;
        if last {
            inodes.remove(&file.inode.node);
        }
        (last_writer, last)
    }

    /// The journal was told what the last handle for writing has left.
    pub fn rests(&self, inode: &OpenInode) {
        self.writing.ends(inode.number);
    }

    /// Every open file; for the end of the mount.
    pub fn drain_files(&self) -> Vec<Arc<OpenFile>> {
        let handles = std::mem::take(&mut *self.open.write());
        self.writing.all_end();
        handles
            .into_values()
            .filter_map(|handle| match handle {
                Handle::File(file) => Some(file),
                _ => None,
            })
            .collect()
    }
}

impl OpenInode {
    pub fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }

    pub fn set_announced(&self) {
        self.announced.store(true, Ordering::Relaxed);
    }

    /// Notes a handle for reading and writing.
    pub fn set_mappable(&self) {
        self.mappable.store(true, Ordering::Relaxed);
    }

    /// Whether a shared mapping may be there.
    pub fn may_be_mapped(&self) -> bool {
        self.mappable.load(Ordering::Relaxed)
    }

    /// Notes that the journal was told of its content.
    pub fn set_reported(&self) {
        self.announced.store(false, Ordering::Relaxed);
        self.reported.store(true, Ordering::Relaxed);
    }

    /// Whether it was written since it was opened.
    pub fn was_reported(&self) -> bool {
        self.reported.load(Ordering::Relaxed)
    }

    /// The same inode, held by a descriptor for reading only, and not by the kernel.
    pub fn close_for_writing(self: Arc<Self>) -> Result<Self, rustix::io::Errno> {
        Ok(Self {
            node: self.node,
            number: self.number,
            fd: reopen(&self.fd, OFlags::RDONLY)?,
            io: Mutex::new(Io::Undecided),
            announced: AtomicBool::new(self.is_announced()),
            mappable: AtomicBool::new(true),
            reported: AtomicBool::new(self.was_reported()),
            set_id: self.set_id,
            exact_times: self.exact_times,
            touched: AtomicU64::new(self.touched()),
            counts: Mutex::default(),
            known: self.known.clone(),
        })
    }

    /// Content changed through us.
    pub fn touch(&self) {
        self.touched.fetch_add(1, Ordering::Release);
    }

    /// The content as of now. Ask before `stat` is taken that it is compared with.
    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Acquire)
    }

    fn content(&self, stat: &Statx) -> Content {
        Content::new(self.touched(), stat, self.exact_times)
    }

    /// What the file holds, if the journal does not know of it; `None` if it does.
    pub fn news(&self) -> Result<Option<(Statx, Content)>, rustix::io::Errno> {
        let touched = self.touched();
        let stat = attr::stat(&self.fd, b"")?;
        let now = Content::new(touched, &stat, self.exact_times);
        let known = *self.known.lock();
        Ok((!known.same(&now)).then_some((stat, now)))
    }

    /// What the journal knows; set once it has recorded more. Apart from the inode, so that waiting
    /// for the journal keeps no file open.
    pub fn known(&self) -> Arc<Mutex<Content>> {
        self.known.clone()
    }

    /// Runs something that changes attributes and not content, so that the times it moves are not
    /// taken for a change.
    pub fn without_news<T, E>(&self, change: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = self.news();
        let result = change()?;
        if let Ok(None) = before
            && let Ok(after) = attr::stat(&self.fd, b"")
        {
            let touched = self.known.lock().touched;
            *self.known.lock() = Content::new(touched, &after, self.exact_times);
        }
        Ok(result)
    }
}

impl Content {
    fn new(touched: u64, stat: &Statx, exact_times: bool) -> Self {
        let ctime_ns = attr::nanoseconds(&stat.stx_ctime);
        Self {
            touched,
            size: stat.stx_size,
            mtime_ns: attr::nanoseconds(&stat.stx_mtime),
            ctime_ns,
            in_doubt: !exact_times && is_recent(ctime_ns),
        }
    }

    fn same(&self, now: &Content) -> bool {
        !self.in_doubt
            && (self.touched, self.size, self.mtime_ns, self.ctime_ns)
                == (now.touched, now.size, now.mtime_ns, now.ctime_ns)
    }
}

fn is_recent(ctime_ns: i64) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let age = now.as_nanos() as i128 - i128::from(ctime_ns);
    age < COARSE_TICK.as_nanos() as i128
}
