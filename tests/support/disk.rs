//! Small disks: filesystems in files, mounted by loop devices.
#![allow(dead_code)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::process::Command;

/// A filesystem that lies in a file. Unmounted when dropped, also if it is busy.
pub struct Disk {
    image: tempfile::NamedTempFile,
    at: PathBuf,
}

impl Disk {
    /// A new ext4 of so many MiB at `at`, without a part that is kept for root. `None` where loop
    /// devices are not to be had.
    pub fn ext4(at: &Path, mib: u64) -> Option<Self> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-F"])
            .arg(image.path()));
        let disk = Self {
            image,
            at: at.to_owned(),
        };
        let mounted = disk.mount_command().output().unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            eprintln!("skipped: no loop devices: {why}");
            return None;
        }
        let _ = std::fs::remove_dir(at.join("lost+found"));
        Some(disk)
    }

    fn mount_command(&self) -> Command {
        let mut command = Command::new("mount");
        command
            .args(["-o", "loop"])
            .arg(self.image.path())
            .arg(&self.at);
        command
    }

    pub fn mount(&self) {
        run(&mut self.mount_command());
    }

    pub fn unmount(&self) {
        run(Command::new("umount").arg(&self.at));
    }

    /// As `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
