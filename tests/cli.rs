//! What the command line refuses: with one line that says what to do, an exit code, and nothing
//! changed on disk.

#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use world::{World, assert_says, error_line};

#[test]
fn a_directory_that_does_not_exist_is_refused() {
    let line = World::new().refusal(&["mount", "nowhere"]);
    assert_says(&line, &["nowhere", "does not exist", "mkdir"]);
}

#[test]
fn a_file_cannot_be_mounted() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    let line = world.refusal(&["mount", "file"]);
    assert_says(&line, &["file", "is not a directory"]);
}

#[test]
fn a_directory_with_an_upload_of_its_own_is_refused() {
    let world = World::new();
    fs::write(world.path("pictures/.upload"), "mine").unwrap();
    let line = world.refusal(&["mount", "pictures"]);
    assert_says(&line, &["holds a '.upload' of its own", "rename it"]);
}

#[test]
fn a_mount_point_has_to_be_an_empty_directory_of_its_own() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    fs::create_dir_all(world.path("full/inner")).unwrap();
    fs::create_dir(world.path("pictures/inner")).unwrap();
    for (mountpoint, said) in [
        ("nowhere", "does not exist"),
        ("file", "is not a directory"),
        ("full", "is not empty"),
        ("pictures/inner", "lies inside"),
        ("/proc", "is already mounted (proc)"),
    ] {
        let line = world.refusal(&["mount", "pictures", mountpoint]);
        assert_says(&line, &["mount", mountpoint, said]);
    }
}

#[test]
fn a_remote_that_cannot_be_says_what_to_write() {
    let world = World::new();
    for (remote, said) in [
        ("/srv/pictures", "file:///absolute/path"),
        ("s3//bucket", "not a URL"),
        ("gopher://x/y", "unknown remote scheme 'gopher:'"),
        ("s3://", "bucket"),
    ] {
        let line = world.refusal(&["mount", "pictures", "--remote", remote]);
        assert_says(&line, &["--remote", said]);
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    let mut world = World::new();
    let secret = "s3://AKIAEXAMPLE:hush-hush@bucket/prefix";
    let line = world.refusal(&["mount", "pictures", "--remote", secret]);
    assert_says(&line, &["credentials", "AWS_ACCESS_KEY_ID"]);
    assert!(!line.contains("hush"), "{line}");

    let config = world.path("outboxfs.toml");
    fs::write(&config, format!("remote = '{secret}'\n")).unwrap();
    let line = world.refusal(&["mount", "pictures", "--config", "outboxfs.toml"]);
    assert_says(&line, &["outboxfs.toml:1:", "credentials"]);
    assert!(!line.contains("hush"), "{line}");

    world.variables = vec![("OUTBOXFS_REMOTE", secret.to_owned())];
    let line = world.refusal(&["mount", "pictures"]);
    assert_says(&line, &["OUTBOXFS_REMOTE", "credentials"]);
    assert!(!line.contains("hush"), "{line}");
}

#[test]
fn what_would_lie_inside_the_mount_is_refused() {
    let world = World::new();
    let inside = world.path("pictures/x");
    let inside = inside.display();
    for (flag, value) in [
        ("--journal", format!("{inside}.db")),
        ("--journal", "pictures/../pictures/new/j.db".to_owned()),
        ("--remote", format!("file://{inside}")),
        ("--rows", format!("sqlite:{inside}.db")),
    ] {
        let line = world.refusal(&["mount", "pictures", flag, &value]);
        assert_says(&line, &["would lie inside", flag]);
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_with_their_bounds() {
    let mut world = World::new();
    let line = world.refusal(&["mount", "pictures", "--workers", "0"]);
    assert_says(&line, &["--workers", "from 1 to 256"]);
    let line = world.refusal(&["mount", "pictures", "--settle", "soon"]);
    assert_says(&line, &["--settle", "'soon' is not a number"]);
    world.variables = vec![("OUTBOXFS_WORKERS", "257".to_owned())];
    let line = world.refusal(&["mount", "pictures"]);
    assert_says(&line, &["OUTBOXFS_WORKERS", "from 1 to 256"]);
}

#[test]
fn a_mistake_in_the_configuration_file_is_named_with_its_line() {
    let world = World::new();
    let config = world.path("outboxfs.toml");
    for (text, said) in [
        (
            "workers = 4\nwokers = 4\n",
            "outboxfs.toml:2: unknown field `wokers`",
        ),
        (
            "\nworkers = 1000\n",
            "outboxfs.toml:2: workers: 1000 is out of range",
        ),
        (
            "remote = \"ftp://x\"\n",
            "outboxfs.toml:1: remote: unknown remote scheme",
        ),
        ("settle\n", "outboxfs.toml:1: "),
    ] {
        fs::write(&config, text).unwrap();
        let line = world.refusal(&["mount", "pictures", "--config", "outboxfs.toml"]);
        assert_says(&line, &[said]);
    }
    let line = world.refusal(&["mount", "pictures", "--config", "none.toml"]);
    assert_says(&line, &["none.toml", "cannot read"]);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let mut world = World::new();
    let journal = |name: &str| world.path("pictures").join(name).display().to_string();
    let (file, variable, flag) = (
        journal("file.db"),
        journal("variable.db"),
        journal("flag.db"),
    );
    fs::write(world.path("o.toml"), format!("journal = '{file}'\n")).unwrap();

    // Each would lie inside the mount; the refusal tells which of them was used.
    let from_file = ["mount", "pictures", "--config", "o.toml"];
    assert_says(&world.refusal(&from_file), &["file.db"]);
    world.variables = vec![("OUTBOXFS_JOURNAL", variable)];
    assert_says(&world.refusal(&from_file), &["variable.db"]);
    let with_flag = [&from_file[..], &["--journal", &flag]].concat();
    assert_says(&world.refusal(&with_flag), &["flag.db"]);
}

#[test]
fn a_misspelt_command_line_is_one_line_too() {
    let world = World::new();
    let line = world.refusal(&["mount", "pictures", "--worker", "3"]);
    assert_says(&line, &["--worker", "'--workers'", "--help"]);
    assert_says(&world.refusal(&["mount"]), &["<DIR|NAME>"]);
    assert_says(&world.refusal(&["mout", "pictures"]), &["mout", "'mount'"]);
}

#[test]
fn a_machine_without_fuse_says_what_to_load() {
    let world = World::new();
    let before = world.everything();
    // A mount namespace of its own, with an empty /dev.
    let script = r#"mount -t tmpfs none /dev && exec "$0" mount pictures"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", script]);
    unshare
        .arg(env!("CARGO_BIN_EXE_outboxfs"))
        .current_dir(world.root.path());
    world::without_settings(&mut unshare)
        .env("XDG_STATE_HOME", world.path("state"))
        .env("XDG_DATA_HOME", world.path("data"));
    let output = unshare.output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("unshare") {
        eprintln!("skipped: this machine does not let its users have namespaces");
        return;
    }
    let line = error_line(&output, 2);
    assert_says(&line, &["no /dev/fuse", "modprobe fuse"]);
    assert_eq!(world.everything(), before);
}

/// A mount whose daemon is dead. Unmounted when dropped, if it is still there.
struct DeadMount(PathBuf);

impl DeadMount {
    /// `None` without the right to mount.
    fn on(path: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd;
        let device = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount(
            "outboxfs",
            path,
            "fuse.outboxfs",
            rustix::mount::MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .ok()?;
        // The device is closed here: nobody will ever answer.
        Some(Self(path.to_owned()))
    }

    fn is_there(&self) -> bool {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mountinfo.contains(&format!(" {} ", self.0.display()))
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

#[test]
fn a_mount_that_a_killed_daemon_left_is_taken_away_and_said() {
    let world = World::new();
    let pictures = world.path("pictures");
    // Refused further on, so that this test is about what comes before.
    fs::write(pictures.join(".upload"), "").unwrap();
    let Some(mount) = DeadMount::on(&pictures) else {
        eprintln!("skipped: no right to mount");
        return;
    };
    assert!(mount.is_there());
    let output = world
        .outboxfs()
        .args(["mount", "pictures"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_says(
        &error,
        &[
            "has died; that mount was taken away",
            "'.upload' of its own",
        ],
    );
    assert!(!mount.is_there());
}

#[test]
fn unmounting_what_a_killed_daemon_left_says_that_something_may_be_left() {
    let world = World::new();
    let Some(mount) = DeadMount::on(&world.path("pictures")) else {
        eprintln!("skipped: no right to mount");
        return;
    };
    let output = world
        .outboxfs()
        .args(["unmount", "pictures"])
        .output()
        .unwrap();
    let line = error_line(&output, 1);
    assert_says(
        &line,
        &[
            "has died",
            "the next 'outboxfs mount' delivers what is left",
        ],
    );
    assert!(!mount.is_there());
}

#[test]
fn only_outboxfs_mounts_are_unmounted() {
    let world = World::new();
    let line = world.refusal(&["unmount", "pictures"]);
    assert_says(
        &line,
        &["is not an outboxfs mount", "nothing is mounted there"],
    );
    let line = world.refusal(&["unmount", "/proc"]);
    assert_says(&line, &["is not an outboxfs mount", "(proc)"]);
    let line = world.refusal(&["unmount", "nowhere"]);
    assert_says(&line, &["nowhere", "No such file"]);
    let line = world.refusal(&["unmount", "pictures", "--timeout", "long"]);
    assert_says(&line, &["--timeout"]);
}

#[test]
fn status_of_what_was_never_mounted_says_so() {
    let world = World::new();
    let output = world
        .outboxfs()
        .args(["status", "pictures"])
        .output()
        .unwrap();
    assert_says(
        &error_line(&output, 1),
        &["pictures is not mounted and never was"],
    );
}

#[test]
fn the_version_tells_what_the_build_reads_and_writes() {
    let output = World::new()
        .outboxfs()
        .args(["--version", "--verbose"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_says(
        &text,
        &[
            env!("CARGO_PKG_VERSION"),
            "JPEG PNG",
            "thumbnails  jpeg png",
        ],
    );
    assert_eq!(text.contains("HEIC"), cfg!(feature = "heif"));
    assert_eq!(text.contains(" webp"), cfg!(feature = "webp"));
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let world = World::new();
    for command in [
        &["--help"][..],
        &["mount", "--help"],
        &["unmount", "-h"],
        &["status", "-h"],
    ] {
        let output = world.outboxfs().args(command).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert_says(&help, &["Examples:\n  ", "Exit codes:\n  0"]);
    }
    let output = world.outboxfs().arg("--version").output().unwrap();
    let version = concat!("outboxfs ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
