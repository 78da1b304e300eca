//! `.upload` in every directory: which of its files and folders the kernel knows, by which number. None
//! is listed in the directory, none is on the disk.

use std::collections::HashMap;
use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};
use parking_lot::Mutex;

use super::nodes::NodeId;
use super::{Kind, VirtualFiles};
use crate::filter::RESERVED;

/// The folder in it with a file for each file that is known.
const ABOUT: &[u8] = b"files";
/// What the names in there end with.
const ABOUT_SUFFIX: &[u8] = b".json";

/// Numbers at the very top, where no filesystem has inodes.
const FIRST: NodeId = 0xffff << 48;
/// What a listing says of entries that nobody has looked up.
pub(super) const UNNUMBERED: NodeId = NodeId::MAX;

/// Something in the virtual tree of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Virtual {
    /// `.upload` of the directory.
    Folder(NodeId),
    /// A file in there, by its place in the list of names.
    File(NodeId, usize),
    /// `.upload/files`.
    Abouts(NodeId),
    /// A file in there: what is known of the directory's entry of this name.
    About(NodeId, Box<[u8]>),
}

/// What the kernel knows of these.
pub(super) struct Numbers {
    table: Mutex<Table>,
}

struct Table {
    next: NodeId,
    numbers: HashMap<Virtual, NodeId>,
    known: HashMap<NodeId, Known>,
}

struct Known {
    node: Virtual,
    /// Lookups answered and not yet forgotten, by the protocol.
    lookups: u64,
}

impl Numbers {
    pub fn new() -> Self {
        Self {
            table: Mutex::new(Table {
                next: FIRST,
                numbers: HashMap::new(),
                known: HashMap::new(),
            }),
        }
    }

    /// The number to tell the kernel, which counts as one lookup.
    pub fn enter(&self, node: Virtual) -> NodeId {
        let mut guard = self.table.lock();
        let table = &mut *guard;
        let id = *table.numbers.entry(node.clone()).or_insert_with(|| {
            table.next += 1;
            table.next - 1
        });
        let known = table.known.entry(id).or_insert(Known { node, lookups: 0 });
        known.lookups += 1;
        id
    }

    pub fn forget(&self, id: NodeId, count: u64) {
        let mut table = self.table.lock();
        let Some(known) = table.known.get_mut(&id) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0
            && let Some(known) = table.known.remove(&id)
        {
            table.numbers.remove(&known.node);
        }
    }

    pub fn get(&self, id: NodeId) -> Option<Virtual> {
        let table = self.table.lock();
        table.known.get(&id).map(|known| known.node.clone())
    }
}

impl Virtual {
    /// The directory whose `.upload` it is in.
    pub fn directory(&self) -> NodeId {
        match self {
            Self::Folder(directory)
            | Self::File(directory, _)
            | Self::Abouts(directory)
            | Self::About(directory, _) => *directory,
        }
    }

    /// The entry of that name, as far as names tell.
    pub fn entry(&self, files: &dyn VirtualFiles, name: &[u8]) -> Option<Virtual> {
        match self {
            Self::Folder(directory) if name == ABOUT => Some(Self::Abouts(*directory)),
            Self::Folder(directory) => {
                let place = files.names().iter().position(|(n, _)| n.as_bytes() == name);
                Some(Self::File(*directory, place?))
            }
            Self::Abouts(directory) => {
                let name = name.strip_suffix(ABOUT_SUFFIX)?;
                Some(Self::About(*directory, name.into()))
            }
            Self::File(..) | Self::About(..) => None,
        }
    }

    /// Attributes. Like files in /proc they say 0 bytes: their length is known when they are read.
    pub fn attr(&self, files: &dyn VirtualFiles, id: NodeId) -> FileAttr {
        match self {
            Self::Folder(_) | Self::Abouts(_) => folder_attr(id),
            Self::File(_, place) => file_attr(id, files.names().get(*place).map(|(_, kind)| *kind)),
            Self::About(..) => file_attr(id, None),
        }
    }
}

/// Whether the number belongs to the virtual tree.
pub(super) fn owns(id: NodeId) -> bool {
    id >= FIRST
}

/// Whether a directory's entry of this name is the virtual directory.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name == RESERVED
}

/// The entries of `.upload`.
pub(super) fn entries(files: &dyn VirtualFiles) -> impl Iterator<Item = (FileType, &'static [u8])> {
    let names = files.names().iter();
    names
        .map(|(name, _)| (FileType::RegularFile, name.as_bytes()))
        .chain([(FileType::Directory, ABOUT)])
}

/// The entry of `.upload/files` that tells of a file.
pub(super) fn about_name(file: &[u8]) -> Vec<u8> {
    [file, ABOUT_SUFFIX].concat()
}

/// Of a directory, for where only its number matters too.
pub(super) fn folder_attr(id: NodeId) -> FileAttr {
    attr(id, FileType::Directory, 0o555)
}

fn file_attr(id: NodeId, kind: Option<Kind>) -> FileAttr {
    let mode = match kind {
        Some(Kind::Control) => 0o600,
        _ => 0o444,
    };
    attr(id, FileType::RegularFile, mode)
}

fn attr(id: NodeId, kind: FileType, perm: u16) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(id),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_until_it_is_forgotten_and_never_used_again() {
        let numbers = Numbers::new();
        let status = Virtual::File(7, 0);
        let id = numbers.enter(status.clone());
        assert_eq!(numbers.enter(status.clone()), id);
        assert!(owns(id));
        numbers.forget(id, 1);
        assert_eq!(numbers.get(id), Some(status.clone()));
        numbers.forget(id, 1);
        assert_eq!(numbers.get(id), None);
        assert_ne!(numbers.enter(status), id);
    }
}
