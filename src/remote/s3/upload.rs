//! The requests of one multipart upload, each made once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::upload_part_copy::builders::UploadPartCopyFluentBuilder;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::multipart::Guard;
use super::provider::Checksum;
use super::stream;
use super::sum::Sum;
use super::{
    Description, PATIENCE, S3Remote, compare, described, failure, heed, storing, unquoted,
};
use crate::remote::flow::Progress;
use crate::remote::{Pace, Proof, Put, RemoteError};

/// Putting the parts together takes services minutes when there are many.
const ASSEMBLY: Duration = Duration::from_secs(600);

/// A multipart upload that the service has begun and neither completed nor aborted.
pub(super) struct Upload {
    client: Client,
    address: Address,
    pace: Arc<Pace>,
    /// What errors start with.
    pub what: String,
    token: Token,
}

/// What must be known to go on with an upload later, or to give it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    bucket: String,
    object: String,
    id: String,
    part_size: u64,
}

/// A part that the service has, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub len: Option<u64>,
    pub etag: Option<String>,
    pub crc32c: Option<String>,
    /// The checksum that went with it, from our notes.
    pub noted: Option<String>,
}

impl Stored {
    /// Whether it holds these bytes, as far as the service or our notes tell. Most entity tags of
    /// parts are their MD5.
    pub fn holds(&self, bytes: &[u8], sum: &Sum) -> bool {
        if self.len.is_some_and(|len| len != bytes.len() as u64) {
            return false;
        }
        if let Some(noted) = &self.noted {
            return *noted == sum.text();
        }
        match (&self.crc32c, sum.crc32c(), &self.etag) {
            (Some(stored), Some(ours), _) => *stored == ours,
            (_, _, Some(etag)) => unquoted(etag) == md5_hex(bytes),
            _ => false,
        }
    }
}

fn md5_hex(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Upload {
    /// Begins an upload for the object that `put` describes.
    pub async fn begin(remote: &S3Remote, put: &Put, part_size: u64) -> Result<Guard, RemoteError> {
        let description = Description::of(&remote.address, put);
        let crc = remote.address.provider.checksum() == Checksum::Crc32c;
        let checksum = crc.then_some(ChecksumAlgorithm::Crc32C);
        Self::begin_as(remote, storing(&put.key), &description, part_size, checksum).await
    }

    /// Begins an upload for the object that `description` names; `what` is for sentences. Whoever does not
    /// wait for its name has it aborted when the name comes: one task, which ends with the request.
    pub async fn begin_as(
        remote: &S3Remote,
        what: String,
        description: &Description,
        part_size: u64,
        checksum: Option<ChecksumAlgorithm>,
    ) -> Result<Guard, RemoteError> {
        let address = &remote.address;
        remote.pace().request().await;
        let request = described!(
            remote.client.create_multipart_upload(),
            address,
            description.clone()
        )
        .set_checksum_type(checksum.as_ref().map(|_| ChecksumType::FullObject))
        .set_checksum_algorithm(checksum)
        .send();
        let token = Token {
            bucket: address.bucket.clone(),
            object: description.object.clone(),
            id: String::new(),
            part_size,
        };
        let mut upload = Self::with(remote, what.clone(), token);
        let begun = tokio::spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, request)
                .await
                .map_err(|_| upload.stalled(PATIENCE))?
                .map_err(|error| upload.explain(&error))?;
            upload.token.id = answer.upload_id.ok_or_else(|| {
                RemoteError::transient(format!(
                    "{} failed: {} began a multipart upload without naming it",
                    upload.what,
                    upload.address.service()
                ))
            })?;
            Ok(Guard::of(Arc::new(upload)))
        });
        begun.await.unwrap_or_else(|error| {
            let why = format!("{what} was broken off: {error}");
            Err(RemoteError::transient(why))
        })
    }

    /// The upload of this name, if it is one for the object that `put` describes. Asks
    /// nobody whether the service still has it.
    pub fn named(remote: &S3Remote, put: &Put, name: &str, part_size: u64) -> Option<Arc<Self>> {
        let token: Token = serde_json::from_str(name).ok()?;
        let object = remote.address.object_name(put.key.as_str());
        let ours = token.bucket == remote.address.bucket
            && token.object == object
            && token.part_size == part_size;
        ours.then(|| Arc::new(Self::with(remote, storing(&put.key), token)))
    }

    /// The upload of this name, to be given up. `None` if it was for another bucket.
    pub fn to_abandon(remote: &S3Remote, name: &str) -> Option<Arc<Self>> {
        let token: Token = serde_json::from_str(name).ok()?;
        let what = format!("giving up the unfinished upload of {}", token.object);
        (token.bucket == remote.address.bucket).then(|| Arc::new(Self::with(remote, what, token)))
    }

    fn with(remote: &S3Remote, what: String, token: Token) -> Self {
        Self {
            client: remote.client.clone(),
            address: remote.address.clone(),
            pace: remote.pace(),
            what,
            token,
        }
    }

    /// What is noted of it.
    pub fn name(&self) -> String {
        serde_json::json!(self.token).to_string()
    }

    /// The parts that the service has, by number; `None` if it does not know the upload any more.
    pub async fn parts(&self) -> Result<Option<HashMap<i32, Stored>>, RemoteError> {
        let mut parts = HashMap::new();
        let mut after = None;
        loop {
            self.pace.request().await;
            let request = self
                .client
                .list_parts()
                .bucket(&self.token.bucket)
                .key(&self.token.object)
                .upload_id(&self.token.id)
                .set_part_number_marker(after.take())
                .send();
            let answer = match tokio::time::timeout(PATIENCE, request).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) if error.code() == Some("NoSuchUpload") => return Ok(None),
                Ok(Err(error)) => return Err(self.explain(&error)),
                Err(_) => return Err(self.stalled(PATIENCE)),
            };
            for part in answer.parts.unwrap_or_default() {
                let stored = Stored {
                    len: Some(part.size.unwrap_or_default().try_into().unwrap_or_default()),
                    etag: part.e_tag,
                    crc32c: part.checksum_crc32_c,
                    noted: None,
                };
                parts.insert(part.part_number.unwrap_or_default(), stored);
            }
            match answer.next_part_number_marker {
                Some(next) if answer.is_truncated == Some(true) => after = Some(next),
                _ => return Ok(Some(parts)),
            }
        }
    }

    /// Sends a part and returns its entity tag. Sending one again replaces it.
    pub async fn send(
        &self,
        number: i32,
        bytes: Bytes,
        sum: &Sum,
    ) -> Result<Option<String>, RemoteError> {
        self.pace.request().await;
        let progress = Progress::at(self.pace.clone());
        let request = self
            .client
            .upload_part()
            .bucket(&self.token.bucket)
            .key(&self.token.object)
            .upload_id(&self.token.id)
            .part_number(number)
            .content_length(bytes.len() as i64)
            .set_checksum_crc32_c(sum.crc32c())
            .set_content_md5(sum.md5())
            .body(stream(progress.body(bytes)))
            .send();
        let answer = progress
            .watch(PATIENCE, request)
            .await
            .ok_or_else(|| self.stalled(PATIENCE))?
            .map_err(|error| self.explain(&error))?;
        compare(&self.what, sum.crc32c(), answer.checksum_crc32_c())?;
        Ok(answer.e_tag)
    }

    /// A part that comes from another object; the caller says from which.
    pub fn part_copy(&self, number: i32) -> UploadPartCopyFluentBuilder {
        self.client
            .upload_part_copy()
            .bucket(&self.token.bucket)
            .key(&self.token.object)
            .upload_id(&self.token.id)
            .part_number(number)
    }

    /// Makes the parts one object. `crc` is the checksum of the whole. `tried` has the hash of the
    /// object if an earlier try may have made it, its answer lost.
    pub async fn complete(
        &self,
        parts: CompletedMultipartUpload,
        crc: Option<String>,
        tried: Option<blake3::Hash>,
    ) -> Result<Proof, RemoteError> {
        self.pace.request().await;
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.token.bucket)
            .key(&self.token.object)
            .upload_id(&self.token.id)
            .multipart_upload(parts)
            .set_checksum_type(crc.as_ref().map(|_| ChecksumType::FullObject))
            .set_checksum_crc32_c(crc.clone())
            .send();
        let answer = match tokio::time::timeout(ASSEMBLY, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                // Not every service calls it NoSuchUpload then.
                if let Some(hash) = tried
                    && let Some(proof) = self.completed(hash).await
                {
                    return Ok(proof);
                }
                return Err(self.explain(&error));
            }
            Err(_) => return Err(self.stalled(ASSEMBLY)),
        };
        // A checksum of checksums (it ends in the number of parts) is what services that know no
        // checksum of the whole answer; it is not comparable.
        let stored = answer.checksum_crc32_c().filter(|crc| !crc.contains('-'));
        compare(&self.what, crc, stored)?;
        Ok(Proof::of_etag(answer.e_tag().map(unquoted)))
    }

    /// The proof of the object that is there, if it is the one to be stored.
    pub async fn completed(&self, hash: blake3::Hash) -> Option<Proof> {
        let request = self
            .client
            .head_object()
            .bucket(&self.token.bucket)
            .key(&self.token.object)
            .send();
        let answer = tokio::time::timeout(PATIENCE, request).await.ok()?.ok()?;
        let blake3 = answer.metadata()?.get("blake3")?;
        (*blake3 == *hash.to_hex()).then(|| Proof::of_etag(answer.e_tag().map(unquoted)))
    }

    /// Has the service forget the upload and its parts. One that it has forgotten is no error.
    pub async fn abort(&self) -> Result<(), RemoteError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.token.bucket)
            .key(&self.token.object)
            .upload_id(&self.token.id)
            .send();
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.code() == Some("NoSuchUpload") => Ok(()),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(self.stalled(PATIENCE)),
        }
    }

    fn explain<E>(&self, error: &failure::SdkFailure<E>) -> RemoteError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        heed(
            &self.pace,
            failure::explain(&self.address, &self.what, error),
        )
    }

    fn stalled(&self, waited: Duration) -> RemoteError {
        failure::stalled(&self.address, &self.what, waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::s3::sum::Sum;

    #[test]
    fn a_part_is_known_by_its_checksum_or_else_by_its_md5() {
        let sum = Sum::of(Checksum::Crc32c, b"123456789");
        let part = |len, etag: Option<&str>, crc32c: Option<&str>| Stored {
            len: Some(len),
            etag: etag.map(str::to_owned),
            crc32c: crc32c.map(str::to_owned),
            noted: None,
        };
        let md5 = "\"25f9e794323b453885f5181f1b624d0b\"";
        assert!(part(9, None, Some("4waSgw==")).holds(b"123456789", &sum));
        assert!(part(9, Some(md5), None).holds(b"123456789", &sum));
        assert!(!part(9, Some(md5), Some("AAAAAA==")).holds(b"123456789", &sum));
        assert!(!part(8, None, Some("4waSgw==")).holds(b"123456789", &sum));
        assert!(!part(9, None, None).holds(b"123456789", &sum));
        let noted = |checksum: &str| Stored {
            noted: Some(checksum.to_owned()),
            ..Stored::default()
        };
        assert!(noted("4waSgw==").holds(b"123456789", &sum));
        assert!(!noted("AAAAAA==").holds(b"123456789", &sum));
    }
}
