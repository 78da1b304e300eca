//! What systemd hears of a mount, and a mount that was made before its daemon. systemd's part is played by
//! a socket, in its own protocol (sd_notify(3)); scripts/try-systemd has the real one.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::Duration;

use rig::{PATIENCE, Rig, eventually};
use rustix::process::{Pid, Signal, kill_process};
use sendfd::RecvWithFd;

struct Service {
    rig: Rig,
    socket: UnixDatagram,
}

impl Service {
    fn new() -> Option<Self> {
        let mut rig = Rig::new()?;
        let path = rig.world.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = format!(
            "[mounts.rig]\ndirectory = '{}'\nmountpoint = '{}'\nremote = 'file://{}'\n",
            rig.world.path("kept").display(),
            rig.pictures().display(),
            rig.remote().display(),
        );
        fs::create_dir(rig.world.path("kept")).unwrap();
        fs::write(rig.world.path("o.toml"), config).unwrap();
        rig.world.variables.extend([
            ("NOTIFY_SOCKET", path.display().to_string()),
            (
                "OUTBOXFS_CONFIG",
                rig.world.path("o.toml").display().to_string(),
            ),
        ]);
        Some(Self { rig, socket })
    }

    /// Waits for a message with this line.
    fn hears(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer);
            let length = length.unwrap_or_else(|error| panic!("{line} is not heard: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|one| one.starts_with(line)) {
                return text.into_owned();
            }
        }
    }

    fn start(&self, mut command: Command) -> Running {
        Running(command.spawn().unwrap())
    }
}

/// Ended when dropped.
struct Running(Child);

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn ends_well(mut self) {
        let mut status = None;
        eventually("the daemon has ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn systemd_hears_of_readiness_life_progress_and_the_end() {
    let Some(service) = Service::new() else {
        return;
    };
    let mut command = service.rig.world.outboxfs();
    command
        .args(["mount", "--foreground", "rig"])
        .env("WATCHDOG_USEC", "600000");
    let daemon = service.start(command);
    service.hears("READY=1");
    assert!(service.rig.is_mounted());
    for _ in 0..3 {
        service.hears("WATCHDOG=1");
    }
    fs::write(service.rig.pictures().join("a"), "1").unwrap();
    service.rig.delivered_all();
    service.hears("STATUS=everything is delivered");
    // The remote is away, and something is open: the end takes a while.
    let open = fs::File::create(service.rig.pictures().join("open")).unwrap();
    kill_process(daemon.pid(), Signal::TERM).unwrap();
    let said = service.hears("STOPPING=1");
    assert!(said.contains("EXTEND_TIMEOUT_USEC="), "{said}");
    drop(open);
    daemon.ends_well();
    assert!(!service.rig.is_mounted());
}

#[test]
fn a_daemon_that_is_stopped_is_not_heard_of() {
    let Some(service) = Service::new() else {
        return;
    };
    let mut command = service.rig.world.outboxfs();
    command
        .args(["mount", "--foreground", "rig"])
        .env("WATCHDOG_USEC", "600000");
    let daemon = service.start(command);
    service.hears("WATCHDOG=1");
    kill_process(daemon.pid(), Signal::STOP).unwrap();
    service.socket.set_nonblocking(true).unwrap();
    eventually("nothing is left to hear", || {
        service.socket.recv(&mut [0; 4096]).is_err()
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(service.socket.recv(&mut [0; 4096]).is_err());
    kill_process(daemon.pid(), Signal::CONT).unwrap();
    service.socket.set_nonblocking(false).unwrap();
    service.hears("WATCHDOG=1");
    kill_process(daemon.pid(), Signal::TERM).unwrap();
    daemon.ends_well();
}

#[test]
fn a_mount_made_before_its_daemon_is_taken_over() {
    let Some(service) = Service::new() else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root prepares mounts");
        return;
    }
    let mut kept = Vec::new();
    for round in ["first", "second"] {
        // If it looked at what the dead daemon has left, it would wait for ever.
        let mut prepare = Command::new("timeout");
        prepare.args(["--signal=KILL", "60", env!("CARGO_BIN_EXE_outboxfs")]);
        service.as_a_service(prepare.args(["prepare", "rig"]));
        let prepared = prepare.output().unwrap();
        assert!(prepared.status.success(), "{prepared:?}");
        assert!(service.rig.is_mounted());
        let device = service.device();

        // As systemd does it: descriptor 3, and whose it is in the environment.
        let script = format!(
            "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=outboxfs\n\
             exec 3<&{}\nexec {} mount --foreground rig",
            device.as_raw_fd(),
            env!("CARGO_BIN_EXE_outboxfs")
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        service.as_a_service(&mut command);
        let daemon = service.start(command);
        service.hears("READY=1");
        // systemd keeps it: the dead daemon's mount does not know that nobody answers any more.
        kept.push(device);
        fs::write(service.rig.pictures().join(round), round).unwrap();
        service.rig.delivered_all();
        assert_eq!(service.rig.delivered(round), round.as_bytes());
        if round == "first" {
            // It dies; the next one prepares anew, without waiting for anybody.
            drop(daemon);
            continue;
        }
        service.rig.unmount();
        daemon.ends_well();
    }
}

impl Service {
    /// With the environment of the program in this world.
    fn as_a_service(&self, command: &mut Command) {
        for (name, value) in self.rig.world.outboxfs().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.rig.world.root.path());
    }

    /// What `prepare` has given to keep.
    fn device(&self) -> OwnedFd {
        loop {
            let (mut text, mut given) = ([0; 4096], [0]);
            let (length, count) = self.socket.recv_with_fd(&mut text, &mut given).unwrap();
            let text = String::from_utf8_lossy(&text[..length]);
            if count == 1 {
                assert!(
                    text.contains("FDSTORE=1") && text.contains("FDNAME=outboxfs"),
                    "{text}"
                );
                // SAFETY: the message has just given it to us.
                let device = unsafe { OwnedFd::from_raw_fd(given[0]) };
                // For the daemon to inherit.
                rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap();
                return device;
            }
        }
    }
}
