//! `cat .upload/wait` and its ends.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{PATIENCE, Rig, eventually};
use crate::{block, of, read, snapshot, unblock, write};

fn cat(rig: &Rig, directory: &str) -> Child {
    Command::new("cat")
        .arg(of(rig, directory, "wait"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until it waits.
fn waits(child: &Child) {
    eventually("it waits for an answer", || {
        // Not in a system call that an event ends: in one that only its answer does.
        let stack = std::fs::read_to_string(format!("/proc/{}/syscall", child.id()));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let state = stat.rsplit(") ").next().unwrap().chars().next();
        stack.is_ok_and(|call| call.starts_with("0 ")) && matches!(state, Some('S' | 'D'))
    });
}

#[track_caller]
fn ends(mut child: Child) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn pause(rig: &Rig, word: &str) {
    let output = rig.run(&[word, "pictures"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn it_ends_when_all_below_is_delivered() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    pause(&rig, "pause");
    write(&rig, "a/b/file", "content");
    write(&rig, "c/file", "content");
    let (a, all) = (cat(&rig, "a"), cat(&rig, ""));
    waits(&a);
    waits(&all);
    // Nothing is below: there is nothing to wait for.
    std::fs::create_dir(rig.pictures().join("empty")).unwrap();
    assert!(ends(cat(&rig, "empty")).status.success());
    pause(&rig, "resume");
    for output in [ends(a), ends(all)] {
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    assert_eq!(rig.delivered("a/b/file"), b"content");
    rig.unmount();
}

#[test]
fn what_was_just_closed_is_waited_for() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world
        .variables
        .retain(|(name, _)| *name != "OUTBOXFS_SETTLE");
    rig.world.variables.push(("OUTBOXFS_SETTLE", "50".into()));
    rig.mount();
    for number in 0..30 {
        let name = format!("d/{number}");
        write(&rig, &name, &format!("content {number}"));
        assert!(ends(cat(&rig, "d")).status.success());
        assert_eq!(rig.delivered(&name), format!("content {number}").as_bytes());
    }
    rig.unmount();
}

#[test]
fn it_fails_and_says_what_failed() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "a/bad");
    rig.mount();
    write(&rig, "a/bad", "content");
    write(&rig, "a/good", "content");
    write(&rig, "c/good", "content");
    let output = ends(cat(&rig, "a"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("Not everything is delivered: 1 file failed.\nbad\toriginal\t"),
        "{said}"
    );
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("Input/output error"), "{error}");
    assert!(ends(cat(&rig, "c")).status.success());

    unblock(&rig, "a/bad");
    std::fs::write(of(&rig, "a", "control"), "retry\n").unwrap();
    assert!(ends(cat(&rig, "a")).status.success());
    assert_eq!(rig.delivered("a/bad"), b"content");
    rig.unmount();
}

#[test]
fn a_signal_ends_it_and_nobody_else_waits() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    pause(&rig, "pause");
    write(&rig, "file", "content");
    // More than there are event loops.
    let waiting: Vec<Child> = (0..20).map(|_| cat(&rig, "")).collect();
    waiting.iter().for_each(waits);
    // Everything else goes on.
    write(&rig, "another", "content");
    assert_eq!(
        std::fs::read(rig.pictures().join("another")).unwrap(),
        b"content"
    );
    assert_eq!(snapshot(&rig, "").queued_files, 2);
    for (number, child) in waiting.into_iter().enumerate() {
        // Not SIGINT: what a script runs in the background ignores it.
        let signal = [Signal::TERM, Signal::USR1, Signal::KILL][number % 3];
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        let output = ends(child);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(signal.as_raw()), "{output:?}");
    }
    // As timeout(1) does.
    let output = Command::new("timeout")
        .args(["0.2", "cat"])
        .arg(of(&rig, "", "wait"))
        .output();
    assert_eq!(output.unwrap().status.code(), Some(124));
    pause(&rig, "resume");
    rig.unmount();
}

#[test]
fn unmounting_does_not_wait_for_who_waits() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    pause(&rig, "pause");
    write(&rig, "file", "content");
    let waiting = cat(&rig, "");
    waits(&waiting);
    let output = rig.run(&["unmount", "pictures"]);
    // Paused, so something is left; but unmounted it is.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!rig.is_mounted(), "{output:?}");
    let output = ends(waiting);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("Operation canceled"), "{error}");

    rig.mount();
    let waiting = cat(&rig, "");
    waits(&waiting);
    let daemon = rig.daemon();
    kill_process(daemon, Signal::TERM).unwrap();
    assert_eq!(ends(waiting).status.code(), Some(1));
    eventually("the daemon has ended", || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", daemon.as_raw_nonzero()));
        !status.is_ok_and(|status| !status.contains(") Z "))
    });
    rig.mount();
    pause(&rig, "resume");
    rig.unmount();
    assert_eq!(rig.delivered("file"), b"content");
}

#[test]
fn lists_and_status_are_served_while_somebody_waits() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    pause(&rig, "pause");
    write(&rig, "d/file", "content");
    let waiting = cat(&rig, "d");
    waits(&waiting);
    assert_eq!(read(&rig, "d", "pending"), "file\t7\tqueued\t0\t\n");
    pause(&rig, "resume");
    assert!(ends(waiting).status.success());
    rig.unmount();
}
