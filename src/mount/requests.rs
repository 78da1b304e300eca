//! The kernel's requests, one method each: translated to our words, answered in the kernel's.
//! What they do is in `namespace`, `content`, `attributes`, `listing` and `xattrs`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attributes::NewAttributes;
use super::content::Opened;
use super::fs::{Result, Served, errno};
use super::handles::{Handle, Io};
use super::namespace::NewNode;
use super::upload_dir;

/// Requests that the kernel has under way without anybody waiting for them; releases are among
/// these.
const BACKGROUND_REQUESTS: u16 = 64;

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: the kernel would have us truncate, for an open for reading with
        // O_TRUNC, before it finds that the file is being executed (ETXTBSY).
        let mut wanted = vec![
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            // Creating happens with the caller's umask, so that default ACLs can override it.
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
        ];
        // The backing directory may itself be stacked on another one (overlayfs in a container).
        if self.0.passthrough.load(Ordering::Relaxed) && config.set_max_stack_depth(2).is_ok() {
            wanted.push(InitFlags::FUSE_PASSTHROUGH);
        }
        for flag in wanted {
            let refused = config.add_capabilities(flag).is_err();
            if refused && flag == InitFlags::FUSE_PASSTHROUGH {
                self.0.passthrough.store(false, Ordering::Relaxed);
            }
        }
        // Not refused: it is above 0.
        let _ = config.set_max_background(BACKGROUND_REQUESTS);
        Ok(())
    }

    fn destroy(&mut self) {
        self.0.report_all();
        self.0.end_watch();
        self.0.waiting.end();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _answering = self.0.linger.answering();
        match self.0.lookup(parent.0, name.as_bytes()) {
            // What the journal does not know it may know in a moment.
            Err(rustix::io::Errno::NOENT) if !upload_dir::owns(parent.0) => {
                self.0.reply_nothing(reply);
            }
            result => self.0.reply_entry(result, reply),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        match upload_dir::owns(ino.0) {
            true => self.0.numbers.forget(ino.0, nlookup),
            false => self.0.backing.nodes.forget(ino.0, nlookup),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let _answering = self.0.linger.answering();
        match self.0.attributes(ino.0, fh.map(|fh| fh.0)) {
            Ok(attr) => reply.attr(&self.0.attr_ttl(&attr), &attr),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _answering = self.0.linger.answering();
        let new = NewAttributes {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        self.0
            .set_attributes(req, ino.0, fh.map(|fh| fh.0), new, reply);
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.link_target(ino.0) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let new = NewNode::Special { mode, umask, rdev };
        self.0.make(req, parent.0, name.as_bytes(), new, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let _answering = self.0.linger.answering();
        let new = NewNode::Folder { mode, umask };
        self.0.make(req, parent.0, name.as_bytes(), new, reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let new = NewNode::Symlink { target };
        self.0.make(req, parent.0, link_name.as_bytes(), new, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.0.linger.answering();
        self.0.remove(parent.0, name.as_bytes(), false, reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _answering = self.0.linger.answering();
        self.0.remove(parent.0, name.as_bytes(), true, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _answering = self.0.linger.answering();
        let from = (parent.0, name.as_bytes());
        let to = (newparent.0, newname.as_bytes());
        self.0.rename(req, from, to, flags, reply);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.0.link(ino.0, newparent.0, newname.as_bytes(), reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _answering = self.0.linger.answering();
        match self.0.open(ino.0, flags.0) {
            Ok(Opened::Virtual(fh)) => reply.opened(FileHandle(fh), FopenFlags::FOPEN_DIRECT_IO),
            Ok(Opened::File { fh, file }) => {
                let io = self.0.choose_io(&file, |fd| reply.open_backing(fd));
                let flags = self.0.open_flags(&file, &io);
                match &*io {
                    Io::Passthrough(id) => reply.opened_passthrough(FileHandle(fh), flags, id),
                    _ => reply.opened(FileHandle(fh), flags),
                }
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _answering = self.0.linger.answering();
        match self
            .0
            .create(req, parent.0, name.as_bytes(), mode, umask, flags)
        {
            Ok((found, Opened::File { fh, file })) => {
                let io = self.0.choose_io(&file, |fd| reply.open_backing(fd));
                let flags = self.0.open_flags(&file, &io);
                let (fh, ttl) = (FileHandle(fh), self.0.attr_ttl(&found.attr));
                let generation = Generation(found.generation);
                match &*io {
                    Io::Passthrough(id) => {
                        reply.created_passthrough(&ttl, &found.attr, generation, fh, flags, id);
                    }
                    _ => reply.created(&ttl, &found.attr, generation, fh, flags),
                }
            }
            Ok((_, Opened::Virtual(_))) => reply.error(Errno::EACCES),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.read(fh.0, (offset, size), req.pid(), reply);
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if let Some(Handle::Virtual(file)) = self.0.handles.get(fh.0) {
            return self.0.write_virtual(file, data, reply);
        }
        let strip = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.0.write(fh.0, offset, data, strip) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _answering = self.0.linger.answering();
        self.0.flush(fh.0, move |result| reply_empty(result, reply));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _answering = self.0.linger.answering();
        self.0.release(fh.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.0
            .fsync(fh.0, datasync, move |result| reply_empty(result, reply));
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _answering = self.0.linger.answering();
        match self.0.open_folder(ino.0) {
            Ok(fh) => reply.opened(FileHandle(fh), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _answering = self.0.linger.answering();
        match self.0.list(ino.0, fh.0, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _answering = self.0.linger.answering();
        match self.0.list_plus(ino.0, fh.0, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.handles.remove(fh.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(Handle::VirtualFolder(_)) = self.0.handles.get(fh.0) {
            return reply.ok();
        }
        self.0
            .sync_folder(fh.0, datasync, move |result| reply_empty(result, reply));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::fstatvfs(self.0.backing.root()) {
            Ok(fs) => reply.statfs(
                fs.f_blocks,
                fs.f_bfree,
                fs.f_bavail,
                fs.f_files,
                fs.f_ffree,
                u32::try_from(fs.f_bsize).unwrap_or(4096),
                u32::try_from(fs.f_namemax).unwrap_or(255),
                u32::try_from(fs.f_frsize).unwrap_or(4096),
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _answering = self.0.linger.answering();
        reply_empty(self.0.set_xattr(ino.0, name, value, flags), reply);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _answering = self.0.linger.answering();
        match self.0.xattr(ino.0, name) {
            Ok(value) => reply_xattr(&value, size, reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let _answering = self.0.linger.answering();
        match self.0.xattr_names(req, ino.0) {
            Ok(names) => reply_xattr(&names, size, reply),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.0.remove_xattr(ino.0, name), reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        reply_empty(self.0.allocate(req, fh.0, offset, length, mode), reply);
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.0.seek(fh.0, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        }
    }

    /// None is known; said here, because fuser would complain of each.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: fuser::IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        match self
            .0
            .copy_range(req, (fh_in.0, offset_in), (fh_out.0, offset_out), len)
        {
            Ok(copied) => reply.written(copied),
            Err(error) => reply.error(errno(error)),
        }
    }
}

/// A value or its length, as the caller asked.
fn reply_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

fn reply_empty(result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}
