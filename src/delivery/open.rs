//! Opening files of the backing directory by their path below it, and no further.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::OFlags;

use crate::beneath::{self, Links};
use crate::journal::FileStat;
use crate::path::RelPath;

/// Opens a regular file for reading.
pub fn open_file(backing: impl AsFd, path: &RelPath, links: Links) -> io::Result<File> {
    // A fifo would block without NONBLOCK; the type is checked after opening.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    beneath::open(backing, path, flags, links).map(File::from)
}

/// The journal's stat of an open file, and its change time, nanoseconds: whether anything at all
/// was done to it.
pub fn stat_file(file: impl AsFd) -> io::Result<(FileStat, i64)> {
    let stat = rustix::fs::fstat(file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "not a regular file",
        ));
    }
    let nanoseconds =
        |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Ok((
        FileStat {
            size: stat.st_size as u64,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            inode: stat.st_ino,
            links: stat.st_nlink,
        },
        nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
    ))
}
