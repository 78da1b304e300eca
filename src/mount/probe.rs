//! What the machine and the disk below can do, found out by trying it on a file without a name.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use fuser::BackingId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attr;

/// Changes in a row that must all show.
const TIMES: usize = 16;

/// `FUSE_DEV_IOC_BACKING_CLOSE` of linux/fuse.h: `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::Ioctl = 0x4004_e502;

/// A file in the backing directory that nobody ever sees.
pub(super) fn scratch_file(folder: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR)
}

/// Whether any two changes differ in their times, however fast they follow each other (Linux 6.13
/// and later on ext4, XFS, btrfs and tmpfs). Else times move with the clock's tick.
pub(super) fn has_exact_times(scratch: &OwnedFd) -> bool {
    let mut last = None;
    for _ in 0..TIMES {
        let written = rustix::io::pwrite(scratch, b"x", 0);
        let Ok(stat) = written.and_then(|_| attr::stat(scratch, b"")) else {
            return false;
        };
        let now = attr::nanoseconds(&stat.stx_ctime);
        if last == Some(now) {
            return false;
        }
        last = Some(now);
    }
    true
}

/// Whether the kernel lets this session pass reads and writes to files of the backing directory.
pub(super) fn can_pass_through(session: impl AsFd, scratch: &OwnedFd) -> std::io::Result<()> {
    let id = BackingId::create_raw(&session, scratch)?;
    // SAFETY: the call reads one u32 that lives until it returns.
    unsafe { libc::ioctl(session.as_fd().as_raw_fd(), BACKING_CLOSE, &id) };
    Ok(())
}
