//! `outboxfs prepare`, which systemd calls for a service that may not mount by itself: a service in a
//! sandbox has mounts of its own, which nobody else would see.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{Gid, Uid};
use rustix::mount::UnmountFlags;
use sd_notify::NotifyState;

use super::given::Given;
use super::mounts::Mounts;
use super::service::DEVICE;
use super::{Error, preflight};
use crate::mount::{self, Allow};

/// Mount for a daemon that begins later, and give the device to systemd to keep.
#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// The name of a mount in the configuration file.
    name: std::path::PathBuf,

    #[command(flatten)]
    given: Given,
}

pub fn run(args: PrepareArgs) -> Result<ExitCode, Error> {
    let found = args.given.at(&args.name)?;
    let mountpoint = found.mount.and_then(|mount| mount.mountpoint).ok_or_else(|| {
        Error::Refused(format!(
            "the mount '{}' needs a mountpoint in the configuration file: a service in a sandbox \
             cannot mount a directory over itself",
            args.name.display()
        ))
    })?;
    let failed = |error: &dyn std::fmt::Display| {
        Error::Failed(format!("cannot prepare {}: {error}", mountpoint.display()))
    };
    take_away(&mountpoint)?;
    let target = preflight::target(&found.path, Some(&mountpoint))?;
    let owner = target
        .directory
        .metadata()
        .map_err(|error| failed(&error))?;
    let owner = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    let options = mount::Options {
        allow: Allow::Everyone,
        ..mount::Options::default()
    };
    let device = mount::mount_only(&target.mountpoint, owner, &options);
    let device = device.map_err(|error| failed(&error))?;
    let device = device.ok_or_else(|| failed(&"only root may do that"))?;
    let name = NotifyState::FdName(DEVICE);
    let kept = sd_notify::notify(&[NotifyState::FdStoreRemove, name.clone()]).and_then(|()| {
        sd_notify::notify_with_fds(&[NotifyState::FdStore, name], &[device.as_fd()])
    });
    kept.map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// What an earlier daemon has left. Nobody serves it, so it is not looked at.
fn take_away(mountpoint: &Path) -> Result<(), Error> {
    let mounts = Mounts::read()
        .map_err(|error| Error::Failed(format!("cannot read /proc/self/mountinfo: {error}")))?;
    if mounts.at(mountpoint).is_some_and(|mount| mount.is_ours()) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(mountpoint, flags).map_err(|error| {
            let shown = mountpoint.display();
            Error::Failed(format!("the mount that was left on {shown} stays: {error}"))
        })?;
    }
    Ok(())
}
