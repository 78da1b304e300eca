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

use super::provider::Checksum;
use super::sum::{Crc32c, Sum};
use super::upload::{Stored, Upload};
use super::{S3Remote, unquoted};
use crate::remote::flow::{self, blocking};
use crate::remote::{
    Proof, Put, RemoteError, RemoteErrorKind, StoredPart, Unfinished, UploadNotes,
};

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
    let guard = Upload::begin(remote, put, part_size(len)).await?;
    let nothing = HashMap::new();
    let result = transfer(remote, put, file, len, guard.upload(), nothing, &|_| {}).await;
    guard.end(result.is_err()).await;
    result
}

/// Stores a file in parts, going on with the upload that is `unfinished`. What fails and may pass
/// leaves the parts for the next call.
pub(super) async fn resume(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
    unfinished: Option<&Unfinished>,
    notes: &dyn UploadNotes,
) -> Result<Proof, RemoteError> {
    let mut is_sure = true;
    let (upload, stored) = match take_up(remote, put, len, unfinished).await? {
        Begun::Completed(proof) => return Ok(proof),
        Begun::Has(upload, parts) => (upload, parts),
        Begun::MayHave(upload, parts) => {
            is_sure = false;
            (upload, parts)
        }
        Begun::Not => {
            let guard = Upload::begin(remote, put, part_size(len)).await?;
            let upload = guard.upload().clone();
            let noted = notes.began(upload.name()).await;
            guard.end(noted.is_err()).await;
            noted?;
            (upload, HashMap::new())
        }
    };
    let note = |part| notes.stored(part);
    let result = transfer(remote, put, file, len, &upload, stored, &note).await;
    match &result {
        Ok(_) => notes.completed().await,
        // What the service may have lost is not built on twice.
        Err(error) if !error.may_pass() || !is_sure => {
            abort(&upload).await;
            notes.given_up().await;
        }
        Err(_) => {}
    }
    result
}

/// What there is of an upload.
enum Begun {
    /// The object is there: whoever completed the upload died before saying so.
    Completed(Proof),
    /// The service has these parts.
    Has(Arc<Upload>, HashMap<i32, Stored>),
    /// It had these parts, and does not let us ask.
    MayHave(Arc<Upload>, HashMap<i32, Stored>),
    Not,
}

async fn take_up(
    remote: &S3Remote,
    put: &Put,
    len: u64,
    unfinished: Option<&Unfinished>,
) -> Result<Begun, RemoteError> {
    let Some(unfinished) = unfinished else {
        return Ok(Begun::Not);
    };
    let Some(upload) = Upload::named(remote, put, &unfinished.name, part_size(len)) else {
        return Ok(Begun::Not);
    };
    let noted = |part: &StoredPart| Stored {
        etag: part.etag.clone(),
        noted: Some(part.checksum.clone()),
        ..Stored::default()
    };
    match upload.parts().await {
        Ok(Some(mut parts)) => {
            for part in &unfinished.parts {
                // Stored once more since, it may be another.
                if let Some(stored) = parts.get_mut(&(part.number as i32))
                    && part.etag.is_some()
                    && stored.etag.as_deref().map(unquoted) == part.etag
                {
                    stored.noted = Some(part.checksum.clone());
                }
            }
            Ok(Begun::Has(upload, parts))
        }
        Ok(None) => Ok(match upload.completed(put.content_hash()).await {
            Some(proof) => Begun::Completed(proof),
            None => Begun::Not,
        }),
        // Credentials that may store and not list parts are a sensible thing to have.
        Err(error) if error.kind == RemoteErrorKind::Permanent => {
            let parts = unfinished.parts.iter();
            let parts = parts.map(|part| (part.number as i32, noted(part)));
            Ok(Begun::MayHave(upload, parts.collect()))
        }
        Err(error) => Err(error),
    }
}

/// Sends the parts that are not `stored` yet, says which ones are then, and makes all of them an
/// object. Tasks: one a part, bounded by the remote's room; they end with this call, for dropping the
/// set ends them.
async fn transfer(
    remote: &S3Remote,
    put: &Put,
    file: Arc<File>,
    len: u64,
    upload: &Arc<Upload>,
    mut stored: HashMap<i32, Stored>,
    note: &(dyn Fn(StoredPart) + Sync),
) -> Result<Proof, RemoteError> {
    let size = part_size(len);
    let mut tasks = JoinSet::new();
    let counter = crate::remote::Sent::current();
    let mut parts = Vec::new();
    let mut reader = Reader::new(remote.address.provider.checksum());
    let mut finish = |joined: Result<Result<Sent, RemoteError>, JoinError>| {
        let sent = joined.map_err(|error| {
            RemoteError::transient(format!("{} was broken off: {error}", upload.what))
        })??;
        if let Some(new) = sent.new {
            note(new);
        }
        parts.push(sent.part);
        Ok::<_, RemoteError>(())
    };
    for (number, offset) in (1..).zip((0..len).step_by(size as usize)) {
        let part_len = size.min(len - offset);
        let room = loop {
            // A part that has arrived is noted at once, and not only when there is room for the next.
            tokio::select! {
                room = remote.room(part_len) => break room,
                Some(joined) = tasks.join_next() => finish(joined)?,
            }
        };
        let part = Part {
            number,
            known: stored.remove(&number),
        };
        let (bytes, sum);
        (reader, bytes, sum) = reader.read(file.clone(), offset, part_len).await?;
        let (counter, upload) = (counter.clone(), upload.clone());
        tasks.spawn(async move { counter.during(part.send(upload, bytes, sum, room)).await });
    }
    if reader.hasher.finalize() != put.hash {
        return Err(RemoteError::content_changed());
    }
    while let Some(joined) = tasks.join_next().await {
        finish(joined)?;
    }
    parts.sort_unstable_by_key(|part: &CompletedPart| part.part_number);
    let crc = reader.crc.map(Crc32c::header);
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let mut tried = None;
    persist(|| {
        let completed = upload.complete(parts.clone(), crc.clone(), tried);
        tried = Some(put.content_hash());
        completed
    })
    .await
}

/// A part that the service has.
struct Sent {
    part: CompletedPart,
    /// If it was not there before.
    new: Option<StoredPart>,
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
    ) -> Result<Sent, RemoteError> {
        let (bytes, sum, known) = self.compare(bytes, sum).await?;
        let is_new = known.is_none();
        let etag = match known {
            Some(stored) => stored.etag,
            None => persist(|| upload.send(self.number, bytes.clone(), &sum)).await?,
        };
        drop(room);
        let new = is_new.then(|| StoredPart {
            number: self.number as u32,
            etag: etag.as_deref().map(unquoted),
            checksum: sum.text(),
        });
        let part = CompletedPart::builder()
            .part_number(self.number)
            .set_e_tag(etag)
            .set_checksum_crc32_c(sum.crc32c())
            .build();
        Ok(Sent { part, new })
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
pub(super) struct Guard {
    upload: Arc<Upload>,
    has_ended: bool,
}

impl Guard {
    pub(super) fn of(upload: Arc<Upload>) -> Self {
        Self {
            upload,
            has_ended: false,
        }
    }

    pub(super) fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    pub(super) async fn end(mut self, failed: bool) {
        if failed {
            abort(&self.upload).await;
        }
        self.has_ended = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.has_ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let upload = self.upload.clone();
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
        if error.retry_after.unwrap_or_default() > LONGEST_PAUSE {
            return Err(error);
        }
        // And as long as the service asked for, which all wait.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
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
            let bytes = flow::read(&file, offset, len as usize)?;
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
