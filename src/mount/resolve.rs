//! From nodes to the backing directory, without ever looking up a path through the mount: each
//! step is one name relative to an open directory, symbolic links are not followed.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, Statx};
use rustix::io::Errno;

use super::attr;
use super::nodes::{NodeId, Nodes, Place, ROOT};
use super::upload_dir;

/// Directories kept open. Enough for the working sets of tree walks, far below any limit on
/// descriptors.
const OPEN_DIRECTORIES: usize = 512;

/// The backing directory.
pub(super) struct Backing {
    root: Arc<OwnedFd>,
    root_device: (u32, u32),
    root_inode: u64,
    /// Other filesystems mounted below the root, in the order in which they were seen.
    devices: Mutex<Vec<(u32, u32)>>,
    directories: Mutex<Directories>,
    pub nodes: Nodes,
}

#[derive(Default)]
struct Directories {
    open: HashMap<NodeId, (Arc<OwnedFd>, u64)>,
    /// Counts uses; the entry with the lowest number was used longest ago.
    clock: u64,
}

impl Backing {
    pub fn new(root: OwnedFd) -> Result<Self, Errno> {
        let stat = attr::stat(&root, b"")?;
        Ok(Self {
            root: Arc::new(root),
            root_device: (stat.stx_dev_major, stat.stx_dev_minor),
            root_inode: stat.stx_ino,
            devices: Mutex::default(),
            directories: Mutex::default(),
            nodes: Nodes::new(),
        })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.root.as_fd()
    }

    /// The node's number is the inode's, so that people see the numbers of the disk.
    pub fn id(&self, stat: &Statx) -> NodeId {
        self.id_of((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
    }

    /// Number of an inode of the root's filesystem.
    pub fn local_id(&self, inode: u64) -> NodeId {
        self.id_of(self.root_device, inode)
    }

    fn id_of(&self, device: (u32, u32), inode: u64) -> NodeId {
        let id = if device == self.root_device {
            if inode == self.root_inode {
                return ROOT;
            }
            inode
        } else {
            let mut devices = self.devices.lock();
            let index = devices.iter().position(|known| *known == device);
            let index = index.unwrap_or_else(|| {
                devices.push(device);
                devices.len() - 1
            });
            inode ^ ((index as u64 + 1) << 48)
        };
        // The numbers that mean something else: no inode, the root, the virtual tree.
        if id <= ROOT || upload_dir::owns(id) {
            id ^ (0x7f << 48)
        } else {
            id
        }
    }

    /// The directory, open for *at() calls (O_PATH). ESTALE if it is not where it was.
    pub fn directory(&self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        // Upwards to something open, then down again: the depth is not bounded by anything.
        let mut below = Vec::new();
        let mut at = id;
        let mut fd = loop {
            if let Some(fd) = self.open_directory(at) {
                break fd;
            }
            match self.nodes.place(at).ok_or(Errno::STALE)? {
                Place::Root => break self.root.clone(),
                Place::Orphan(fd) => break fd,
                Place::At(parent, name) => {
                    below.push((at, name));
                    at = parent;
                }
            }
        };
        for (id, name) in below.into_iter().rev() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = rustix::fs::openat(&*fd, &*name, flags, Mode::empty()).map_err(stale)?;
            if self.id(&attr::stat(&next, b"")?) != id {
                return Err(Errno::STALE);
            }
            fd = Arc::new(next);
            self.keep_open(id, fd.clone());
        }
        Ok(fd)
    }

    fn open_directory(&self, id: NodeId) -> Option<Arc<OwnedFd>> {
        let mut directories = self.directories.lock();
        directories.clock += 1;
        let now = directories.clock;
        let (fd, used) = directories.open.get_mut(&id)?;
        *used = now;
        Some(fd.clone())
    }

    fn keep_open(&self, id: NodeId, fd: Arc<OwnedFd>) {
        let mut directories = self.directories.lock();
        directories.clock += 1;
        let now = directories.clock;
        directories.open.insert(id, (fd, now));
        if directories.open.len() > OPEN_DIRECTORIES {
            // The older half at once, so that this is rare.
            let oldest = now.saturating_sub(OPEN_DIRECTORIES as u64 / 2);
            let mut closed = Vec::new();
            directories.open.retain(|_, (fd, used)| {
                let keep = *used >= oldest;
                if !keep {
                    closed.push(fd.clone());
                }
                keep
            });
            drop(directories);
        }
    }

    /// The directory's number may soon mean another one.
    pub fn close_directory(&self, id: NodeId) {
        self.directories.lock().open.remove(&id);
    }

    /// Attributes of a node. ESTALE if it is not where it was.
    pub fn stat(&self, id: NodeId) -> Result<Statx, Errno> {
        if let Some(fd) = self.open_directory(id) {
            return attr::stat(&*fd, b"");
        }
        match self.nodes.place(id).ok_or(Errno::STALE)? {
            Place::Root => attr::stat(&*self.root, b""),
            Place::Orphan(fd) => attr::stat(&*fd, b""),
            Place::At(parent, name) => {
                let stat = attr::stat(&*self.directory(parent)?, &name).map_err(stale)?;
                self.check(id, &stat)?;
                Ok(stat)
            }
        }
    }

    /// The node itself (O_PATH), whatever it is.
    pub fn reference(&self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = self.open_directory(id) {
            return Ok(fd);
        }
        match self.nodes.place(id).ok_or(Errno::STALE)? {
            Place::Root => Ok(self.root.clone()),
            Place::Orphan(fd) => Ok(fd),
            Place::At(parent, name) => {
                let parent = self.directory(parent)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&*parent, &*name, flags, Mode::empty());
                let fd = fd.map_err(stale)?;
                self.check(id, &attr::stat(&fd, b"")?)?;
                Ok(Arc::new(fd))
            }
        }
    }

    /// Opens the node, with its attributes after that. `flags` must not truncate: what lies under
    /// the name may turn out to be another file.
    pub fn open(&self, id: NodeId, flags: OFlags) -> Result<(OwnedFd, Statx), Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let fd = match self.nodes.place(id).ok_or(Errno::STALE)? {
            Place::Root => rustix::fs::openat(&*self.root, ".", flags, Mode::empty())?,
            Place::Orphan(fd) => reopen(&fd, flags)?,
            Place::At(parent, name) => {
                let parent = self.directory(parent)?;
                let flags = flags | OFlags::NOFOLLOW;
                rustix::fs::openat(&*parent, &*name, flags, Mode::empty()).map_err(stale)?
            }
        };
        let stat = attr::stat(&fd, b"")?;
        self.check(id, &stat)?;
        Ok((fd, stat))
    }

    fn check(&self, id: NodeId, stat: &Statx) -> Result<(), Errno> {
        if self.id(stat) == id {
            Ok(())
        } else {
            Err(Errno::STALE)
        }
    }
}

/// Opens what a descriptor refers to once more, even if it has no name left.
pub(super) fn reopen(fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(proc_path(fd), flags | OFlags::CLOEXEC, Mode::empty())
}

/// A path to what a descriptor refers to, for calls that take no descriptor opened by O_PATH.
pub(super) fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Gone from below a name that the kernel holds for good: it shall look it up again.
fn stale(error: Errno) -> Errno {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::STALE,
        other => other,
    }
}
