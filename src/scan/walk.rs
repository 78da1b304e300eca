//! Walking a tree below the backing directory: what is there, compared with what is known.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Access, AtFlags, Dir, FileType, OFlags, StatxFlags};
use rustix::io::Errno;

use super::hollow::is_hollow;
use crate::beneath::{self, Links};
use crate::filter::{Filter, IGNORE_FILE, Ignores, RESERVED, rules_in};
use crate::journal::{FileStat, JournalError, Known, Sighting, now_ms};
use crate::marker;
use crate::path::RelPath;
use crate::suspect;

/// Times of files may be ahead of the clock by this much, nanoseconds.
const CLOCK_STEP: i64 = 2_000_000_000;

/// A file that is not known, or is known otherwise, or was suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Different {
    pub sighting: Sighting,
    pub is_new: bool,
}

/// What is known, and what becomes of what is found.
pub trait Findings {
    /// The known files of a folder, by name.
    fn known(&mut self, folder: &RelPath) -> Result<HashMap<Vec<u8>, Known>, JournalError>;

    fn known_file(&mut self, folder: &RelPath, name: &[u8]) -> Result<Option<Known>, JournalError>;

    /// The names of the known folders in a folder.
    fn known_folders(&mut self, folder: &RelPath) -> Result<Vec<Vec<u8>>, JournalError>;

    /// Of a folder: files that differ from what is known, and names that are known and not there.
    /// Not called if there are neither.
    fn differs(
        &mut self,
        folder: &RelPath,
        found: Vec<Different>,
        missing: Vec<Vec<u8>>,
    ) -> Result<(), JournalError>;

    /// A file or folder that cannot be looked at; the rest goes on.
    fn trouble(&mut self, path: &RelPath, error: &io::Error);

    /// A file that is larger than wanted.
    fn too_large(&mut self, path: &RelPath, size: u64);
}

/// How to walk.
pub struct Walker<'a> {
    pub backing: &'a OwnedFd,
    pub filter: &'a Filter,
    pub links: Links,
    /// Files that changed at this time (nanoseconds since 1970-01-01 UTC) or later are left out.
    pub since: i64,
    /// Whether a file that cannot be read is trouble now, instead of when it is sent.
    pub must_read: bool,
    pub looked_at: &'a AtomicU64,
    pub stop: &'a AtomicBool,
}

/// One folder's share of [`Findings::differs`].
struct Folder<'a> {
    path: &'a RelPath,
    fd: OwnedFd,
    ignores: Ignores,
    known: HashMap<Vec<u8>, Known>,
    found: Vec<Different>,
    children: Vec<Vec<u8>>,
}

/// The same names in the same order, so that a scan goes the same way each time.
fn in_order(known: HashMap<Vec<u8>, Known>) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = known.into_keys().collect();
    names.sort_unstable();
    names
}

impl Walker<'_> {
    /// Looks at a file, or at a folder and all below it, folder by folder in the order of names.
    /// Memory grows with depth and with the number of folders in one folder. False if stopped
    /// before the end.
    pub fn walk(&self, path: &RelPath, to: &mut dyn Findings) -> Result<bool, JournalError> {
        let ignores = match path.split() {
            None => Ignores::default(),
            Some((parent, name)) => {
                let ignores = self.ignores_of(&parent);
                match self.folder_holding(&parent, name) {
                    Ok(None) => ignores,
                    Ok(Some(folder)) => {
                        self.one_file(&parent, name, folder, to)?;
                        return Ok(true);
                    }
                    Err(error) => {
                        self.gone(&parent, name, &error, to)?;
                        return Ok(true);
                    }
                }
            }
        };
        let mut folders = vec![(path.clone(), ignores)];
        while let Some((path, ignores)) = folders.pop() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.folder(&path, ignores, to, &mut folders)?;
        }
        Ok(true)
    }

    /// The folder in which `name` is something else than a folder; `None` if it is a folder.
    fn folder_holding(&self, parent: &RelPath, name: &[u8]) -> io::Result<Option<OwnedFd>> {
        let folder = self.open(parent)?;
        match self.look(folder.as_fd(), parent, name)? {
            Some(found) if found.is_folder => Ok(None),
            Some(_) => Ok(Some(folder)),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn one_file(
        &self,
        parent: &RelPath,
        name: &[u8],
        fd: OwnedFd,
        to: &mut dyn Findings,
    ) -> Result<(), JournalError> {
        let known = to.known_file(parent, name)?;
        let mut folder = Folder {
            path: parent,
            fd,
            ignores: Ignores::default(),
            known: known
                .map(|known| (name.to_vec(), known))
                .into_iter()
                .collect(),
            found: Vec::new(),
            children: Vec::new(),
        };
        self.file(name, &mut folder, to);
        match folder.found.is_empty() {
            true => Ok(()),
            false => to.differs(parent, folder.found, Vec::new()),
        }
    }

    fn gone(
        &self,
        parent: &RelPath,
        name: &[u8],
        error: &io::Error,
        to: &mut dyn Findings,
    ) -> Result<(), JournalError> {
        to.trouble(&parent.join(name), error);
        if error.kind() == io::ErrorKind::NotFound && to.known_file(parent, name)?.is_some() {
            to.differs(parent, Vec::new(), vec![name.to_vec()])?;
        }
        Ok(())
    }

    fn folder(
        &self,
        path: &RelPath,
        ignores: Ignores,
        to: &mut dyn Findings,
        folders: &mut Vec<(RelPath, Ignores)>,
    ) -> Result<(), JournalError> {
        // What is known is read first: what is removed in between is then merely missing twice,
        // while a file that is made in between would look unknown.
        let known = to.known(path)?;
        let fd = match self.open(path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.gone_folder(path, known, to, folders);
            }
            Err(error) => {
                to.trouble(path, &error);
                return Ok(());
            }
        };
        let mut folder = Folder {
            path,
            fd,
            ignores,
            known,
            found: Vec::new(),
            children: Vec::new(),
        };
        if let Err(error) = self.list(&mut folder, to) {
            // Half a list: nothing can be said of what is not in it.
            folder.known.clear();
            to.trouble(path, &error);
        }
        let Folder {
            fd,
            ignores,
            known,
            found,
            children,
            ..
        } = folder;
        let gone = self.gone_folders(path, fd.as_fd(), &children, to)?;
        let missing = in_order(known);
        if !found.is_empty() || !missing.is_empty() {
            to.differs(path, found, missing)?;
        }
        let children = children.into_iter().rev();
        folders.extend(children.map(|name| (path.join(&name), ignores.clone())));
        folders.extend(
            gone.iter()
                .map(|name| (path.join(name), Ignores::default())),
        );
        Ok(())
    }

    /// Of the known folders in a folder, those that are not there any more.
    fn gone_folders(
        &self,
        path: &RelPath,
        folder: BorrowedFd<'_>,
        children: &[Vec<u8>],
        to: &mut dyn Findings,
    ) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut gone = to.known_folders(path)?;
        gone.retain(|name| {
            // What the filter leaves out is no child, and is there.
            children.binary_search(name).is_err() && matches!(stat(folder, name), Ok(None))
        });
        Ok(gone)
    }

    /// A folder that is not there, and so nothing of what was in it. Where it was removed or renamed
    /// through a mount, the journal was told, and knows nothing of it any more.
    fn gone_folder(
        &self,
        path: &RelPath,
        known: HashMap<Vec<u8>, Known>,
        to: &mut dyn Findings,
        folders: &mut Vec<(RelPath, Ignores)>,
    ) -> Result<(), JournalError> {
        if !known.is_empty() {
            to.differs(path, Vec::new(), in_order(known))?;
        }
        let below = to.known_folders(path)?.into_iter();
        folders.extend(below.map(|name| (path.join(&name), Ignores::default())));
        Ok(())
    }

    /// Looks at each entry; those that are known leave `known`.
    fn list(&self, folder: &mut Folder<'_>, to: &mut dyn Findings) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push((name.to_vec(), entry.file_type()));
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let own_rules = entries.binary_search_by(|(name, _)| name.as_slice().cmp(IGNORE_FILE));
        if own_rules.is_ok()
            && let Some(text) = rules_in(folder.fd.as_fd())
        {
            folder.ignores = folder.ignores.with(folder.path, &text);
        }
        for (name, file_type) in entries {
            match file_type {
                FileType::Directory => self.child(name, folder),
                FileType::RegularFile => self.file(&name, folder, to),
                FileType::Unknown => match stat(folder.fd.as_fd(), &name)? {
                    Some(found) if found.is_folder => self.child(name, folder),
                    Some(found) if found.is_link && self.links == Links::Followed => {
                        self.link(name, folder, to)?;
                    }
                    _ => self.file(&name, folder, to),
                },
                FileType::Symlink if self.links == Links::Followed => {
                    self.link(name, folder, to)?;
                }
                // Kept locally, never delivered.
                _ => {}
            }
        }
        Ok(())
    }

    /// What a symbolic link leads to, where links are followed. One that leads to a folder which it
    /// is in would lead there again and again.
    fn link(
        &self,
        name: Vec<u8>,
        folder: &mut Folder<'_>,
        to: &mut dyn Findings,
    ) -> io::Result<()> {
        match self.look(folder.fd.as_fd(), folder.path, &name)? {
            Some(found) if found.is_folder => {
                if self.leads_back(folder.path, &found)? {
                    let link = folder.path.join(&name);
                    tracing::info!(%link, "leads back to a folder that it is in: not followed");
                } else {
                    self.child(name, folder);
                }
            }
            Some(found) if found.is_file => self.file(&name, folder, to),
            _ => {}
        }
        Ok(())
    }

    /// Whether `found` is the folder at `path` or one that this is in.
    fn leads_back(&self, path: &RelPath, found: &Found) -> io::Result<bool> {
        let mut at = path.clone();
        loop {
            let above = stat(self.open(&at)?.as_fd(), b"")?;
            if above.is_some_and(|above| above.identity == found.identity) {
                return Ok(true);
            }
            match at.split() {
                Some((parent, _)) => at = parent,
                None => return Ok(false),
            }
        }
    }

    /// What is there under a name, or what it leads to if links are followed. `None` if there is
    /// nothing, or nothing in the backing directory.
    fn look(
        &self,
        folder: BorrowedFd<'_>,
        path: &RelPath,
        name: &[u8],
    ) -> io::Result<Option<Found>> {
        look(self.backing, self.links, folder, path, name)
    }

    fn child(&self, name: Vec<u8>, folder: &mut Folder<'_>) {
        let path = folder.path.join(&name);
        if path.name() == RESERVED {
            tracing::warn!(%path, "left out: the name is reserved, and a mount hides it; rename it");
        }
        if !self.filter.leaves_out(&path, true) && !folder.ignores.ignores(&path, true) {
            folder.children.push(name);
        }
    }

    fn file(&self, name: &[u8], folder: &mut Folder<'_>, to: &mut dyn Findings) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        let known = folder.known.remove(name);
        let found = match self.look(folder.fd.as_fd(), folder.path, name) {
            Ok(Some(found)) if found.is_file => found,
            // Gone meanwhile, or something else: never delivered.
            Ok(_) => {
                if let Some(known) = known {
                    folder.known.insert(name.to_vec(), known);
                }
                return;
            }
            Err(error) => return to.trouble(&folder.path.join(name), &error),
        };
        let as_known = known.is_some_and(|known| {
            !known.opened
                && (known.size, known.mtime_ns, known.inode)
                    == (found.stat.size, found.stat.mtime_ns, found.stat.inode)
        });
        let hollow = known
            .filter(|_| found.stat.size > 0 && self.since != i64::MAX)
            .and_then(|known| known.delivered)
            .is_some_and(|hash| {
                let may_be = found.has_holes() || !as_known;
                may_be && is_hollow(folder.fd.as_fd(), name, as_known, &hash)
            });
        let recovered = known.is_some_and(|known| known.suspect);
        if as_known && !hollow && !recovered || self.is_watched(found.ctime_ns) {
            return;
        }
        if suspect::is_unfinished(name) {
            return self.remove_unfinished(name, folder, found.ctime_ns);
        }
        if marker::is_ours(folder.fd.as_fd(), name) {
            return;
        }
        let path = folder.path.join(name);
        if self.filter.leaves_out(&path, false) || folder.ignores.ignores(&path, false) {
            return;
        }
        if self.filter.is_too_large(found.stat.size) {
            return to.too_large(&path, found.stat.size);
        }
        if self.must_read
            && let Err(error) =
                rustix::fs::accessat(&folder.fd, name, Access::READ_OK, AtFlags::EACCESS)
            && error == Errno::ACCESS
        {
            return to.trouble(&path, &error.into());
        }
        folder.found.push(Different {
            sighting: Sighting {
                name: name.to_vec(),
                stat: found.stat,
                ctime_ns: found.ctime_ns,
                hollow,
            },
            is_new: known.is_none(),
        });
    }

    /// What `outboxfs restore` left when it died. One that changed before the mount began is nobody's.
    fn remove_unfinished(&self, name: &[u8], folder: &Folder<'_>, ctime_ns: i64) {
        if self.since == i64::MAX || ctime_ns >= self.since {
            return;
        }
        if let Err(error) = rustix::fs::unlinkat(&folder.fd, name, AtFlags::empty()) {
            let path = folder.path.join(name);
            tracing::warn!(%path, %error, "an unfinished copy could not be removed");
        }
    }

    /// Whether a file that changed at this time did so under the mount. A time that is yet to come
    /// says nothing: the clock was set back.
    fn is_watched(&self, ctime_ns: i64) -> bool {
        ctime_ns >= self.since && ctime_ns <= now_ms() * 1_000_000 + CLOCK_STEP
    }

    /// The rules that hold in `folder`, its own not included if it is where the walk begins.
    fn ignores_of(&self, folder: &RelPath) -> Ignores {
        let mut ignores = Ignores::default();
        let mut at = RelPath::root();
        let mut names = folder.components();
        loop {
            if let Some(text) = self.open(&at).ok().and_then(|fd| rules_in(fd.as_fd())) {
                ignores = ignores.with(&at, &text);
            }
            match names.next() {
                Some(name) => at = at.join(name),
                None => return ignores,
            }
        }
    }

    fn open(&self, path: &RelPath) -> io::Result<OwnedFd> {
        beneath::open_folder(self.backing, path, self.links)
    }
}

/// Whether there is a regular file at `path` now.
pub(super) fn is_file(backing: &OwnedFd, path: &RelPath, links: Links) -> bool {
    let Some((parent, name)) = path.split() else {
        return false;
    };
    let found = beneath::open_folder(backing, &parent, links)
        .and_then(|folder| look(backing, links, folder.as_fd(), &parent, name));
    matches!(found, Ok(Some(found)) if found.is_file)
}

struct Found {
    is_file: bool,
    is_folder: bool,
    is_link: bool,
    /// Device and inode number.
    identity: (u32, u32, u64),
    stat: FileStat,
    ctime_ns: i64,
    /// Bytes that the disk keeps of it.
    allocated: u64,
}

impl Found {
    /// Whether it may have holes; compressed files look the same.
    fn has_holes(&self) -> bool {
        self.allocated < self.stat.size
    }
}

/// What is there under a name in the folder at `path`, or what it leads to.
fn look(
    backing: &OwnedFd,
    links: Links,
    folder: BorrowedFd<'_>,
    path: &RelPath,
    name: &[u8],
) -> io::Result<Option<Found>> {
    let found = stat(folder, name)?;
    if links == Links::Refused || !found.as_ref().is_some_and(|found| found.is_link) {
        return Ok(found);
    }
    // Where it leads nowhere, or out of the directory, it stays what it is: a link.
    match beneath::open(backing, &path.join(name), OFlags::PATH, links) {
        Ok(target) => stat(target.as_fd(), b""),
        Err(_) => Ok(found),
    }
}

/// What is there under a name; without one, what is open. `None` if it is gone.
fn stat(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Found>> {
    let stat = match rustix::fs::statx(
        folder,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH,
        StatxFlags::BASIC_STATS,
    ) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
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
        is_link: file_type == FileType::Symlink,
        identity: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
        stat: FileStat {
            size: stat.stx_size,
            mtime_ns: nanoseconds(stat.stx_mtime),
            inode: stat.stx_ino,
            links: u64::from(stat.stx_nlink),
        },
        ctime_ns: nanoseconds(stat.stx_ctime),
        allocated: stat.stx_blocks.saturating_mul(512),
    }))
}
