//! Looks before `mount` leaps: refusals that change nothing and say what to do.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mounts::{Mounts, is_abandoned, real_path};
use super::{Error, complain};

/// Reserved in every directory of the mount.
const RESERVED: &str = ".upload";

/// What is to be mounted where; canonical paths.
#[derive(Debug)]
pub struct Target {
    pub directory: PathBuf,
    pub mountpoint: PathBuf,
}

/// Checks both directories. A mount that a killed daemon left behind on either is taken away, and
/// said.
pub fn target(directory: &Path, mountpoint: Option<&Path>) -> Result<Target, Error> {
    let directory = folder(directory, "directory")?;
    refuse_mounted(&directory)?;
    if fs::symlink_metadata(directory.join(RESERVED)).is_ok() {
        return Err(Error::Refused(format!(
            "{} holds a '{RESERVED}' of its own, which the mount would hide; rename it first",
            directory.display()
        )));
    }
    let mountpoint = match mountpoint {
        Some(mountpoint) => folder(mountpoint, "mount point")?,
        None => directory.clone(),
    };
    if mountpoint != directory {
        check_mountpoint(&mountpoint, &directory)?;
    }
    Ok(Target {
        directory,
        mountpoint,
    })
}

/// The same where the mount is there already, and waits for its daemon: whoever looked at the mount
/// point would wait too.
pub fn target_of_device(directory: &Path, mountpoint: PathBuf) -> Result<Target, Error> {
    let directory = folder(directory, "directory")?;
    Ok(Target {
        directory,
        mountpoint,
    })
}

/// The canonical path of an existing directory.
fn folder(path: &Path, what: &str) -> Result<PathBuf, Error> {
    let shown = path.display();
    let refused = |error: io::Error| {
        Error::Refused(match error.kind() {
            ErrorKind::NotFound => format!("the {what} {shown} does not exist; make it with mkdir"),
            _ => format!("cannot look at the {what} {shown}: {error}"),
        })
    };
    let real = real_path(path).map_err(refused)?;
    clear_stale(&real)?;
    if !fs::metadata(&real).map_err(refused)?.is_dir() {
        return Err(Error::Refused(format!(
            "the {what} {shown} is not a directory"
        )));
    }
    Ok(real)
}

/// Takes away the mounts of dead daemons at `path`, one over the other if need be.
pub fn clear_stale(path: &Path) -> Result<(), Error> {
    while is_abandoned(path) {
        let mounts = read_mounts()?;
        if !mounts.at(path).is_some_and(|mount| mount.is_ours()) {
            return Err(Error::Refused(format!(
                "something that is not outboxfs is mounted on {} and its daemon has died; unmount \
                 it with 'umount {}'",
                path.display(),
                path.display()
            )));
        }
        unmount_stale(path)?;
        complain(&format!(
            "the daemon of an earlier mount on {} has died; that mount was taken away",
            path.display()
        ));
    }
    Ok(())
}

/// Unmounts lazily: programs that still hold the dead mount only get errors from it.
pub fn unmount_stale(path: &Path) -> Result<(), Error> {
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    if rustix::mount::unmount(path, flags).is_ok() {
        return Ok(());
    }
    // Without the right to unmount, the helper that mounted it has it.
    let output = Command::new("fusermount3")
        .args(["-u", "-z", "--"])
        .arg(path)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::Refused(format!(
            "the daemon of the mount on {} has died and the mount cannot be taken away; do it with \
             'sudo umount -l {}'",
            path.display(),
            path.display()
        ))),
    }
}

fn refuse_mounted(directory: &Path) -> Result<(), Error> {
    let mounts = read_mounts()?;
    let Some(mount) = mounts.containing(directory).filter(|mount| mount.is_ours()) else {
        return Ok(());
    };
    let shown = directory.display();
    Err(Error::Refused(if mount.mountpoint == directory {
        format!("{shown} is already mounted; 'outboxfs status {shown}' shows how far it is")
    } else {
        format!(
            "{shown} is already mounted as a part of {}",
            mount.mountpoint.display()
        )
    }))
}

fn check_mountpoint(mountpoint: &Path, directory: &Path) -> Result<(), Error> {
    let shown = mountpoint.display();
    let mounts = read_mounts()?;
    if let Some(mount) = mounts.at(mountpoint) {
        let fstype = String::from_utf8_lossy(&mount.fstype).into_owned();
        return Err(Error::Refused(format!(
            "{shown} is already mounted ({fstype}); unmount it, or choose another mount point"
        )));
    }
    if mountpoint.starts_with(directory) {
        return Err(Error::Refused(format!(
            "the mount point {shown} lies inside {}, which is to be mounted; choose one outside, or \
             leave it out to mount the directory over itself",
            directory.display()
        )));
    }
    let mut entries = fs::read_dir(mountpoint)
        .map_err(|error| Error::Refused(format!("cannot list the mount point {shown}: {error}")))?;
    if entries.next().is_some() {
        return Err(Error::Refused(format!(
            "the mount point {shown} is not empty and what is in it would be hidden; choose an \
             empty one"
        )));
    }
    Ok(())
}

fn read_mounts() -> Result<Mounts, Error> {
    Mounts::read()
        .map_err(|error| Error::Refused(format!("cannot read /proc/self/mountinfo: {error}")))
}

/// Checks that this machine lets this user mount.
pub fn fuse() -> Result<(), Error> {
    let device = Path::new("/dev/fuse");
    if let Err(error) = OpenOptions::new().read(true).write(true).open(device) {
        return Err(Error::Refused(fuse_refusal(&error)));
    }
    let root = rustix::process::geteuid().is_root();
    if !root && !in_path("fusermount3") {
        return Err(Error::Refused(
            "fusermount3 is missing, without which only root may mount; install it with 'apt \
             install fuse3'"
                .to_owned(),
        ));
    }
    Ok(())
}

fn fuse_refusal(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "there is no /dev/fuse; load the kernel module with 'modprobe fuse', or start the \
             container with --device /dev/fuse"
                .to_owned()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "you have no right to open /dev/fuse; ask for read and write permission on it, or run \
             as root"
                .to_owned()
        }
        _ => format!("cannot open /dev/fuse: {error}"),
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        CString::new(folder.join(program).as_os_str().as_bytes())
            .is_ok_and(|file| rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_miss_the_device_says_what_to_do() {
        let refusal = |code| fuse_refusal(&io::Error::from_raw_os_error(code));
        assert!(refusal(libc::ENOENT).contains("modprobe fuse"));
        assert!(refusal(libc::ENODEV).contains("modprobe fuse"));
        assert!(refusal(libc::EACCES).contains("no right"));
        assert!(refusal(libc::EIO).contains("/dev/fuse"));
    }

    #[test]
    fn a_program_is_found_where_the_shell_finds_it() {
        assert!(in_path("sh"));
        assert!(!in_path("no-such-program-anywhere"));
    }
}
