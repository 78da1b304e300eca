//! A large file as parts in parallel. It is read once, in order, so that its BLAKE3 is known when
//! the last part is; only then are the parts made an object. Memory is bounded by the remote's
//! room, which all large files share.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};

use super::body::{self, Crc32c, Sum};
use super::provider::Checksum;
use super::upload::{Stored, Upload};
use super::{S3Remote, blocking};
use crate::remote::{Proof, Put, RemoteError};

/// The usual size of a part.
const PART: u64 = 8 << 20;
/// S3's limit on the parts of one object.
const MAX_PARTS: u64 = 10_000;
/// Tries of each request but the first of an upload, which nothing is lost with: one part of
/// thousands must not cost the others. A longer outage is delivery's to wait for.
const TRIES: u32 = 5;
/// The pause after the first failed try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest `Retry-After` that is waited for here, where memory is held meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The part size for a file: the usual one, or the next whole MiB that needs no more than the parts
/// that S3 allows.
fn part_size(len: u64) -> u64 {
    PART.max(len.div_ceil(MAX_PARTS).next_multiple_of(1 << 20))
}

/// Stores a file in parts. What fails leaves none behind.
pub(super) async fn put(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
) -> Result<Proof, RemoteError> {
    let upload = Upload::begin(remote, put, part_size(len)).await?;
    let guard = Guard::of(&upload);
    let nothing = HashMap::new();
    let result = transfer(remote, put, file, len, &upload, nothing).await;
    guard.end(result.is_err()).await;
    result
}

/// Stores a file in parts, going on with the upload that `unfinished` names. What fails and may
/// pass leaves the parts for the next call.
pub(super) async fn resume(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
    unfinished: Option<&str>,
    began: &(dyn Fn(String) + Send + Sync),
) -> Result<Proof, RemoteError> {
    let size = part_size(len);
    let named = unfinished.and_then(|token| Upload::named(remote, put, token, size));
    let known = match &named {
        Some(upload) => upload.parts().await?,
        None => None,
    };
    let (upload, stored) = match (named, known) {
        (Some(upload), Some(stored)) => (upload, stored),
        (forgotten, _) => {
            // Completed just before whoever did so died?
            if let Some(upload) = forgotten
                && let Some(proof) = upload.completed(put.hash).await
            {
                return Ok(proof);
            }
            let upload = Upload::begin(remote, put, size).await?;
            began(upload.token());
            (upload, HashMap::new())
        }
    };
    let result = transfer(remote, put, file, len, &upload, stored).await;
    if let Err(error) = &result
        && !error.may_pass()
    {
        abort(&upload).await;
    }
    result
}

/// Sends the parts that are not `stored` yet, and makes all of them an object. Tasks: one a part,
/// bounded by the remote's room; they end with this call, for dropping the set ends them.
async fn transfer(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
    upload: &Arc<Upload>,
    mut stored: HashMap<i32, Stored>,
) -> Result<Proof, RemoteError> {
    let size = part_size(len);
    let mut tasks = JoinSet::new();
    let mut parts = Vec::new();
    let mut reader = Reader::new(remote.address.provider.checksum());
    let broken = |error: JoinError| {
        RemoteError::transient(format!("{} was broken off: {error}", upload.what))
    };
    for (number, offset) in (1..).zip((0..len).step_by(size as usize)) {
        let part_len = size.min(len - offset);
        let room = remote.room(part_len).await;
        let part = Part {
            number,
            known: stored.remove(&number),
        };
        let (bytes, sum);
        (reader, bytes, sum) = reader.read(file.clone(), offset, part_len).await?;
        tasks.spawn(part.send(upload.clone(), bytes, sum, room));
        while let Some(part) = tasks.try_join_next() {
            parts.push(part.map_err(broken)??);
        }
    }
    if reader.hasher.finalize() != put.hash {
        return Err(RemoteError::content_changed());
    }
    while let Some(part) = tasks.join_next().await {
        parts.push(part.map_err(broken)??);
    }
    parts.sort_unstable_by_key(|part| part.part_number);
    let crc = reader.crc.map(Crc32c::header);
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let mut tried = None;
    persist(|| {
        let completed = upload.complete(parts.clone(), crc.clone(), tried);
        tried = Some(put.hash);
        completed
    })
    .await
}

/// A part to be sent, unless the service has it.
struct Part {
    number: i32,
    known: Option<Stored>,
}

impl Part {
    /// Holds its room, and with it the memory, until the service has it.
    async fn send(
        self,
        upload: Arc<Upload>,
        bytes: Bytes,
        sum: Sum,
        room: OwnedSemaphorePermit,
    ) -> Result<CompletedPart, RemoteError> {
        let (bytes, sum, known) = self.compare(bytes, sum).await?;
        let etag = match known {
            Some(stored) => stored.etag,
            None => persist(|| upload.send(self.number, bytes.clone(), &sum)).await?,
        };
        drop(room);
        Ok(CompletedPart::builder()
            .part_number(self.number)
            .set_e_tag(etag)
            .set_checksum_crc32_c(sum.crc32c())
            .build())
    }

    /// What the service has, if it holds the part's bytes.
    async fn compare(
        &self,
        bytes: Bytes,
        sum: Sum,
    ) -> Result<(Bytes, Sum, Option<Stored>), RemoteError> {
        let Some(stored) = self.known.clone() else {
            return Ok((bytes, sum, None));
        };
        blocking(move || {
            let known = stored.holds(&bytes, &sum).then_some(stored);
            Ok((bytes, sum, known))
        })
        .await
    }
}

/// Aborts an upload that is dropped before its end: its parts are stored, and paid for, until then.
pub(super) struct Guard(Option<Arc<Upload>>);

impl Guard {
    pub(super) fn of(upload: &Arc<Upload>) -> Self {
        Self(Some(upload.clone()))
    }

    pub(super) async fn end(mut self, failed: bool) {
        if let Some(upload) = self.0.take()
            && failed
        {
            abort(&upload).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(upload) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { abort(&upload).await });
        }
    }
}

async fn abort(upload: &Upload) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(
            "the unfinished upload was not aborted ({error}); a lifecycle rule of the bucket for \
             incomplete multipart uploads removes its parts"
        );
    }
}

/// Makes a request up to [`TRIES`] times, as long as what fails may pass.
async fn persist<T, F>(mut request: impl FnMut() -> F) -> Result<T, RemoteError>
where
    F: Future<Output = Result<T, RemoteError>>,
{
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        let error = match request().await {
            Err(error) if error.may_pass() => error,
            result => return result,
        };
        let asked = error.retry_after.unwrap_or_default();
        if asked > LONGEST_PAUSE {
            return Err(error);
        }
        tokio::time::sleep(asked.max(pause.mul_f64(0.5 + fastrand::f64()))).await;
        pause *= 2;
    }
    request().await
}

/// Reads a file's parts in order, keeping the hash and the checksum of all so far.
struct Reader {
    checksum: Checksum,
    hasher: blake3::Hasher,
    crc: Option<Crc32c>,
}

impl Reader {
    fn new(checksum: Checksum) -> Self {
        Self {
            checksum,
            hasher: blake3::Hasher::new(),
            crc: (checksum == Checksum::Crc32c).then(|| Crc32c::of(b"")),
        }
    }

    async fn read(
        mut self,
        file: Arc<File>,
        offset: u64,
        len: u64,
    ) -> Result<(Self, Bytes, Sum), RemoteError> {
        blocking(move || {
            let bytes = body::read(&file, offset, len as usize)?;
            self.hasher.update(&bytes);
            let sum = Sum::of(self.checksum, &bytes);
            if let (Some(all), Sum::Crc32c(part)) = (self.crc, &sum) {
                self.crc = Some(all.then(*part, len));
            }
            Ok((self, bytes, sum))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_fits_the_parts_that_s3_allows() {
        const GIB: u64 = 1 << 30;
        assert_eq!(part_size(17 << 20), PART);
        assert_eq!(part_size(PART * MAX_PARTS), PART);
        for len in [PART * MAX_PARTS + 1, 100 * GIB, 5 << 40] {
            let size = part_size(len);
            assert!(len.div_ceil(size) <= MAX_PARTS && size < 5 * GIB, "{len}");
        }
    }
}
