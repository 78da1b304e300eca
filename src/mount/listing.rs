//! opendir, readdir and readdirplus.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{FileAttr, FileType, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attr;
use super::dirs::{DirEntry, Folder};
use super::fs::{OutboxFs, Result};
use super::handles::Handle;
use super::nodes::{NodeId, ROOT};
use super::upload_dir;

impl OutboxFs {
    pub fn open_folder(&self, id: NodeId) -> Result<u64> {
        if upload_dir::is_folder(id) {
            return Ok(self.handles.add(Handle::VirtualFolder));
        }
        let (fd, _) = self.backing.open(id, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(self.handles.add(Handle::Folder(Arc::new(Folder::new(fd)))))
    }

    pub fn list(&self, id: NodeId, fh: u64, offset: u64, reply: &mut ReplyDirectory) -> Result<()> {
        if upload_dir::is_folder(id) {
            for (n, (id, kind, name)) in self.virtual_entries(offset) {
                if reply.add(INodeNo(id), n, kind, name) {
                    break;
                }
            }
            return Ok(());
        }
        let folder = self.handles.folder(fh).ok_or(Errno::BADF)?;
        folder.list(offset, |entry| {
            let hidden = upload_dir::is_entry(id, &entry.name);
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
        })
    }

    pub fn list_plus(
        &self,
        id: NodeId,
        fh: u64,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<()> {
        if upload_dir::is_folder(id) {
            for (n, (id, _, name)) in self.virtual_entries(offset) {
                let attr = upload_dir::attr(id);
                let ttl = self.attr_ttl(&attr);
                if reply.add(INodeNo(id), n, name, &ttl, &attr, Generation(0)) {
                    break;
                }
            }
            return Ok(());
        }
        let folder = self.handles.folder(fh).ok_or(Errno::BADF)?;
        folder.list(offset, |entry| {
            if upload_dir::is_entry(id, &entry.name) {
                true
            } else if entry.is_dot() {
                self.add_dot(id, entry, reply)
            } else {
                self.add_entry(id, &folder, entry, reply)
            }
        })
    }

    /// The kernel takes no more of these than their numbers.
    fn add_dot(&self, folder: NodeId, entry: &DirEntry, reply: &mut ReplyDirectoryPlus) -> bool {
        let id = self.listed_id(folder, entry);
        let attr = FileAttr {
            kind: FileType::Directory,
            ..upload_dir::attr(id)
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

    /// Entries of the virtual directory from an offset on, with the offset of what follows each.
    fn virtual_entries(
        &self,
        offset: u64,
    ) -> impl Iterator<Item = (u64, (NodeId, FileType, &'static str))> {
        let entries = upload_dir::list(&*self.files).into_iter();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        (1..).zip(entries).skip(start)
    }
}
