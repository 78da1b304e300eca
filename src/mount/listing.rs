//! opendir, readdir and readdirplus.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{FileAttr, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attr;
use super::dirs::{DirEntry, Folder};
use super::fs::{OutboxFs, Result};
use super::handles::Handle;
use super::nodes::{NodeId, ROOT};
use super::upload_dir::{self, UNNUMBERED, Virtual};
use crate::filter::RESERVED;

/// What follows `.upload` in the root, where it is listed: no disk has a cookie like it.
const AFTER_UPLOAD: u64 = i64::MAX as u64 - 1;
/// Names that are asked of the journal at a time.
const NAMES: usize = 1000;

/// One opendir(3) in the virtual tree.
pub(super) struct VirtualFolder {
    node: Virtual,
    /// Only of folders that tell of files.
    names: Mutex<Names>,
}

/// Names read ahead, from one request of the kernel to the next.
#[derive(Default)]
struct Names {
    /// The place of the first name in `ahead`.
    at: u64,
    ahead: VecDeque<Vec<u8>>,
    /// The last that was taken.
    last: Vec<u8>,
}

/// An entry of the virtual tree, and the offset of what follows.
type VirtualEntry = (u64, FileType, Vec<u8>);

impl OutboxFs {
    pub fn open_folder(&self, id: NodeId) -> Result<u64> {
        if upload_dir::owns(id) {
            let node = self.numbers.get(id).ok_or(Errno::STALE)?;
            let folder = VirtualFolder {
                node,
                names: Mutex::default(),
            };
            return Ok(self.handles.add(Handle::VirtualFolder(Arc::new(folder))));
        }
        let (fd, _) = self.backing.open(id, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(self.handles.add(Handle::Folder(Arc::new(Folder::new(fd)))))
    }

    pub fn list(&self, id: NodeId, fh: u64, offset: u64, reply: &mut ReplyDirectory) -> Result<()> {
        if let Some(Handle::VirtualFolder(folder)) = self.handles.get(fh) {
            return self.list_virtual(id, &folder, offset, |(next, kind, name), id, _| {
                !reply.add(INodeNo(id), next, kind, OsStr::from_bytes(&name))
            });
        }
        if offset == AFTER_UPLOAD {
            return Ok(());
        }
        let folder = self.handles.folder(fh).ok_or(Errno::BADF)?;
        let is_all = folder.list(offset, |entry| {
            let hidden = upload_dir::is_reserved(&entry.name);
            let kind = entry.kind.or_else(|| {
                let stat = attr::stat(folder.fd(), &entry.name).ok()?;
                Some(attr::kind(&stat))
            });
            match kind {
                Some(kind) if !hidden => {
                    let ino = INodeNo(self.listed_id(id, entry));
                    !reply.add(ino, entry.next, kind, OsStr::from_bytes(&entry.name))
                }
                // Ours, or gone meanwhile.
                _ => true,
            }
        })?;
        if is_all && self.shows_upload_dir(id) {
            let (ino, name) = (INodeNo(UNNUMBERED), OsStr::from_bytes(RESERVED));
            let _ = reply.add(ino, AFTER_UPLOAD, FileType::Directory, name);
        }
        Ok(())
    }

    pub fn list_plus(
        &self,
        id: NodeId,
        fh: u64,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<()> {
        if let Some(Handle::VirtualFolder(folder)) = self.handles.get(fh) {
            return self.list_virtual(id, &folder, offset, |(next, _, name), id, node| {
                self.add_virtual(&name, id, node, next, reply)
            });
        }
        if offset == AFTER_UPLOAD {
            return Ok(());
        }
        let folder = self.handles.folder(fh).ok_or(Errno::BADF)?;
        let is_all = folder.list(offset, |entry| {
            if upload_dir::is_reserved(&entry.name) {
                true
            } else if entry.is_dot() {
                self.add_dot(id, entry, reply)
            } else {
                self.add_entry(id, &folder, entry, reply)
            }
        })?;
        if is_all && self.shows_upload_dir(id) {
            let node = Some(Virtual::Folder(id));
            self.add_virtual(RESERVED, UNNUMBERED, node, AFTER_UPLOAD, reply);
        }
        Ok(())
    }

    fn shows_upload_dir(&self, id: NodeId) -> bool {
        self.show_upload_dir && id == ROOT
    }

    /// Hands entries of the virtual tree from `offset` on to `take`, until that returns false: with
    /// the number to tell, and what is to be entered for it, if the kernel is to know the entry.
    fn list_virtual(
        &self,
        id: NodeId,
        folder: &VirtualFolder,
        offset: u64,
        mut take: impl FnMut(VirtualEntry, NodeId, Option<Virtual>) -> bool,
    ) -> Result<()> {
        for (next, name, id) in [(1, ".", id), (2, "..", UNNUMBERED)] {
            let entry = (next, FileType::Directory, name.as_bytes().to_vec());
            if offset < next && !take(entry, id, None) {
                return Ok(());
            }
        }
        match folder.node {
            Virtual::Abouts(directory) => {
                let path = self.backing.nodes.path(directory).ok_or(Errno::NOENT)?;
                let mut names = folder.names.lock();
                names.go_to(offset.max(2), |after| {
                    self.files.known_names(&path, after, NAMES)
                });
                while let Some(name) = names.ahead.front() {
                    let about = upload_dir::about_name(name);
                    let node = Virtual::About(directory, name.as_slice().into());
                    let entry = (names.at + 1, FileType::RegularFile, about);
                    if !take(entry, UNNUMBERED, Some(node)) {
                        break;
                    }
                    names.take();
                    names.fill(|after| self.files.known_names(&path, after, NAMES));
                }
            }
            _ => {
                let entries = (3..).zip(upload_dir::entries(&*self.files));
                for (next, (kind, name)) in entries.filter(|(next, _)| offset < *next) {
                    let node = folder.node.entry(&*self.files, name);
                    if !take((next, kind, name.to_vec()), UNNUMBERED, node) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// False if there was no room for it.
    fn add_virtual(
        &self,
        name: &[u8],
        id: NodeId,
        node: Option<Virtual>,
        next: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> bool {
        // Of `.` and `..` the kernel takes no more than their numbers.
        let is_dot = node.is_none();
        let attr = match node {
            Some(node) => self.enter_virtual(node).attr,
            None => upload_dir::folder_attr(id),
        };
        let (ttl, name) = (self.attr_ttl(&attr), OsStr::from_bytes(name));
        let full = reply.add(attr.ino, next, name, &ttl, &attr, Generation(0));
        if full && !is_dot {
            // The kernel has not heard of it.
            self.numbers.forget(attr.ino.0, 1);
        }
        !full
    }

    /// The kernel takes no more of these than their numbers.
    fn add_dot(&self, folder: NodeId, entry: &DirEntry, reply: &mut ReplyDirectoryPlus) -> bool {
        let id = self.listed_id(folder, entry);
        let attr = FileAttr {
            kind: FileType::Directory,
            ..upload_dir::folder_attr(id)
        };
        let (ttl, name) = (self.attr_ttl(&attr), OsStr::from_bytes(&entry.name));
        !reply.add(INodeNo(id), entry.next, name, &ttl, &attr, Generation(0))
    }

    fn add_entry(
        &self,
        id: NodeId,
        folder: &Folder,
        entry: &DirEntry,
        reply: &mut ReplyDirectoryPlus,
    ) -> bool {
        let _names = self.journal.names().read();
        let Ok(stat) = attr::stat(folder.fd(), &entry.name) else {
            return true;
        };
        let found = self.enter(id, &entry.name, &stat);
        let full = reply.add(
            found.attr.ino,
            entry.next,
            OsStr::from_bytes(&entry.name),
            &self.attr_ttl(&found.attr),
            &found.attr,
            Generation(found.generation),
        );
        if full {
            // The kernel has not heard of it.
            self.backing.nodes.forget(found.attr.ino.0, 1);
        }
        !full
    }

    fn listed_id(&self, folder: NodeId, entry: &DirEntry) -> NodeId {
        if folder == ROOT && &*entry.name == b".." {
            ROOT
        } else {
            self.backing.local_id(entry.inode)
        }
    }
}

impl Names {
    /// Makes the name at the place `at` the first in `ahead`.
    fn go_to(&mut self, at: u64, mut more: impl FnMut(&[u8]) -> Vec<Vec<u8>>) {
        if at < self.at || self.at < 2 {
            *self = Self {
                at: 2,
                ..Self::default()
            };
        }
        self.fill(&mut more);
        while self.at < at && !self.ahead.is_empty() {
            self.take();
            self.fill(&mut more);
        }
    }

    fn fill(&mut self, mut more: impl FnMut(&[u8]) -> Vec<Vec<u8>>) {
        if self.ahead.is_empty() {
            self.ahead = more(&self.last).into();
        }
    }

    fn take(&mut self) {
        if let Some(name) = self.ahead.pop_front() {
            self.last = name;
            self.at += 1;
        }
    }
}
