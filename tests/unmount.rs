//! Mount, write, unmount: what a person sees of it, whatever happens in between.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, File};

use outboxfs::status::Snapshot;
use rig::{Rig, eventually};
use world::{assert_says, error_line};

/// Nobody listens there: the port is reserved (tcpmux), and tests run on machines without it.
const AWAY: &str = "s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=eu-1";
#[test]
fn mount_returns_when_it_is_ready_and_says_what_goes_where() {
    let Some(rig) = Rig::new() else { return };
    fs::write(rig.pictures().join("old"), "from before").unwrap();
    let said = rig.mount();
    assert_says(
        &said,
        &[
            &format!("{} is mounted over itself", rig.pictures().display()),
            &format!("remote   file://{}", rig.remote().display()),
            &format!("rows     sqlite:{}/rows.db", rig.remote().display()),
            "journal  ",
            "log      ",
        ],
    );
    assert!(rig.is_mounted());
    assert_eq!(
        fs::read(rig.pictures().join("old")).unwrap(),
        b"from before"
    );
}

#[test]
fn unmount_exits_with_0_once_everything_has_arrived() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir(rig.pictures().join("folder")).unwrap();
    for n in 0..50 {
        fs::write(
            rig.pictures().join(format!("folder/{n}")),
            format!("content {n}"),
        )
        .unwrap();
    }
    let output = rig.run(&["unmount", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(&said, &["is unmounted; everything is delivered (50 files)"]);
    assert!(!rig.is_mounted());
    for n in 0..50 {
        assert_eq!(
            rig.delivered(&format!("folder/{n}")),
            format!("content {n}").as_bytes()
        );
    }
}

#[test]
fn a_busy_mount_stays_and_the_one_who_holds_it_is_named() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let file = File::create(rig.pictures().join("open")).unwrap();
    let line = error_line(&rig.run(&["unmount", "pictures"]), 1);
    let me = format!("({})", std::process::id());
    assert_says(&line, &["still in use by", &me, "stays mounted"]);
    assert!(rig.is_mounted());
    drop(file);
    assert_eq!(rig.run(&["unmount", "pictures"]).status.code(), Some(0));
}

#[test]
fn what_does_not_arrive_in_time_is_counted_and_resumed() {
    let Some(rig) = Rig::new() else { return };
    let output = rig.run(&["mount", "pictures", "--remote", AWAY]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_says(
        &String::from_utf8(output.stderr).unwrap(),
        &["outboxfs: warning: "],
    );
    fs::write(rig.pictures().join("a"), "1234").unwrap();
    fs::write(rig.pictures().join("b"), "5678").unwrap();

    let output = rig.run(&["unmount", "pictures", "--timeout", "500ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_says(
        &String::from_utf8(output.stderr).unwrap(),
        &[
            "left: 2 files (8 B) to deliver",
            "the next mount or push of",
            "goes on with it",
            "127.0.0.1:1 cannot be reached",
        ],
    );
    assert!(!rig.is_mounted());

    rig.mount();
    assert_eq!(rig.run(&["unmount", "pictures"]).status.code(), Some(0));
    assert_eq!(rig.delivered("a"), b"1234");
    assert_eq!(rig.delivered("b"), b"5678");
}

#[test]
fn a_killed_daemon_is_seen_and_the_next_mount_goes_on() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::write(rig.pictures().join("a"), "closed before the end").unwrap();
    rig.kill();

    let output = rig.run(&["status", "pictures"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_says(
        &String::from_utf8(output.stderr).unwrap(),
        &["does not answer"],
    );
    assert_says(
        &String::from_utf8(output.stdout).unwrap(),
        // Safe or not: it may have arrived before the end.
        &["afe to unplug", "journal "],
    );

    rig.mount();
    assert_eq!(
        fs::read(rig.pictures().join("a")).unwrap(),
        b"closed before the end"
    );
    assert_eq!(rig.run(&["unmount", "pictures"]).status.code(), Some(0));
    assert_eq!(rig.delivered("a"), b"closed before the end");
}

#[test]
fn what_is_mounted_is_not_mounted_again() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir(rig.pictures().join("folder")).unwrap();
    let line = error_line(&rig.run(&["mount", "pictures"]), 2);
    assert_says(&line, &["is already mounted", "outboxfs status"]);
    let line = error_line(&rig.run(&["mount", "pictures/folder"]), 2);
    assert_says(&line, &["is already mounted as a part of"]);
    let line = error_line(&rig.run(&["unmount", "pictures/folder"]), 2);
    assert_says(&line, &["lies in one", "outboxfs unmount"]);
}

#[test]
fn status_is_found_from_anywhere_in_the_mount_and_without_it() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir(rig.pictures().join("folder")).unwrap();
    fs::write(rig.pictures().join("folder/a"), "1").unwrap();
    eventually("all is delivered", || {
        rig.snapshot().is_some_and(|now| now.safe_to_unplug)
    });

    let inside = rig.pictures().join("folder");
    let here = rig
        .world
        .outboxfs()
        .arg("status")
        .current_dir(&inside)
        .output()
        .unwrap();
    let below = rig.run(&["status", "pictures/folder/a"]);
    for output in [here, below] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.starts_with("Safe to unplug: the only file is delivered.\n"),
            "{text}"
        );
        assert_says(
            &text,
            &[&format!("mounted on {}", rig.pictures().display())],
        );
    }

    let json = rig.run(&["status", "pictures", "--json"]).stdout;
    let mounted: Snapshot = serde_json::from_slice(&json).unwrap();
    assert_eq!((mounted.delivered_files, mounted.pid.is_some()), (1, true));

    assert_eq!(rig.run(&["unmount", "pictures"]).status.code(), Some(0));
    let json = rig.run(&["status", "pictures", "--json"]).stdout;
    let unmounted: Snapshot = serde_json::from_slice(&json).unwrap();
    assert_eq!((unmounted.delivered_files, unmounted.pid), (1, None));
    assert!(unmounted.safe_to_unplug && unmounted.mountpoint.is_none());
}

#[test]
fn a_mount_that_the_remote_refuses_leaves_nothing_behind() {
    let Some(rig) = Rig::new() else { return };
    // A file cannot be a remote, and never will be.
    fs::write(rig.world.path("file"), "").unwrap();
    let before = rig.world.everything();
    let remote = format!("file://{}", rig.world.path("file").display());
    let line = error_line(&rig.run(&["mount", "pictures", "--remote", &remote]), 2);
    assert_says(&line, &["file"]);
    assert!(!rig.is_mounted());
    assert_eq!(rig.world.everything(), before);
}

#[test]
fn umount_fusermount_and_signals_all_end_in_a_drained_queue() {
    let Some(rig) = Rig::new() else { return };
    let at = rig.pictures().to_str().unwrap().to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    };
    type End<'a> = Box<dyn Fn(rustix::process::Pid) + 'a>;
    let signal = |signal| -> End {
        Box::new(move |daemon| rustix::process::kill_process(daemon, signal).unwrap())
    };
    let ways: [(&str, End); 4] = [
        ("umount", Box::new(|_| run("umount", &[&at]))),
        (
            "fusermount3",
            Box::new(|_| run("fusermount3", &["-u", &at])),
        ),
        ("SIGTERM", signal(rustix::process::Signal::TERM)),
        ("SIGINT", signal(rustix::process::Signal::INT)),
    ];
    for (way, end) in ways {
        // Long enough that nothing has been sent when the end comes.
        rig.mount_with(&["--settle", "60000"]);
        for number in 0..20 {
            fs::write(rig.pictures().join(format!("{way}-{number}")), way).unwrap();
        }
        let daemon = rig.daemon();
        end(daemon);
        let process = std::path::Path::new("/proc").join(daemon.as_raw_nonzero().to_string());
        eventually("the daemon has ended", || !process.exists());
        assert!(!rig.is_mounted(), "{way}");
        for number in 0..20 {
            assert_eq!(rig.delivered(&format!("{way}-{number}")), way.as_bytes());
        }
    }
}

/// The mount is gone, and its daemon is still there to be asked.
#[test]
fn while_the_rest_is_delivered_status_tells_how_far_it_is() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--bwlimit", "40K"]);
    fs::write(rig.pictures().join("film"), vec![1; 300_000]).unwrap();
    let mut unmount = rig.world.outboxfs();
    let mut unmount = unmount.args(["unmount", "pictures"]).spawn().unwrap();
    eventually("it is unmounted", || !rig.is_mounted());
    let status = || -> outboxfs::status::Snapshot {
        let output = rig.run(&["status", "pictures", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    eventually("some of it is there", || {
        let now = status();
        now.uploading
            .first()
            .is_some_and(|file| file.sent_bytes > 80_000)
    });
    let now = status();
    assert!(now.pid.is_some() && now.mountpoint.is_none());
    // What is sent counts when it is sent, not when all of it has arrived.
    assert!(
        (10_000.0..80_000.0).contains(&now.bytes_per_second),
        "{now:?}"
    );
    assert!((500..15_000).contains(&now.time_left.unwrap()), "{now:?}");
    let output = rig.run(&["status", "pictures"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_says(&text, &["NOT safe to unplug: 1 file", "delivers the rest"]);
    let line = error_line(&rig.run(&["retry", "pictures"]), 1);
    assert_says(
        &line,
        &["the mount has ended", "try again when that is through"],
    );
    assert!(unmount.wait().unwrap().success());
    assert_eq!(rig.delivered("film").len(), 300_000);
}
