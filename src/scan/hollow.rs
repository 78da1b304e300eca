//! Files that have zeros where they had content: what a power cut leaves of data that the disk had
//! promised to keep.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, SeekFrom as Whence};
use rustix::io::Errno;

/// Read at a time, bytes.
const CHUNK: usize = 256 << 10;

/// Whether a file that was delivered, with BLAKE3 `delivered`, reads as nothing but zeros, or, if its times are
/// those that were delivered (`same_times`), has got a hole. A file that cannot be read is not.
pub(super) fn is_hollow(
    folder: BorrowedFd<'_>,
    name: &[u8],
    same_times: bool,
    delivered: &blake3::Hash,
) -> bool {
    let look = || -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        let suspicious = same_times && has_hole(&file)? || is_zero(&mut file)?;
        // Or it was delivered like this.
        Ok(suspicious && hash(&mut file)? != *delivered)
    };
    look().unwrap_or(false)
}

/// Whether a part of the file reads as zeros because the disk keeps nothing of it.
pub(crate) fn has_hole(file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    match rustix::fs::seek(file, Whence::Hole(0)) {
        Ok(hole) => Ok(hole < size),
        // An empty file, or a filesystem that does not tell.
        Err(Errno::NXIO | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file reads as nothing but zeros.
pub(crate) fn is_zero(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            read if chunk[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn hash(file: &mut File) -> io::Result<blake3::Hash> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}
