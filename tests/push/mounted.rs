//! A directory that somebody has already.

use std::fs;

use crate::rig::{Rig, eventually};
use crate::world::assert_says;

#[test]
fn a_mounted_tree_is_delivered_by_its_daemon() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir(rig.world.path("view")).unwrap();
    let remote = format!("file://{}", rig.remote().display());
    for (mountpoint, below) in [("pictures", false), ("view", true)] {
        let mounted = rig.run(&["mount", "pictures", mountpoint, "--remote", &remote]);
        assert_eq!(mounted.status.code(), Some(0), "{mounted:?}");
        let name = format!("in-{mountpoint}");
        fs::write(rig.world.path(mountpoint).join(&name), "through the mount").unwrap();
        if below {
            fs::create_dir(rig.pictures().join("deep")).unwrap();
            fs::write(rig.pictures().join("deep/below"), "below the mount").unwrap();
            // What is new there may still be being written.
            std::thread::sleep(std::time::Duration::from_millis(2100));
        }
        let output = rig.run(&["push", mountpoint]);
        let unmounted = rig.run(&["unmount", mountpoint]);
        assert_eq!(unmounted.status.code(), Some(0), "{unmounted:?}");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_says(
            &String::from_utf8(output.stdout).unwrap(),
            &["everything is delivered"],
        );
        assert_eq!(rig.delivered(&name), b"through the mount");
    }
    assert_eq!(rig.delivered("deep/below"), b"below the mount");
}

#[test]
fn a_daemon_retries_when_asked() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir_all(rig.remote().join("original")).unwrap();
    fs::write(rig.remote().join("original/a"), "in the way").unwrap();
    fs::create_dir(rig.pictures().join("a")).unwrap();
    fs::write(rig.pictures().join("a/b"), "1").unwrap();
    eventually("it has failed", || {
        rig.snapshot().is_some_and(|now| now.failed_files == 1)
    });
    fs::remove_file(rig.remote().join("original/a")).unwrap();
    let output = rig.run(&["retry", "--all", "pictures"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "1 upload queued again\n"
    );
    rig.delivered_all();
    assert_eq!(rig.delivered("a/b"), b"1");
    rig.unmount();
}
