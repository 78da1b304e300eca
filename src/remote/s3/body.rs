//! Bytes on their way to S3: read once, hashed and summed while they are in the cache, and sent in
//! slices so that a stall is told from a slow line.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use tokio::time::Sleep;

use super::provider::Checksum;
use crate::remote::{Pace, RemoteError, Sent};

/// What the connection is given at a time. Hyper writes each slice from where it lies.
const SLICE: usize = 256 << 10;

/// Reads exactly `len` bytes from `offset`. A file that has become shorter has changed.
pub(super) fn read(file: &File, offset: u64, len: usize) -> Result<Bytes, RemoteError> {
    let mut buffer = Vec::with_capacity(len);
    while buffer.len() < len {
        let at = offset + buffer.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(RemoteError::content_changed()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(RemoteError::transient(format!(
                    "reading the local file for its upload failed: {error}"
                )));
            }
        }
    }
    buffer.truncate(len); // the allocator may have given more room
    Ok(buffer.into())
}

/// CRC32C, which processors compute, and which those of pieces make that of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crc32c(u64);

impl Crc32c {
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
    }

    /// The checksum of these bytes and `len` more, whose own is `next`.
    pub fn then(self, next: Self, len: u64) -> Self {
        let algorithm = CrcAlgorithm::Crc32Iscsi;
        Self(crc_fast::checksum_combine(algorithm, self.0, next.0, len))
    }

    /// As S3's headers have it: big-endian, in base64.
    pub fn header(self) -> String {
        aws_smithy_types::base64::encode((self.0 as u32).to_be_bytes())
    }
}

/// A checksum in the form that the service verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    Crc32c(Crc32c),
    /// Base64, as in `Content-MD5`.
    Md5(String),
}

impl Sum {
    pub fn of(checksum: Checksum, bytes: &[u8]) -> Self {
        use md5::{Digest, Md5};
        match checksum {
            Checksum::Crc32c => Self::Crc32c(Crc32c::of(bytes)),
            Checksum::Md5 => Self::Md5(aws_smithy_types::base64::encode(Md5::digest(bytes))),
        }
    }

    /// As it stands in the request, whichever it is.
    pub fn text(&self) -> String {
        match self {
            Self::Crc32c(crc) => crc.header(),
            Self::Md5(md5) => md5.clone(),
        }
    }

    pub fn crc32c(&self) -> Option<String> {
        match self {
            Self::Crc32c(crc) => Some(crc.header()),
            Self::Md5(_) => None,
        }
    }

    pub fn md5(&self) -> Option<String> {
        match self {
            Self::Crc32c(_) => None,
            Self::Md5(md5) => Some(md5.clone()),
        }
    }
}

/// How much of a body the connection has taken so far; a body and its watcher share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    taken: Arc<AtomicU64>,
    /// The connection would take more, and gets none yet.
    held: Arc<AtomicBool>,
    pace: Arc<Pace>,
    sent: Sent,
}

impl Progress {
    /// A body that goes no faster than `pace`.
    pub fn at(pace: Arc<Pace>) -> Self {
        Self {
            taken: Arc::default(),
            held: Arc::default(),
            pace,
            sent: Sent::current(),
        }
    }

    /// A request's body that reports here.
    pub fn body(&self, bytes: Bytes) -> ByteStream {
        ByteStream::new(SdkBody::from_body_1_x(Slices {
            rest: bytes,
            slice: self.pace.slice(SLICE),
            asked: false,
            wait: None,
            progress: self.clone(),
        }))
    }

    /// Awaits `request`, but no longer than `patience` (twice that at most) without any progress.
    /// A limit on the whole would either let a dead line wait or fail a slow one for ever.
    pub async fn watch<F: Future>(&self, patience: Duration, request: F) -> Option<F::Output> {
        let mut request = std::pin::pin!(request);
        loop {
            let before = self.taken.load(Ordering::Relaxed);
            match tokio::time::timeout(patience, &mut request).await {
                Ok(output) => return Some(output),
                Err(_) if self.held.load(Ordering::Relaxed) => {}
                Err(_) if self.taken.load(Ordering::Relaxed) == before => return None,
                Err(_) => {}
            }
        }
    }
}

struct Slices {
    rest: Bytes,
    slice: usize,
    /// Whether the next slice's bytes are taken from the pace already.
    asked: bool,
    wait: Option<Pin<Box<Sleep>>>,
    progress: Progress,
}

impl Slices {
    /// Ready when the next slice may go.
    fn poll_pace(&mut self, len: usize, context: &mut Context<'_>) -> Poll<()> {
        if !self.asked {
            self.asked = true;
            let wait = self.progress.pace.bytes(len as u64);
            self.wait = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
        if let Some(wait) = &mut self.wait
            && wait.as_mut().poll(context).is_pending()
        {
            self.progress.held.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        self.progress.held.store(false, Ordering::Relaxed);
        self.asked = false;
        self.wait = None;
        Poll::Ready(())
    }
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(self.slice);
        if self.poll_pace(len, context).is_pending() {
            return Poll::Pending;
        }
        let slice = self.rest.split_to(len);
        self.progress.taken.fetch_add(len as u64, Ordering::Relaxed);
        self.progress.sent.add(len as u64);
        Poll::Ready(Some(Ok(http_body::Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn checksums_of_pieces_combine() {
        // The check value of CRC-32/ISCSI, 0xE3069283.
        assert_eq!(Crc32c::of(b"123456789").header(), "4waSgw==");
        let pieces = Crc32c::of(b"12345").then(Crc32c::of(b"6789"), 4);
        assert_eq!(pieces.header(), "4waSgw==");
        assert_eq!(Crc32c::of(b"").then(Crc32c::of(b"x"), 1), Crc32c::of(b"x"));
    }

    #[test]
    fn content_md5_is_the_digest_in_base64() {
        // The digest of the empty string, RFC 1321 appendix A.5.
        let sum = Sum::of(Checksum::Md5, b"");
        assert_eq!(sum.md5().as_deref(), Some("1B2M2Y8AsgTpgAmY7PhCfg=="));
        assert_eq!(sum.crc32c(), None);
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_has_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(read(&file, 2, 5).unwrap(), "23456");
        let error = read(&file, 6, 5).unwrap_err();
        assert_eq!(error.kind, crate::remote::RemoteErrorKind::ContentChanged);
    }

    #[tokio::test]
    async fn a_slow_line_is_waited_for_and_a_dead_one_is_not() {
        let patience = Duration::from_millis(400);
        let progress = Progress::at(Arc::default());
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(patience / 4).await;
                progress.taken.fetch_add(1, Ordering::Relaxed);
            }
        };
        assert_eq!(progress.watch(patience, slow).await, Some(()));
        let dead = std::future::pending::<()>();
        assert_eq!(progress.watch(patience, dead).await, None);
    }
}
