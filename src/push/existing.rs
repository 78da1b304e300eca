//! A remote that may hold the same objects already: what it has is listed once, and not sent again
//! where size and checksum agree.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::Events;
use super::patience::patiently;
use crate::path::RelPath;
use crate::remote::{
    Artifact, Body, Capabilities, Copy, Each, Key, Listed, ObjectInfo, Pace, Proof, Put, Remote,
    RemoteError, Sink, Unfinished, UploadNotes,
};

/// A listing costs one request for so many objects; before one in so many files is new, it does not
/// pay.
const PAGE: u64 = 1000;
/// Read at a time of a file that is compared, bytes.
const CHUNK: usize = 1 << 20;

/// The remote behind it, except that [`Remote::put`] sends only what is not there.
pub struct SkipExisting {
    remote: Arc<dyn Remote>,
    events: Arc<Events>,
    /// What the listing is of: everything, or a folder,
    below: RelPath,
    /// in each of these, which keys begin with.
    folders: Vec<String>,
    /// Files that were delivered before this push: their number is about that of the objects.
    delivered: u64,
    puts: AtomicU64,
    index: OnceCell<Index>,
}

/// Objects at the remote that were not asked for yet: 32 bytes each, sorted by the first field.
#[derive(Default)]
struct Index(Mutex<Vec<Entry>>);

#[derive(Clone, Copy)]
struct Entry {
    /// The first bytes of the key's BLAKE3. Two keys may share them: content is compared anyway.
    key: u64,
    size: u64,
    /// The ETag if it may be an MD5, else zeros.
    md5: [u8; 16],
}

/// Of an entry that was asked for, which holds no more when something else was stored.
const TAKEN: u64 = u64::MAX;

impl SkipExisting {
    pub fn new(
        remote: Arc<dyn Remote>,
        events: Arc<Events>,
        below: RelPath,
        folders: Vec<String>,
        delivered: u64,
    ) -> Self {
        Self {
            remote,
            events,
            below,
            folders,
            delivered,
            puts: AtomicU64::new(0),
            index: OnceCell::new(),
        }
    }

    /// The remote's proof if it has the object already.
    async fn existing(&self, put: &Put) -> Option<Proof> {
        let puts = self.puts.fetch_add(1, Ordering::Relaxed);
        if puts < self.delivered / PAGE {
            return None;
        }
        if self.remote.capabilities().lists {
            let index = self.index.get_or_init(|| self.list()).await;
            let entry = index.take(&put.key)?;
            if entry.size != put.body.len() {
                return None;
            }
            if entry.md5 != [0; 16] && md5_of(&put.body).await.ok()? == entry.md5 {
                self.note(put, "the remote has it already (same size and MD5)");
                let etag = Some(hex(&entry.md5));
                return Some(Proof::of_etag(etag));
            }
        }
        // Sent in parts or encrypted, an object's ETag is no MD5; but it may know its BLAKE3.
        let info = self.remote.head(&put.key).await.ok()??;
        if info.size == put.body.len() && info.blake3 == Some(put.content_hash()) {
            self.note(put, "the remote has it already (same size and BLAKE3)");
            return Some(Proof::of_etag(info.etag));
        }
        None
    }

    fn note(&self, put: &Put, reason: &'static str) {
        tracing::info!(key = %put.key, reason, "not sent");
        if put.key.as_str().starts_with(Artifact::Original.folder()) {
            self.events.exists(&put.key, reason);
        }
    }

    async fn list(&self) -> Index {
        let index = Index::default();
        for folder in &self.folders {
            let prefix = prefix(folder, &self.below);
            let before = index.0.lock().len();
            let listed = patiently(|| async {
                index.0.lock().truncate(before);
                let each = &mut |object: Listed| index.0.lock().push(Entry::of(&object));
                self.remote.list(&prefix, each).await
            });
            if let Err(error) = listed.await {
                // Credentials that may write and not list are a sensible thing to have.
                tracing::warn!("{error}; what the remote has already is sent again");
                index.0.lock().clear();
                return index;
            }
        }
        index.0.lock().sort_unstable_by_key(|entry| entry.key);
        index
    }
}

/// What the keys in a folder of the remote begin with, of all files below a folder here, or of one file.
pub fn prefix(folder: &str, below: &RelPath) -> String {
    match below.is_root() {
        true => format!("{folder}/"),
        false => Key::below(folder, below).to_string(),
    }
}

impl Entry {
    fn of(object: &Listed) -> Self {
        Self {
            key: short(&object.key),
            size: object.size,
            md5: object.etag.as_deref().and_then(unhex).unwrap_or_default(),
        }
    }
}

impl Index {
    /// What the listing said of a key; only the first time.
    fn take(&self, key: &Key) -> Option<Entry> {
        let mut entries = self.0.lock();
        let key = short(key.as_str());
        let at = entries.binary_search_by_key(&key, |entry| entry.key).ok()?;
        let entry = entries[at];
        entries[at].size = TAKEN;
        (entry.size != TAKEN).then_some(entry)
    }
}

fn short(key: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 32 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn md5_of(body: &Body) -> io::Result<[u8; 16]> {
    let body = body.clone();
    let hash = move || -> io::Result<[u8; 16]> {
        let mut hasher = Md5::new();
        match body {
            Body::Bytes(bytes) => hasher.update(&bytes),
            Body::File { file, len } => {
                let mut buffer = vec![0; CHUNK.min(len as usize)];
                let mut at = 0;
                while at < len {
                    let wanted = CHUNK.min((len - at) as usize);
                    file.read_exact_at(&mut buffer[..wanted], at)?;
                    hasher.update(&buffer[..wanted]);
                    at += wanted as u64;
                }
            }
        }
        Ok(hasher.finalize().into())
    };
    match tokio::task::spawn_blocking(hash).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[async_trait]
impl Remote for SkipExisting {
    fn describe(&self) -> String {
        self.remote.describe()
    }

    fn capabilities(&self) -> Capabilities {
        self.remote.capabilities()
    }

    async fn probe(&self) -> Result<(), RemoteError> {
        self.remote.probe().await
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        match self.existing(&put).await {
            Some(proof) => Ok(proof),
            None => self.remote.put(put).await,
        }
    }

    async fn put_resumable(
        &self,
        put: Put,
        unfinished: Option<&Unfinished>,
        notes: &dyn UploadNotes,
    ) -> Result<Proof, RemoteError> {
        match self.existing(&put).await {
            Some(proof) => Ok(proof),
            None => self.remote.put_resumable(put, unfinished, notes).await,
        }
    }

    async fn abandon(&self, name: &str) -> Result<(), RemoteError> {
        self.remote.abandon(name).await
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        self.remote.list(prefix, each).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        self.remote.head(key).await
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        self.remote.get(key, sink).await
    }

    async fn copy(&self, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        self.remote.copy(copy).await
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        self.remote.delete(key).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        self.remote.delete_all(keys).await
    }

    fn expect_objects(&self) {
        self.remote.expect_objects();
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        self.remote.keep_pace(pace);
    }

    fn url(&self, key: &Key) -> Option<String> {
        self.remote.url(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_taken_for_an_md5_only_if_it_may_be_one() {
        let etag = "9a0364b9e99bb480dd25e1f0284c8555";
        assert_eq!(hex(&unhex(etag).unwrap()), etag);
        for none in [
            "",
            "9a0364b9e99bb480dd25e1f0284c8555-2",
            "zz0364b9e99bb480dd25e1f0284c8555",
        ] {
            assert_eq!(unhex(none), None, "{none}");
        }
    }

    #[test]
    fn what_was_asked_for_once_is_not_trusted_again() {
        let key = Key::new(Artifact::Original, &RelPath::parse(b"a").unwrap());
        let listed = Listed {
            key: key.to_string(),
            size: 5,
            etag: None,
        };
        let index = Index(Mutex::new(vec![Entry::of(&listed)]));
        assert_eq!(index.take(&key).unwrap().size, 5);
        assert!(index.take(&key).is_none());
    }
}
