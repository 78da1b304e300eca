//! `.upload` in the mount's root: a directory that is not listed, with files that are made when
//! they are opened.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};

use super::VirtualFiles;
use super::nodes::{NodeId, ROOT};

/// The name that is reserved.
pub(super) const NAME: &[u8] = b".upload";

/// Numbers at the very top, where no filesystem has inodes.
const FOLDER: NodeId = u64::MAX - 0xffff;

/// Whether the number belongs to the virtual tree.
pub(super) fn owns(id: NodeId) -> bool {
    id >= FOLDER
}

/// Whether that entry of a directory is the virtual directory.
pub(super) fn is_entry(parent: NodeId, name: &[u8]) -> bool {
    parent == ROOT && name == NAME
}

pub(super) fn is_folder(id: NodeId) -> bool {
    id == FOLDER
}

/// The node of a file by its place in the list of names.
fn file_id(index: usize) -> NodeId {
    FOLDER + 1 + index as u64
}

pub(super) fn file_name(files: &dyn VirtualFiles, id: NodeId) -> Option<&'static str> {
    let index = id.checked_sub(FOLDER + 1)?;
    files.names().get(usize::try_from(index).ok()?).copied()
}

/// The entry `name` of the virtual directory.
pub(super) fn lookup(files: &dyn VirtualFiles, name: &[u8]) -> Option<NodeId> {
    let index = files.names().iter().position(|n| n.as_bytes() == name)?;
    Some(file_id(index))
}

/// The virtual directory's entries, `.` and `..` first.
pub(super) fn list(files: &dyn VirtualFiles) -> Vec<(NodeId, FileType, &'static str)> {
    let mut entries = vec![
        (FOLDER, FileType::Directory, "."),
        (ROOT, FileType::Directory, ".."),
    ];
    let names = files.names().iter().enumerate();
    entries.extend(names.map(|(i, name)| (file_id(i), FileType::RegularFile, *name)));
    entries
}

/// Attributes of the directory and its files. Like files in /proc they say 0 bytes: their length is
/// known when they are read.
pub(super) fn attr(id: NodeId) -> FileAttr {
    let folder = is_folder(id);
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(id),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: if folder {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        perm: if folder { 0o555 } else { 0o444 },
        nlink: if folder { 2 } else { 1 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The node of the directory itself.
pub(super) const fn folder() -> NodeId {
    FOLDER
}
