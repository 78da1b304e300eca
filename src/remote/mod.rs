//! Where artifacts go. A remote is one file in this folder behind the trait [`Remote`], and a line
//! in [`open_with`]; one conformance suite (`tests/remote.rs`) runs against every one of them.

mod body;
mod capabilities;
mod certificates;
mod cloudinary;
mod environment;
mod error;
mod escaped;
mod file;
mod flow;
mod http;
mod key;
mod media_type;
mod object;
mod pace;
mod place;
mod proof;
mod rails;
mod s3;
mod sent;
mod supabase;
mod unfinished;

use std::sync::Arc;

use async_trait::async_trait;
pub use body::Body;
pub use capabilities::{Capabilities, Copies, Thumbnails};
pub use environment::{Environment, SECRETS};
pub use error::{RemoteError, RemoteErrorKind};
pub(crate) use http::refuse_readable;
pub use key::{Artifact, Key, path_text};
pub use media_type::{MEDIA_TYPE_HEAD, media_type};
pub use object::{Each, Listed, ObjectInfo, Sink};
pub use pace::Pace;
pub use place::place;
pub use proof::Proof;
pub use sent::Sent;
pub use unfinished::{StoredPart, Unfinished, UploadNotes};

use crate::config::MountSettings;

/// A place that keeps objects under keys. Implementations are shared by all delivery workers.
///
/// Every method may be called again after it failed or after its answer was lost: a repeated call
/// leaves the remote as one call would.
#[async_trait]
pub trait Remote: Send + Sync {
    /// For people: `file:///srv/pictures`, `s3://bucket/prefix`; never a secret.
    fn describe(&self) -> String;

    /// What it can do; always the same.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Finds out whether objects can be stored here, without leaving anything behind.
    async fn probe(&self) -> Result<(), RemoteError>;

    /// Stores one object under `put.key`, replacing what was there, whole or not at all. The bytes
    /// sent are hashed on the way; if they are not those that `put.hash` names the object is not
    /// stored and the error's kind is [`RemoteErrorKind::ContentChanged`].
    async fn put(&self, put: Put) -> Result<Proof, RemoteError>;

    /// [`put`](Self::put) of a file so large that a crash should not cost all of it: goes on with
    /// `unfinished`, if the remote still has it, and has `notes` kept of what it begins, for the next
    /// call (of this process or another) for the same content. Small objects and remotes without
    /// such uploads note nothing.
    async fn put_resumable(
        &self,
        put: Put,
        _unfinished: Option<&Unfinished>,
        _notes: &dyn UploadNotes,
    ) -> Result<Proof, RemoteError> {
        self.put(put).await
    }

    /// Gives up the upload of this name that [`put_resumable`](Self::put_resumable) began and nobody
    /// will go on with, as its file has changed or is gone. One that the remote has forgotten is no
    /// error.
    async fn abandon(&self, _name: &str) -> Result<(), RemoteError> {
        Ok(())
    }

    /// Calls `each` for every object whose key begins with `prefix`.
    async fn list(&self, _prefix: &str, _each: Each<'_>) -> Result<(), RemoteError> {
        Err(cannot(&self.describe(), "be listed"))
    }

    /// What the remote knows of an object; `None` if there is none.
    async fn head(&self, _key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        Err(cannot(&self.describe(), "be asked what it has"))
    }

    /// Writes an object's content, decoded, to `sink` and returns its size; `None` if there is none.
    async fn get(&self, _key: &Key, _sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        Err(cannot(&self.describe(), "be read"))
    }

    /// Stores an object by having the remote copy one that it has: no byte passes here. `None` if
    /// there is nothing of that content to copy, or the remote cannot: then it has to be sent.
    async fn copy(&self, _copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        Ok(None)
    }

    /// Removes an object; one that is not there is no error.
    async fn delete(&self, _key: &Key) -> Result<(), RemoteError> {
        Err(cannot(&self.describe(), "be deleted from"))
    }

    /// Removes objects, as many with one request as the remote can. Answers for each, in their
    /// order.
    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
        }
        answers
    }

    /// Something was delivered here before. A place that has nothing at all of it is away then, not new: the
    /// disk that belongs there is not mounted.
    fn expect_objects(&self) {}

    /// From now on no more bytes and requests a second than `pace` allows. Called once, before the
    /// first use. A remote that does not send by itself leaves it to the one behind it.
    fn keep_pace(&self, _pace: Arc<Pace>) {}

    /// Where a reader finds the object, as far as its key tells; see [`Proof::url`].
    fn url(&self, key: &Key) -> Option<String>;
}

/// For what is not among a remote's [`Capabilities`].
fn cannot(remote: &str, what: &str) -> RemoteError {
    RemoteError::permanent(format!("{remote} cannot {what}"))
}

/// One object to store.
#[derive(Debug, Clone)]
pub struct Put {
    pub key: Key,
    pub body: Body,
    /// Media type (RFC 6838), `application/octet-stream` if unknown.
    pub content_type: String,
    /// BLAKE3 of the body; stored as metadata `blake3` in hexadecimal, unless the body is encoded.
    pub hash: blake3::Hash,
    /// The body is gzip-encoded, and this is what it was before. For remotes that
    /// [keep that](Capabilities::encodings).
    pub decoded: Option<Decoded>,
    /// Further metadata: names of `a-z`, `0-9` and `-`, values of printable ASCII.
    pub metadata: Vec<(&'static str, String)>,
}

impl Put {
    /// BLAKE3 of what a reader gets who decodes the body.
    pub fn content_hash(&self) -> blake3::Hash {
        self.decoded
            .as_ref()
            .map_or(self.hash, |decoded| decoded.hash)
    }
}

/// Content before it was encoded; stored as metadata `blake3` and `original-size`.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub hash: blake3::Hash,
    /// Bytes.
    pub size: u64,
}

/// An object to store by copying another one of the same content.
#[derive(Debug, Clone)]
pub struct Copy {
    pub from: Key,
    pub to: Key,
    /// Metadata that the object under `from` has if it is the one that is meant.
    pub expected: (&'static str, String),
    /// What the copy is described by; `None`: as `from` is.
    pub described: Option<Described>,
    /// The object under `from` is not wanted any more, and may be gone afterwards.
    pub moves: bool,
}

/// What [`Put`] stores beside the bytes.
#[derive(Debug, Clone)]
pub struct Described {
    pub content_type: String,
    pub hash: blake3::Hash,
    pub metadata: Vec<(&'static str, String)>,
}

/// Opens the remote of a mount, push or other command, with the secrets that its settings name.
pub async fn open_configured(settings: &MountSettings) -> Result<Arc<dyn Remote>, RemoteError> {
    let environment = Environment::configured(settings)?;
    open_with(&settings.remote, &environment).await
}

/// Opens the remote that `url` names. Says what is wrong with the URL and the environment, and nothing
/// of the network: that is [`Remote::probe`]'s.
pub async fn open_with(
    url: &url::Url,
    environment: &Environment,
) -> Result<Arc<dyn Remote>, RemoteError> {
    match url.scheme() {
        "file" => Ok(Arc::new(file::FileRemote::open(url)?)),
        "s3" => Ok(Arc::new(s3::S3Remote::open(url, environment).await?)),
        "supabase" => Ok(Arc::new(supabase::SupabaseRemote::open(url, environment)?)),
        "cloudinary" => Ok(Arc::new(cloudinary::CloudinaryRemote::open(
            url,
            environment,
        )?)),
        "rails+https" | "rails+http" => Ok(Arc::new(rails::RailsRemote::open(url, environment)?)),
        other => Err(RemoteError::permanent(format!(
            "unknown remote scheme '{other}:' (known: file:///path, s3://bucket/prefix, cloudinary://CLOUD/folder, \
             supabase://PROJECT/BUCKET, rails+https://host)"
        ))),
    }
}
