//! The mount behaves as the disk below it, and existing programs do not notice it.

#[path = "support/mounted.rs"]
mod mounted;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use mounted::{Mode, Mounted, in_every_mode};
use rustix::fs::{Mode as Permissions, OFlags, SeekFrom, openat};

#[test]
fn the_status_directory_is_there_and_not_listed() {
    in_every_mode(|m| {
        assert!(names(&m.root).is_empty());
        let status = m.path(".upload/status");
        assert_eq!(fs::read(&status).unwrap(), b"all is well\n");
        let all = HashSet::from(["status".into(), "files".into()]);
        assert_eq!(names(&m.path(".upload")), all);
        let refused = |result: std::io::Result<()>| result.unwrap_err().kind();
        let denied = ErrorKind::PermissionDenied;
        assert_eq!(refused(fs::write(&status, b"x")), denied);
        assert_eq!(refused(fs::write(m.path(".upload/new"), b"x")), denied);
        assert_eq!(refused(fs::remove_file(&status)), denied);
        assert_eq!(refused(fs::remove_dir(m.path(".upload"))), denied);
        assert_eq!(
            refused(fs::rename(m.path(".upload"), m.path("other"))),
            denied
        );
        fs::create_dir(m.path("d")).unwrap();
        assert!(names(&m.path("d")).is_empty());
        assert_eq!(names(&m.path("d/.upload")), all);
        assert_eq!(
            refused(fs::create_dir(m.path("d/.upload"))),
            ErrorKind::AlreadyExists
        );
        assert_eq!(refused(fs::create_dir(m.path(".upload/.upload"))), denied);
        // It goes where its directory goes, and with it.
        fs::rename(m.path("d"), m.path("e")).unwrap();
        assert_eq!(
            fs::read(m.path("e/.upload/status")).unwrap(),
            b"all is well\n"
        );
        fs::remove_dir(m.path("e")).unwrap();
        fs::create_dir(m.path("d")).unwrap();
        assert!(
            fs::read_dir(&m.below)
                .unwrap()
                .all(|e| e.unwrap().file_name() == "d")
        );
    });
}

fn names(folder: &Path) -> HashSet<std::ffi::OsString> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_listing_stays_complete_while_entries_come_and_go() {
    in_every_mode(|m| {
        let folder = m.path("d");
        fs::create_dir(&folder).unwrap();
        for i in 0..5000 {
            File::create(folder.join(format!("{i}"))).unwrap();
        }
        let mut seen = HashSet::new();
        for (n, entry) in fs::read_dir(&folder).unwrap().enumerate() {
            let name = entry.unwrap().file_name();
            if n % 5 == 0 {
                File::create(folder.join(format!("new{n}"))).unwrap();
                fs::remove_file(folder.join(&name)).unwrap();
            }
            assert!(seen.insert(name), "an entry was listed twice");
        }
        for i in 0..5000 {
            assert!(
                seen.contains(OsStr::new(&format!("{i}"))),
                "{i} was left out"
            );
        }
    });
}

#[test]
fn names_are_bytes_and_paths_have_no_end() {
    in_every_mode(|m| {
        for name in [&[b'n'; 255][..], b"\xff\xfe\n", b" "] {
            let path = m.root.join(OsStr::from_bytes(name));
            fs::write(&path, name).unwrap();
            assert_eq!(fs::read(&path).unwrap(), name);
        }
        let name = "d".repeat(200);
        let mut at: std::os::fd::OwnedFd = File::open(&m.root).unwrap().into();
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, name.as_str(), Permissions::RWXU).unwrap();
            at = openat(&at, name.as_str(), OFlags::DIRECTORY, Permissions::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::RDWR;
        let file = File::from(openat(&at, "f", flags, Permissions::RWXU).unwrap());
        file.write_all_at(b"deep", 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4);
    });
}

#[test]
fn holes_stay_holes() {
    in_every_mode(|m| {
        let file = File::create_new(m.path("a")).unwrap();
        let far = 5 << 30;
        file.write_all_at(b"x", far).unwrap();
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(0)), Ok(far));
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)), Ok(0));
        assert!(file.metadata().unwrap().blocks() < 100);
    });
}

#[test]
fn extended_attributes_are_those_of_the_disk() {
    in_every_mode(|m| {
        let path = m.path("a");
        File::create(&path).unwrap();
        let value = vec![b'v'; 1000];
        let flags = rustix::fs::XattrFlags::CREATE;
        rustix::fs::setxattr(&path, "user.a", &value, flags).unwrap();
        let again = rustix::fs::setxattr(&path, "user.a", &value, flags);
        assert_eq!(again, Err(rustix::io::Errno::EXIST));
        let mut read = vec![0; 2000];
        let length = rustix::fs::getxattr(&path, "user.a", &mut read).unwrap();
        assert_eq!(read[..length], value);
        let length = rustix::fs::listxattr(&path, &mut read).unwrap();
        assert_eq!(&read[..length], b"user.a\0");
        rustix::fs::removexattr(&path, "user.a").unwrap();
        assert_eq!(rustix::fs::listxattr(&path, &mut read), Ok(0));
    });
}

#[test]
fn two_processes_append_without_losing_lines() {
    in_every_mode(|m| {
        let script = "for i in $(seq 300); do echo 0123456789; done >> log";
        let start = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(&m.root);
            command.spawn().unwrap()
        };
        let children = [start(), start()];
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(fs::metadata(m.path("log")).unwrap().len(), 2 * 300 * 11);
    });
}

#[test]
fn what_another_user_makes_is_his() {
    in_every_mode(|m| {
        fs::set_permissions(m.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&m.root, fs::Permissions::from_mode(0o777)).unwrap();
        let shared = m.path("shared");
        fs::create_dir(&shared).unwrap();
        std::os::unix::fs::chown(&shared, Some(0), Some(100)).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2777)).unwrap();
        let script = "umask 027; touch f; mkdir d; ln -s f l; mkfifo p; touch shared/f; \
                      mkdir shared/d; ! cat secret && ! rm secret2/f";
        fs::write(m.path("secret"), b"s").unwrap();
        fs::set_permissions(m.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(m.path("secret2")).unwrap();
        fs::write(m.path("secret2/f"), b"s").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&m.root);
        command.uid(1234).gid(4321);
        assert!(command.output().unwrap().status.success());
        let is = |name: &str, mode: u32, gid: u32| {
            let metadata = fs::symlink_metadata(m.path(name)).unwrap();
            let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
            assert_eq!(found, (mode, 1234, gid), "{name}");
        };
        is("f", 0o640, 4321);
        is("d", 0o750, 4321);
        is("l", 0o777, 4321);
        is("p", 0o640, 4321);
        is("shared/f", 0o640, 100);
        is("shared/d", 0o2750, 100);
    });
}

#[test]
fn a_write_by_another_user_takes_set_id_bits_away() {
    in_every_mode(|m| {
        fs::set_permissions(m.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = m.path("program");
        fs::write(&path, b"old").unwrap();
        for script in ["echo new >> program", "truncate -s 1 program"] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(&m.root);
            assert!(command.uid(1234).gid(4321).status().unwrap().success());
            let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o777, "{script}");
        }
    });
}

#[test]
fn root_having_a_file_open_saves_no_set_id_bits() {
    in_every_mode(|m| {
        fs::set_permissions(m.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = m.path("program");
        for set_before_opening in [true, false] {
            fs::write(&path, b"old").unwrap();
            let set = || fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
            if set_before_opening {
                set();
            }
            let roots = OpenOptions::new().write(true).open(&path).unwrap();
            set();
            let mut command = Command::new("sh");
            command.args(["-c", "echo new >> program"]);
            command.current_dir(&m.root).uid(1234).gid(4321);
            assert!(command.status().unwrap().success());
            let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o777, "set before opening: {set_before_opening}");
            drop(roots);
        }
    });
}

#[test]
fn a_running_program_cannot_be_overwritten() {
    in_every_mode(|m| {
        let program = m.path("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("60").spawn().unwrap();
        let refused = OpenOptions::new().write(true).open(&program);
        let flags = OFlags::RDONLY | OFlags::TRUNC;
        let truncated = rustix::fs::open(&program, flags, Permissions::empty());
        let length = fs::metadata(&program).unwrap().len();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ExecutableFileBusy);
        assert_eq!(truncated.unwrap_err(), rustix::io::Errno::TXTBSY);
        assert_eq!(length, fs::metadata("/bin/sleep").unwrap().len());
    });
}

#[test]
fn changes_below_the_mount_are_seen() {
    let Some(m) = Mounted::start(Mode::Passthrough) else {
        return;
    };
    fs::create_dir(m.path("d")).unwrap();
    fs::write(m.path("d/a"), b"one").unwrap();
    let open = File::open(m.path("d/a")).unwrap();
    fs::rename(m.below.join("d"), m.below.join("e")).unwrap();
    fs::write(m.below.join("b"), b"new").unwrap();
    assert!(!m.path("never").exists());
    fs::write(m.below.join("never"), b"now").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(fs::read(m.path("e/a")).unwrap(), b"one");
    assert_eq!(fs::read(m.path("b")).unwrap(), b"new");
    assert_eq!(fs::read(m.path("never")).unwrap(), b"now");
    assert_eq!(
        fs::metadata(m.path("d")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(open.metadata().unwrap().len(), 3);
}

#[test]
fn existing_programs_do_not_notice() {
    in_every_mode(|m| {
        let original = tempfile::tempdir().unwrap();
        let tree = original.path().join("tree");
        make_tree(&tree);
        let source = tree.to_str().unwrap();
        let run = |script: &str| {
            let script = script.replace("SOURCE", source);
            let mut command = Command::new("sh");
            command.args(["-ec", &script]).current_dir(&m.root);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{script}: {said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let has = |program: &str| {
            let found = Command::new(program).arg("--version").output().is_ok();
            if !found {
                eprintln!("without {program}: it is not installed");
            }
            found
        };
        run("cp -a SOURCE copied; diff -r SOURCE copied");
        run("mkdir t; tar cf - -C SOURCE . | tar xf - -C t; diff -r SOURCE t");
        run("echo hello > s; sed -i s/hello/bye/ s; test \"$(cat s)\" = bye");
        if has("rsync") {
            run("rsync -a --delete SOURCE/ synced; diff -r SOURCE synced");
            assert_eq!(run("rsync -ai --delete SOURCE/ synced"), "");
        }
        if has("vim") {
            run("vim -es -u NONE -c '%s/bye/vim/' -c wq s; test \"$(cat s)\" = vim");
        }
        if has("git") {
            run(
                "git init -q g; cd g; git config user.email a@b.c; git config user.name n; \
                 cp -r SOURCE .; git add .; git commit -qm one; git gc -q; git fsck --strict; \
                 cd ..; git clone -q g h; diff -r g/tree h/tree",
            );
        }
        run("rm -rf copied t synced g h s");
        assert!(names(&m.root).is_empty());
    });
}

/// Files of several lengths, directories, a link, odd modes and times.
fn make_tree(root: &Path) {
    for i in 0..20 {
        let folder = root.join(format!("folder {i}"));
        fs::create_dir_all(&folder).unwrap();
        for length in [0, 1, 4095, 100_000] {
            let mut file = File::create(folder.join(format!("{length}"))).unwrap();
            file.write_all(&vec![i; length]).unwrap();
        }
        fs::set_permissions(folder.join("1"), fs::Permissions::from_mode(0o4711)).unwrap();
        std::os::unix::fs::symlink("4095", folder.join("link")).unwrap();
        fs::hard_link(folder.join("1"), folder.join("one")).unwrap();
    }
}
