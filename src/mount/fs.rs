//! The filesystem as all its parts share it, and what the kernel may remember of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Sender;
use fuser::{Errno, FileAttr, FileType, FopenFlags, Generation, ReplyEntry};

use super::VirtualFiles;
use super::handles::{Handles, Io, OpenFile};
use super::linger::Linger;
use super::mapped::Watch;
use super::resolve::Backing;
use super::upload_dir::Numbers;
use super::upload_files::Workers;
use super::waiting::Waiting;
use crate::journal::{Journal, JournalError};
use crate::path::RelPath;
use crate::selection::Selection;

/// How long the kernel may believe what it was told, where the backing directory can be changed by
/// others: they wait so long at most.
pub(super) const SHARED_TTL: Duration = Duration::from_secs(1);

/// The same where all changes come through the mount, because it hides the backing directory. The
/// kernel knows of what passes through it, so this is only a bound on being wrong.
const EXCLUSIVE_TTL: Duration = Duration::from_secs(60);

/// The filesystem, as fuser takes it; shared with the thread that watches mapped files.
pub(super) struct Served(pub Arc<OutboxFs>);

/// The filesystem.
pub(super) struct OutboxFs {
    pub backing: Backing,
    pub handles: Handles,
    pub linger: Linger,
    /// Closed files that can still change.
    pub watch: Watch,
    pub journal: Journal,
    /// What of the directory is delivered.
    pub selection: Selection,
    /// Folders in which there may be files that are taken now and were not before.
    pub to_scan: Sender<RelPath>,
    pub files: Arc<dyn VirtualFiles>,
    /// What the kernel knows of the directories `.upload`.
    pub numbers: Numbers,
    pub workers: Workers,
    pub waiting: Arc<Waiting>,
    /// `.upload` is listed in the root.
    pub show_upload_dir: bool,
    /// What files say of themselves is listed among their extended attributes.
    pub list_xattrs: bool,
    /// Reads and writes of files opened from now on go from the kernel to the backing file.
    pub passthrough: Arc<AtomicBool>,
    /// Deletions count at the remote: who deletes waits until the journal has it.
    pub sync_deletes: bool,
    /// Nobody can change the backing directory but through the mount.
    pub exclusive: bool,
    /// The disk's times tell any two changes apart.
    pub exact_times: bool,
}

/// An answered lookup.
pub(super) struct Found {
    pub attr: FileAttr,
    pub generation: u64,
}

/// The result of an operation on the backing directory.
pub(super) type Result<T> = std::result::Result<T, rustix::io::Errno>;

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

impl OutboxFs {
    fn entry_ttl(&self) -> Duration {
        if self.exclusive {
            EXCLUSIVE_TTL
        } else {
            SHARED_TTL
        }
    }

    /// A shared mapping changes times without the kernel noticing, so a file's are not believed
    /// for long in any case.
    pub fn attr_ttl(&self, attr: &FileAttr) -> Duration {
        match attr.kind {
            FileType::RegularFile => SHARED_TTL,
            _ => self.entry_ttl(),
        }
    }

    pub fn reply_entry(&self, result: Result<Found>, reply: ReplyEntry) {
        match result {
            Ok(Found { attr, generation }) => reply.entry_with_ttls(
                &self.attr_ttl(&attr),
                &self.entry_ttl(),
                &attr,
                Generation(generation),
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    pub fn open_flags(&self, file: &OpenFile, io: &Io) -> FopenFlags {
        let mut flags = FopenFlags::empty();
        if !file.writable {
            flags |= FopenFlags::FOPEN_NOFLUSH;
        }
        // With passthrough there is no cache, and the kernel refuses the flag.
        if self.exclusive && !matches!(io, Io::Passthrough(_)) {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        flags
    }

    /// «There is no such name», for the kernel to remember.
    pub fn reply_nothing(&self, reply: ReplyEntry) {
        let attr = super::upload_dir::folder_attr(0);
        let ttl = self.entry_ttl();
        reply.entry_with_ttls(&ttl, &ttl, &attr, Generation(0));
    }
}

/// What the writer hears of a journal that could not record: the change did not get through.
pub(super) fn journal_errno(result: std::result::Result<(), JournalError>) -> Result<()> {
    result.map_err(|error| {
        tracing::error!("A change could not be journaled: {error}");
        rustix::io::Errno::IO
    })
}
