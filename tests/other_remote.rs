//! A directory that is delivered to another remote than before.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;

use rig::Rig;
use tree::contents;
use world::assert_says;

impl Rig {
    fn url(&self, name: &str) -> String {
        format!("file://{}", self.world.path(name).display())
    }

    fn push_to(&self, name: &str, more: &[&str]) -> (String, String) {
        let url = self.url(name);
        let output = self.run(&[&["push", "pictures", "--remote", &url], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

#[test]
fn everything_is_due_for_another_remote() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir_all(rig.pictures().join("rig")).unwrap();
    fs::write(
        rig.pictures().join("rig/stats.json"),
        "{\"status\":\"pass\"}",
    )
    .unwrap();
    fs::write(rig.pictures().join("a"), "one").unwrap();
    rig.push_to("remote", &[]);
    // The same place, said otherwise.
    let url = format!("{}/", rig.url("remote"));
    let output = rig.run(&["push", "pictures", "--remote", &url, "--dry-run"]);
    assert_says(
        &String::from_utf8(output.stdout).unwrap(),
        &["would send 0 files"],
    );
    let (said, _) = rig.push_to("second", &["--dry-run"]);
    assert_says(&said, &["would send 2 files"]);

    let url = rig.url("second");
    let output = rig.run(&["mount", "pictures", "--remote", &url]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_says(
        &String::from_utf8(output.stderr).unwrap(),
        &[&rig.url("remote"), "everything is due again", "--journal"],
    );
    rig.delivered_all();
    let local = contents(&rig.pictures());
    let second = rig.world.path("second");
    assert_eq!(contents(&second.join("original")), local);
    let rows = rusqlite::Connection::open(second.join("rows.db")).unwrap();
    let count: i64 = rows
        .query_row("SELECT count(*) FROM device_test", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
    rig.unmount();

    // It is the journal's remote now; the first one has what it had.
    assert_eq!(contents(&rig.remote().join("original")), local);
    let (_, said) = rig.push_to("second", &[]);
    assert!(!said.contains("everything is due"), "{said}");
    let (_, said) = rig.push_to("third", &[]);
    assert!(said.contains("everything is due"), "{said}");
    assert_eq!(contents(&rig.world.path("third/original")), local);
}

#[test]
fn a_first_mount_to_another_remote_may_be_refused() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::write(rig.pictures().join("a"), "one").unwrap();
    rig.delivered_all();
    rig.unmount();
    fs::write(rig.world.path("file"), "no folder").unwrap();
    let url = rig.url("file");
    let output = rig.run(&["mount", "pictures", "--remote", &url]);
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    // The journal still tells of the first one: nothing is left to do.
    let (said, _) = rig.push_to("remote", &[]);
    assert_says(&said, &["nothing to upload"]);
}

#[test]
fn a_remote_that_is_forgotten_is_asked_for() {
    let Some(rig) = Rig::new() else { return };
    fs::write(rig.pictures().join("a"), "one").unwrap();
    rig.push_to("second", &[]);
    for command in ["mount", "push", "verify", "restore"] {
        let output = rig.run(&[command, "pictures"]);
        assert_ne!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_says(&said, &["was delivered to", &rig.url("second"), "--remote"]);
    }
    let output = rig.run(&["verify", "pictures", "--remote", &rig.url("second")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
