use std::io::Write;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As [`Key::as_str`](super::Key::as_str) gives it, below the remote's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// As [`Proof::etag`](super::Proof::etag).
    pub etag: Option<String>,
}

/// What a remote knows of one object without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// As [`Proof::etag`](super::Proof::etag).
    pub etag: Option<String>,
    /// The metadata `blake3` that [`Remote::put`](super::Remote::put) stores.
    pub blake3: Option<blake3::Hash>,
}

/// Where the content of an object goes: a file, or a [`blake3::Hasher`].
pub type Sink<'a> = &'a mut (dyn Write + Send);

/// Hears of the objects of a listing, in no particular order.
pub type Each<'a> = &'a mut (dyn FnMut(Listed) + Send);
