//! Mounts by somebody who is not root, with few descriptors, and of more files than either.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use rig::{Rig, eventually};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

const NOBODY: u32 = 65_534;

/// A rig that belongs to nobody(5), in a mount namespace where everybody may open /dev/fuse, as on
/// most machines.
struct Theirs {
    rig: Rig,
    /// Keeps the namespace.
    keeper: Child,
}

impl Theirs {
    /// `None` where we may not become somebody else, or fusermount3(1) is missing.
    fn new() -> Option<Self> {
        let helper = Command::new("fusermount3").arg("--version").output();
        if !geteuid().is_root() || helper.is_err() {
            eprintln!("skipped: it takes root and fusermount3");
            return None;
        }
        let rig = Rig::new()?;
        let root = rig.world.root.path();
        fs::copy(env!("CARGO_BIN_EXE_outboxfs"), root.join("outboxfs")).unwrap();
        for path in [root.to_owned(), root.join("pictures")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg("mknod -m 666 fuse c 10 229; mount --bind fuse /dev/fuse; echo; exec cat")
            .current_dir(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = keeper.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
        let theirs = Self { rig, keeper };
        if ready == 0 {
            eprintln!("skipped: no mount namespaces here");
            return None;
        }
        Some(theirs)
    }

    /// Runs a script in the namespace, as that user.
    fn sh_as(&self, user: u32, script: &str) -> Output {
        let root = self.rig.world.root.path().display();
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        command.args(["setpriv", "--clear-groups", &format!("--reuid={user}")]);
        command.args([&format!("--regid={user}"), "bash", "-euo", "pipefail", "-c"]);
        command.arg(format!("cd {root}; {script}"));
        for (name, value) in self.rig.world.outboxfs().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("OUTBOXFS_NO_PASSTHROUGH");
        command.output().unwrap()
    }

    fn sh(&self, script: &str) -> Output {
        self.sh_as(NOBODY, script)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // A daemon ends without its mount.
        self.sh_as(0, "! mountpoint -q pictures || umount -l pictures");
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn who_is_not_root_mounts_his_own_directory_for_himself() {
    let Some(theirs) = Theirs::new() else { return };
    said(&theirs.sh("./outboxfs mount pictures --remote file://$PWD/remote"));
    said(
        &theirs
            .sh("umask 027; echo hello >pictures/a; mkdir pictures/d; cp pictures/a pictures/d/b"),
    );
    let seen = said(&theirs.sh("cat pictures/d/b pictures/.upload/status"));
    assert!(seen.starts_with("hello\n"), "{seen}");
    let log = said(&theirs.sh("cat state/outboxfs/*/daemon.log"));
    assert_eq!(log.matches("go through outboxfs").count(), 1, "{log}");
    // Not even root, unless he was let in.
    let refused = theirs.sh_as(0, "ls pictures");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"));
    said(&theirs.sh("./outboxfs unmount pictures"));

    assert_eq!(theirs.rig.delivered("d/b"), b"hello\n");
    let file = fs::metadata(theirs.rig.pictures().join("a")).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o777), (NOBODY, 0o640));
}

#[test]
fn who_is_not_root_gets_no_more_than_he_may() {
    let Some(theirs) = Theirs::new() else { return };
    let pictures = theirs.rig.pictures();
    let mut secret = fs::File::options();
    let secret = secret.write(true).create_new(true).mode(0o600);
    let mut secret = secret.open(pictures.join("secret")).unwrap();
    secret.write_all(b"of root").unwrap();
    said(&theirs.sh("./outboxfs mount pictures --remote file://$PWD/remote"));
    for attempt in [
        "cat pictures/secret",
        "echo mine >>pictures/secret",
        "chmod 666 pictures/secret",
        "chown 0 pictures",
        "mknod pictures/device c 1 5",
    ] {
        let output = theirs.sh(attempt);
        assert!(!output.status.success(), "{attempt}: {output:?}");
    }
    // What he may not read cannot be delivered, and is not passed over in silence.
    eventually("the file is given up", || {
        let status = theirs.sh("cat pictures/.upload/failed");
        String::from_utf8_lossy(&status.stdout).contains("secret\t")
    });
    let output = theirs.sh("./outboxfs unmount pictures");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::read(pictures.join("secret")).unwrap(), b"of root");
}

#[test]
fn few_descriptors_are_made_more_and_none_is_kept_for_what_is_closed() {
    let Some(rig) = Rig::new() else { return };
    let mut command = rig.world.outboxfs();
    let away = "s3://bucket?endpoint=http://127.0.0.1:1&region=away";
    command.args(["mount", "pictures", "--remote", away]);
    let few = || {
        let limit = Rlimit {
            current: Some(64),
            maximum: Some(4096),
        };
        Ok(setrlimit(Resource::Nofile, limit)?)
    };
    // SAFETY: one system call, which takes numbers.
    let output = unsafe { command.pre_exec(few) }.output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let open: Vec<_> = (0..300)
        .map(|number| fs::File::create(rig.pictures().join(number.to_string())).unwrap())
        .collect();
    let descriptors = || {
        let daemon = rig.daemon().as_raw_nonzero();
        fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count()
    };
    assert!(descriptors() > 300);
    drop(open);
    for number in 0..3_000 {
        fs::write(rig.pictures().join(format!("n{number}")), "x").unwrap();
    }
    // The kernel remembers all of them.
    for entry in fs::read_dir(rig.pictures()).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
    eventually("what was closed is let go", || descriptors() < 100);
}
