//! Extended attributes `user.upload.*`.

use std::fs;
use std::process::Command;

use crate::rig::{Rig, eventually};
use crate::{block, write};

pub fn attribute(rig: &Rig, path: &str, name: &str) -> Option<String> {
    let mut buffer = [0; 4096];
    let name = format!("user.upload.{name}");
    match rustix::fs::getxattr(rig.pictures().join(path), name, &mut buffer) {
        Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{path}: {error}"),
    }
}

fn listed(rig: &Rig, path: &str) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = rustix::fs::listxattr(rig.pictures().join(path), &mut buffer[..]).unwrap();
    let names = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_file_says_of_itself_how_far_it_is() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "d/bad");
    rig.mount();
    let paused = rig.run(&["pause", "pictures"]);
    assert!(paused.status.success());
    fs::create_dir(rig.pictures().join("d")).unwrap();
    crate::tree::make_picture(&rig.pictures().join("d/a.png"), 300, 200);
    write(&rig, "d/bad", "content");
    let of = |name: &str| attribute(&rig, "d/a.png", name);
    assert_eq!(of("state").as_deref(), Some("queued"));
    assert_eq!(
        (of("version").as_deref(), of("attempts").as_deref()),
        (Some("1"), Some("0"))
    );
    assert_eq!(
        (of("url"), of("blake3"), of("delivered_at"), of("error")),
        (None, None, None, None)
    );
    let resumed = rig.run(&["resume", "pictures"]);
    assert!(resumed.status.success());
    eventually("it is delivered", || {
        of("state").as_deref() == Some("delivered")
    });
    let content = fs::read(rig.pictures().join("d/a.png")).unwrap();
    assert_eq!(
        of("blake3"),
        Some(blake3::hash(&content).to_hex().to_string())
    );
    let url = |artifact: &str| format!("file://{}/{artifact}/d/a.png", rig.remote().display());
    assert_eq!(of("url"), Some(url("original")));
    assert_eq!(of("thumbnail_url"), Some(url("thumbnail")));
    let delivered_at: jiff::Timestamp = of("delivered_at").unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now() - delivered_at).get_seconds() < 600);

    eventually("the other fails", || {
        attribute(&rig, "d/bad", "state").as_deref() == Some("failed")
    });
    assert!(attribute(&rig, "d/bad", "error").unwrap().contains("d/bad"));
    assert_ne!(attribute(&rig, "d/bad", "attempts").as_deref(), Some("0"));

    // Written again, it is another version, and the remote does not have it.
    let paused = rig.run(&["pause", "pictures"]);
    assert!(paused.status.success());
    write(&rig, "d/a.png", "no picture any more");
    assert_eq!(of("state").as_deref(), Some("queued"));
    assert_eq!(of("version").as_deref(), Some("2"));
    assert_eq!(of("url"), None, "what the remote has is no version of this");
    // Folders and names that are none of ours have none.
    assert_eq!(attribute(&rig, "d", "state"), None);
    assert_eq!(of("nothing"), None);
}

#[test]
fn they_are_read_only_hidden_and_not_copied() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    write(&rig, "file", "content");
    rig.delivered_all();
    let path = rig.pictures().join("file");
    let flags = rustix::fs::XattrFlags::empty();
    let refused = rustix::fs::setxattr(&path, "user.upload.state", b"mine", flags);
    assert_eq!(refused, Err(rustix::io::Errno::PERM));
    let refused = rustix::fs::removexattr(&path, "user.upload.state");
    assert_eq!(refused, Err(rustix::io::Errno::PERM));
    rustix::fs::setxattr(&path, "user.mine", b"1", flags).unwrap();
    assert_eq!(listed(&rig, "file"), ["user.mine"]);

    let script = "cp -a pictures/file copy && rsync -aX pictures/file synced && cp -a copy pictures/again \
                  && getfattr -d -m - copy synced pictures/again";
    let output = Command::new("bash")
        .args(["-euc", script])
        .current_dir(rig.world.root.path())
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let copied = String::from_utf8(output.stdout).unwrap();
    assert_eq!(copied.matches("user.mine=\"1\"").count(), 3, "{copied}");
    assert!(!copied.contains("user.upload"), "{copied}");
    rig.unmount();

    rig.mount_with(&["--list-xattrs"]);
    rig.delivered_all();
    let mut names = listed(&rig, "file");
    names.sort();
    assert_eq!(
        names,
        [
            "user.mine",
            "user.upload.attempts",
            "user.upload.blake3",
            "user.upload.delivered_at",
            "user.upload.state",
            "user.upload.url",
            "user.upload.version",
        ]
    );
    let output = Command::new("getfattr")
        .args(["-d", "--"])
        .arg(&path)
        .output();
    let shown = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(shown.contains("user.upload.state=\"delivered\""), "{shown}");
    rig.unmount();
}

#[test]
fn emblems_show_it() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "bad");
    rig.mount();
    write(&rig, "a file", "content");
    write(&rig, "bad", "content");
    eventually("both have ended", || {
        let state = |path| attribute(&rig, path, "state");
        state("a file").as_deref() == Some("delivered") && state("bad").as_deref() == Some("failed")
    });
    let script = "import outboxfs, sys\n\
                  for uri in sys.argv[1:]: print(outboxfs.emblem(outboxfs.path_of(uri)))";
    let uri = |path: &str| format!("file://{}/{path}", rig.pictures().display());
    let output = Command::new("python3")
        .args([
            "-B",
            "-c",
            script,
            &uri("a%20file"),
            &uri("bad"),
            &uri("none"),
        ])
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/nautilus"),
        )
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "emblem-default\nemblem-important\nNone\n"
    );
}
