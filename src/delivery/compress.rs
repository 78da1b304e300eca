//! Files that are sent gzip-encoded. The same content is always encoded into the same bytes: an upload
//! in parts can be gone on with, and what the remote has already is recognised.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};

use super::Context;
use super::blocking::blocking;
use super::load::Loaded;
use crate::path::RelPath;
use crate::remote::{Body, Decoded, RemoteError};

/// Read and written at a time, bytes.
const CHUNK: usize = 256 << 10;

/// What is sent of a file.
pub(super) struct Encoded {
    pub body: Body,
    /// Of the body.
    pub hash: blake3::Hash,
    pub decoded: Option<Decoded>,
}

/// The file as it is, or encoded if it is to be and is smaller then.
pub(super) async fn encode(
    context: &Context,
    path: &RelPath,
    loaded: &Loaded,
) -> Result<Encoded, RemoteError> {
    let plain = Encoded {
        body: loaded.body.clone(),
        hash: loaded.hash,
        decoded: None,
    };
    if !context.options.compress.matches(path) || !context.remote.capabilities().encodings {
        return Ok(plain);
    }
    let (body, hash) = (loaded.body.clone(), loaded.hash);
    let folder = context.journal.path().parent().unwrap_or(Path::new("/"));
    let folder = folder.to_owned();
    let encode = move || match body {
        Body::Bytes(bytes) => gzip_bytes(&bytes),
        Body::File { file, len } => gzip_file(&file, len, hash, &folder),
    };
    let encoded = match blocking(encode).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    };
    let encoded = encoded.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RemoteError::content_changed(),
        _ => RemoteError::transient(format!("{path} could not be compressed: {error}")),
    })?;
    let Some((body, hash)) = encoded else {
        return Ok(plain);
    };
    let decoded = Decoded {
        hash: loaded.hash,
        size: loaded.stat.size,
    };
    Ok(Encoded {
        body,
        hash,
        decoded: Some(decoded),
    })
}

/// `None` if it does not shrink.
fn gzip_bytes(bytes: &[u8]) -> io::Result<Option<(Body, blake3::Hash)>> {
    let room = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = GzEncoder::new(room, Compression::default());
    encoder.write_all(bytes)?;
    let encoded = encoder.finish()?;
    Ok((encoded.len() < bytes.len()).then(|| {
        let hash = blake3::hash(&encoded);
        (Body::Bytes(encoded.into()), hash)
    }))
}

/// The same of a large file, into a nameless one beside the journal. Content that is not what `hash`
/// names has changed ([`io::ErrorKind::UnexpectedEof`], as if it had become shorter).
fn gzip_file(
    file: &File,
    len: u64,
    hash: blake3::Hash,
    folder: &Path,
) -> io::Result<Option<(Body, blake3::Hash)>> {
    let sink = Counted {
        file: BufWriter::with_capacity(CHUNK, nameless(folder)?),
        hasher: blake3::Hasher::new(),
        len: 0,
    };
    let mut encoder = GzEncoder::new(sink, Compression::default());
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < len {
        let wanted = CHUNK.min((len - at) as usize);
        file.read_exact_at(&mut buffer[..wanted], at)?;
        hasher.update(&buffer[..wanted]);
        encoder.write_all(&buffer[..wanted])?;
        at += wanted as u64;
        if encoder.get_ref().len >= len {
            return Ok(None);
        }
    }
    if hasher.finalize() != hash {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sink = encoder.finish()?;
    if sink.len >= len {
        return Ok(None);
    }
    let (hash, len) = (sink.hasher.finalize(), sink.len);
    let file = Arc::new(sink.file.into_inner()?);
    Ok(Some((Body::File { file, len }, hash)))
}

/// A file that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, mode) {
        Ok(file) => Ok(file.into()),
        // Not every file system can do that.
        Err(_) => {
            let path = folder.join(format!(".compressing-{:016x}", fastrand::u64(..)));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, mode)?;
            std::fs::remove_file(&path)?;
            Ok(file.into())
        }
    }
}

struct Counted {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    len: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn read(body: &Body) -> Vec<u8> {
        let Body::File { file, len } = body else {
            panic!("not in a file")
        };
        let mut bytes = vec![0; *len as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_file_is_encoded_as_its_bytes_are() {
        let folder = tempfile::tempdir().unwrap();
        let content = "a line of text, over and over again\n".repeat(50_000);
        let content = content.as_bytes();
        let (file, hash) = (file_of(content), blake3::hash(content));
        let encoded = gzip_file(&file, content.len() as u64, hash, folder.path());
        let (body, hash) = encoded.unwrap().unwrap();
        let bytes = read(&body);
        assert_eq!(blake3::hash(&bytes), hash);
        assert_eq!(gzip_bytes(content).unwrap().unwrap().1, hash);
        let mut decoded = Vec::new();
        GzDecoder::new(&bytes[..])
            .read_to_end(&mut decoded)
            .unwrap();
        assert!(decoded == content);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_does_not_shrink_or_has_changed_is_not_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let mut noise = vec![0; 1 << 20];
        fastrand::fill(&mut noise);
        let (len, hash) = (noise.len() as u64, blake3::hash(&noise));
        assert!(gzip_bytes(&noise).unwrap().is_none());
        assert!(gzip_bytes(b"").unwrap().is_none());
        let file = file_of(&noise);
        assert!(
            gzip_file(&file, len, hash, folder.path())
                .unwrap()
                .is_none()
        );
        let other = blake3::hash(b"other");
        let zeros = file_of(&vec![0; 1 << 20]);
        let error = gzip_file(&zeros, len, other, folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
