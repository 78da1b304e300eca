//! Other users of the machine, and what is left on its disk.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::Mode;

use crate::as_nobody;
use crate::rig::{Rig, eventually};
use crate::world::World;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that others may read, write or enter.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.mode() & 0o077 != 0 {
            found.push(format!("{:?} {:o}", entry.path(), metadata.mode()));
        }
        if metadata.is_dir() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[test]
fn whatever_the_umask_state_and_logs_are_their_owners_alone() {
    let Some(rig) = Rig::new() else { return };
    let remote = format!("file://{}", rig.remote().display());
    let without_umask = |arguments: &[&str]| {
        let mut command = rig.world.outboxfs();
        command.args(arguments);
        let clear = || {
            rustix::process::umask(Mode::empty());
            Ok(())
        };
        // SAFETY: one system call, which takes a number.
        let output = unsafe { command.pre_exec(clear) }.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    without_umask(&["mount", "pictures", "--remote", &remote]);
    fs::write(rig.pictures().join("a"), "1").unwrap();
    rig.delivered_all();
    let state = rig.world.path("state/outboxfs");
    let kept = format!("{:?}", rig.world.everything());
    for name in ["journal.db", "daemon.log", "sock"] {
        assert!(kept.contains(name), "{name}: {kept}");
    }
    assert_eq!(open_to_others(&state), Vec::<String>::new());
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o077, 0);
    rig.unmount();
    fs::create_dir(rig.world.path("more")).unwrap();
    without_umask(&[
        "push",
        "more",
        "--remote",
        &remote,
        "--log-file",
        "push.log",
    ]);
    assert_eq!(open_to_others(&state), Vec::<String>::new());
    let log = fs::metadata(rig.world.path("push.log")).unwrap();
    assert_eq!(log.mode() & 0o077, 0);
}

#[test]
fn another_process_of_the_same_user_cannot_read_our_secrets() {
    let world = World::new();
    let program = world.path("outboxfs");
    fs::copy(env!("CARGO_BIN_EXE_outboxfs"), &program).unwrap();
    set_mode(world.root.path(), 0o777);
    fs::write(world.path("pictures/file"), "content").unwrap();
    let Some(mut push) = as_nobody(&program) else {
        return;
    };
    // Takes the connection and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!(
        "s3://bucket?region=r&endpoint=http://{}",
        server.local_addr().unwrap()
    );
    push.args(["push", "pictures", "--remote", &remote])
        .current_dir(world.root.path())
        .envs([
            ("AWS_ACCESS_KEY_ID", "ours"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ])
        .env("XDG_STATE_HOME", world.path("state"))
        .env("HOME", world.root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut push = push.spawn().unwrap();
    server.accept().unwrap();
    let environ = format!("/proc/{}/environ", push.id());
    let read = as_nobody("cat").unwrap().arg(&environ).output().unwrap();
    // Where core dumps go by the same rule (PR_SET_DUMPABLE of prctl(2)).
    let owner = fs::metadata(&environ).unwrap().uid();
    push.kill().unwrap();
    push.wait().unwrap();
    assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
    assert_eq!(owner, 0);
}

#[test]
fn who_may_not_list_a_directory_gets_no_names_from_its_upload() {
    let Some(mut rig) = Rig::new() else { return };
    let Some(_) = as_nobody("true") else { return };
    rig.world
        .variables
        .push(("OUTBOXFS_ALLOW_OTHER", "1".into()));
    set_mode(rig.world.root.path(), 0o755);
    for (folder, mode) in [("open", 0o755), ("drop", 0o711), ("closed", 0o700)] {
        let folder = rig.pictures().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("hidden"), "content").unwrap();
        set_mode(&folder.join("hidden"), 0o600);
        set_mode(&folder, mode);
    }
    rig.mount();
    rig.delivered_all();
    let try_it = |script: &str| {
        let mut shell = as_nobody("sh").unwrap();
        let output = shell.args(["-c", script]).current_dir(rig.pictures());
        output.output().unwrap()
    };
    for may in [
        "ls open/.upload/files",
        "cat open/.upload/status open/.upload/pending open/.upload/files/hidden.json",
        "cat .upload/status",
    ] {
        let output = try_it(may);
        assert!(output.status.success(), "{may}: {output:?}");
    }
    for may_not in [
        "cat open/hidden",
        "echo x >open/hidden",
        "echo retry >open/.upload/control",
        "ls drop/.upload/files",
        "ls drop/.upload",
        "cat drop/.upload/pending",
        "cat drop/.upload/failed",
        "cat drop/.upload/status",
        "cat closed/.upload/status",
        "cat closed/.upload/files/hidden.json",
    ] {
        let output = try_it(may_not);
        assert!(!output.status.success(), "{may_not}: {output:?}");
        let all = format!("{output:?}").replace(may_not, "");
        assert!(!all.contains("content"), "{may_not}: {all}");
    }
    // A directory that is opened to others is so here, too.
    set_mode(&rig.pictures().join("drop"), 0o755);
    eventually("names are told", || {
        try_it("ls drop/.upload/files").status.success()
    });
    rig.unmount();
}
