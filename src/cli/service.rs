//! What systemd is told of a mount in the foreground (sd_notify(3)): that it is ready, that it lives,
//! how far it is, and when it ends, that this may take a while. Nothing without systemd.
//!
//! One thread, `service`, which ends with the process.

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;

use super::left;
use super::mounts::{Mounts, is_abandoned};
use crate::config::MountSettings;
use crate::journal::View;
use crate::status::Snapshot;
use crate::status::collect::fill_from_journal;

/// How often the state is told, where the watchdog does not want it more often.
const EVERY: Duration = Duration::from_secs(10);
/// How long delivery may go on after the mount's end until the next word of this.
const MORE: u32 = 60_000_000;

/// What the device of the mount is called in systemd's store of descriptors.
pub const DEVICE: &str = "outboxfs";

/// The device of a mount that was made for us by `outboxfs prepare`.
pub fn device() -> Option<OwnedFd> {
    let mut given = sd_notify::listen_fds_with_names().ok()?;
    let (device, _) = given.find(|(_, name)| name == DEVICE)?;
    // SAFETY: systemd gave the descriptor to this process (LISTEN_PID says so), and nothing else here
    // looks for it.
    Some(unsafe { OwnedFd::from_raw_fd(device) })
}

/// The mount can be used.
pub fn ready(settings: &MountSettings) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // Whoever started us does not want to hear it if this fails.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let every = sd_notify::watchdog_enabled().map_or(EVERY, |limit| (limit / 3).min(EVERY));
    let (mountpoint, journal) = (settings.mountpoint.clone(), settings.journal.clone());
    let spawned = std::thread::Builder::new()
        .name("service".into())
        .spawn(move || {
            loop {
                tell(&mountpoint, &journal);
                std::thread::sleep(every);
            }
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "systemd is not told that the mount lives");
    }
}

/// A mount that does not answer keeps this waiting, and the watchdog hears nothing.
fn tell(mountpoint: &Path, journal: &Path) {
    if is_abandoned(mountpoint) {
        return;
    }
    let status = status(journal).unwrap_or_default();
    let mut words = vec![NotifyState::Watchdog, NotifyState::Status(&status)];
    let mounts = Mounts::read();
    let is_mounted =
        mounts.is_ok_and(|mounts| mounts.at(mountpoint).is_some_and(|at| at.is_ours()));
    if !is_mounted {
        words.extend([NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(MORE)]);
    }
    let _ = sd_notify::notify(&words);
}

fn status(journal: &Path) -> Option<String> {
    let mut snapshot = Snapshot::default();
    fill_from_journal(&View::open(journal).ok()?, &mut snapshot).ok()?;
    Some(left::sentence(&snapshot).unwrap_or_else(|| "everything is delivered".to_owned()))
}
