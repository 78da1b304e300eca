//! Attributes: getattr and setattr.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, ReplyAttr, Request, TimeOrNow};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::Kind;
use super::attr;
use super::content::{strip_set_id, truncate};
use super::fs::{OutboxFs, Result, errno, journal_errno};
use super::handles::{Handle, OpenFile};
use super::nodes::{NodeId, ROOT};
use super::resolve::proc_path;
use super::upload_dir::{self, Virtual};
use crate::journal::{Change, Durability};

/// What setattr is to change.
pub(super) struct NewAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeOrNow>,
    pub mtime: Option<TimeOrNow>,
}

impl OutboxFs {
    pub fn attributes(&self, id: NodeId, fh: Option<u64>) -> Result<FileAttr> {
        if upload_dir::owns(id) {
            let node = self.numbers.get(id).ok_or(Errno::STALE)?;
            return Ok(self.virtual_attributes(&node, id));
        }
        let stat = match fh.and_then(|fh| self.handles.get(fh)) {
            Some(Handle::File(file)) => attr::stat(&file.file, b"")?,
            Some(Handle::Folder(folder)) => attr::stat(folder.fd(), b"")?,
            // Without a handle it may still be open, and have no name left.
            _ => match self.handles.inode(id) {
                Some(inode) => attr::stat(&inode.fd, b"")?,
                None => self.backing.stat(id)?,
            },
        };
        let mut attr = attr::file_attr(id, &stat);
        if id == ROOT {
            attr.ino = INodeNo(stat.stx_ino);
        }
        Ok(attr)
    }

    /// Of an entry of the virtual tree. It tells names of what is in its directory, so it is for those
    /// who may list that; control stays the daemon's owner's.
    pub fn virtual_attributes(&self, node: &Virtual, id: NodeId) -> FileAttr {
        let mut attr = node.attr(&*self.files, id);
        if attr.perm & 0o077 != 0 {
            let stat = self.backing.stat(node.directory());
            attr.perm &= 0o111 | stat.as_ref().map_or(0, |stat| stat.stx_mode & 0o444);
            if let Ok(stat) = stat {
                (attr.uid, attr.gid) = (stat.stx_uid, stat.stx_gid);
            }
        }
        attr
    }

    /// The node itself, for calls that need no access to its content.
    pub fn reference(&self, id: NodeId) -> Result<Arc<OwnedFd>> {
        match self.handles.inode(id) {
            Some(inode) => Ok(Arc::new(inode.fd.try_clone().map_err(|_| Errno::MFILE)?)),
            None => self.backing.reference(id),
        }
    }

    pub fn set_attributes(
        &self,
        req: &Request,
        id: NodeId,
        fh: Option<u64>,
        new: NewAttributes,
        reply: ReplyAttr,
    ) {
        // A handle that cannot write has no close that anybody listens to.
        let file = fh.and_then(|fh| self.handles.file(fh));
        let file = file.filter(|file| file.writable);
        // open(2) with O_TRUNC looks like truncate(2), and half of what it is about to be is no
        // content to deliver: where somebody writes, his close tells the journal.
        let truncated_by_path = new.size.is_some()
            && file.is_none()
            && !upload_dir::owns(id)
            && !self.handles.has_writers(id);
        let attr = self
            .apply(req, id, file.as_deref(), new)
            .and_then(|()| self.attributes(id, fh));
        match attr {
            Ok(attr) if truncated_by_path => self.report_truncated(id, attr, reply),
            Ok(attr) => reply.attr(&self.attr_ttl(&attr), &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn apply(
        &self,
        req: &Request,
        id: NodeId,
        file: Option<&OpenFile>,
        new: NewAttributes,
    ) -> Result<()> {
        if upload_dir::owns(id) {
            // `>` truncates; there is nothing to truncate in a file that takes commands.
            return match (&new, self.numbers.get(id)) {
                (NewAttributes { size: Some(0), .. }, Some(Virtual::File(_, place)))
                    if self.files.names()[place].1 == Kind::Control =>
                {
                    Ok(())
                }
                _ => Err(Errno::ACCESS),
            };
        }
        if let Some(size) = new.size {
            self.truncate(req, id, file, size)?;
        }
        let (owner, times) = (new.uid.or(new.gid), new.atime.or(new.mtime));
        if new.mode.is_none() && owner.is_none() && times.is_none() {
            return Ok(());
        }
        let fd = self.reference(id)?;
        match self.handles.inode(id) {
            Some(inode) => inode.without_news(|| apply_metadata(&fd, &new)),
            None => apply_metadata(&fd, &new),
        }
    }

    fn truncate(
        &self,
        req: &Request,
        id: NodeId,
        file: Option<&OpenFile>,
        size: u64,
    ) -> Result<()> {
        if let Some(file) = file {
            strip_set_id(req, &file.inode.fd)?;
            rustix::fs::ftruncate(&file.file, size)?;
            file.inode.touch();
            return Ok(());
        }
        self.announce(id)?;
        match self.handles.inode(id) {
            Some(inode) => {
                strip_set_id(req, &inode.fd)?;
                truncate(&inode.fd, size)?;
                inode.touch();
            }
            None => {
                let (fd, _) = self.backing.open(id, OFlags::WRONLY)?;
                strip_set_id(req, &fd)?;
                rustix::fs::ftruncate(&fd, size)?;
            }
        }
        Ok(())
    }

    /// truncate(2) has no close that would tell the journal.
    fn report_truncated(&self, id: NodeId, attr: FileAttr, reply: ReplyAttr) {
        let ttl = self.attr_ttl(&attr);
        let done = move |result: Result<()>| match result {
            Ok(()) => reply.attr(&ttl, &attr),
            Err(error) => reply.error(errno(error)),
        };
        if let Some(inode) = self.handles.inode(id) {
            return self.report(&inode, Durability::Committed, done);
        }
        let names = self.journal.names().read();
        let stat = self.backing.stat(id);
        match (self.backing.nodes.path(id), stat) {
            (Some(path), Ok(stat)) => {
                let stat = attr::file_stat(&stat);
                let change = Change::Written { path, stat };
                self.record(change, Durability::Committed, move |result| {
                    done(journal_errno(result));
                });
            }
            // It has lost its last name: nothing to deliver.
            _ => done(Ok(())),
        }
        drop(names);
    }
}

fn apply_metadata(fd: &OwnedFd, new: &NewAttributes) -> Result<()> {
    if new.uid.is_some() || new.gid.is_some() {
        let (uid, gid) = (new.uid.map(Uid::from_raw), new.gid.map(Gid::from_raw));
        rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    // After the owner, whose change takes set-id bits away.
    if let Some(mode) = new.mode {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(CWD, proc_path(fd), mode, AtFlags::empty())?;
    }
    if new.atime.is_some() || new.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec(new.atime),
            last_modification: timespec(new.mtime),
        };
        rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    let special = |nanoseconds| Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    match time {
        None => special(UTIME_OMIT),
        Some(TimeOrNow::Now) => special(UTIME_NOW),
        Some(TimeOrNow::SpecificTime(time)) => before_or_after_epoch(time),
    }
}

/// fuser 0.18 makes a time before 1970 of the seconds and nanoseconds that it was sent by
/// subtracting both; this gives back what was sent.
fn before_or_after_epoch(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        },
        Err(before) => Timespec {
            tv_sec: i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
            tv_nsec: i64::from(before.duration().subsec_nanos()),
        },
    }
}
