//! A mount in a temporary directory, driven as a person would: by the program's commands.
#![allow(dead_code)] // each test file uses a part of it

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use outboxfs::status::Snapshot;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::World;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A world in which mounting is allowed; `None` where it is not. What a failed test leaves mounted
/// is taken away.
pub struct Rig {
    pub world: World,
}

impl Rig {
    pub fn new() -> Option<Self> {
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .is_err()
        {
            eprintln!("skipped: no right to open /dev/fuse");
            return None;
        }
        let mut world = World::new();
        world.variables = vec![
            ("OUTBOXFS_NO_PASSTHROUGH", "1".to_owned()),
            ("OUTBOXFS_SETTLE", "0".to_owned()),
            ("AWS_ACCESS_KEY_ID", "nobody".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "nothing".to_owned()),
        ];
        Some(Self { world })
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.world.outboxfs().args(arguments).output().unwrap()
    }

    /// Mounts `pictures`, delivering to `remote` beside it.
    #[track_caller]
    pub fn mount(&self) -> String {
        self.mount_with(&[])
    }

    #[track_caller]
    pub fn mount_with(&self, more: &[&str]) -> String {
        let remote = format!("file://{}", self.remote().display());
        self.mount_to(&remote, more)
    }

    #[track_caller]
    pub fn mount_to(&self, remote: &str, more: &[&str]) -> String {
        let output = self.run(&[&["mount", "pictures", "--remote", remote], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Unmounts, which flushes.
    #[track_caller]
    pub fn unmount(&self) {
        let output = self.run(&["unmount", "pictures"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Waits until nothing is left to deliver.
    #[track_caller]
    pub fn delivered_all(&self) {
        eventually("all is delivered", || {
            self.snapshot().is_some_and(|now| now.safe_to_unplug)
        });
    }

    /// A file of `.upload`.
    #[track_caller]
    pub fn upload(&self, name: &str) -> String {
        fs::read_to_string(self.pictures().join(".upload").join(name)).unwrap()
    }

    /// One value from the default row sink beside the remote.
    #[track_caller]
    pub fn row(&self, sql: &str) -> String {
        let rows = rusqlite::Connection::open(self.remote().join("rows.db")).unwrap();
        rows.query_row(sql, [], |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                value => value.as_str().unwrap().to_owned(),
            })
        })
        .unwrap()
    }

    pub fn pictures(&self) -> PathBuf {
        self.world.path("pictures")
    }

    pub fn remote(&self) -> PathBuf {
        self.world.path("remote")
    }

    pub fn delivered(&self, name: &str) -> Vec<u8> {
        fs::read(self.remote().join("original").join(name)).unwrap()
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        let text = fs::read(self.pictures().join(".upload/status.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn daemon(&self) -> Pid {
        let pid = self.snapshot().unwrap().pid.unwrap();
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }

    pub fn kill(&self) {
        let daemon = self.daemon();
        kill_process(daemon, Signal::KILL).unwrap();
        eventually("the daemon is gone", || {
            !Path::new("/proc")
                .join(daemon.as_raw_nonzero().to_string())
                .exists()
        });
    }

    /// The journal of `pictures`.
    pub fn journal(&self) -> PathBuf {
        let state = self.world.path("state/outboxfs");
        let folder = fs::read_dir(state).unwrap().next().unwrap().unwrap();
        folder.path().join("journal.db")
    }

    /// Takes away the mount of a daemon that was killed.
    pub fn take_away(&self) {
        let pictures = self.pictures();
        let output = Command::new("umount").arg("-l").arg(pictures).output();
        assert!(output.unwrap().status.success());
    }

    /// What the daemons of a failed test had to say.
    fn show_logs(&self) {
        let state = self.world.path("state/outboxfs");
        for folder in fs::read_dir(state).into_iter().flatten().flatten() {
            if let Ok(log) = fs::read_to_string(folder.path().join("daemon.log")) {
                eprintln!("daemon.log:\n{log}");
            }
        }
    }

    /// Where anything of ours is mounted in the world.
    fn mounts(&self) -> Vec<PathBuf> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = mountinfo.lines().filter(|line| line.contains(" - fuse"));
        let points = ours.filter_map(|line| line.split(' ').nth(4));
        points
            .map(PathBuf::from)
            .filter(|point| point.starts_with(self.world.path("")))
            .collect()
    }

    pub fn is_mounted(&self) -> bool {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mountinfo.contains(&format!(" {} ", self.pictures().display()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        for point in self.mounts() {
            let status = fs::read_to_string(point.join(".upload/status.json"));
            let status = status
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok());
            let daemon = status.and_then(|now: Snapshot| now.pid);
            if let Some(pid) = daemon.and_then(|pid| Pid::from_raw(pid as i32)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = Command::new("umount").arg("-l").arg(point).output();
        }
    }
}

#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
