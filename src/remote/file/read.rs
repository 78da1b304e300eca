//! Looking at what a directory has: listings, metadata, content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::{BUFFER, FileRemote, explain};
use crate::remote::object::parse_mtime;
use crate::remote::{Each, Key, Listed, ObjectInfo, RemoteError, Sink};

/// Objects, or pieces of one, on their way from the thread that reads the disk.
const AHEAD: usize = 256;

/// Folder by folder; memory grows with depth, not with the number of objects.
pub(super) async fn list(
    remote: &FileRemote,
    prefix: &str,
    each: Each<'_>,
) -> Result<(), RemoteError> {
    let (sender, mut listed) = mpsc::channel(AHEAD);
    let prefix = prefix.to_owned();
    let walk = remote.blocking(move |root| {
        walk(root, &prefix, &sender)
            .map_err(|error| explain(&format!("listing {}", root.display()), &error))
    });
    let hear = async {
        while let Some(object) = listed.recv().await {
            each(object);
        }
    };
    tokio::join!(walk, hear).0
}

fn walk(root: &Path, prefix: &str, to: &mpsc::Sender<Listed>) -> io::Result<()> {
    let above = prefix.rsplit_once('/').map_or("", |(above, _)| above);
    let mut folders: Vec<PathBuf> = vec![root.join(above)];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            // Keys are UTF-8; what is not was put there by somebody else.
            let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
                continue;
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                // Above the prefix, or below it.
                if prefix.starts_with(key) || key.starts_with(prefix) {
                    folders.push(path);
                }
            } else if metadata.is_file() && key.starts_with(prefix) {
                let listed = Listed {
                    key: key.to_owned(),
                    size: metadata.len(),
                    etag: None,
                };
                if to.blocking_send(listed).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

pub(super) fn head(root: &Path, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
    let Some(file) = open(root, key)? else {
        return Ok(None);
    };
    let failed = |error| explain(&format!("looking at {key}"), &error);
    let metadata = file.metadata().map_err(failed)?;
    let kept = |name: &str| {
        let mut text = [0; 64];
        let length = rustix::fs::fgetxattr(&file, name, &mut text[..]).ok()?;
        String::from_utf8(text[..length].to_vec()).ok()
    };
    let blake3 =
        kept("user.outboxfs.blake3").and_then(|hex| blake3::Hash::from_hex(hex.as_bytes()).ok());
    let mtime_ns = kept("user.outboxfs.mtime").and_then(|text| parse_mtime(&text));
    Ok(Some(ObjectInfo {
        size: metadata.len(),
        original_size: None,
        etag: None,
        blake3,
        mtime_ns,
    }))
}

pub(super) async fn get(
    remote: &FileRemote,
    key: &Key,
    sink: Sink<'_>,
) -> Result<Option<u64>, RemoteError> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(2);
    let its_key = key.clone();
    let read = remote.blocking(move |root| {
        let Some(mut file) = open(root, &its_key)? else {
            return Ok(None);
        };
        let mut size = 0;
        loop {
            let mut piece = Vec::new();
            let read = (&mut file).take(BUFFER as u64).read_to_end(&mut piece);
            let read = read.map_err(|error| explain(&format!("reading {its_key}"), &error))?;
            size += read as u64;
            if read == 0 || sender.blocking_send(piece).is_err() {
                return Ok(Some(size));
            }
        }
    });
    let write = async move {
        // A sink that fails drops the receiver, and the reader ends.
        while let Some(piece) = pieces.recv().await {
            sink.write_all(&piece)?;
        }
        Ok::<(), io::Error>(())
    };
    let (size, written) = tokio::join!(read, write);
    written.map_err(|error| {
        RemoteError::permanent(format!(
            "reading {key}: its content cannot be kept: {error}"
        ))
    })?;
    size
}

/// A regular file; anything else is no object.
pub(super) fn open(root: &Path, key: &Key) -> Result<Option<File>, RemoteError> {
    let path = root.join(key.as_str());
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.is_file() => return Ok(None),
        Err(error) if is_missing(&error) => return Ok(None),
        _ => {}
    }
    match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(explain(&format!("opening {key}"), &error)),
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
