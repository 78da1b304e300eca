//! What the mount and the scan tell the journal.

use crate::path::RelPath;

/// What the journal keeps of a regular file's inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub mtime_ns: i64,
    pub inode: u64,
    /// Number of hard links.
    pub links: u64,
}

/// What a directory entry is, as far as delivery cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    File(FileStat),
    Folder,
    /// A symbolic link, fifo, socket or device: kept locally, never delivered.
    Other,
}

/// Something that the remote has to learn of, or that the start-up scan has to know. Changes are
/// applied in the order in which they are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file is about to be written or truncated in place. Tells a later scan that a shorter file
    /// is somebody's work and not damage. No delivery comes of it.
    Opening { path: RelPath },
    /// What was opened for writing is closed, as it was recorded last.
    Rested { path: RelPath },
    /// A name has come into being that was not opened: linked or made. It alone is delivered; the
    /// inode's other names have no new content.
    Added { path: RelPath, stat: FileStat },
    /// A file has new content: closed, truncated or synced. All names of its inode that
    /// the journal knows are delivered again.
    Written { path: RelPath, stat: FileStat },
    /// The same of a file whose names, as far as the mount knew them, are gone, and which has hard
    /// links that it does not know.
    WrittenElsewhere { stat: FileStat },
    /// A name is gone.
    Removed { path: RelPath },
    /// An empty folder is gone.
    FolderRemoved { path: RelPath },
    /// `from` is now `to`, and what was at `to` is gone.
    Renamed {
        from: RelPath,
        to: RelPath,
        entry: Entry,
    },
    /// The two have changed places (RENAME_EXCHANGE); the entries are as they are now.
    Exchanged {
        a: (RelPath, Entry),
        b: (RelPath, Entry),
    },
}
