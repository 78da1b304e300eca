//! A directory as the remote: the embedded default, and the way to a disk or share that is mounted.

mod copy;
mod delete;
mod read;
mod root;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use root::Root;

use super::{
    Body, Copy, Each, Key, ObjectInfo, Pace, Proof, Put, Remote, RemoteError, RemoteErrorKind,
    Sent, Sink,
};

/// Where objects are written before they get their names; beside `original/` and `thumbnail/`, so
/// on the same file system.
const TEMPORARY: &str = ".outboxfs-tmp";
/// How often a folder may vanish between its making and its first file.
const FOLDER_RACES: usize = 8;
/// Large enough that system calls do not count, small enough to stay in the cache while hashed.
const BUFFER: usize = 1 << 20;

/// Objects as files at `ROOT/original/…` and `ROOT/thumbnail/…`. Each is written under another
/// name, synced, and renamed; so it is there whole, after a power cut too, or not at all.
pub struct FileRemote {
    root: Arc<Root>,
    pace: OnceLock<Arc<Pace>>,
}

impl FileRemote {
    /// Takes `file:///path`. Touches no disk.
    pub fn open(url: &url::Url) -> Result<Self, RemoteError> {
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RemoteError::permanent(
                "a file: URL has no options; write ? as %3F and # as %23 if they belong to the path",
            ));
        }
        match url.to_file_path() {
            Ok(root) => Ok(Self {
                root: Arc::new(Root::new(root)),
                pace: OnceLock::new(),
            }),
            Err(()) => Err(RemoteError::permanent(
                "a file: URL names a directory of this machine by its absolute path, as in \
                 file:///srv/pictures",
            )),
        }
    }

    fn pace(&self) -> Arc<Pace> {
        self.pace.get().cloned().unwrap_or_default()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let root = self.root.clone();
        match tokio::task::spawn_blocking(move || work(&root)).await {
            Ok(result) => result,
            Err(error) => Err(RemoteError::transient(format!(
                "writing to {} was broken off: {error}",
                self.describe()
            ))),
        }
    }
}

#[async_trait]
impl Remote for FileRemote {
    fn describe(&self) -> String {
        file_url(&self.root)
    }

    /// Creates the directory if nothing was ever delivered there, and removes what a crash left of earlier writes.
    async fn probe(&self) -> Result<(), RemoteError> {
        self.blocking(Root::probe).await
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        let (pace, sent) = (self.pace(), Sent::current());
        self.blocking(move |root| {
            pace.request_blocking();
            store(root, &put, &pace, &sent)
        })
        .await
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        read::list(self, prefix, each).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        let key = key.clone();
        self.blocking(move |root| read::head(root, &key)).await
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        read::get(self, key, sink).await
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        let key = key.clone();
        self.blocking(move |root| delete::delete(root, &key)).await
    }

    /// One after the other on one thread.
    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        let count = keys.len();
        let keys = keys.to_vec();
        let deleted = self
            .blocking(move |root| Ok(keys.iter().map(|key| delete::delete(root, key)).collect()));
        deleted
            .await
            .unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn copy(&self, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        let (copy, pace) = (copy.clone(), self.pace());
        self.blocking(move |root| {
            pace.request_blocking();
            copy::copy(root, &copy, &pace)
        })
        .await
    }

    fn expect_objects(&self) {
        self.root.use_it();
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        // A second one would come too late for what is being written.
        let _ = self.pace.set(pace);
    }

    fn url(&self, key: &Key) -> Option<String> {
        Some(file_url(&self.root.join(key.as_str())))
    }
}

fn file_url(path: &Path) -> String {
    match url::Url::from_file_path(path) {
        Ok(url) => url.into(),
        // Only relative paths have no URL, and the root is absolute.
        Err(()) => path.display().to_string(),
    }
}

fn store(root: &Root, put: &Put, pace: &Pace, sent: &Sent) -> Result<Proof, RemoteError> {
    let what = format!("storing {}", put.key);
    let failed = |error| explain(&what, &error);
    root.is_there(&what)?;
    let mut temporary = Temporary::create(root).map_err(failed)?;
    let file = &mut temporary.file;
    if write(&put.body, file, pace, sent).map_err(failed)? != Some(put.hash) {
        return Err(RemoteError::content_changed());
    }
    describe(file, &attributes(put)).map_err(failed)?;
    let proof = finish(root, temporary, &put.key, &what)?;
    root.use_it();
    Ok(proof)
}

/// Makes a written file durable and an object.
fn finish(root: &Root, temporary: Temporary, key: &Key, what: &str) -> Result<Proof, RemoteError> {
    let failed = |error| explain(what, &error);
    temporary.file.sync_all().map_err(failed)?;
    let target = root.join(key.as_str());
    place(root, temporary, &target).map_err(|error| match error.raw_os_error().map(errno) {
        Some(Errno::ISDIR | Errno::NOTDIR | Errno::EXIST) => occupied(root, what, &target),
        _ => failed(error),
    })?;
    Ok(Proof::default())
}

/// Copies the body and returns its hash; `None` if a file ended early.
fn write(body: &Body, to: &mut File, pace: &Pace, sent: &Sent) -> io::Result<Option<blake3::Hash>> {
    match body {
        Body::Bytes(bytes) => {
            for part in bytes.chunks(pace.slice(BUFFER)) {
                pace.bytes_blocking(part.len() as u64);
                to.write_all(part)?;
                sent.add(part.len() as u64);
            }
            Ok(Some(blake3::hash(bytes)))
        }
        Body::File { file, len } => copy(file, *len, to, pace, sent),
    }
}

fn copy(
    from: &File,
    len: u64,
    to: &mut File,
    pace: &Pace,
    sent: &Sent,
) -> io::Result<Option<blake3::Hash>> {
    use std::os::unix::fs::FileExt;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; len.min(BUFFER as u64) as usize];
    let mut at = 0;
    while at < len {
        let wanted = (len - at).min(pace.slice(BUFFER) as u64) as usize;
        match from.read_at(&mut buffer[..wanted], at) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                pace.bytes_blocking(read as u64);
                hasher.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
                sent.add(read as u64);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(hasher.finalize()))
}

/// Where the metadata are kept: extended attributes.
const ATTRIBUTES: &str = "user.outboxfs.";

type Attributes = Vec<(String, Vec<u8>)>;

fn attributes(put: &Put) -> Attributes {
    described(&put.content_type, put.hash, &put.metadata)
}

fn described(
    content_type: &str,
    hash: blake3::Hash,
    metadata: &[(&'static str, String)],
) -> Attributes {
    let hex = hash.to_hex();
    let own = [("content-type", content_type), ("blake3", hex.as_str())];
    let further = metadata.iter().map(|(name, value)| (*name, value.as_str()));
    own.into_iter()
        .chain(further)
        .map(|(name, value)| (format!("{ATTRIBUTES}{name}"), value.as_bytes().to_vec()))
        .collect()
}

/// Keeps the metadata, where the file system can.
fn describe(file: &File, attributes: &Attributes) -> io::Result<()> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
            Ok(()) => {}
            // None here (vfat, NFS), or no more room for them in the inode: the bytes count.
            Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC | Errno::TOOBIG) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives a written file its name, and makes the name durable.
fn place(root: &Path, mut temporary: Temporary, target: &Path) -> io::Result<()> {
    let parent = target.parent().unwrap_or(root);
    // One rename in most cases: a folder is missing only for its first file, or when somebody else
    // has just removed it because it was empty.
    for _ in 0..FOLDER_RACES {
        match temporary.rename(target) {
            Err((again, error)) if error.kind() == io::ErrorKind::NotFound => {
                create_folder(root, parent)?;
                temporary = again;
            }
            Err((_, error)) => return Err(error),
            Ok(()) => return sync_folder(parent),
        }
    }
    temporary.rename(target).map_err(|(_, error)| error)?;
    sync_folder(parent)
}

/// Creates a folder below the root with those above it, durably.
fn create_folder(root: &Path, folder: &Path) -> io::Result<()> {
    let below_root = folder.ancestors().take_while(|path| *path != root);
    let missing: Vec<_> = below_root.take_while(|path| !path.exists()).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Ok(()) => match sync_folder(folder.parent().unwrap_or(root)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                result => result?,
            },
            // Another worker was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // The one above it was removed again, being empty: the caller begins anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // File systems without that notion (some FUSE ones, vfat).
        Err(error) if error.raw_os_error().map(errno) == Some(Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// A file that is removed unless it is given its name.
struct Temporary {
    file: File,
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    fn create(root: &Path) -> io::Result<Self> {
        let folder = root.join(TEMPORARY);
        let path = folder.join(format!("{:016x}", fastrand::u64(..)));
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        // A probe elsewhere removes the folder when it is empty, at any moment.
        for _ in 0..8 {
            match create() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match std::fs::create_dir(&folder) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
                result => return result.map(|file| Self::new(file, path.clone())),
            }
        }
        create().map(|file| Self::new(file, path.clone()))
    }

    fn new(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            placed: false,
        }
    }

    fn rename(mut self, target: &Path) -> Result<(), (Self, io::Error)> {
        match std::fs::rename(&self.path, target) {
            Ok(()) => {
                self.placed = true;
                Ok(())
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(
                "removing the temporary file {} failed: {error}",
                self.path.display()
            );
        }
    }
}

fn errno(raw: i32) -> Errno {
    Errno::from_raw_os_error(raw)
}

fn explain(what: &str, error: &io::Error) -> RemoteError {
    let advice =
        |kind, advice: &str| RemoteError::new(kind, format!("{what} failed: {error}{advice}"));
    use RemoteErrorKind::{Permanent, Transient};
    match error.raw_os_error().map(errno) {
        Some(Errno::NOSPC | Errno::DQUOT) => {
            advice(Transient, "; make room there, it is tried again by itself")
        }
        Some(Errno::ACCESS | Errno::PERM) => advice(
            Permanent,
            "; give the user that outboxfs runs as the right to write there",
        ),
        Some(Errno::ROFS) => advice(Permanent, "; mount that file system writable"),
        Some(Errno::NAMETOOLONG) => advice(
            Permanent,
            "; a file name there has at most 255 bytes (a path 4,096), and characters that keys \
             encode take three each",
        ),
        Some(Errno::FBIG) => advice(Permanent, "; that file system takes no file so large"),
        Some(Errno::NOTDIR | Errno::EXIST) => advice(Permanent, "; a file is in the way"),
        Some(Errno::XDEV) => advice(
            Permanent,
            "; original/ and thumbnail/ must be on the same file system as the remote's directory",
        ),
        _ => advice(Transient, ""),
    }
}

/// A folder stands where the file must go, or a file where a folder must. It was delivered once,
/// so it is not ours to remove.
fn occupied(root: &Path, what: &str, target: &Path) -> RemoteError {
    let below_root = target.ancestors().take_while(|path| *path != root);
    let file = below_root
        .skip(1)
        .find(|path| path.symlink_metadata().is_ok_and(|found| !found.is_dir()));
    let found = match file {
        Some(file) => format!("{} is a file there", file.display()),
        None => format!("{} is a folder there", target.display()),
    };
    RemoteError::permanent(format!(
        "{what} is not possible: {found}, delivered when it was one here; move or remove it, then \
         retry"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<FileRemote, RemoteError> {
        FileRemote::open(&url::Url::parse(url).unwrap())
    }

    #[test]
    fn urls_name_a_directory_of_this_machine() {
        assert_eq!(
            &**open("file:///srv/a%20b").unwrap().root,
            Path::new("/srv/a b")
        );
        for url in ["file://host/srv", "file:///srv?x=1", "file:///srv#x"] {
            assert_eq!(
                open(url).err().map(|e| e.kind),
                Some(RemoteErrorKind::Permanent),
                "{url}"
            );
        }
    }

    #[test]
    fn a_full_disk_is_waited_for_and_a_read_only_one_is_not() {
        let kind = |errno: Errno| explain("storing x", &errno.into()).kind;
        assert_eq!(kind(Errno::NOSPC), RemoteErrorKind::Transient);
        assert_eq!(kind(Errno::IO), RemoteErrorKind::Transient);
        assert_eq!(kind(Errno::ROFS), RemoteErrorKind::Permanent);
        assert_eq!(kind(Errno::NAMETOOLONG), RemoteErrorKind::Permanent);
    }
}
