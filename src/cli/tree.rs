//! Which tree a path belongs to, where its journal is, and whether a daemon has it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::given::place;
use super::mounts::{Mounts, real_path};
use super::status::{known_journal, mount_of};
use super::{Error, preflight};
use crate::journal::View;
use crate::path::RelPath;
use crate::status::Snapshot;

/// A file or folder in a tree that has a journal, or will have.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    /// The backing directory; canonical. Covered by a mount, if it is mounted over itself.
    pub directory: PathBuf,
    /// The journal, if one is known.
    pub journal: Option<PathBuf>,
    /// The path below the directory.
    pub below: RelPath,
    /// Where it is mounted.
    pub mountpoint: Option<PathBuf>,
}

/// Finds the tree of an existing file or folder, or of a mount by its name: what is mounted there, else
/// the nearest directory at or above it that was mounted or pushed before, else itself (of a file, its
/// folder).
pub fn find(path: &Path, journal: Option<&Path>) -> Result<Tree, Error> {
    let path = &*place(path)?;
    let shown = path.display();
    let looked = |error: std::io::Error| {
        Error::Refused(match error.kind() {
            std::io::ErrorKind::NotFound => format!("{shown} does not exist"),
            _ => format!("cannot look at {shown}: {error}"),
        })
    };
    let real = real_path(path).map_err(looked)?;
    preflight::clear_stale(&real)?;
    let mounts = Mounts::read()
        .map_err(|error| Error::Refused(format!("cannot read /proc/self/mountinfo: {error}")))?;
    if let Some(mountpoint) = mount_of(&real, &mounts) {
        return mounted(&real, mountpoint);
    }
    let is_folder = fs::metadata(&real).map_err(looked)?.is_dir();
    let known = match journal {
        Some(journal) => owner(journal, &real)?,
        None => known_journal(&real)?,
    };
    let (directory, journal) = match known {
        Some((directory, journal)) => (directory, Some(journal)),
        None if is_folder => (real.clone(), None),
        None => (real.parent().unwrap_or(&real).to_owned(), None),
    };
    Ok(Tree {
        below: below(&real, &directory)?,
        directory,
        journal,
        mountpoint: None,
    })
}

/// The same for a file or folder that may be gone: in the tree of what is left above it.
pub fn find_even_gone(path: &Path, journal: Option<&Path>) -> Result<Tree, Error> {
    let (Err(error), Some(parent), Some(name)) =
        (path.symlink_metadata(), path.parent(), path.file_name())
    else {
        return find(path, journal);
    };
    if error.kind() != std::io::ErrorKind::NotFound {
        return find(path, journal);
    }
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let mut tree = find_even_gone(parent, journal)?;
    tree.below = tree.below.join(name.as_bytes());
    Ok(tree)
}

/// Why a path without a journal is of no use to most commands.
pub fn unknown(path: &Path) -> Error {
    Error::Refused(format!(
        "{} was never mounted or pushed (a journal elsewhere is found with --journal PATH)",
        path.display()
    ))
}

/// The directory that an existing journal belongs to, if `path` is in it.
fn owner(journal: &Path, path: &Path) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    if !journal.exists() {
        return Ok(None);
    }
    let meta = View::open(journal).and_then(|view| view.meta());
    let meta = meta.map_err(|error| Error::Refused(error.to_string()))?;
    Ok(path
        .starts_with(&meta.directory)
        .then(|| (meta.directory, journal.to_owned())))
}

fn mounted(path: &Path, mountpoint: PathBuf) -> Result<Tree, Error> {
    let file = mountpoint.join(".upload/status.json");
    let failed = |error: String| {
        Error::Failed(format!(
            "the daemon of {} does not answer: {error}",
            mountpoint.display()
        ))
    };
    let text = fs::read(&file).map_err(|error| failed(error.to_string()))?;
    let status: Snapshot =
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    let directory = PathBuf::from(status.directory);
    let below = match path.starts_with(&mountpoint) {
        true => below(path, &mountpoint)?,
        false => below(path, &directory)?,
    };
    Ok(Tree {
        directory,
        journal: Some(status.journal.into()),
        below,
        mountpoint: Some(mountpoint),
    })
}

fn below(path: &Path, directory: &Path) -> Result<RelPath, Error> {
    path.strip_prefix(directory)
        .ok()
        .and_then(|below| RelPath::parse(below.as_os_str().as_bytes()))
        .ok_or_else(|| {
            Error::Refused(format!(
                "{} is not in {}",
                path.display(),
                directory.display()
            ))
        })
}
