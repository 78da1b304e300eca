//! Copying an object within the service, so that no byte passes here.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, MetadataDirective, TaggingDirective,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::read::in_time;
use super::upload::Upload;
use super::{Description, ORIGINAL_SIZE, S3Remote, described, failure, unquoted};
use crate::remote::{Copy, Proof, RemoteError, RemoteErrorKind};

/// Larger objects are copied in parts, at the same time; S3 copies no more than 5 GiB at once.
const AT_ONCE: u64 = 64 << 20;
/// Parts of one object that are copied at a time.
const PARTS: usize = 8;
/// The whole of an object is copied before the answer comes.
const PATIENCE: Duration = Duration::from_secs(120);
/// S3's limit on the parts of one object.
const MAX_PARTS: u64 = 10_000;

/// What a copy source may show as it is (RFC 3986 section 2.3), and the slash.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub(super) async fn copy(remote: &S3Remote, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
    let what = format!("copying {} to {}", copy.from, copy.to);
    let Some(source) = Source::find(remote, &what, copy).await? else {
        return Ok(None);
    };
    let copied = match source.len > AT_ONCE {
        false => source.copy_at_once(remote, &what, copy).await,
        true => source.copy_parts(remote, &what, copy).await,
    };
    match copied {
        Ok(proof) => Ok(Some(proof)),
        // Changed or gone meanwhile, or not allowed to be read: it has to be sent.
        Err(error) if error.kind == RemoteErrorKind::Permanent => {
            tracing::debug!(%error, "not copied");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The object that is copied, as it was when it was asked for.
struct Source {
    name: String,
    etag: Option<String>,
    len: u64,
    description: Description,
}

impl Source {
    /// `None` if there is none of that content.
    async fn find(remote: &S3Remote, what: &str, copy: &Copy) -> Result<Option<Self>, RemoteError> {
        let from = remote.address.object_name(copy.from.as_str());
        remote.pace().request().await;
        let request = remote
            .client
            .head_object()
            .bucket(&remote.address.bucket)
            .key(&from)
            .send();
        let found = match in_time(remote, what, request).await? {
            Ok(found) => found,
            Err(error) => {
                return match failure::explain(&remote.address, what, &error) {
                    // Not there, or not ours to look at.
                    error if error.kind == RemoteErrorKind::Permanent => Ok(None),
                    error => Err(error),
                };
            }
        };
        let (name, expected) = &copy.expected;
        let says = found.metadata().and_then(|metadata| metadata.get(*name));
        if says != Some(expected) {
            return Ok(None);
        }
        let path = format!("{}/{from}", remote.address.bucket);
        Ok(Some(Self {
            name: utf8_percent_encode(&path, PLAIN).to_string(),
            etag: found.e_tag().map(str::to_owned),
            len: found.content_length().unwrap_or(0).max(0) as u64,
            description: describe(remote, copy, found),
        }))
    }

    async fn copy_at_once(
        self,
        remote: &S3Remote,
        what: &str,
        copy: &Copy,
    ) -> Result<Proof, RemoteError> {
        let request = described!(
            remote.client.copy_object(),
            remote.address,
            self.description
        )
        .copy_source(self.name)
        .set_copy_source_if_match(self.etag)
        .metadata_directive(MetadataDirective::Replace)
        .set_tagging_directive(
            remote
                .address
                .object
                .tags
                .is_some()
                .then_some(TaggingDirective::Replace),
        )
        .send();
        let answer = in_patience(remote, what, request).await?;
        let etag = answer
            .copy_object_result()
            .and_then(|copied| copied.e_tag());
        tracing::debug!(from = %copy.from, to = %copy.to, "copied");
        Ok(Proof::of_etag(etag.map(unquoted)))
    }

    /// As a multipart upload whose parts come from the source.
    async fn copy_parts(
        self,
        remote: &S3Remote,
        what: &str,
        copy: &Copy,
    ) -> Result<Proof, RemoteError> {
        let guard =
            Upload::begin_as(remote, what.to_owned(), &self.description, AT_ONCE, None).await?;
        let result = self.fill(remote, what, guard.upload()).await;
        guard.end(result.is_err()).await;
        tracing::debug!(from = %copy.from, to = %copy.to, "copied in parts");
        result
    }

    async fn fill(
        &self,
        remote: &S3Remote,
        what: &str,
        upload: &Arc<Upload>,
    ) -> Result<Proof, RemoteError> {
        let size = AT_ONCE.max(self.len.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        let offsets = (1..).zip((0..self.len).step_by(size as usize));
        let mut parts: Vec<CompletedPart> = stream::iter(offsets)
            .map(|(number, from)| async move {
                let last = (from + size).min(self.len) - 1;
                let request = upload
                    .part_copy(number)
                    .copy_source(&self.name)
                    .set_copy_source_if_match(self.etag.clone())
                    .copy_source_range(format!("bytes={from}-{last}"))
                    .send();
                let answer = in_patience(remote, what, request).await?;
                let copied = answer.copy_part_result();
                Ok::<_, RemoteError>(
                    CompletedPart::builder()
                        .part_number(number)
                        .set_e_tag(copied.and_then(|part| part.e_tag()).map(str::to_owned))
                        .build(),
                )
            })
            .buffer_unordered(PARTS)
            .try_collect()
            .await?;
        parts.sort_unstable_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        upload.complete(parts.build(), None, None).await
    }
}

fn describe(remote: &S3Remote, copy: &Copy, found: HeadObjectOutput) -> Description {
    let object = remote.address.object_name(copy.to.as_str());
    match &copy.described {
        Some(new) => {
            let metadata = &new.metadata;
            let mut new = Description::new(object, &new.content_type, new.hash, metadata);
            let size = found.metadata().and_then(|found| found.get(ORIGINAL_SIZE));
            if let (Some(encoding), Some(size)) = (found.content_encoding(), size) {
                new.encode(encoding, size.clone());
            }
            new
        }
        None => Description {
            object,
            content_type: found
                .content_type
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            encoding: found.content_encoding,
            metadata: found.metadata.unwrap_or_default(),
        },
    }
}

async fn in_patience<T, E>(
    remote: &S3Remote,
    what: &str,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, RemoteError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    remote.pace().request().await;
    tokio::time::timeout(PATIENCE, request)
        .await
        .map_err(|_| failure::stalled(&remote.address, what, PATIENCE))?
        .map_err(|error| failure::explain(&remote.address, what, &error))
}
