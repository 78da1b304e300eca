//! Content: opening, reading, writing, and telling the journal what has changed.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fuser::{BackingId, ReplyData, Request};
use parking_lot::MutexGuard;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::attr;
use super::caller::{create_as, without_set_id_privilege};
use super::fs::{Found, OutboxFs, Result, errno, journal_errno};
use super::handles::{Handle, Io, OpenFile, OpenInode};
use super::nodes::NodeId;
use super::resolve::reopen;
use super::upload_dir;
use crate::journal::{Change, Durability};

/// What an open gave.
pub(super) enum Opened {
    File { fh: u64, file: Arc<OpenFile> },
    Virtual(u64),
}

/// How a file is to be opened.
pub(super) struct Wish {
    /// Flags for the backing file. Not O_APPEND: the kernel says where to write. Not O_DIRECT: our
    /// buffers are not aligned. Not O_TRUNC: the kernel truncates once it has the handle.
    flags: OFlags,
    /// Closing it may be news.
    pub writable: bool,
    /// It was not there before.
    pub is_new: bool,
    /// It may be mapped shared and for writing (mmap(2), EACCES).
    mappable: bool,
}

impl Wish {
    fn new(flags: i32) -> Self {
        let flags = OFlags::from_bits_retain(flags as u32);
        let access = flags & OFlags::ACCMODE;
        let kept = OFlags::SYNC | OFlags::DSYNC | OFlags::NOATIME;
        Self {
            flags: access | (flags & kept),
            writable: access != OFlags::RDONLY,
            is_new: false,
            mappable: access == OFlags::RDWR,
        }
    }
}

impl OutboxFs {
    pub fn open(&self, id: NodeId, flags: i32) -> Result<Opened> {
        if upload_dir::owns(id) {
            return self.open_virtual(id, flags);
        }
        let wish = Wish::new(flags);
        if wish.writable {
            self.announce(id)?;
        }
        let (fd, stat) = match self.handles.inode(id) {
            Some(inode) => {
                let fd = reopen(&inode.fd, wish.flags)?;
                let stat = attr::stat(&fd, b"")?;
                (fd, stat)
            }
            None => self.backing.open(id, wish.flags)?,
        };
        let (fh, file) = self.add_file(id, fd, &stat, &wish)?;
        if wish.writable {
            file.inode.set_announced();
        }
        Ok(Opened::File { fh, file })
    }

    pub fn create(
        &self,
        req: &Request,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Found, Opened)> {
        self.refuse_reserved(parent, name)?;
        let wish = Wish {
            // Even if it was created by an open for reading only, its close is news.
            writable: true,
            is_new: true,
            ..Wish::new(flags)
        };
        let folder = self.backing.directory(parent)?;
        let names = self.journal.names().read();
        create_as(req, umask);
        let exclusive =
            wish.flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let fd = match rustix::fs::openat(&*folder, name, exclusive, mode) {
            // Somebody created it below us: the kernel shall look again.
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => return Err(Errno::STALE),
            result => result?,
        };
        let stat = attr::stat(&fd, b"")?;
        let found = self.enter(parent, name, &stat);
        drop(names);
        let (fh, file) = self.add_file(found.attr.ino.0, fd, &stat, &wish)?;
        // There is nothing to be announced of a file that the journal does not know.
        file.inode.set_announced();
        file.inode.touch();
        Ok((found, Opened::File { fh, file }))
    }

    fn add_file(
        &self,
        id: NodeId,
        fd: OwnedFd,
        stat: &rustix::fs::Statx,
        wish: &Wish,
    ) -> Result<(u64, Arc<OpenFile>)> {
        let inode = self
            .handles
            .enter(id, &fd, stat, wish, self.exact_times)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if wish.mappable {
            inode.set_mappable();
        }
        let file = Arc::new(OpenFile {
            file: fd.into(),
            writable: wish.writable,
            inode,
        });
        let fh = self.handles.add(Handle::File(file.clone()));
        Ok((fh, file))
    }

    /// Decides for the first handle of an inode whether the kernel may go to the backing file by
    /// itself; the others follow.
    pub fn choose_io<'a>(
        &self,
        file: &'a OpenFile,
        open_backing: impl FnOnce(&OwnedFd) -> std::io::Result<BackingId>,
    ) -> MutexGuard<'a, Io> {
        let mut io = file.inode.io.lock();
        if let Io::Undecided = *io {
            *io = Io::Ordinary;
            // Who may keep set-id bits must be asked at each write.
            if self.passthrough.load(Ordering::Relaxed) && !file.inode.set_id {
                match without_set_id_privilege(|| open_backing(&file.inode.fd)) {
                    Ok(id) => *io = Io::Passthrough(id),
                    Err(error) => self.give_up_passthrough(&error),
                }
            }
        }
        io
    }

    fn give_up_passthrough(&self, error: &std::io::Error) {
        if self.passthrough.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "Reads and writes go through outboxfs from now on, which is slower: the kernel \
                 refused to pass them to the backing file ({error})."
            );
        }
    }

    /// Tells the journal that an existing file is about to be written in place, and waits.
    pub fn announce(&self, id: NodeId) -> Result<()> {
        if let Some(inode) = self.handles.inode(id)
            && inode.is_announced()
        {
            return Ok(());
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        {
            let _names = self.journal.names().read();
            let Some(path) = self.backing.nodes.path(id) else {
                return Ok(());
            };
            let change = Change::Opening { path };
            self.record(change, Durability::Committed, move |result| {
                // Nobody listens if the mount is gone.
                let _ = sender.send(result);
            });
        }
        journal_errno(receiver.recv().map_err(|_| Errno::IO)?)
    }

    /// `reader` is the thread that reads, or 0 if it is not to be known.
    pub fn read(&self, fh: u64, range: (u64, u32), reader: u32, reply: ReplyData) {
        match self.handles.get(fh) {
            Some(Handle::File(file)) => READ_BUFFER.with_borrow_mut(|buffer| {
                let (offset, size) = (range.0, range.1 as usize);
                if buffer.len() < size {
                    buffer.resize(size, 0);
                }
                match read_at(&file, &mut buffer[..size], offset) {
                    Ok(count) => reply.data(&buffer[..count]),
                    Err(error) => reply.error(errno(error)),
                }
            }),
            Some(Handle::Virtual(file)) => self.read_virtual(file, range, reader, reply),
            _ => reply.error(errno(Errno::BADF)),
        }
    }

    /// Bytes written; fewer than asked for if the disk is full.
    pub fn write(&self, fh: u64, offset: u64, data: &[u8], strip: bool) -> Result<u32> {
        let file = self.handles.file(fh).ok_or(Errno::BADF)?;
        if strip {
            strip_set_id_bits(&file.inode.fd)?;
        }
        let mut written = 0;
        while written < data.len() {
            let result = file
                .file
                .write_at(&data[written..], offset + written as u64);
            match result {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if written > 0 => break,
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        file.inode.touch();
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    pub fn allocate(
        &self,
        req: &Request,
        fh: u64,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<()> {
        let file = self.handles.file(fh).ok_or(Errno::BADF)?;
        let mode = FallocateFlags::from_bits_retain(mode as u32);
        strip_set_id(req, &file.inode.fd)?;
        let result = rustix::fs::fallocate(&file.file, mode, offset, length);
        file.inode.touch();
        result
    }

    pub fn seek(&self, fh: u64, offset: i64, whence: i32) -> Result<i64> {
        let file = self.handles.file(fh).ok_or(Errno::BADF)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        let to = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let offset = rustix::fs::seek(&file.file, to)?;
        i64::try_from(offset).map_err(|_| Errno::OVERFLOW)
    }

    pub fn copy_range(
        &self,
        req: &Request,
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
    ) -> Result<u32> {
        // The answer has 32 bits, and the kernel itself copies no more at once.
        let length = length.min(0x7fff_f000) as usize;
        let source = self.handles.file(from.0).ok_or(Errno::BADF)?;
        let target = self.handles.file(to.0).ok_or(Errno::BADF)?;
        strip_set_id(req, &target.inode.fd)?;
        let (mut at, mut into) = (from.1, to.1);
        let copied = rustix::fs::copy_file_range(
            &source.file,
            Some(&mut at),
            &target.file,
            Some(&mut into),
            length,
        );
        target.inode.touch();
        Ok(u32::try_from(copied?).unwrap_or(u32::MAX))
    }

    /// close(2) of one descriptor.
    pub fn flush(&self, fh: u64, done: impl FnOnce(Result<()>) + Send + 'static) {
        match self.handles.file(fh) {
            Some(file) if file.writable => self.report(&file.inode, Durability::Committed, done),
            _ => done(Ok(())),
        }
    }

    /// The last descriptor is closed.
    pub fn release(&self, fh: u64) {
        if let Some(Handle::File(file)) = self.handles.remove(fh) {
            let (last_writer, last) = self.handles.leave(&file);
            // Where others are still writing, theirs is half done, and their close tells of it.
            if last_writer {
                self.report_late(&file.inode);
                self.handles.rests(&file.inode);
            }
            if last {
                let inode = file.inode.clone();
                drop(file);
                self.watch(inode);
            }
        }
    }

    /// What was still open when the mount ended.
    pub fn report_all(&self) {
        for file in self.handles.drain_files() {
            if file.writable {
                self.report_late(&file.inode);
            }
        }
    }

    /// Takes the note back that a file is being written, if it was not; nobody can write it any more.
    pub fn report_rest(&self, inode: &OpenInode) {
        if !inode.is_announced() {
            return;
        }
        let _names = self.journal.names().read();
        if let Some(path) = self.backing.nodes.path(inode.node) {
            self.journal
                .record(Change::Rested { path }, Durability::Committed, |result| {
                    if let Err(error) = result {
                        tracing::error!("A closed file could not be journaled: {error}");
                    }
                });
        }
    }

    /// News after the last close, when nobody waits for the answer.
    pub fn report_late(&self, inode: &OpenInode) {
        self.report(inode, Durability::Committed, |result| {
            if let Err(error) = result {
                tracing::error!("A change after close could not be journaled: {error}");
            }
        });
    }

    pub fn fsync(&self, fh: u64, datasync: bool, done: impl FnOnce(Result<()>) + Send + 'static) {
        let Some(file) = self.handles.file(fh) else {
            return done(Ok(()));
        };
        let synced = if datasync {
            rustix::fs::fdatasync(&file.file)
        } else {
            rustix::fs::fsync(&file.file)
        };
        if let Err(error) = synced {
            return done(Err(error));
        }
        self.report(&file.inode, Durability::Synced, done);
    }

    pub fn sync_folder(
        &self,
        fh: u64,
        datasync: bool,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let Some(folder) = self.handles.folder(fh) else {
            return done(Err(Errno::BADF));
        };
        let synced = if datasync {
            rustix::fs::fdatasync(folder.fd())
        } else {
            rustix::fs::fsync(folder.fd())
        };
        match synced {
            Ok(()) => self.journal.sync(move |result| done(journal_errno(result))),
            Err(error) => done(Err(error)),
        }
    }

    /// Records the inode's content if it is news; `done` when the journal has it, and everything
    /// before it.
    pub fn report(
        &self,
        inode: &OpenInode,
        durability: Durability,
        done: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        let news = match inode.news() {
            Ok(news) => news,
            Err(error) => return done(Err(error)),
        };
        let names = self.journal.names().read();
        // Without a name there is nothing to deliver.
        match news.filter(|(stat, _)| stat.stx_nlink > 0) {
            Some((stat, content)) => {
                let known = inode.known();
                let stat = attr::file_stat(&stat);
                self.journal.writing().closed(&stat);
                let change = match self.backing.nodes.path(inode.node) {
                    Some(path) => Change::Written { path, stat },
                    // The names that we know were removed; the journal may know others.
                    None => Change::WrittenElsewhere { stat },
                };
                inode.set_reported();
                self.watch.announce_soon();
                self.record(change, durability, move |result| {
                    let result = journal_errno(result);
                    if result.is_ok() {
                        *known.lock() = content;
                    }
                    done(result);
                });
            }
            None if durability == Durability::Synced => {
                self.journal.sync(move |result| done(journal_errno(result)));
            }
            None => done(Ok(())),
        }
        drop(names);
    }
}

thread_local! {
    /// One for each event loop; as large as the largest read so far.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &OpenFile, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file
            .file
            .read_at(&mut buffer[filled..], offset + filled as u64)
        {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if filled > 0 => break,
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    Ok(filled)
}

/// Truncates also what was opened for reading only, which open(2) with O_TRUNC does.
pub(super) fn truncate(fd: &OwnedFd, size: u64) -> Result<()> {
    match rustix::fs::ftruncate(fd, size) {
        Err(Errno::INVAL | Errno::BADF) => rustix::fs::ftruncate(reopen(fd, OFlags::WRONLY)?, size),
        result => result,
    }
}

/// Content changed by somebody who is not privileged takes the set-id bits away (inode(7)). The
/// kernel leaves this to us (FUSE_HANDLE_KILLPRIV_V2), and for us, being root, the disk below does
/// not do it.
pub(super) fn strip_set_id(req: &Request, fd: &OwnedFd) -> Result<()> {
    if req.uid() == 0 {
        return Ok(());
    }
    strip_set_id_bits(fd)
}

fn strip_set_id_bits(fd: &OwnedFd) -> Result<()> {
    let mode = u32::from(attr::stat(fd, b"")?.stx_mode);
    let mut strip = mode & libc::S_ISUID;
    // Set-group-id without group execution means mandatory locking, not a privilege.
    if mode & libc::S_IXGRP != 0 {
        strip |= mode & libc::S_ISGID;
    }
    if strip == 0 {
        return Ok(());
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777 & !strip))
}
