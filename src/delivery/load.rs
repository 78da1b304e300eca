//! Reading a file for delivery: once, where it is small enough, for hash, thumbnail and upload.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Context;
use super::open::stat_file;
use crate::derive::thumbnail;
use crate::journal::{FileStat, Kind, Writing};
use crate::path::RelPath;
use crate::remote::{Body, MEDIA_TYPE_HEAD};

/// Files up to this size are held in memory while they are delivered, bytes.
pub(super) const IN_MEMORY: u64 = 8 << 20;
/// Files up to this size are read without asking how large they are first, bytes.
const SMALL: u64 = 64 << 10;
/// All files in memory together, bytes.
pub(super) const BUDGET: u64 = 40 << 20;
/// Budget is given out in pieces of this many bytes.
const PIECE: u64 = 4096;
/// How much of a large file is read at a time, bytes.
const CHUNK: usize = 1 << 20;

/// The memory that files may take.
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((BUDGET / PIECE) as usize)))
    }
}

impl Budget {
    /// Waits until there is room for a file of this size; a large one, which is streamed, needs none.
    async fn take(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let pieces = if size <= IN_MEMORY {
            size.div_ceil(PIECE) as u32
        } else {
            0
        };
        // Fails only if the semaphore is closed, which it never is.
        self.0.clone().acquire_many_owned(pieces).await.ok()
    }
}

/// A file ready to be sent.
pub(super) struct Loaded {
    pub stat: FileStat,
    pub hash: blake3::Hash,
    pub kind: Kind,
    pub body: Body,
    /// The first bytes, [`MEDIA_TYPE_HEAD`] if there are so many.
    pub head: Bytes,
    _budget: Option<OwnedSemaphorePermit>,
}

/// Why a file could not be loaded.
pub(super) enum LoadError {
    /// There is no regular file of that name.
    Gone,
    /// It changed while it was read, or is being written; a change that says so is coming.
    Changed,
    Io(io::Error),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            // ELOOP: a symbolic link has taken its place.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO) => Self::Gone,
            _ if error.kind() == io::ErrorKind::NotFound => Self::Gone,
            _ if error.kind() == io::ErrorKind::UnexpectedEof => Self::Changed,
            _ => Self::Io(error),
        }
    }
}

/// Whether there is no regular file of that name. Blocks on the disk.
pub(super) fn is_gone(context: &Context, path: &RelPath) -> bool {
    let found = context.open_file(path).and_then(stat_file);
    found.is_err_and(|error| matches!(error.into(), LoadError::Gone))
}

/// Opens, reads and hashes the file.
pub(super) async fn load(context: &Arc<Context>, path: &RelPath) -> Result<Loaded, LoadError> {
    // Most files are small: with room for one of these, all is done in one visit to the disk.
    let small = context.budget.take(SMALL).await;
    let (its_context, its_path) = (context.clone(), path.clone());
    let opened = blocking(move || {
        let file = its_context.open_file(&its_path)?;
        let (stat, ctime) = stat_file(&file)?;
        let opened = Opened {
            file: Arc::new(file),
            stat,
            ctime,
            is_stats: its_context.options.stats.is_stats(its_path.name()),
            writing: its_context.journal.writing().clone(),
        };
        match stat.size <= SMALL {
            true => opened.read(small).map(Ok),
            false => Ok(Err(opened)),
        }
    })
    .await?;
    match opened {
        Ok(loaded) => Ok(loaded),
        Err(opened) => {
            let budget = context.budget.take(opened.stat.size).await;
            blocking(move || opened.read(budget)).await
        }
    }
}

struct Opened {
    file: Arc<File>,
    stat: FileStat,
    /// Its change time, nanoseconds.
    ctime: i64,
    is_stats: bool,
    writing: Arc<Writing>,
}

impl Opened {
    fn read(self, budget: Option<OwnedSemaphorePermit>) -> Result<Loaded, LoadError> {
        let Self {
            file,
            stat,
            ctime,
            is_stats,
            writing,
        } = self;
        let (hash, body, head) = if stat.size <= IN_MEMORY {
            let mut content = vec![0; stat.size as usize];
            file.read_exact_at(&mut content, 0)?;
            let content = Bytes::from(content);
            (
                blake3::hash(&content),
                Body::Bytes(content.clone()),
                content.slice(..content.len().min(MEDIA_TYPE_HEAD)),
            )
        } else {
            let (hash, head) = hash_file(&file, stat.size)?;
            let (file, len) = (file.clone(), stat.size);
            (hash, Body::File { file, len }, head)
        };
        // What somebody is writing just now is no closed version of the file. His close comes, and is
        // a new version; what was closed before is nowhere any more. Who has closed it before this
        // question has changed it since it was read.
        if writing.is_unfinished(&stat) || stat_file(&file)? != (stat, ctime) {
            return Err(LoadError::Changed);
        }
        let kind = if is_stats {
            Kind::Stats
        } else if thumbnail::is_picture(&head) {
            Kind::Picture
        } else {
            Kind::Other
        };
        Ok(Loaded {
            stat,
            hash,
            kind,
            body,
            head,
            _budget: budget,
        })
    }
}

/// The hash of a large file, and its first bytes.
fn hash_file(file: &File, size: u64) -> io::Result<(blake3::Hash, Bytes)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut head = Bytes::new();
    let mut at = 0;
    while at < size {
        let length = CHUNK.min((size - at) as usize);
        file.read_exact_at(&mut buffer[..length], at)?;
        hasher.update(&buffer[..length]);
        if at == 0 {
            head = Bytes::copy_from_slice(&buffer[..MEDIA_TYPE_HEAD]);
        }
        at += length as u64;
    }
    Ok((hasher.finalize(), head))
}

/// Runs what blocks on the disk where that is allowed. A panic becomes an I/O error of this file.
pub(super) async fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    match super::blocking::blocking(body).await {
        Ok(result) => result,
        Err(error) => Err(LoadError::Io(io::Error::other(error))),
    }
}
