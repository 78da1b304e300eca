//! What is mounted where, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// How our mounts are recognised.
const FSTYPE: &[u8] = b"fuse.outboxfs";

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub mountpoint: PathBuf,
    pub fstype: Vec<u8>,
}

impl Mount {
    pub fn is_ours(&self) -> bool {
        self.fstype == FSTYPE
    }
}

/// The mounts of this process's namespace, in the order in which they were made.
pub struct Mounts(Vec<Mount>);

impl Mounts {
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &[u8]) -> Self {
        Self(
            mountinfo
                .split(|b| *b == b'\n')
                .filter_map(parse_line)
                .collect(),
        )
    }

    /// What one sees at `path`, if it is a mount point: the last mounted of those there.
    pub fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rfind(|mount| mount.mountpoint == path)
    }

    /// The mount in which `path` lies: of the mount points above it or at it, the deepest.
    pub fn containing(&self, path: &Path) -> Option<&Mount> {
        self.0
            .iter()
            .filter(|mount| path.starts_with(&mount.mountpoint))
            .max_by_key(|mount| mount.mountpoint.components().count())
    }

    /// All outboxfs mounts that can be seen.
    pub fn ours(&self) -> impl Iterator<Item = &Mount> {
        self.0
            .iter()
            .filter(|mount| mount.is_ours() && self.at(&mount.mountpoint) == Some(mount))
    }
}

/// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/root rw`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let mountpoint = fields.nth(4)?;
    // Any number of optional fields, then a dash.
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = after_dash.next()?;
    Some(Mount {
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        fstype: fstype.to_vec(),
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, escaped) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// The absolute path with its links resolved, also where the last component is a mount point whose
/// daemon has died and that cannot be looked at any more.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    absolute.canonicalize().or_else(|error| {
        match (is_dead(&error), absolute.parent(), absolute.file_name()) {
            (true, Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
            _ => Err(error),
        }
    })
}

/// Whether the error says that the daemon behind a mount point has died.
pub fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// Whether the daemon of the mount at `path` has died. Asked with statfs(2), which the kernel never
/// answers from its cache, as it does stat(2).
pub fn is_abandoned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_err_and(|error| is_dead(&error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:26 / /srv/my\\040pictures\\134x rw,nosuid shared:7 master:1 - fuse.outboxfs outboxfs rw
31 30 0:27 / /srv/my\\040pictures\\134x/card rw - vfat /dev/sdb1 rw
32 22 0:28 / /mnt rw - fuse.outboxfs outboxfs rw
33 22 0:29 / /mnt rw - tmpfs tmpfs rw
34 22 0:30 / /root/mounted rw - fuse.outboxfs rig rw,user_id=0,group_id=0
35 22 0:31 / /root/other rw - fuse outboxfs rw,user_id=0,group_id=0
";

    #[test]
    fn names_with_spaces_and_backslashes_are_read() {
        let mounts = Mounts::parse(SAMPLE);
        let mount = mounts.at(Path::new("/srv/my pictures\\x")).unwrap();
        assert!(mount.is_ours());
    }

    #[test]
    fn the_last_mount_hides_those_below_it() {
        let mounts = Mounts::parse(SAMPLE);
        assert_eq!(mounts.at(Path::new("/mnt")).unwrap().fstype, b"tmpfs");
        assert_eq!(
            mounts.containing(Path::new("/mnt/a")).unwrap().fstype,
            b"tmpfs"
        );
        assert_eq!(mounts.ours().count(), 2);
    }

    #[test]
    fn a_mount_is_known_by_its_type_whatever_its_source() {
        let mounts = Mounts::parse(SAMPLE);
        assert!(mounts.at(Path::new("/root/mounted")).unwrap().is_ours());
        assert!(!mounts.at(Path::new("/root/other")).unwrap().is_ours());
    }

    #[test]
    fn a_path_belongs_to_the_deepest_mount_above_it() {
        let mounts = Mounts::parse(SAMPLE);
        let fstype = |path: &str| mounts.containing(Path::new(path)).unwrap().fstype.clone();
        assert_eq!(fstype("/srv/my pictures\\x/a/b"), FSTYPE);
        assert_eq!(fstype("/srv/my pictures\\x/card/DCIM"), b"vfat");
        assert_eq!(fstype("/srv/my pictures\\xy"), b"ext4");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(
            Mounts::read()
                .unwrap()
                .containing(Path::new("/tmp"))
                .is_some()
        );
    }
}
