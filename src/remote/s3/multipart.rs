//! A large file as parts in parallel. It is read once, in order, so that its BLAKE3 is known when
//! the last part is; only then are the parts made an object. Memory is bounded by the remote's
//! room, which all large files share.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::address::Address;
use super::body::{self, Crc32c, Progress, Sum};
use super::provider::Checksum;
use super::{PATIENCE, S3Remote, blocking, compare, described, failure, storing, unquoted};
use crate::remote::{Proof, Put, RemoteError};

/// The usual size of a part.
const PART: u64 = 8 << 20;
/// S3's limit on the parts of one object.
const MAX_PARTS: u64 = 10_000;
/// Putting the parts together takes services minutes when there are many.
const ASSEMBLY: Duration = Duration::from_secs(600);
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

pub(super) async fn put(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
) -> Result<Proof, RemoteError> {
    let mut upload = Upload::start(remote, put).await?;
    let result = match upload.send(remote, file, len, put.hash).await {
        Ok(sent) => upload.complete(sent, put.hash).await,
        Err(error) => Err(error),
    };
    if result.is_err() {
        upload.abort().await;
    }
    result
}

/// The parts that S3 has, in order, and the checksum of the whole where parts have such.
struct Sent {
    parts: Vec<CompletedPart>,
    crc: Option<Crc32c>,
}

/// An upload that S3 knows of. One that is dropped unfinished is aborted, for its parts are stored
/// and paid for until then.
struct Upload {
    target: Arc<Target>,
    open: bool,
}

/// What each part's request needs.
struct Target {
    client: Client,
    address: Address,
    object: String,
    id: String,
    what: String,
}

impl Upload {
    async fn start(remote: &S3Remote, put: &Put) -> Result<Self, RemoteError> {
        let what = storing(&put.key);
        let object = remote.address.object_name(put.key.as_str());
        let crc = remote.address.provider.checksum() == Checksum::Crc32c;
        let request = described!(remote.client.create_multipart_upload(), remote.address, put)
            .set_checksum_algorithm(crc.then_some(ChecksumAlgorithm::Crc32C))
            .set_checksum_type(crc.then_some(ChecksumType::FullObject))
            .send();
        let answer = tokio::time::timeout(PATIENCE, request)
            .await
            .map_err(|_| failure::stalled(&remote.address, &what, PATIENCE))?
            .map_err(|error| failure::explain(&remote.address, &what, &error))?;
        let Some(id) = answer.upload_id else {
            return Err(RemoteError::transient(format!(
                "{what} failed: {} began a multipart upload without naming it",
                remote.address.service()
            )));
        };
        Ok(Self {
            target: Arc::new(Target {
                client: remote.client.clone(),
                address: remote.address.clone(),
                object,
                id,
                what,
            }),
            open: true,
        })
    }

    /// Sends all parts. Tasks: one a part, bounded by the remote's room; they end with this call,
    /// for dropping the set ends them.
    async fn send(
        &self,
        remote: &S3Remote,
        file: Arc<File>,
        len: u64,
        hash: blake3::Hash,
    ) -> Result<Sent, RemoteError> {
        let size = part_size(len);
        let mut tasks = JoinSet::new();
        let mut parts = Vec::new();
        let mut reader = Reader::new(remote.address.provider.checksum());
        for (number, offset) in (1..).zip((0..len).step_by(size as usize)) {
            let part_len = size.min(len - offset);
            let room = remote.room(part_len).await;
            let (bytes, sum);
            (reader, bytes, sum) = reader.read(file.clone(), offset, part_len).await?;
            tasks.spawn(self.target.clone().send_part(number, bytes, sum, room));
            while let Some(part) = tasks.try_join_next() {
                parts.push(part.map_err(|error| self.target.broken(&error))??);
            }
        }
        if reader.hasher.finalize() != hash {
            return Err(RemoteError::content_changed());
        }
        while let Some(part) = tasks.join_next().await {
            parts.push(part.map_err(|error| self.target.broken(&error))??);
        }
        parts.sort_unstable_by_key(|part| part.part_number);
        Ok(Sent {
            parts,
            crc: reader.crc,
        })
    }

    async fn complete(&mut self, sent: Sent, hash: blake3::Hash) -> Result<Proof, RemoteError> {
        let crc = sent.crc.map(Crc32c::header);
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(sent.parts))
            .build();
        let target = &self.target;
        let proof = persist(|| target.complete(parts.clone(), crc.clone(), hash)).await?;
        self.open = false;
        Ok(proof)
    }

    async fn abort(mut self) {
        if std::mem::take(&mut self.open) {
            self.target.clone().abort().await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(self.target.clone().abort());
        }
    }
}

impl Target {
    async fn send_part(
        self: Arc<Self>,
        number: i32,
        bytes: Bytes,
        sum: Sum,
        room: OwnedSemaphorePermit,
    ) -> Result<CompletedPart, RemoteError> {
        let etag = persist(|| self.try_part(number, bytes.clone(), &sum)).await?;
        drop(room);
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(etag)
            .set_checksum_crc32_c(sum.crc32c())
            .build())
    }

    /// Sends a part once. Sending one again replaces it.
    async fn try_part(
        &self,
        number: i32,
        bytes: Bytes,
        sum: &Sum,
    ) -> Result<Option<String>, RemoteError> {
        let progress = Progress::default();
        let request = self
            .client
            .upload_part()
            .bucket(&self.address.bucket)
            .key(&self.object)
            .upload_id(&self.id)
            .part_number(number)
            .content_length(bytes.len() as i64)
            .set_checksum_crc32_c(sum.crc32c())
            .set_content_md5(sum.md5())
            .body(progress.body(bytes))
            .send();
        let answer = progress
            .watch(PATIENCE, request)
            .await
            .ok_or_else(|| failure::stalled(&self.address, &self.what, PATIENCE))?
            .map_err(|error| failure::explain(&self.address, &self.what, &error))?;
        compare(&self.what, sum.crc32c(), answer.checksum_crc32_c())?;
        Ok(answer.e_tag)
    }

    async fn complete(
        &self,
        parts: CompletedMultipartUpload,
        crc: Option<String>,
        hash: blake3::Hash,
    ) -> Result<Proof, RemoteError> {
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.address.bucket)
            .key(&self.object)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .set_checksum_type(crc.as_ref().map(|_| ChecksumType::FullObject))
            .set_checksum_crc32_c(crc.clone())
            .send();
        let answer = match tokio::time::timeout(ASSEMBLY, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                // It may have been completed by a try whose answer got lost.
                if error.code() == Some("NoSuchUpload")
                    && let Some(proof) = self.stored(hash).await
                {
                    return Ok(proof);
                }
                return Err(failure::explain(&self.address, &self.what, &error));
            }
            Err(_) => return Err(failure::stalled(&self.address, &self.what, ASSEMBLY)),
        };
        // A checksum of checksums (it ends in the number of parts) is what services that know no
        // checksum of the whole answer; it is not comparable.
        let stored = answer.checksum_crc32_c().filter(|crc| !crc.contains('-'));
        compare(&self.what, crc, stored)?;
        Ok(Proof {
            etag: answer.e_tag().map(unquoted),
        })
    }

    /// The proof of the object that is there, if it is the one to be stored.
    async fn stored(&self, hash: blake3::Hash) -> Option<Proof> {
        let request = self
            .client
            .head_object()
            .bucket(&self.address.bucket)
            .key(&self.object)
            .send();
        let answer = tokio::time::timeout(PATIENCE, request).await.ok()?.ok()?;
        let blake3 = answer.metadata()?.get("blake3")?;
        (*blake3 == *hash.to_hex()).then(|| Proof {
            etag: answer.e_tag().map(unquoted),
        })
    }

    async fn abort(self: Arc<Self>) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.address.bucket)
            .key(&self.object)
            .upload_id(&self.id)
            .send();
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let what = format!("aborting the unfinished upload of {}", self.object);
                tracing::warn!("{}", failure::explain(&self.address, &what, &error));
            }
            Err(_) => tracing::warn!(
                "aborting the unfinished upload of {} took too long; a lifecycle rule of the \
                 bucket for incomplete multipart uploads removes its parts",
                self.object
            ),
        }
    }

    fn broken(&self, error: &tokio::task::JoinError) -> RemoteError {
        RemoteError::transient(format!("{} was broken off: {error}", self.what))
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
