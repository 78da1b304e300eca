//! Asking the kernel for a mount, where we have the right to: of the type `fuse.outboxfs`, so that
//! umount(8) finds what helps it (fuser's own mounts are `fuse` for root), and with the name that
//! /etc/fstab has for it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::session::{Allow, NAME, Options};

const TYPE: &str = "fuse.outboxfs";

/// A mount that goes with this value, unless it is gone already.
pub(super) struct Mounted {
    mountpoint: Option<PathBuf>,
}

impl Mounted {
    /// The mount has ended, or somebody else ends it.
    pub(super) fn forget(mut self) {
        self.mountpoint = None;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(mountpoint) = &self.mountpoint {
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
            // Nothing is to be done about a mount that cannot be taken away.
            let _ = rustix::mount::unmount(mountpoint, flags);
        }
    }
}

/// The device of the mount, and what ends it. `None` without the right to mount: then fusermount3 has
/// it.
pub(super) fn mount(
    mountpoint: &Path,
    options: &Options,
) -> io::Result<Option<(OwnedFd, Option<Mounted>)>> {
    if let Some(device) = &options.device {
        // Who has mounted unmounts.
        return Ok(Some((device.try_clone()?, None)));
    }
    let owner = (rustix::process::getuid(), rustix::process::getgid());
    let device = mount_only(mountpoint, owner, options)?;
    let mountpoint = Some(mountpoint.to_owned());
    Ok(device.map(|device| (device, Some(Mounted { mountpoint }))))
}

/// Mounts for a daemon of `owner` that begins later, and is given the device. Until then whoever looks at
/// the mount point waits. `None` without the right to.
pub fn mount_only(
    mountpoint: &Path,
    (user, group): (Uid, Gid),
    options: &Options,
) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
    let mode = rustix::fs::stat(mountpoint)?.st_mode;
    let mut data = format!(
        "fd={},rootmode={mode:o},user_id={user},group_id={group},default_permissions",
        device.as_raw_fd()
    );
    if options.allow != Allow::Owner {
        data += ",allow_other";
    }
    let data = CString::new(data)?;
    let source = options.source.as_deref().unwrap_or(NAME);
    let restrictions = options.restrictions.iter().map(|one| one.flag());
    let flags = restrictions.fold(MountFlags::empty(), |all, flag| all | flag);
    match rustix::mount::mount(source, mountpoint, TYPE, flags, Some(data.as_c_str())) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is not allowed on the mount, whatever the files' modes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Restriction {
    Nodev,
    Nosuid,
    Noexec,
}

impl Restriction {
    /// As /etc/fstab says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nodev => "nodev",
            Self::Nosuid => "nosuid",
            Self::Noexec => "noexec",
        }
    }

    fn flag(self) -> MountFlags {
        match self {
            Self::Nodev => MountFlags::NODEV,
            Self::Nosuid => MountFlags::NOSUID,
            Self::Noexec => MountFlags::NOEXEC,
        }
    }
}
