//! Programs that people use do their work on a mount as on the disk, and afterwards the remote has
//! what they have left there. Those that are not installed are left out, which is said.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rig::{Rig, eventually};

/// The mount of a rig; what lies in it is compared with the remote in the end.
struct Site(Rig);

impl Site {
    /// With and without passthrough. `None` where mounting is not allowed.
    fn each(work: impl Fn(&Site)) {
        for no_passthrough in ["0", "1"] {
            let Some(mut rig) = Rig::new() else { return };
            let variables = &mut rig.world.variables;
            variables.retain(|(name, _)| *name != "OUTBOXFS_NO_PASSTHROUGH");
            variables.push(("OUTBOXFS_NO_PASSTHROUGH", no_passthrough.into()));
            variables.push(("OUTBOXFS_ALLOW_OTHER", "1".into()));
            rig.mount();
            work(&Site(rig));
        }
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.pictures()
    }

    /// Runs a script in the mount, which must succeed; what it prints.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]);
        command.current_dir(self.root()).stdin(Stdio::null());
        command.env("OUTSIDE", self.0.world.root.path());
        // Not what the person who runs the tests has configured.
        command.env("HOME", self.0.world.root.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Unmounts, and compares: every file is at the remote, byte for byte.
    #[track_caller]
    fn everything_has_arrived(&self) {
        let output = self.0.run(&["unmount", "pictures"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let local = files(&self.root());
        let remote = files(&self.0.remote().join("original"));
        for (name, path) in &local {
            let object = remote.get(&in_key(name));
            let object = object.unwrap_or_else(|| panic!("{name:?} has not arrived"));
            assert!(same(path, object), "{name:?} is another file at the remote");
        }
    }
}

/// Regular files below a folder, by their path relative to it.
fn files(root: &Path) -> BTreeMap<OsString, std::path::PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(root).unwrap().into();
                found.insert(name, entry.path());
            }
        }
    }
    found
}

/// A path as keys have it, as far as these tests use odd names.
fn in_key(name: &OsStr) -> OsString {
    let mut key = Vec::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                0..=31 | 127 => key.extend(format!("%{byte:02X}").bytes()),
                _ => key.push(byte),
            }
        }
        for byte in chunk.invalid() {
            key.extend(format!("%{byte:02X}").bytes());
        }
    }
    OsString::from_vec(key)
}

fn same(a: &Path, b: &Path) -> bool {
    let status = Command::new("cmp").arg("-s").args([a, b]).status();
    status.unwrap().success()
}

/// False, and says so, if one of them is not installed.
fn installed(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).exists())
        });
        if !found {
            eprintln!("left out: {program} is not installed");
        }
        found
    })
}

#[test]
fn git() {
    if !installed(&["git"]) {
        return;
    }
    Site::each(|site| {
        site.sh("
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
            git init -q \"$OUTSIDE/origin\"
            cd \"$OUTSIDE/origin\"
            for i in $(seq 100); do echo \"$i\" > file$i; done
            git add . && git commit -qm one
            cd - >/dev/null
            git clone -q \"$OUTSIDE/origin\" clone
            cd clone
            for n in 1 2 3; do seq $n 1000 > file$n; git commit -qam \"commit $n\"; done
            git checkout -qb branch HEAD~2 && git checkout -q -
            git mv file50 moved && git commit -qm moved
            git gc -q --prune=now && git fsck --strict --full
            test -z \"$(git status --porcelain)\"
        ");
        site.everything_has_arrived();
    });
}

#[test]
fn sqlite_in_both_journal_modes() {
    Site::each(|site| {
        for mode in ["wal", "truncate", "delete", "persist"] {
            let path = site.root().join(mode);
            let open = || {
                let connection = rusqlite::Connection::open(&path).unwrap();
                connection
                    .busy_timeout(std::time::Duration::from_secs(60))
                    .unwrap();
                connection
            };
            let setup = open();
            setup
                .pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
                .unwrap();
            setup.execute_batch("CREATE TABLE t (n, text)").unwrap();
            std::thread::scope(|scope| {
                for writer in 0..3_i64 {
                    scope.spawn(move || {
                        let connection = open();
                        for n in 0..40_i64 {
                            let text = "x".repeat(n as usize * 50);
                            connection
                                .execute("INSERT INTO t VALUES (?, ?)", (n * 3 + writer, text))
                                .unwrap();
                        }
                        connection
                            .execute("DELETE FROM t WHERE n % 3 = ? AND n % 2 = 1", [writer])
                            .unwrap();
                    });
                }
            });
            let check: String = setup
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(check, "ok", "{mode}");
            let rows: i64 = setup
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap();
            assert_eq!(rows, 60, "{mode}");
        }
        site.everything_has_arrived();
    });
}

#[test]
fn rsync_changes_nothing_the_second_time() {
    if !installed(&["rsync"]) {
        return;
    }
    Site::each(|site| {
        site.sh("
            mkdir -p \"$OUTSIDE/source/a/b\"
            cd \"$OUTSIDE/source\"
            for i in $(seq 50); do head -c $((i * 997)) /dev/urandom > a/b/$i; done
            ln -s b a/link; ln a/b/1 a/hard; touch -d 1990-01-01 a/b/2; chmod 600 a/b/3
        ");
        let sync = "rsync -aHAX --delete --itemize-changes \"$OUTSIDE/source/\" there/";
        assert!(!site.sh(sync).is_empty());
        assert_eq!(site.sh(sync), "");
        site.sh("rm \"$OUTSIDE/source/a/b/7\"; echo new >> \"$OUTSIDE/source/a/b/8\"");
        let changes = site.sh(sync);
        assert!(changes.contains("*deleting") && changes.contains("a/b/8"));
        assert_eq!(site.sh(sync), "");
        assert!(!site.root().join("there/a/b/7").exists());
        site.everything_has_arrived();
    });
}

#[test]
fn cp_tar_unzip_sed_and_vim() {
    if !installed(&["tar", "unzip", "vim", "python3"]) {
        return;
    }
    Site::each(|site| {
        site.sh("
            mkdir -p \"$OUTSIDE/tree/d\"
            for i in $(seq 30); do seq $i 500 > \"$OUTSIDE/tree/d/file $i\"; done
            ln -s 'd/file 1' \"$OUTSIDE/tree/link\"
            cp -a \"$OUTSIDE/tree\" copied && diff -r \"$OUTSIDE/tree\" copied
            tar c -C \"$OUTSIDE\" tree | tar x && diff -r \"$OUTSIDE/tree\" tree
            (cd \"$OUTSIDE\" && python3 -m zipfile -c tree.zip tree/d)
            mkdir zip && (cd zip && unzip -q \"$OUTSIDE/tree.zip\" && diff -r \"$OUTSIDE/tree/d\" d)
            sed -i 's/^1/one/' copied/d/*
            grep -q ^one00$ 'copied/d/file 1'
            vim -N -u NONE -es -c '%s/^2/two/' -c wq 'copied/d/file 2' < /dev/null
            grep -q ^two00$ 'copied/d/file 2'
            mv copied moved && rm -rf zip/d
        ");
        site.everything_has_arrived();
    });
}

#[test]
fn cargo_builds_with_its_target_in_the_mount() {
    if !installed(&["cargo"]) {
        return;
    }
    let cargo_home = std::env::var_os("CARGO_HOME");
    let homes = ["HOME", "RUSTUP_HOME"].map(|name| std::env::var_os(name).unwrap_or_default());
    Site::each(|site| {
        let run = |arguments: &[&str]| {
            let mut command = Command::new("cargo");
            command.args(arguments).current_dir(site.root());
            command.env("HOME", &homes[0]);
            if let Some(home) = &cargo_home {
                command.env("CARGO_HOME", home);
            }
            let output = command.env_remove("CARGO_TARGET_DIR").output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(&["init", "--quiet", "--vcs=none", "--name=hello", "."]);
        run(&["build", "--quiet", "--offline"]);
        fs::write(
            site.root().join("src/main.rs"),
            "fn main() { print!(\"2\") }",
        )
        .unwrap();
        run(&["build", "--quiet", "--offline"]);
        assert_eq!(site.sh("target/debug/hello"), "2");
        site.everything_has_arrived();
    });
}

#[test]
fn folders_are_renamed_while_their_files_are_delivered() {
    Site::each(|site| {
        // As compilers and package managers do it: fill a folder, then give it its name.
        site.sh("for i in {1..40}; do
                mkdir work$i
                for j in {1..30}; do echo $i $j >work$i/$j; done
                mv work$i done$i
                [[ $((i % 4)) != 0 ]] || { mv done$i back$i; mv back$i done$i; }
            done");
        site.everything_has_arrived();
    });
}

#[test]
fn fio_reads_what_it_wrote() {
    if !installed(&["fio"]) {
        return;
    }
    Site::each(|site| {
        for engine in ["psync", "mmap", "io_uring", "libaio --direct=1"] {
            site.sh(&format!(
                "fio --name=job --filename=fio --size=16m --bs=4k --rw=randrw --ioengine={engine} \
                 --iodepth=8 --verify=crc32c --verify_fatal=1 --output=\"$OUTSIDE/fio.txt\""
            ));
        }
        site.everything_has_arrived();
    });
}

#[test]
fn locks_hold_between_processes() {
    if !installed(&["flock", "python3"]) {
        return;
    }
    Site::each(|site| {
        site.sh("
            touch f
            exec 9<>f
            flock -x 9
            ! flock -n f true
            flock -u 9
            flock -n f true
            cat > \"$OUTSIDE/locks.py\" <<'PYTHON'
import fcntl, os, struct
LK = 'hhqqi4x'
def lock(fd, kind, start, length):
    return struct.pack(LK, kind, os.SEEK_SET, start, length, 0)
OFD_SETLK, OFD_GETLK = 37, 36
# Of processes.
f = os.open('f', os.O_RDWR)
fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
if os.fork() == 0:
    try:
        fcntl.lockf(os.open('f', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        os._exit(1)
    except BlockingIOError:
        fcntl.lockf(os.open('f', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
        os._exit(0)
assert os.wait()[1] == 0
fcntl.lockf(f, fcntl.LOCK_UN)
# Of open file descriptions: two in one process exclude each other, a duplicate does not.
a, b = os.open('f', os.O_RDWR), os.open('f', os.O_RDWR)
fcntl.fcntl(a, OFD_SETLK, lock(a, fcntl.F_WRLCK, 0, 10))
try:
    fcntl.fcntl(b, OFD_SETLK, lock(b, fcntl.F_RDLCK, 9, 1))
    raise SystemExit('the second lock was given')
except BlockingIOError:
    pass
c = os.dup(a)
fcntl.fcntl(c, OFD_SETLK, lock(c, fcntl.F_WRLCK, 5, 10))
os.close(a); os.close(c)
fcntl.fcntl(b, OFD_SETLK, lock(b, fcntl.F_WRLCK, 0, 20))
PYTHON
            python3 \"$OUTSIDE/locks.py\"
        ");
    });
}

#[test]
fn access_control_lists_are_those_of_the_disk() {
    if !installed(&["setfacl", "getfacl", "setpriv"]) {
        return;
    }
    Site::each(|site| {
        site.sh("
            chmod 755 \"$OUTSIDE\"
            mkdir d && chmod 700 d && setfacl -m u:1234:rwx d && setfacl -d -m u:1234:rw,g:4321:r d
            (umask 077 && echo secret > d/f && mkdir d/sub)
            getfacl -cn d/f | grep -q '^user:1234:rw-'
            getfacl -cn d/sub | grep -q '^default:group:4321:r--'
            chmod 640 d/f
            setpriv --reuid 1234 --regid 1234 --clear-groups cat d/f > /dev/null
            ! setpriv --reuid 1235 --regid 1235 --clear-groups cat d/f 2> /dev/null
            setfacl -b d/f && chmod 600 d/f
            ! setpriv --reuid 1234 --regid 1234 --clear-groups cat d/f 2> /dev/null
            # Supplementary groups, which the daemon does not know.
            mkdir g && chown 0:777 g && chmod 2770 g
            setpriv --reuid 1234 --regid 1234 --groups 777 sh -c 'umask 002; touch g/f; mkdir g/d'
            test \"$(stat -c %u:%g:%a g/f g/d | xargs)\" = '1234:777:664 1234:777:2775'
        ");
    });
}

#[test]
fn long_and_odd_names_arrive() {
    Site::each(|site| {
        let long = vec![b'n'; 255];
        for name in [
            &long[..],
            b"\xff\xfe",
            b"new\nline",
            b"%41",
            b" ",
            "\u{e9}".as_bytes(),
        ] {
            fs::write(site.root().join(OsStr::from_bytes(name)), name).unwrap();
        }
        let listed = fs::read_dir(site.root()).unwrap().count();
        assert_eq!(listed, 6);
        eventually("all is delivered", || {
            site.0.snapshot().is_some_and(|now| now.safe_to_unplug)
        });
        let delivered = site.0.snapshot().unwrap().delivered_files;
        assert_eq!(delivered, 6);
    });
}

#[test]
fn unbuffered_input_and_output() {
    Site::each(|site| {
        site.sh("
            head -c 3m /dev/urandom > \"$OUTSIDE/random\"
            dd if=\"$OUTSIDE/random\" of=direct bs=1M oflag=direct status=none
            dd if=direct of=\"$OUTSIDE/back\" bs=1M iflag=direct status=none
            cmp \"$OUTSIDE/random\" \"$OUTSIDE/back\"
        ");
        site.everything_has_arrived();
    });
}

#[test]
fn files_of_more_than_4_gibibytes() {
    let Some(site) = Rig::new().map(Site) else {
        return;
    };
    site.0.mount();
    let file = File::create_new(site.root().join("huge")).unwrap();
    let far = (4u64 << 30) + 4096;
    file.write_all_at(b"beginning", 0).unwrap();
    file.write_all_at(b"end", far).unwrap();
    drop(file);
    let file = File::open(site.root().join("huge")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), far + 3);
    assert!(file.metadata().unwrap().blocks() < 100, "holes stay holes");
    // SAFETY: takes numbers only.
    let data = unsafe { libc::lseek(file.as_raw_fd(), 1 << 20, libc::SEEK_DATA) };
    assert_eq!(data, far as i64);
    let mut end = [0; 3];
    file.read_exact_at(&mut end, far).unwrap();
    assert_eq!(&end, b"end");
    drop(file);
    let path = CString::new(site.root().join("huge").into_os_string().into_vec()).unwrap();
    // SAFETY: a C string that outlives the call.
    assert_eq!(unsafe { libc::truncate(path.as_ptr(), 10) }, 0);
    site.everything_has_arrived();
    assert_eq!(site.0.delivered("huge"), b"beginning\0");
}

#[test]
fn what_has_no_name_in_a_folder_is_made_as_on_the_disk_or_refused() {
    Site::each(|site| {
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        let path = CString::new(site.root().into_os_string().into_vec()).unwrap();
        // SAFETY: a C string that outlives the call.
        let fd = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
        // FUSE can; outboxfs does not. Programs then make a file with a name.
        assert_eq!(fd, -1);
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    });
}

#[test]
fn a_hundred_thousand_entries_are_listed_while_others_come_and_go() {
    let Some(site) = Rig::new().map(Site) else {
        return;
    };
    let below = site.root().join("many");
    fs::create_dir(&below).unwrap();
    for n in 0..100_000 {
        File::create(below.join(format!("{n:06}"))).unwrap();
    }
    site.0.mount();
    let folder = site.root().join("many");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let path = folder.join(format!("new{n}"));
                File::create(&path).unwrap();
                if n % 2 == 0 {
                    fs::remove_file(path).unwrap();
                }
            }
        });
        for _ in 0..2 {
            let mut seen = std::collections::HashSet::new();
            for entry in fs::read_dir(&folder).unwrap() {
                let name = entry.unwrap().file_name();
                assert!(seen.insert(name.clone()), "{name:?} is listed twice");
            }
            let stayed = seen.iter().filter(|name| name.len() == 6);
            let stayed = stayed.filter(|name| name.as_bytes()[0].is_ascii_digit());
            assert_eq!(stayed.count(), 100_000);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
