//! Names: looking up, creating, linking, renaming, removing.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{RenameFlags, ReplyEmpty, ReplyEntry, Request};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::attr;
use super::caller::create_as;
use super::fs::{Found, OutboxFs, Result, errno, journal_errno};
use super::nodes::NodeId;
use super::resolve::proc_path;
use super::upload_dir::{self, Virtual};
use crate::journal::{Change, Durability, FileStat};
use crate::path::RelPath;

/// What mkdir(2), mknod(2) and symlink(2) make.
pub(super) enum NewNode<'a> {
    Folder {
        mode: u32,
        umask: u32,
    },
    /// Anything but a directory or a symbolic link; `mode` says what.
    Special {
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    Symlink {
        target: &'a [u8],
    },
}

impl OutboxFs {
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Found> {
        if upload_dir::owns(parent) {
            return self.lookup_virtual(parent, name);
        }
        if upload_dir::is_reserved(name) {
            return Ok(self.enter_virtual(Virtual::Folder(parent)));
        }
        let folder = self.backing.directory(parent)?;
        let _names = self.journal.names().read();
        Ok(self.enter(parent, name, &attr::stat(&*folder, name)?))
    }

    fn lookup_virtual(&self, parent: NodeId, name: &[u8]) -> Result<Found> {
        let parent = self.numbers.get(parent).ok_or(Errno::STALE)?;
        let node = parent.entry(&*self.files, name).ok_or(Errno::NOENT)?;
        if let Virtual::About(directory, name) = &node {
            let directory = self.backing.nodes.path(*directory).ok_or(Errno::NOENT)?;
            self.files
                .about(&directory.join(name))
                .ok_or(Errno::NOENT)?;
        }
        Ok(self.enter_virtual(node))
    }

    /// Notes that the kernel is told of an entry of the virtual tree.
    pub fn enter_virtual(&self, node: Virtual) -> Found {
        let id = self.numbers.enter(node.clone());
        Found {
            attr: self.virtual_attributes(&node, id),
            generation: 0,
        }
    }

    /// Notes that the kernel is told of an entry.
    pub fn enter(&self, parent: NodeId, name: &[u8], stat: &Statx) -> Found {
        let id = self.backing.id(stat);
        let identity = attr::identity(stat);
        Found {
            attr: attr::file_attr(id, stat),
            generation: self.backing.nodes.enter(parent, name, id, identity),
        }
    }

    pub fn link_target(&self, id: NodeId) -> Result<CString> {
        rustix::fs::readlinkat(&*self.backing.reference(id)?, "", Vec::new())
    }

    pub fn make(
        &self,
        req: &Request,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
        reply: ReplyEntry,
    ) {
        let made = self.make_on_disk(req, parent, name, new);
        match made {
            Ok((found, Some(stat))) => self.report_new_name(parent, name, stat, found, reply),
            Ok((found, None)) => self.reply_entry(Ok(found), reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    /// The new entry, and what the journal has to know of it if it is a regular file.
    fn make_on_disk(
        &self,
        req: &Request,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
    ) -> Result<(Found, Option<FileStat>)> {
        self.refuse_reserved(parent, name)?;
        let folder = self.backing.directory(parent)?;
        let _names = self.journal.names().read();
        match new {
            NewNode::Folder { mode, umask } => {
                create_as(req, umask);
                rustix::fs::mkdirat(&*folder, name, Mode::from_raw_mode(mode))?;
            }
            NewNode::Special { mode, umask, rdev } => {
                create_as(req, umask);
                let kind = FileType::from_raw_mode(mode);
                let mode = Mode::from_raw_mode(mode);
                rustix::fs::mknodat(&*folder, name, kind, mode, attr::device(rdev))?;
            }
            NewNode::Symlink { target } => {
                create_as(req, 0);
                rustix::fs::symlinkat(target, &*folder, name)?;
            }
        }
        let stat = attr::stat(&*folder, name)?;
        let found = self.enter(parent, name, &stat);
        Ok((found, attr::is_file(&stat).then(|| attr::file_stat(&stat))))
    }

    pub fn link(&self, id: NodeId, parent: NodeId, name: &[u8], reply: ReplyEntry) {
        match self.link_on_disk(id, parent, name) {
            Ok((found, Some(stat))) => self.report_new_name(parent, name, stat, found, reply),
            Ok((found, None)) => self.reply_entry(Ok(found), reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn link_on_disk(
        &self,
        id: NodeId,
        parent: NodeId,
        name: &[u8],
    ) -> Result<(Found, Option<FileStat>)> {
        self.refuse_reserved(parent, name)?;
        if upload_dir::owns(id) {
            return Err(Errno::PERM);
        }
        let source = self.reference(id)?;
        let folder = self.backing.directory(parent)?;
        let _names = self.journal.names().read();
        rustix::fs::linkat(
            CWD,
            proc_path(&source),
            &*folder,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        let stat = attr::stat(&*folder, name)?;
        let found = self.enter(parent, name, &stat);
        Ok((found, attr::is_file(&stat).then(|| attr::file_stat(&stat))))
    }

    /// Answers when the journal has a file that appeared without being closed.
    fn report_new_name(
        &self,
        parent: NodeId,
        name: &[u8],
        stat: FileStat,
        found: Found,
        reply: ReplyEntry,
    ) {
        let names = self.journal.names().read();
        let Some(path) = self.backing.nodes.path_at(parent, name) else {
            return self.reply_entry(Ok(found), reply);
        };
        let ttl = self.attr_ttl(&found.attr);
        let done = move |result| match journal_errno(result) {
            Ok(()) => reply.entry(&ttl, &found.attr, fuser::Generation(found.generation)),
            Err(error) => reply.error(errno(error)),
        };
        let change = Change::Added { path, stat };
        self.record(change, Durability::Committed, done);
        drop(names);
    }

    pub fn remove(&self, parent: NodeId, name: &[u8], folder: bool, reply: ReplyEmpty) {
        let names = self.journal.names().write();
        let path = match self.remove_on_disk(parent, name, folder) {
            Ok(Some(path)) => path,
            Ok(None) => return reply.ok(),
            Err(error) => return reply.error(errno(error)),
        };
        let change = if folder {
            Change::FolderRemoved { path }
        } else {
            Change::Removed { path }
        };
        if self.sync_deletes {
            self.record(
                change,
                Durability::Committed,
                |result| match journal_errno(result) {
                    Ok(()) => reply.ok(),
                    Err(error) => reply.error(errno(error)),
                },
            );
        } else {
            // Nobody waits: what is lost of this in a crash, the next scan finds.
            self.record(change, Durability::Committed, |result| {
                let _logged = journal_errno(result);
            });
            drop(names);
            reply.ok();
        }
    }

    /// Removes it; where it was, if it has a path.
    fn remove_on_disk(&self, parent: NodeId, name: &[u8], folder: bool) -> Result<Option<RelPath>> {
        self.refuse_reserved(parent, name)?;
        let parent_fd = self.backing.directory(parent)?;
        let victim = Arc::new(refer(&parent_fd, name)?);
        let flags = if folder {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(&*parent_fd, name, flags)?;
        self.removed(parent, name, &victim)?;
        Ok(self.backing.nodes.path_at(parent, name))
    }

    /// What was there under the name has lost it.
    fn removed(&self, parent: NodeId, name: &[u8], victim: &Arc<OwnedFd>) -> Result<()> {
        let stat = attr::stat(&**victim, b"")?;
        let id = self.backing.id(&stat);
        let folder = attr::kind(&stat) == fuser::FileType::Directory;
        if folder {
            self.backing.close_directory(id);
        }
        let dead = folder || stat.stx_nlink == 0;
        self.backing
            .nodes
            .removed(parent, name, id, dead, victim.clone());
        Ok(())
    }

    pub fn rename(
        &self,
        _req: &Request,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let names = self.journal.names().write();
        match self.rename_on_disk(from, to, flags) {
            Ok(Some(change)) => {
                let done = move |result| match journal_errno(result) {
                    Ok(()) => reply.ok(),
                    Err(error) => reply.error(errno(error)),
                };
                self.record(change, Durability::Committed, done);
            }
            Ok(None) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
        drop(names);
    }

    fn rename_on_disk(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        flags: RenameFlags,
    ) -> Result<Option<Change>> {
        self.refuse_reserved(from.0, from.1)?;
        self.refuse_reserved(to.0, to.1)?;
        let from_fd = self.backing.directory(from.0)?;
        let to_fd = self.backing.directory(to.0)?;
        let source = attr::stat(&*from_fd, from.1)?;
        let id = self.backing.id(&source);
        let target = match refer(&to_fd, to.1) {
            Ok(fd) => Some(Arc::new(fd)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let disk_flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        rustix::fs::renameat_with(&*from_fd, from.1, &*to_fd, to.1, disk_flags)?;

        let nodes = &self.backing.nodes;
        let exchanged = match &target {
            Some(target) if flags.contains(RenameFlags::RENAME_EXCHANGE) => {
                let other = attr::stat(&**target, b"")?;
                nodes.moved(self.backing.id(&other), to, from);
                Some(other)
            }
            Some(target) => {
                self.removed(to.0, to.1, target)?;
                None
            }
            None => None,
        };
        nodes.moved(id, from, to);

        let (Some(from), Some(to)) = (nodes.path_at(from.0, from.1), nodes.path_at(to.0, to.1))
        else {
            return Ok(None);
        };
        let entry = attr::entry(&source);
        Ok(Some(match exchanged {
            Some(other) => Change::Exchanged {
                a: (from, attr::entry(&other)),
                b: (to, entry),
            },
            None => Change::Renamed { from, to, entry },
        }))
    }

    /// `.upload`, and everything in it, is ours.
    pub fn refuse_reserved(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        if upload_dir::owns(parent) {
            return Err(Errno::ACCESS);
        }
        if upload_dir::is_reserved(name) {
            return Err(Errno::PERM);
        }
        Ok(())
    }
}

/// An entry of a directory, whatever it is.
fn refer(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}
