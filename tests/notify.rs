//! Commands that are run when a batch has ended or something has failed, and the desktop.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rig::{Rig, eventually};
use serde_json::Value;

/// What was told so far, a line each.
fn told(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn kept_in(file: &Path) -> String {
    format!("cat >>'{}'", file.display())
}

#[test]
fn a_batch_is_told_once_with_what_came_of_it() {
    let Some(rig) = Rig::new() else { return };
    let file = rig.world.path("told");
    rig.mount_with(&["--on-batch", &kept_in(&file)]);
    fs::create_dir(rig.pictures().join("a")).unwrap();
    fs::write(rig.pictures().join("a/1"), "1").unwrap();
    eventually("it is told", || !told(&file).is_empty());
    let first = told(&file).remove(0);
    assert_eq!(first["event"], "batch");
    assert_eq!(first["directory"], rig.pictures().display().to_string());
    assert_eq!(first["batches"][0]["successful_uploads"], 1);
    assert_eq!(first["batches"][0]["failed_uploads"], 0);
    let known: u64 = first["batches"].as_array().unwrap().len() as u64;

    // What happens last is told before the daemon is gone.
    fs::write(rig.pictures().join("2"), "2").unwrap();
    rig.unmount();
    let all: Vec<Value> = told(&file);
    let batches = all
        .iter()
        .flat_map(|told| told["batches"].as_array().unwrap());
    let ids: Vec<u64> = batches.map(|batch| batch["id"].as_u64().unwrap()).collect();
    assert!(ids.len() as u64 > known, "{all:?}");
    assert!(ids.is_sorted_by(|one, next| one < next), "{all:?}");
    assert_eq!(all.last().unwrap()["delivered_files"], 2);
}

#[test]
fn a_failure_is_told_and_the_command_gets_no_credentials() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .push(("PGPASSWORD", "hush-hush".to_owned()));
    let (file, environment) = (rig.world.path("told"), rig.world.path("environment"));
    let command = format!("env >'{}'; {}", environment.display(), kept_in(&file));
    rig.mount_with(&["--on-failure", &command, "--max-retries", "0"]);
    // In the way of the folder that the object would lie in.
    fs::create_dir_all(rig.remote().join("original")).unwrap();
    fs::write(rig.remote().join("original/a"), "").unwrap();
    fs::create_dir(rig.pictures().join("a")).unwrap();
    fs::write(rig.pictures().join("a/1"), "1").unwrap();
    fs::write(rig.pictures().join("2"), "2").unwrap();
    eventually("it is told", || !told(&file).is_empty());
    let first = told(&file).remove(0);
    assert_eq!(first["event"], "failure");
    assert_eq!(first["failures"][0]["path"], "a/1");
    assert_eq!(first["failures"].as_array().unwrap().len(), 1);
    let environment = fs::read_to_string(environment).unwrap();
    assert!(environment.contains("PATH="), "{environment}");
    for secret in ["AWS_", "PGPASSWORD", "hush", "nothing", "OUTBOXFS_"] {
        assert!(!environment.contains(secret), "{secret}: {environment}");
    }
}

#[test]
fn a_command_that_hangs_holds_up_nothing() {
    let Some(rig) = Rig::new() else { return };
    let begun = rig.world.path("begun");
    let command = format!("echo $$ >'{}'; sleep 1000 & wait", begun.display());
    rig.mount_with(&["--on-batch", &command]);
    fs::write(rig.pictures().join("1"), "1").unwrap();
    eventually("it hangs", || {
        fs::read_to_string(&begun).is_ok_and(|pid| pid.ends_with('\n'))
    });
    for n in 2..20 {
        fs::write(rig.pictures().join(n.to_string()), "x").unwrap();
        rig.delivered_all();
    }
    let since = Instant::now();
    rig.unmount();
    assert!(
        since.elapsed() < Duration::from_secs(50),
        "{:?}",
        since.elapsed()
    );
    let pid = fs::read_to_string(begun).unwrap();
    let process = format!("/proc/{}", pid.trim());
    eventually("it was ended", || !Path::new(&process).exists());
}

#[test]
fn a_push_tells_too() {
    let Some(rig) = Rig::new() else { return };
    fs::write(rig.pictures().join("1"), "1").unwrap();
    let file = rig.world.path("told");
    let remote = format!("file://{}", rig.remote().display());
    let output = rig.run(&[
        "push",
        "pictures",
        "--remote",
        &remote,
        "--on-batch",
        &kept_in(&file),
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = told(&file);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["batches"][0]["successful_uploads"], 1);
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there(program: &str, argument: &str) -> bool {
    let output = Command::new(program).arg(argument).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn the_desktop_is_told_of_a_batch() {
    let Some(mut rig) = Rig::new() else { return };
    // Debian's own python has these modules, a virtual environment's has not.
    const PYTHON: &str = "/usr/bin/python3";
    if !is_there("dbus-daemon", "--version")
        || !is_there("notify-send", "--version")
        || !is_there(PYTHON, "-cimport dbus, gi")
    {
        eprintln!("skipped: it takes dbus-daemon, notify-send, python3-dbus and python3-gi");
        return;
    }
    let socket = rig.world.path("bus");
    let address = format!("unix:path={}", socket.display());
    let mut bus = Command::new("dbus-daemon");
    bus.args([
        "--session",
        "--nofork",
        "--nopidfile",
        "--address",
        &address,
    ]);
    let _bus = Running(bus.stderr(Stdio::null()).spawn().unwrap());
    eventually("there is a bus", || socket.exists());
    let heard = rig.world.path("heard");
    let mut desktop = Command::new(PYTHON);
    desktop
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/notify/desktop.py"
        ))
        .arg(&heard)
        .env("DBUS_SESSION_BUS_ADDRESS", &address)
        .stdout(Stdio::piped());
    let mut desktop = Running(desktop.spawn().unwrap());
    let mut ready = String::new();
    let mut says = BufReader::new(desktop.0.stdout.take().unwrap());
    says.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");

    rig.world
        .variables
        .push(("DBUS_SESSION_BUS_ADDRESS", address));
    rig.mount_with(&["--notify"]);
    fs::write(rig.pictures().join("1"), "1").unwrap();
    let heard = || fs::read_to_string(&heard).unwrap_or_default();
    eventually("the desktop is told", || heard().ends_with('\n'));
    let directory = rig.pictures();
    let expected = format!(
        "outboxfs\toutboxfs {}\t1 folder delivered to ",
        directory.display()
    );
    assert!(heard().starts_with(&expected), "{}", heard());
}
