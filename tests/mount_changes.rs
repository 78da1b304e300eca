//! What becomes of changes: content is journaled before the call that completes it returns, and
//! nothing else is.

#[path = "support/mounted.rs"]
mod mounted;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use mounted::{Mode, Mounted, in_every_mode};
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};

fn write(mounted: &Mounted, name: &str, content: &[u8]) {
    fs::write(mounted.path(name), content).unwrap();
}

/// The same, and lets the release come, a little after the close: a link that is made before it moves the
/// file's ctime, and in doubt the file was written.
fn write_and_release(mounted: &Mounted, name: &str, content: &[u8]) {
    write(mounted, name, content);
    std::thread::sleep(std::time::Duration::from_millis(200));
}

#[test]
fn a_file_is_journaled_when_close_returns() {
    in_every_mode(|m| {
        m.journals("a", || write(m, "a", b"one"));
        m.journals("a", || write(m, "a", b"two"));
        m.journals("empty", || drop(File::create(m.path("empty")).unwrap()));
        fs::create_dir(m.path("d")).unwrap();
        m.journals("d/b", || write(m, "d/b", b"three"));
        assert_eq!(fs::read(m.path("a")).unwrap(), b"two");
        assert_eq!(fs::read(m.below.join("d/b")).unwrap(), b"three");
    });
}

#[test]
fn overwriting_in_place_is_journaled() {
    in_every_mode(|m| {
        write(m, "a", b"0123456789");
        let file = OpenOptions::new().write(true).open(m.path("a")).unwrap();
        m.journals("a", || {
            file.write_all_at(b"X", 5).unwrap();
            drop(file);
        });
        assert_eq!(fs::read(m.path("a")).unwrap(), b"01234X6789");
    });
}

#[test]
fn each_close_of_a_duplicate_that_wrote_is_journaled() {
    in_every_mode(|m| {
        let first = File::create(m.path("a")).unwrap();
        let mut second = first.try_clone().unwrap();
        m.journals("a", || drop(first));
        second.write_all(b"more").unwrap();
        m.journals("a", || drop(second));
    });
}

#[test]
fn what_changes_no_content_is_not_journaled() {
    in_every_mode(|m| {
        write(m, "a", b"content");
        // Longer than any doubt about the clock.
        std::thread::sleep(Duration::from_millis(50));
        let path = m.path("a");
        m.journals_nothing(|| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap();
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            drop(file);
            let mut text = String::new();
            File::open(&path)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            drop(OpenOptions::new().append(true).open(&path).unwrap());
            fs::metadata(&path).unwrap();
        });
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 0);
    });
}

#[test]
fn changes_without_a_write_are_journaled() {
    in_every_mode(|m| {
        write(m, "a", &[7; 20_000]);
        write(m, "b", &[8; 20_000]);
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).open(m.path(name)).unwrap()
        };
        m.journals("a", || {
            rustix::fs::ftruncate(open("a"), 10_000).unwrap();
        });
        m.journals("a", || {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(open("a"), hole, 0, 4096).unwrap();
        });
        m.journals("a", || {
            let (from, to) = (open("b"), open("a"));
            let copied = rustix::fs::copy_file_range(&from, None, &to, None, 5_000).unwrap();
            assert_eq!(copied, 5_000);
        });
        assert_eq!(fs::read(m.path("a")).unwrap()[..5_000], [8; 5_000]);
    });
}

#[test]
fn truncating_by_path_is_journaled_when_it_returns() {
    in_every_mode(|m| {
        write(m, "a", b"0123456789");
        let path = std::ffi::CString::new(m.path("a").to_str().unwrap()).unwrap();
        m.journals("a", || {
            // SAFETY: the path is a C string that outlives the call.
            assert_eq!(unsafe { libc::truncate(path.as_ptr(), 4) }, 0);
        });
        assert_eq!(fs::read(m.path("a")).unwrap(), b"0123");
    });
}

#[test]
fn writing_through_a_shared_mapping_is_journaled() {
    in_every_mode(|m| {
        write(m, "a", &[b'.'; 8192]);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(m.path("a"))
            .unwrap();
        m.journals("a", || {
            store(&file, 5000, b'X');
            drop(file);
        });
        assert_eq!(fs::read(m.path("a")).unwrap()[5000], b'X');
    });
}

/// Writes one byte of the first 8 KiB through a shared mapping.
fn store(file: &File, at: usize, byte: u8) {
    use std::os::fd::AsRawFd;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the mapping is as long as the file, used within these lines, and unmapped again.
    unsafe {
        let fd = file.as_fd().as_raw_fd();
        let map = libc::mmap(std::ptr::null_mut(), 8192, access, libc::MAP_SHARED, fd, 0);
        assert_ne!(map, libc::MAP_FAILED);
        map.cast::<u8>().add(at).write(byte);
        assert_eq!(libc::munmap(map, 8192), 0);
    }
}

/// A mapping of the file's first 8 KiB, for reading and writing, shared.
struct Mapping(*mut u8);

impl Mapping {
    fn of(file: &File) -> Self {
        use std::os::fd::AsRawFd;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: a new mapping, where the kernel likes it.
        let map =
            unsafe { libc::mmap(std::ptr::null_mut(), 8192, access, libc::MAP_SHARED, fd, 0) };
        assert_ne!(map, libc::MAP_FAILED);
        Self(map.cast())
    }

    fn store(&self, byte: u8) {
        // SAFETY: within the mapping, which lives as long as this.
        unsafe { self.0.write_volatile(byte) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and nobody uses it any more.
        assert_eq!(unsafe { libc::munmap(self.0.cast(), 8192) }, 0);
    }
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn storing_through_a_mapping_after_close_is_journaled() {
    in_every_mode(|m| {
        write(m, "a", &[b'.'; 8192]);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let file = options.open(m.path("a")).unwrap();
        let mapping = Mapping::of(&file);
        mapping.store(b'1');
        drop(file);
        let closed = m.version("a");
        // The page is dirty, so that this moves no times.
        mapping.store(b'2');
        // With passthrough it is found while it is mapped, else when that ends.
        if m.mode == Mode::Ordinary {
            drop(mapping);
            eventually("what was stored", || m.version("a") > closed);
            return;
        }
        eventually("what was stored", || m.version("a") > closed);
        std::thread::sleep(Duration::from_millis(1500));
        let looked_at = m.version("a");
        mapping.store(b'3');
        eventually("what was stored later", || m.version("a") > looked_at);
        assert_eq!(fs::read(m.below.join("a")).unwrap()[0], b'3');
    });
}

#[test]
fn a_file_that_could_be_mapped_and_is_not_is_journaled_once() {
    in_every_mode(|m| {
        write(m, "a", b"content");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        m.journals("a", || {
            let file = options.open(m.path("a")).unwrap();
            file.write_all_at(b"C", 0).unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
        m.journals_nothing(|| {
            drop(options.open(m.path("a")).unwrap());
            std::thread::sleep(Duration::from_millis(100));
        });
    });
}

#[test]
fn what_is_written_on_after_a_sync_is_known_to_be_open() {
    in_every_mode(|m| {
        let file = File::create(m.path("a")).unwrap();
        m.journals("a", || file.sync_all().unwrap());
        eventually("the journal knows that it is open", || m.is_open("a"));
        file.write_all_at(b"more", 0).unwrap();
        m.journals("a", || drop(file));
        assert!(!m.is_open("a"));
    });
}

#[test]
fn what_was_opened_and_left_alone_is_known_to_be_closed() {
    in_every_mode(|m| {
        write(m, "a", b"content");
        for reads_too in [false, true] {
            let mut options = OpenOptions::new();
            let writer = options.read(reads_too).write(true);
            let writer = writer.open(m.path("a")).unwrap();
            let reader = File::open(m.path("a")).unwrap();
            eventually("the journal knows that it is open", || m.is_open("a"));
            drop(writer);
            drop(reader);
            eventually("the journal knows that it is closed", || !m.is_open("a"));
        }
    });
}

#[test]
fn a_link_that_nobody_has_looked_at_hears_of_changes() {
    in_every_mode(|m| {
        write_and_release(m, "a", b"one");
        m.journals("b", || {
            fs::hard_link(m.path("a"), m.path("b")).unwrap();
        });
        // A mount that has only seen the name that is then removed.
        m.remount();
        let file = OpenOptions::new().write(true).open(m.path("a")).unwrap();
        fs::remove_file(m.path("a")).unwrap();
        m.journals("b", || {
            file.write_all_at(b"two", 0).unwrap();
            drop(file);
        });
        assert_eq!(fs::read(m.path("b")).unwrap(), b"two");
    });
}

#[test]
fn renames_take_the_journal_along() {
    in_every_mode(|m| {
        fs::create_dir_all(m.path("d/e")).unwrap();
        write(m, "d/e/a", b"a");
        write(m, "b", b"b");
        fs::rename(m.path("d"), m.path("f")).unwrap();
        assert_eq!(
            m.journaled().into_keys().collect::<Vec<_>>(),
            ["b", "f/e/a"]
        );
        fs::rename(m.path("f/e/a"), m.path("b")).unwrap();
        assert_eq!(m.journaled().into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(fs::read(m.path("b")).unwrap(), b"a");
    });
}

#[test]
fn an_open_file_is_journaled_under_the_name_it_has_at_close() {
    in_every_mode(|m| {
        let mut file = File::create(m.path("tmp")).unwrap();
        file.write_all(b"content").unwrap();
        fs::rename(m.path("tmp"), m.path("final")).unwrap();
        m.journals("final", || drop(file));
        assert_eq!(m.version("tmp"), 0);
    });
}

#[test]
fn two_names_change_places() {
    in_every_mode(|m| {
        write(m, "a", b"1");
        write(m, "b", b"22");
        let (a, b) = (m.path("a"), m.path("b"));
        renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"22");
        assert_eq!(fs::metadata(&b).unwrap().len(), 1);
        let refused = renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE);
        assert_eq!(refused, Err(rustix::io::Errno::EXIST));
        assert!(m.version("a") > 0 && m.version("b") > 0);
    });
}

#[test]
fn a_file_without_a_name_is_usable_and_not_journaled() {
    in_every_mode(|m| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(m.path("a"))
            .unwrap();
        fs::remove_file(m.path("a")).unwrap();
        file.write_all(b"still here").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(file.metadata().unwrap().len(), 10);
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
        file.seek(SeekFrom::Start(6)).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "here");
        m.journals_nothing(|| drop(file));
        assert!(m.journaled().is_empty());
    });
}

#[test]
fn every_name_of_a_file_is_journaled() {
    in_every_mode(|m| {
        write_and_release(m, "a", b"one");
        m.journals("b", || {
            fs::hard_link(m.path("a"), m.path("b")).unwrap();
        });
        let before = m.journaled();
        write(m, "b", b"two");
        let after = m.journaled();
        assert!(after["a"] > before["a"] && after["b"] > before["b"]);
        fs::remove_file(m.path("a")).unwrap();
        m.journals("b", || write(m, "b", b"three"));
    });
}

#[test]
fn only_regular_files_are_journaled() {
    in_every_mode(|m| {
        m.journals_nothing(|| {
            fs::create_dir(m.path("d")).unwrap();
            symlink("nowhere", m.path("link")).unwrap();
            rustix::fs::mkfifoat(CWD, m.path("fifo"), rustix::fs::Mode::RUSR).unwrap();
            drop(std::os::unix::net::UnixListener::bind(m.path("socket")).unwrap());
        });
        assert_eq!(
            fs::read_link(m.path("link")).unwrap().to_str(),
            Some("nowhere")
        );
    });
}

#[test]
fn removed_files_are_forgotten() {
    in_every_mode(|m| {
        write(m, "a", b"a");
        fs::remove_file(m.path("a")).unwrap();
        // Nobody waits for a removal, but what comes after it does.
        write(m, "b", b"b");
        assert_eq!(m.journaled().into_keys().collect::<Vec<_>>(), ["b"]);
    });
}

#[test]
fn fsync_is_journaled_without_a_close() {
    in_every_mode(|m| {
        let mut file = File::create(m.path("a")).unwrap();
        file.write_all(b"one").unwrap();
        m.journals("a", || file.sync_all().unwrap());
        file.write_all(b"two").unwrap();
        m.journals("a", || drop(file));
    });
}

#[test]
fn what_is_still_open_at_the_end_is_journaled() {
    in_every_mode(|m| {
        let mut file = File::create(m.path("a")).unwrap();
        file.write_all(b"one").unwrap();
        rustix::mount::unmount(&m.root, rustix::mount::UnmountFlags::DETACH).unwrap();
        file.write_all(b"two").unwrap();
        drop(file);
        assert!(m.version("a") > 0);
    });
}
