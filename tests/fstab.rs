//! mount(8), umount(8) and /etc/fstab, in a mount namespace of their own.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use rig::Rig;
use world::assert_says;

/// A world in which mount(8) finds us, and reads the `fstab` of the world.
struct Machine {
    rig: Rig,
}

impl Machine {
    fn new() -> Option<Self> {
        let rig = Rig::new()?;
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root has mount namespaces that mount(8) works in");
            return None;
        }
        let helpers = rig.world.path("sbin");
        fs::create_dir(&helpers).unwrap();
        for name in [
            "mount.outboxfs",
            "mount.fuse.outboxfs",
            "umount.fuse.outboxfs",
        ] {
            symlink(env!("CARGO_BIN_EXE_outboxfs"), helpers.join(name)).unwrap();
        }
        fs::create_dir(rig.world.path("kept")).unwrap();
        Some(Self { rig })
    }

    fn fstab(&self, options: &str) {
        let line = format!(
            "{} {} fuse.outboxfs noauto,remote=file://{},{options} 0 0\n",
            self.rig.world.path("kept").display(),
            self.rig.pictures().display(),
            self.rig.remote().display()
        );
        fs::write(self.rig.world.path("fstab"), line).unwrap();
    }

    /// A script, with `$at` for the mount point. Where it ends its mounts end, whatever happens.
    fn run(&self, script: &str) -> Output {
        let prelude = "mount -t tmpfs none /run && mount --bind sbin /usr/sbin && mount --bind fstab /etc/fstab || exit 99\n\
                       trap 'umount -l \"$at\" 2>/dev/null || true' EXIT\n";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg(format!("{prelude}{script}"))
            .current_dir(self.rig.world.root.path())
            .env("at", self.rig.pictures());
        let ours = self.rig.world.outboxfs();
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.output().unwrap()
    }
}

#[test]
fn a_line_of_fstab_mounts_and_umount_waits_for_the_flush() {
    let Some(machine) = Machine::new() else {
        return;
    };
    // Without flushing nothing would have been sent at the end of umount.
    machine.fstab("flush,nosuid,noexec,settle=60000");
    let output = machine.run(
        "set -e\n\
         mount \"$at\"\n\
         grep \" $at \" /proc/self/mountinfo\n\
         for n in 1 2 3 4 5 6 7 8 9; do echo $n >\"$at/$n\"; done\n\
         umount \"$at\"\n\
         cat remote/original/[1-9] | tr -d '\\n'\n",
    );
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let kept = machine.rig.world.path("kept");
    let source = format!(" - fuse.outboxfs {} ", kept.display());
    assert_says(&said, &[&source, "nosuid", "noexec"]);
    assert!(said.ends_with("123456789"), "{said}");
}

#[test]
fn mount_knows_the_type_and_umount_without_flush_returns_at_once() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.fstab("");
    let away = "s3://b/p?endpoint=http://127.0.0.1:1&region=r";
    let output = machine.run(&format!(
        "set -e\n\
         mount -t fuse.outboxfs -o 'settle=60000,allow_other,remote={away}' kept \"$at\" >/dev/null\n\
         echo x >\"$at/x\"\n\
         grep -o '\"pid\": *[0-9]*' \"$at/.upload/status.json\" | tr -dc 0-9\n\
         umount \"$at\"\n"
    ));
    assert!(output.status.success(), "{output:?}");
    // It drains now; nobody waits for a remote that is away.
    let pid: i32 = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let daemon = rustix::process::Pid::from_raw(pid).unwrap();
    for _ in 0..2 {
        let _ = rustix::process::kill_process(daemon, rustix::process::Signal::TERM);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    rig::eventually("the daemon has ended", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    assert!(machine.rig.world.path("kept/x").exists());
}

#[test]
fn what_is_no_option_is_said() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.fstab("wokers=4");
    let output = machine.run("mount \"$at\"\n");
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["'wokers' is no mount option"]);
}
