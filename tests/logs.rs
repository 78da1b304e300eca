//! What is logged, in which form, and what never is.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::process::{Command, Stdio};

use rig::{Rig, eventually};
use world::World;

/// Where the log of a mount's daemon is.
fn daemon_log(rig: &Rig) -> String {
    fs::read_to_string(rig.journal().with_file_name("daemon.log")).unwrap()
}

#[test]
fn a_delivery_is_one_line_with_its_facts() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::write(rig.pictures().join("file"), "content").unwrap();
    rig.unmount();
    let log = daemon_log(&rig);
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("delivered path="))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    let facts = lines[0].split_once("delivered ").unwrap().1;
    assert!(facts.starts_with("path=file bytes=7 ms="), "{facts}");
    assert!(facts.ends_with(" attempt=1"), "{facts}");
    assert!(lines[0].contains(" INFO "), "{facts}");
}

#[test]
fn json_is_an_object_a_line() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--log-format", "json"]);
    fs::write(rig.pictures().join("two\nlines"), "content").unwrap();
    rig.unmount();
    let log = daemon_log(&rig);
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let delivered = lines
        .iter()
        .find(|line| line["fields"]["message"] == "delivered")
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(delivered["level"], "INFO");
    assert_eq!(delivered["fields"]["path"], "two\\nlines");
    assert_eq!(delivered["fields"]["bytes"], 7);
    assert_eq!(delivered["fields"]["attempt"], 1);
    assert!(delivered["fields"]["ms"].is_u64());

    let refused = rig
        .world
        .refusal(&["mount", "pictures", "--log-format", "xml"]);
    assert!(refused.contains("text, json"), "{refused}");
}

/// Collects what is sent to the journal's socket, in a /run of its own, and runs the program with its
/// standard error leading there, as systemd does.
const JOURNAL: &str = r#"
import os, socket, subprocess, sys
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
journal.settimeout(30)
ours, stream = socket.socketpair()
stat = os.fstat(stream.fileno())
environment = dict(os.environ, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}")

def lines(entry):
    """NAME=value; where a value may have line ends, the entry has its length before it."""
    while entry:
        name, end, rest = entry.partition(b"\n")
        if b"=" in name:
            yield name
        else:
            length = int.from_bytes(rest[:8], "little")
            yield name + b"=" + rest[8:8 + length]
            rest = rest[9 + length:]
        entry = rest

process = subprocess.run(sys.argv[1:], stderr=stream, env=environment)
journal.setblocking(False)
try:
    while True:
        sys.stdout.buffer.write(b"\n".join(lines(journal.recv(65536))) + b"\n--\n")
except BlockingIOError:
    pass
stream.close()
sys.stdout.buffer.write(b"stderr: " + ours.recv(65536))
sys.exit(process.returncode)
"#;

#[test]
fn under_systemd_the_journal_gets_the_fields() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a /run of its own takes root");
        return;
    }
    let world = World::new();
    fs::write(world.path("pictures/file"), "content").unwrap();
    let program = world.outboxfs();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-ec",
        "mount -t tmpfs none /run && exec \"$@\"",
        "sh",
    ]);
    command
        .args(["python3", "-c", JOURNAL])
        .arg(program.get_program());
    command.args(["push", "pictures", "--quiet", "--log-file", "-", "--remote"]);
    command.arg(format!("file://{}", world.path("remote").display()));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.current_dir(world.root.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let entry = text
        .split("\n--\n")
        .find(|entry| entry.contains("MESSAGE=delivered"));
    let entry = entry.unwrap_or_else(|| panic!("{text}"));
    for field in ["PRIORITY=5", "PATH=file", "BYTES=7", "ATTEMPT=1"] {
        assert!(entry.lines().any(|line| line == field), "{field}: {entry}");
    }
    assert!(text.ends_with("stderr: "), "{text}");
}

#[test]
fn no_secret_is_ever_logged() {
    let server = s3::Server::in_process();
    let mut world = World::new();
    let secrets = [
        "s3-secret-of-ours",
        "token-of-ours",
        "password-of-ours",
        "key-of-ours",
    ];
    world.variables = vec![
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.into()),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.into()),
        ("AWS_REGION", "us-east-1".into()),
        ("PGPASSWORD", secrets[2].into()),
        ("SUPABASE_KEY", secrets[3].into()),
        ("RUST_LOG", "trace".into()),
    ];
    fs::write(world.path("pictures/stats.json"), "{}").unwrap();
    let push = |world: &World, name: &str| {
        // Rows that nobody takes: errors are where secrets show.
        let output = world
            .outboxfs()
            .args([
                "push",
                "pictures",
                "--debug",
                "--max-retries",
                "0",
                "--log-format",
                "json",
            ])
            .args(["--log-file", name, "--remote", &server.url("p")])
            .args(["--rows", "postgres://me@127.0.0.1:1/database"])
            .args(["--rows", "postgrest+http://127.0.0.1:1/rest/v1/table"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let log = fs::read_to_string(world.path(name)).unwrap_or_default();
        assert!(log.len() > 10_000, "{output:?}");
        format!("{log}{output:?}")
    };
    let mut all = push(&world, "good");
    // Wrong ones are refused, and are not told either.
    world
        .variables
        .retain(|(name, _)| *name != "AWS_SECRET_ACCESS_KEY");
    world
        .variables
        .push(("AWS_SECRET_ACCESS_KEY", secrets[0].into()));
    world
        .variables
        .push(("AWS_SESSION_TOKEN", secrets[1].into()));
    all += &push(&world, "wrong");
    for secret in secrets.iter().chain([&s3::SECRET_KEY]) {
        let found = all.match_indices(secret).next().map(|(at, _)| {
            let start = all[..at].rfind('\n').map_or(0, |at| at + 1);
            all[start..].lines().next().unwrap_or_default().to_owned()
        });
        assert_eq!(found, None, "{secret}");
    }
}

#[test]
fn in_detail_a_line_says_which_delivery_it_is_about() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .push(("RUST_LOG", "outboxfs=debug".into()));
    rig.mount();
    let content = "x".repeat(10_000);
    fs::write(rig.pictures().join("one"), &content).unwrap();
    rig.delivered_all();
    fs::write(rig.pictures().join("two"), &content).unwrap();
    rig.delivered_all();
    rig.unmount();
    let log = daemon_log(&rig);
    let copied = log
        .lines()
        .find(|line| line.contains("copied at the remote"));
    let copied = copied.unwrap_or_else(|| panic!("{log}"));
    assert!(
        copied.contains("delivery{path=two version=1 attempt=1}"),
        "{copied}"
    );
    eventually("the daemon has ended", || !rig.is_mounted());
}
