//! Bytes on their way to a service: sent in slices, so that a stall is told from a slow line, and no
//! faster than they may go.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;

use super::{Body, Pace, RemoteError, RemoteErrorKind, Sent};

/// What the connection is given at a time. Hyper writes each slice from where it lies.
const SLICE: usize = 256 << 10;
/// How many slices of a file are read ahead.
const AHEAD: usize = 2;
/// File contents held in memory at once by all uploads of a remote together.
const MEMORY: u64 = 40 << 20;
/// What memory is counted in.
const MEMORY_UNIT: u64 = 1 << 20;

/// Room for file contents on their way.
pub(super) struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((MEMORY / MEMORY_UNIT) as usize)))
    }
}

impl Memory {
    /// Room for `bytes` of file content, or for as much as there is at all.
    pub async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        let units = bytes.min(MEMORY).div_ceil(MEMORY_UNIT) as u32;
        let permit = self.0.clone().acquire_many_owned(units).await;
        permit.expect("the semaphore is never closed")
    }
}

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

/// The bytes of `body`, which must be those that `hash` names.
pub(super) async fn content(body: &Body, hash: blake3::Hash) -> Result<Bytes, RemoteError> {
    let body = body.clone();
    blocking(move || {
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::File { file, len } => read(&file, 0, len as usize)?,
        };
        match blake3::hash(&bytes) == hash {
            true => Ok(bytes),
            false => Err(RemoteError::content_changed()),
        }
    })
    .await
}

/// [`read`], with the bytes added to `hasher`.
pub(super) async fn read_hashed(
    file: &Arc<File>,
    offset: u64,
    len: usize,
    hasher: &mut blake3::Hasher,
) -> Result<Bytes, RemoteError> {
    let (file, mut hashing) = (file.clone(), hasher.clone());
    let read = blocking(move || {
        let bytes = read(&file, offset, len)?;
        hashing.update(&bytes);
        Ok((bytes, hashing))
    });
    let (bytes, hashed) = read.await?;
    *hasher = hashed;
    Ok(bytes)
}

/// Runs file reads and long computations where they do not hold up other requests.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RemoteError::transient(format!(
            "reading a file for its upload was broken off: {error}"
        ))),
    }
}

/// How much of a body the connection has taken so far; a body and its watcher share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    taken: Arc<AtomicU64>,
    /// The connection would take more, and gets none yet.
    held: Arc<AtomicBool>,
    /// A file that is sent while it is read is not what it was.
    changed: Arc<AtomicBool>,
    pace: Arc<Pace>,
    sent: Sent,
}

impl Progress {
    /// A body that goes no faster than `pace`.
    pub fn at(pace: Arc<Pace>) -> Self {
        Self {
            taken: Arc::default(),
            held: Arc::default(),
            changed: Arc::default(),
            pace,
            sent: Sent::current(),
        }
    }

    /// A request's body that reports here.
    pub fn body(&self, bytes: Bytes) -> Slices {
        Slices {
            left: bytes.len() as u64,
            now: bytes,
            more: None,
            slice: self.pace.slice(SLICE),
            asked: false,
            wait: None,
            progress: self.clone(),
        }
    }

    /// The same of a file, which is read while it is sent, by a blocking task that ends with the body.
    /// The last slice is kept back unless all of them have the BLAKE3 `hash`: then the request fails,
    /// and the file [has changed](Self::has_changed).
    pub fn file(&self, file: Arc<File>, len: u64, hash: blake3::Hash) -> Slices {
        let slice = self.pace.slice(SLICE);
        let (to, more) = mpsc::channel(AHEAD);
        let changed = self.changed.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = stream(&file, len, hash, slice, &to) {
                let is_other = error.kind == RemoteErrorKind::ContentChanged;
                changed.store(is_other, Ordering::Relaxed);
                // Nobody listens if the request was given up.
                let _ = to.blocking_send(Err(io::Error::other(error.message)));
            }
        });
        Slices {
            left: len,
            more: Some(more),
            ..self.body(Bytes::new())
        }
    }

    /// Whether the file that was to be sent is another one now.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
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

fn stream(
    file: &File,
    len: u64,
    hash: blake3::Hash,
    slice: usize,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), RemoteError> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < len {
        let bytes = read(file, at, (len - at).min(slice as u64) as usize)?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
        if at == len && hasher.finalize() != hash {
            return Err(RemoteError::content_changed());
        }
        if to.blocking_send(Ok(bytes)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A body of known length that is sent piece by piece.
pub(super) struct Slices {
    now: Bytes,
    /// What comes after.
    more: Option<mpsc::Receiver<io::Result<Bytes>>>,
    /// Bytes.
    left: u64,
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

    /// Ready when there are bytes to send.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(more) = self.more.as_mut().filter(|_| self.now.is_empty()) else {
            return Poll::Ready(Ok(()));
        };
        let next = ready!(more.poll_recv(context));
        let broken_off = || io::Error::other("reading the file was broken off");
        self.now = next.unwrap_or_else(|| Err(broken_off()))?;
        Poll::Ready(Ok(()))
    }
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Err(error) = ready!(self.poll_more(context)) {
            return Poll::Ready(Some(Err(error)));
        }
        let len = self.now.len().min(self.slice);
        ready!(self.poll_pace(len, context));
        let slice = self.now.split_to(len);
        self.left -= len as u64;
        self.progress.taken.fetch_add(len as u64, Ordering::Relaxed);
        self.progress.sent.add(len as u64);
        Poll::Ready(Some(Ok(http_body::Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body::Body;

    use super::*;

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

    #[tokio::test]
    async fn a_file_is_sent_whole_or_its_end_is_kept_back() {
        let content = vec![7; SLICE * 3 + 5];
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        for (hash, whole) in [
            (blake3::hash(&content), true),
            (blake3::hash(b"other"), false),
        ] {
            let progress = Progress::at(Arc::default());
            let mut body = progress.file(file.clone(), content.len() as u64, hash);
            assert_eq!(body.size_hint().exact(), Some(content.len() as u64));
            let mut sent = Vec::new();
            let mut failed = false;
            while let Some(frame) =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {
                match frame {
                    Ok(frame) => sent.extend_from_slice(frame.data_ref().unwrap()),
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
            }
            assert_eq!((sent == content, failed), (whole, !whole));
            assert_eq!(progress.has_changed(), !whole);
        }
    }
}
