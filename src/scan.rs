//! The start-up scan: compares the tree with the journal, folder by folder, and records what came
//! about while nobody watched: written and never closed, made before the first mount, or changed
//! below a mount. What is still to be looked at lies in the journal, so an interrupted scan goes on.
//!
//! One thread, `scan`, while the mount is in use already. It ends when the tree is through, or when
//! it is told to stop.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};

use crate::journal::{FileStat, Journal, JournalError, Known, ScannedFolder, View};
use crate::path::RelPath;

/// Folders taken from the journal at a time.
const BATCH: usize = 64;

/// A running scan.
pub struct Scan {
    stop: Arc<AtomicBool>,
    looked_at: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Scan {
    /// Scans the backing directory, or goes on with a scan that was interrupted. Files that changed
    /// at `since` (nanoseconds since 1970-01-01 UTC) or later are left out: if the mount was up by
    /// then, their close tells of them.
    pub fn start(journal: Journal, backing: OwnedFd, since: i64) -> Result<Self, JournalError> {
        journal.begin_scan()?;
        let stop = Arc::new(AtomicBool::new(false));
        let looked_at = Arc::new(AtomicU64::new(0));
        let scanner = Scanner {
            journal,
            backing,
            since,
            stop: stop.clone(),
            looked_at: looked_at.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("scan".into())
            .spawn(move || {
                if let Err(error) = scanner.run() {
                    tracing::error!(%error, "the start-up scan ended early; the next mount goes on with it");
                }
            })
            .map_err(|error| JournalError::Sqlite(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            stop,
            looked_at,
            thread,
        })
    }

    /// Files looked at so far.
    pub fn looked_at(&self) -> Arc<AtomicU64> {
        self.looked_at.clone()
    }

    /// Ends the scan after the folder that it is at.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

struct Scanner {
    journal: Journal,
    backing: OwnedFd,
    since: i64,
    stop: Arc<AtomicBool>,
    looked_at: Arc<AtomicU64>,
}

impl Scanner {
    fn run(&self) -> Result<(), JournalError> {
        let view = self.journal.view()?;
        loop {
            let folders = view.to_scan(BATCH)?;
            if folders.is_empty() {
                tracing::info!(
                    files = self.looked_at.load(Ordering::Relaxed),
                    "the start-up scan is through"
                );
                return Ok(());
            }
            for path in folders {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.folder(&view, path)?;
            }
        }
    }

    fn folder(&self, view: &View, path: RelPath) -> Result<(), JournalError> {
        // What the journal knows is read first: what is removed in between is then merely missing
        // twice, while a file that is made in between would look unknown.
        let mut known = view.known_files(&path)?;
        let mut scanned = ScannedFolder {
            path: path.clone(),
            children: Vec::new(),
            found: Vec::new(),
            missing: Vec::new(),
        };
        match self.list(&path, &mut known, &mut scanned) {
            Ok(()) => scanned.missing = known.into_keys().collect(),
            // Removed or renamed meanwhile; the mount has told the journal.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(folder = %path, %error, "a folder cannot be scanned; its files are not looked at");
            }
        }
        self.journal.scanned(scanned)
    }

    /// Looks at each entry; those that the journal knows leave `known`.
    fn list(
        &self,
        path: &RelPath,
        known: &mut HashMap<Vec<u8>, Known>,
        scanned: &mut ScannedFolder,
    ) -> io::Result<()> {
        let folder = self.open(path)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => scanned.children.push(name.to_vec()),
                FileType::RegularFile => self.file(folder.as_fd(), name, known, scanned)?,
                FileType::Unknown => match stat(folder.as_fd(), name)? {
                    Some(found) if found.is_folder => scanned.children.push(name.to_vec()),
                    _ => self.file(folder.as_fd(), name, known, scanned)?,
                },
                // Kept locally, never delivered.
                _ => {}
            }
        }
        Ok(())
    }

    fn file(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        known: &mut HashMap<Vec<u8>, Known>,
        scanned: &mut ScannedFolder,
    ) -> io::Result<()> {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        let Some(found) = stat(folder, name)?.filter(|found| found.is_file) else {
            return Ok(());
        };
        let as_known = known.remove(name).is_some_and(|known| {
            !known.opened
                && (known.size, known.mtime_ns, known.inode)
                    == (found.stat.size, found.stat.mtime_ns, found.stat.inode)
        });
        if !as_known && found.ctime_ns < self.since {
            scanned.found.push((name.to_vec(), found.stat));
        }
        Ok(())
    }

    fn open(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_root() {
            std::path::Path::new(".")
        } else {
            path.as_path()
        };
        Ok(rustix::fs::openat2(
            &self.backing,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )?)
    }
}

struct Found {
    is_file: bool,
    is_folder: bool,
    stat: FileStat,
    ctime_ns: i64,
}

/// `None` if the entry is gone.
fn stat(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Found>> {
    let stat = match rustix::fs::statx(
        folder,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC,
        StatxFlags::BASIC_STATS,
    ) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let nanoseconds = |time: rustix::fs::StatxTimestamp| {
        time.tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(time.tv_nsec))
    };
    let file_type = FileType::from_raw_mode(u32::from(stat.stx_mode));
    Ok(Some(Found {
        is_file: file_type == FileType::RegularFile,
        is_folder: file_type == FileType::Directory,
        stat: FileStat {
            size: stat.stx_size,
            mtime_ns: nanoseconds(stat.stx_mtime),
            inode: stat.stx_ino,
            links: u64::from(stat.stx_nlink),
        },
        ctime_ns: nanoseconds(stat.stx_ctime),
    }))
}
