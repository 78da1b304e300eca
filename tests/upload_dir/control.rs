//! What is written to `.upload/control`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;

use crate::rig::{Rig, eventually};
use crate::{block, of, read, snapshot, unblock, write};

fn control(rig: &Rig, directory: &str, line: &str) -> std::io::Result<()> {
    fs::write(of(rig, directory, "control"), line)
}

#[test]
fn retry_is_of_what_is_below_or_of_a_path() {
    let Some(rig) = Rig::new() else { return };
    let bad = ["a/1", "a/b/2", "a/b/3", "c/4"];
    bad.iter().for_each(|path| block(&rig, path));
    rig.mount();
    bad.iter().for_each(|path| write(&rig, path, "content"));
    eventually("all have failed", || snapshot(&rig, "").failed_files == 4);
    bad.iter().for_each(|path| unblock(&rig, path));

    control(&rig, "a/b", "retry 3\n").unwrap();
    eventually("one is delivered", || {
        snapshot(&rig, "a/b").delivered_files == 1
    });
    assert_eq!(snapshot(&rig, "").failed_files, 3);
    assert_eq!(rig.delivered("a/b/3"), b"content");
    control(&rig, "", "retry a/b").unwrap();
    eventually("its folder is delivered", || {
        snapshot(&rig, "a/b").safe_to_unplug
    });
    assert_eq!(snapshot(&rig, "").failed_files, 2);
    control(&rig, "a", "retry\n").unwrap();
    eventually("what is around it is too", || {
        snapshot(&rig, "a").safe_to_unplug
    });
    assert_eq!(snapshot(&rig, "c").failed_files, 1);
    control(&rig, "", "retry\n").unwrap();
    rig.delivered_all();
    rig.unmount();
}

#[test]
fn pause_resume_and_flush() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .retain(|(name, _)| *name != "OUTBOXFS_SETTLE");
    rig.world
        .variables
        .push(("OUTBOXFS_SETTLE", "3600000".into()));
    rig.mount();
    write(&rig, "a/file", "content");
    write(&rig, "b/file", "content");
    // It would rest for an hour.
    control(&rig, "a", "flush\n").unwrap();
    eventually("it is delivered now", || snapshot(&rig, "a").safe_to_unplug);
    assert_eq!(snapshot(&rig, "b").queued_files, 1);
    control(&rig, "", "pause\nflush b/file\n").unwrap();
    assert!(snapshot(&rig, "").paused);
    assert_eq!(snapshot(&rig, "b").queued_files, 1);
    control(&rig, "", "resume\n").unwrap();
    eventually("the other is delivered too", || {
        snapshot(&rig, "").safe_to_unplug
    });
    rig.unmount();
}

#[test]
fn what_is_no_command_is_refused_with_a_reason() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir(rig.pictures().join("d")).unwrap();
    for (directory, line, why) in [
        ("", "delete everything\n", "'delete' is no command"),
        ("", "retry ../../etc\n", "is no path below"),
        ("d", "pause\n", "write it to .upload/control in its root"),
        ("", "resume now\n", "takes no path"),
        ("", "\u{1b}[2J\n", "'\\x1b[2J' is no command"),
    ] {
        let path = of(&rig, directory, "control");
        let mut file = fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let error = file.write_all(line.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{line}");
        let mut said = String::new();
        file.read_to_string(&mut said).unwrap();
        assert!(
            said.starts_with("refused: ") && said.contains(why),
            "{line}: {said}"
        );
    }
    assert!(!snapshot(&rig, "").paused);
    assert!(read(&rig, "", "control").contains("retry PATH"));
    rig.unmount();
}

#[test]
fn it_is_its_owners_alone() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .push(("OUTBOXFS_ALLOW_OTHER", "1".into()));
    let open = |path: std::path::PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };
    open(rig.world.root.path().into(), 0o755);
    rig.mount();
    let mode = |name| {
        fs::metadata(of(&rig, "", name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("control"), mode("status"), mode("wait")),
        (0o600, 0o444, 0o444)
    );
    let as_nobody = |script: &str| {
        let output = std::process::Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "sh",
                "-c",
                script,
            ])
            .current_dir(rig.pictures())
            .output();
        output.unwrap()
    };
    assert!(as_nobody("cat .upload/status").status.success());
    let output = as_nobody("echo pause > .upload/control");
    assert!(!output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Permission denied"),
        "{output:?}"
    );
    assert!(!snapshot(&rig, "").paused);
    rig.unmount();
}
