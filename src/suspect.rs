//! Deciding on suspect files: [`accept`] takes what is on the disk for right, [`restore`] brings the
//! remote's copy back.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::beneath::{self, Links};
use crate::journal::{
    Change, Durability, FileId, FileOutcome, FileStat, Journal, JournalError, Settlement, Suspect,
};
use crate::path::RelPath;
use crate::remote::{Artifact, Key, Remote, RemoteError};

/// How names begin under which copies are written.
const TEMPORARY: &str = ".outboxfs-restore-";

/// Whether the name is one of a copy that a crash left unfinished: not to be delivered.
pub fn is_unfinished(name: &[u8]) -> bool {
    name.starts_with(TEMPORARY.as_bytes())
}

/// Suspects taken from the journal at a time.
const BATCH: usize = 256;

/// Takes the local state of all suspects from `below` on for right: what is there is delivered, what
/// is gone is forgotten. Returns how many.
pub fn accept(journal: &Journal, backing: &OwnedFd, below: &RelPath) -> Result<u64, JournalError> {
    let view = journal.view()?;
    let mut accepted = 0;
    let mut last = None;
    loop {
        let suspects = view.suspects(below, last, BATCH)?;
        let Some(end) = suspects.last() else {
            return Ok(accepted);
        };
        last = Some(end.id);
        let (sender, answers) = crossbeam_channel::unbounded();
        for suspect in &suspects {
            let sender = sender.clone();
            // So that nothing is renamed through the mount between the look and the record.
            let _names = journal.names().read();
            let path = suspect.path.clone();
            let change = match stat_below(backing, &path) {
                Some(stat) => Change::Written { path, stat },
                None => Change::Removed { path },
            };
            journal.record(change, Durability::Committed, move |result| {
                let _ = sender.send(result);
            });
        }
        drop(sender);
        for answer in answers {
            answer?;
            accepted += 1;
        }
    }
}

/// What became of suspects that were to be restored.
#[derive(Debug, Default)]
pub struct Restored {
    pub files: u64,
    /// Those that are as they were, and why; sentences.
    pub failed: Vec<String>,
}

impl Restored {
    /// Their number, or what was left and why, in one sentence.
    pub fn into_result(self) -> Result<u64, String> {
        let left = self.failed.len();
        match self.failed.into_iter().next() {
            None => Ok(self.files),
            Some(first) if left == 1 => Err(format!("{} restored; not {first}", self.files)),
            Some(first) => Err(format!(
                "{} restored; not {left} others, of which the first is {first}",
                self.files
            )),
        }
    }
}

/// Brings the remote's copies of all suspects from `below` on back, each whole, verified and under
/// its name at once. `placed` is called with each path where something new is.
pub async fn restore(
    journal: &Journal,
    backing: &OwnedFd,
    remote: &dyn Remote,
    below: &RelPath,
    placed: &(dyn Fn(&RelPath) + Send + Sync),
) -> Result<Restored, JournalError> {
    let view = journal.view()?;
    let mut restored = Restored::default();
    let mut last: Option<FileId> = None;
    loop {
        let suspects = view.suspects(below, last, BATCH)?;
        let Some(end) = suspects.last() else {
            return Ok(restored);
        };
        last = Some(end.id);
        let mut settlements = Vec::new();
        for suspect in suspects {
            match one(journal, backing, remote, &suspect).await {
                Ok(copied) => {
                    restored.files += 1;
                    copied.made.iter().chain([&suspect.path]).for_each(placed);
                    settlements.extend(copied.outcome.map(|outcome| Settlement {
                        id: suspect.id,
                        version: suspect.version,
                        path: suspect.path,
                        outcome,
                    }));
                }
                Err(error) => restored.failed.push(format!("{}: {error}", suspect.path)),
            }
        }
        // What is recorded as delivered is durable first.
        let error = |error: Errno| JournalError::Sqlite(format!("cannot sync the disk: {error}"));
        rustix::fs::syncfs(backing).map_err(error)?;
        journal.settle_files(settlements).await?;
    }
}

/// Why one file was not restored.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(
        "no copy of it is known at the remote; 'outboxfs accept' takes the local state for right"
    )]
    Missing,
    #[error("the remote's copy is not what was delivered (its checksum differs)")]
    Different,
    #[error("the remote's copy has no checksum to verify it by")]
    Unverifiable,
    #[error("it was changed meanwhile")]
    Changed,
    #[error("it is open for writing; close it first")]
    Open,
    #[error("{0}")]
    Remote(#[from] RemoteError),
    #[error("cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Journal(#[from] JournalError),
}

impl From<Errno> for RestoreError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A file that was restored.
struct Copied {
    /// What the journal has to be told still.
    outcome: Option<FileOutcome>,
    /// Folders that were gone.
    made: Vec<RelPath>,
}

async fn one(
    journal: &Journal,
    backing: &OwnedFd,
    remote: &dyn Remote,
    suspect: &Suspect,
) -> Result<Copied, RestoreError> {
    let source = Source::find(journal, remote, suspect).await?;
    let mut copy = Temporary::create(backing, &suspect.path)?;
    remote
        .get(&source.key, &mut copy)
        .await?
        .ok_or(RestoreError::Missing)?;
    if copy.hasher.finalize() != source.hash {
        return Err(RestoreError::Different);
    }
    let mtime_ns = source.mtime_ns.unwrap_or(suspect.mtime_ns);
    let (done, recorded) = oneshot::channel();
    let record = |stat| {
        // Under its own name it is not delivered yet.
        let path = suspect.path.clone();
        let change = Change::Written { path, stat };
        journal.record(change, Durability::Committed, move |result| {
            let _ = done.send(result);
        });
    };
    let outcome = if source.is_former {
        copy.place(journal, suspect, mtime_ns, record)?;
        recorded.await.unwrap_or(Err(JournalError::Closed))?;
        None
    } else {
        Some(FileOutcome::Restored {
            stat: copy.place(journal, suspect, mtime_ns, |_| ())?,
            hash: source.hash,
        })
    };
    let made = std::mem::take(&mut copy.made);
    Ok(Copied { outcome, made })
}

/// The object that a file is restored from.
struct Source {
    key: Key,
    hash: blake3::Hash,
    mtime_ns: Option<i64>,
    /// It lies where the file was before it was renamed.
    is_former: bool,
}

impl Source {
    /// What the remote has of the file: under its name, if that was delivered; else where it was before it was
    /// renamed; else what its name had before.
    async fn find(
        journal: &Journal,
        remote: &dyn Remote,
        suspect: &Suspect,
    ) -> Result<Self, RestoreError> {
        let former = journal.view()?.former_objects(suspect.id)?;
        let mut places: Vec<_> = former
            .into_iter()
            .map(|(path, hash)| (path, Some(hash), true))
            .collect();
        let at = match suspect.hash {
            Some(_) => 0,
            None => places.len(),
        };
        places.insert(at, (suspect.path.clone(), suspect.hash, false));
        for (path, hash, is_former) in places {
            let key = Key::new(Artifact::Original, &path);
            let Some(object) = remote.head(&key).await? else {
                continue;
            };
            return Ok(Self {
                key,
                hash: hash.or(object.blake3).ok_or(RestoreError::Unverifiable)?,
                mtime_ns: object.mtime_ns,
                is_former,
            });
        }
        Err(RestoreError::Missing)
    }
}

/// A file that gets its name when it is whole; removed if it does not.
struct Temporary {
    folder: OwnedFd,
    name: String,
    file: File,
    hasher: blake3::Hasher,
    placed: bool,
    /// Folders that were gone.
    made: Vec<RelPath>,
}

impl Temporary {
    /// In the folder of the file at `path`, which is made if it is gone.
    fn create(backing: &OwnedFd, path: &RelPath) -> io::Result<Self> {
        let mut made = Vec::new();
        let folder = make_folder(backing, path, &mut made)?;
        let name = format!("{TEMPORARY}{:016x}", fastrand::u64(..));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = match statx_mode(&folder, path.name()) {
            Some(mode) => mode,
            None => Mode::from_raw_mode(0o644),
        };
        let file = File::from(rustix::fs::openat(&folder, &*name, flags, mode)?);
        Ok(Self {
            folder,
            name,
            file,
            hasher: blake3::Hasher::new(),
            placed: false,
            made,
        })
    }

    /// Gives it the suspect's name, unless something has happened to that meanwhile. `placed` is called before
    /// anything can happen to it again.
    fn place(
        &mut self,
        journal: &Journal,
        suspect: &Suspect,
        mtime_ns: i64,
        placed: impl FnOnce(FileStat),
    ) -> Result<FileStat, RestoreError> {
        let time = Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&self.file, &times)?;
        self.file.sync_all()?;
        let _names = journal.names().write();
        let before = FileId::before(suspect.id);
        let view = journal.view()?;
        if view.has_arrived(&suspect.path)? {
            return Err(RestoreError::Changed);
        }
        let now = view
            .suspects(&suspect.path, Some(before), 1)?
            .pop()
            .filter(|now| now.id == suspect.id && now.version == suspect.version)
            .ok_or(RestoreError::Changed)?;
        if now.opened && !suspect.opened {
            return Err(RestoreError::Open);
        }
        rustix::fs::renameat(&self.folder, &*self.name, &self.folder, suspect.path.name())?;
        self.placed = true;
        let (stat, _) = crate::delivery::stat_file(&self.file)?;
        placed(stat);
        Ok(stat)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            let _ = rustix::fs::unlinkat(&self.folder, &*self.name, AtFlags::empty());
        }
    }
}

/// Modes of the file that is there still.
fn statx_mode(folder: &OwnedFd, name: &[u8]) -> Option<Mode> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(Mode::from_raw_mode(stat.st_mode & 0o777))
}

/// The folder of the file at `path`, open; made with those above it if it is gone.
fn make_folder(backing: &OwnedFd, path: &RelPath, made: &mut Vec<RelPath>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = rustix::fs::openat(backing, ".", flags, Mode::empty())?;
    let parent = path.split().map(|(parent, _)| parent).unwrap_or_default();
    let mut at = RelPath::root();
    for name in parent.components() {
        at = at.join(name);
        if rustix::fs::accessat(&folder, name, Access::EXISTS, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755))?;
            made.push(at.clone());
        }
        folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    }
    Ok(folder)
}

/// The regular file at `path`, if there is one.
fn stat_below(backing: &OwnedFd, path: &RelPath) -> Option<FileStat> {
    let file = beneath::open(backing, path, OFlags::PATH, Links::Refused).ok()?;
    Some(crate::delivery::stat_file(file.as_fd()).ok()?.0)
}
