//! Small disks: filesystems in files, mounted by loop devices.
#![allow(dead_code)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::process::Command;

/// A filesystem that lies in a file. Unmounted when dropped, also if it is busy.
pub struct Disk {
    image: tempfile::NamedTempFile,
    at: PathBuf,
    /// What the image lies on, if that is a filesystem of its own.
    ground: Option<Ground>,
}

/// A filesystem in memory. Unmounted when dropped.
struct Ground(tempfile::TempDir);

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

impl Disk {
    /// A new ext4 of so many MiB at `at`, without a part that is kept for root. `None` where loop
    /// devices are not to be had.
    pub fn ext4(at: &Path, mib: u64) -> Option<Self> {
        Self::make(at, mib, tempfile::NamedTempFile::new().unwrap(), None)
    }

    /// As [`ext4`](Self::ext4), in `mib` MiB of memory, which [`break_down`](Self::break_down) takes away.
    pub fn that_can_break(at: &Path, mib: u64) -> Option<Self> {
        let ground = Ground(tempfile::tempdir().unwrap());
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}M"), "tmpfs"])
            .arg(ground.0.path()));
        let image = tempfile::NamedTempFile::new_in(ground.0.path()).unwrap();
        Self::make(at, mib - 1, image, Some(ground))
    }

    fn make(
        at: &Path,
        mib: u64,
        image: tempfile::NamedTempFile,
        ground: Option<Ground>,
    ) -> Option<Self> {
        image.as_file().set_len(mib << 20).unwrap();
        // With a journal of its own, ext4 would allow nothing any more after the first error.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-O", "^has_journal", "-F"])
            .arg(image.path()));
        let disk = Self {
            image,
            at: at.to_owned(),
            ground,
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

    fn ballast(&self) -> PathBuf {
        let ground = self.ground.as_ref().expect("a disk that can break");
        ground.0.path().join("ballast")
    }

    /// From now on nothing can be written to places that were never written to: the kernel says EIO.
    pub fn break_down(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).unwrap();
        while std::io::Write::write_all(&mut ballast, &[0; 4096]).is_ok() {}
    }

    pub fn repair(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
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
