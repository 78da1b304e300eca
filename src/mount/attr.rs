//! What `statx` says, in the kernel's words and in the journal's.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::nodes::{Identity, NodeId};
use crate::journal::{Entry, FileStat};

/// Attributes of `name` in a directory, or of the descriptor itself if `name` is empty. Symbolic
/// links are not followed.
pub(super) fn stat(fd: impl AsFd, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(fd, name, flags, mask)
}

/// The kernel's view. `ino` is told to it as the node's number too.
pub(super) fn file_attr(id: NodeId, stat: &Statx) -> FileAttr {
    FileAttr {
        ino: INodeNo(id),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: system_time(&stat.stx_atime),
        mtime: system_time(&stat.stx_mtime),
        ctime: system_time(&stat.stx_ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: encoded_device(stat.stx_rdev_major, stat.stx_rdev_minor),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// The journal's view of a directory entry.
pub(super) fn entry(stat: &Statx) -> Entry {
    match kind(stat) {
        FileType::RegularFile => Entry::File(file_stat(stat)),
        FileType::Directory => Entry::Folder,
        _ => Entry::Other,
    }
}

/// The journal's view of a regular file.
pub(super) fn file_stat(stat: &Statx) -> FileStat {
    FileStat {
        size: stat.stx_size,
        mtime_ns: nanoseconds(&stat.stx_mtime),
        inode: stat.stx_ino,
        links: u64::from(stat.stx_nlink),
    }
}

pub(super) fn identity(stat: &Statx) -> Identity {
    Identity {
        btime_ns: nanoseconds(&stat.stx_btime),
        linked: stat.stx_nlink > 1 && kind(stat) != FileType::Directory,
    }
}

pub(super) fn kind(stat: &Statx) -> FileType {
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

pub(super) fn is_file(stat: &Statx) -> bool {
    kind(stat) == FileType::RegularFile
}

/// Nanoseconds since the epoch; the years from 1677 to 2262 fit, others are clamped.
pub(super) fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(time.tv_nsec))
}

fn system_time(time: &StatxTimestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let base = if time.tv_sec >= 0 {
        UNIX_EPOCH.checked_add(seconds)
    } else {
        UNIX_EPOCH.checked_sub(seconds)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(u64::from(time.tv_nsec))))
        .unwrap_or(UNIX_EPOCH)
}

/// A device number as the FUSE protocol has it: 12 bits of major, 20 of minor (`new_encode_dev` in
/// Linux' include/linux/kdev_t.h).
fn encoded_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`encoded_device`].
pub(super) fn device(encoded: u32) -> rustix::fs::Dev {
    let major = (encoded & 0xfff00) >> 8;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0xfff00);
    rustix::fs::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_protocol() {
        for (major, minor) in [(1, 3), (8, 17), (259, 70_000)] {
            let dev = device(encoded_device(major, minor));
            assert_eq!(
                (rustix::fs::major(dev), rustix::fs::minor(dev)),
                (major, minor)
            );
        }
    }
}
