//! Opening what lies below the backing directory by its path, and nothing else: no path leads out of
//! it, and a path may be longer than the kernel takes at once.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::path::RelPath;

/// The kernel takes paths of up to 4,095 bytes (path_resolution(7)).
const LONGEST: usize = 4095;
/// Attempts while somebody renames something: openat2(2) asks to try again.
const ATTEMPTS: usize = 100;

/// What becomes of symbolic links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Links {
    /// They lead nowhere.
    #[default]
    Refused,
    /// They are followed where they lead to something in the backing directory.
    Followed,
}

impl Links {
    fn resolve(self) -> ResolveFlags {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match self {
            Self::Refused => beneath | ResolveFlags::NO_SYMLINKS,
            Self::Followed => beneath,
        }
    }
}

/// Opens what is at `path` below the backing directory (openat2(2), Linux 5.6).
pub fn open(
    backing: impl AsFd,
    path: &RelPath,
    flags: OFlags,
    links: Links,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let nofollow = match links {
        Links::Refused => OFlags::NOFOLLOW,
        Links::Followed => OFlags::empty(),
    };
    let mut rest = path.as_bytes();
    let mut folder: Option<OwnedFd> = None;
    loop {
        let at = folder.as_ref().map_or(backing.as_fd(), AsFd::as_fd);
        if rest.len() <= LONGEST {
            let path = if rest.is_empty() { b"." } else { rest };
            return Ok(open_piece(at, path, flags | nofollow, links)?);
        }
        let Some(slash) = rest[..=LONGEST].iter().rposition(|byte| *byte == b'/') else {
            return Err(Errno::NAMETOOLONG.into());
        };
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
        folder = Some(open_piece(at, &rest[..slash], way, links)?);
        rest = &rest[slash + 1..];
    }
}

/// A folder, to be listed.
pub fn open_folder(backing: impl AsFd, path: &RelPath, links: Links) -> io::Result<OwnedFd> {
    open(backing, path, OFlags::RDONLY | OFlags::DIRECTORY, links)
}

fn open_piece(at: impl AsFd, path: &[u8], flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    let path = Path::new(OsStr::from_bytes(path));
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(&at, path, flags, Mode::empty(), links.resolve()) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn links_lead_nowhere_or_to_something_in_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let backing = root.path().join("backing");
        std::fs::create_dir_all(backing.join("a")).unwrap();
        std::fs::write(backing.join("file"), "1").unwrap();
        std::fs::write(root.path().join("outside"), "2").unwrap();
        symlink("../file", backing.join("a/inside")).unwrap();
        symlink("../../outside", backing.join("a/out")).unwrap();
        symlink("/etc/passwd", backing.join("a/absolute")).unwrap();
        symlink("loop", backing.join("a/loop")).unwrap();
        let fd = std::fs::File::open(&backing).unwrap();
        let opens = |name: &str, links| open(&fd, &path(name), OFlags::RDONLY, links).is_ok();
        assert!(opens("file", Links::Refused) && opens("file", Links::Followed));
        assert!(opens("a/inside", Links::Followed));
        assert!(!opens("a/inside", Links::Refused));
        for name in ["a/out", "a/absolute", "a/loop"] {
            assert!(!opens(name, Links::Refused) && !opens(name, Links::Followed));
        }
    }

    #[test]
    fn a_path_may_be_longer_than_the_kernel_takes() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = rustix::fs::openat(
            rustix::fs::CWD,
            root.path(),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        let mut at = RelPath::root();
        let backing = folder.try_clone().unwrap();
        for _ in 0..25 {
            let name = "d".repeat(200);
            rustix::fs::mkdirat(&folder, &*name, Mode::from_raw_mode(0o755)).unwrap();
            at = at.join(name.as_bytes());
            folder = open_folder(&backing, &at, Links::Refused).unwrap();
        }
        assert_eq!(at.as_bytes().len(), 5024);
    }
}
