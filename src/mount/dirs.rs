//! Listing directories. Offsets are the cookies of the disk below, so a listing stays complete and
//! without repetitions while entries come and go.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fuser::FileType;
use parking_lot::Mutex;
use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Errno;

/// Entries are read this much at a time; about 800 names.
const BUFFER_BYTES: usize = 32 * 1024;

/// One opendir(3).
pub(super) struct Folder {
    fd: OwnedFd,
    listing: Mutex<Listing>,
}

/// Entries read ahead, from one request of the kernel to the next.
#[derive(Default)]
struct Listing {
    /// The offset of the first entry in `ahead`.
    at: u64,
    ahead: VecDeque<DirEntry>,
}

pub(super) struct DirEntry {
    pub inode: u64,
    /// Offset of what comes after it.
    pub next: u64,
    /// `None` where the filesystem does not tell.
    pub kind: Option<FileType>,
    pub name: Box<[u8]>,
}

impl DirEntry {
    pub fn is_dot(&self) -> bool {
        matches!(&*self.name, b"." | b"..")
    }
}

impl Folder {
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            listing: Mutex::default(),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Hands entries from `offset` on to `take` until that returns false (the entry is then kept
    /// for the next call) or there are no more. Whether there are none.
    pub fn list(
        &self,
        offset: u64,
        mut take: impl FnMut(&DirEntry) -> bool,
    ) -> Result<bool, Errno> {
        let mut listing = self.listing.lock();
        if listing.at != offset || offset == 0 {
            listing.ahead.clear();
            rustix::fs::seek(&self.fd, SeekFrom::Start(offset))?;
            listing.at = offset;
        }
        loop {
            if listing.ahead.is_empty() {
                listing.ahead = read(&self.fd)?;
                if listing.ahead.is_empty() {
                    return Ok(true);
                }
            }
            while let Some(entry) = listing.ahead.front() {
                if !take(entry) {
                    return Ok(false);
                }
                listing.at = entry.next;
                listing.ahead.pop_front();
            }
        }
    }
}

/// The next bufferful of entries; empty at the end.
fn read(fd: &OwnedFd) -> Result<VecDeque<DirEntry>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut raw = RawDir::new(fd, &mut buffer);
    let mut entries = VecDeque::new();
    while let Some(entry) = raw.next() {
        let entry = match entry {
            // A directory that was removed while open lists nothing.
            Err(Errno::NOENT) => break,
            other => other?,
        };
        entries.push_back(DirEntry {
            inode: entry.ino(),
            next: entry.next_entry_cookie(),
            kind: kind(entry.file_type()),
            name: entry.file_name().to_bytes().into(),
        });
        if raw.is_buffer_empty() {
            break;
        }
    }
    Ok(entries)
}

fn kind(file_type: rustix::fs::FileType) -> Option<FileType> {
    use rustix::fs::FileType as Disk;
    Some(match file_type {
        Disk::RegularFile => FileType::RegularFile,
        Disk::Directory => FileType::Directory,
        Disk::Symlink => FileType::Symlink,
        Disk::Fifo => FileType::NamedPipe,
        Disk::Socket => FileType::Socket,
        Disk::CharacterDevice => FileType::CharDevice,
        Disk::BlockDevice => FileType::BlockDevice,
        Disk::Unknown => return None,
    })
}
