//! Asking an S3 service for what it has: listings, metadata, content.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use flate2::write::GzDecoder;

use super::{GZIP, ORIGINAL_SIZE, PATIENCE, S3Remote, failure, unquoted};
use crate::remote::object::parse_mtime;
use crate::remote::{Each, Key, Listed, ObjectInfo, RemoteError, Sink};

/// `ListObjectsV2`, a thousand objects a request.
pub(super) async fn list(
    remote: &S3Remote,
    prefix: &str,
    each: Each<'_>,
) -> Result<(), RemoteError> {
    let prefix = remote.address.object_name(prefix);
    let above = remote.address.object_name("");
    let what = format!("listing {prefix}");
    let mut next: Option<String> = None;
    loop {
        remote.pace().request().await;
        let request = remote
            .client
            .list_objects_v2()
            .bucket(&remote.address.bucket)
            .prefix(&prefix)
            .set_continuation_token(next)
            .send();
        let page = in_time(remote, &what, request)
            .await?
            .map_err(|error| failure::explain(&remote.address, &what, &error))?;
        for object in page.contents() {
            let Some(key) = object.key().and_then(|key| key.strip_prefix(&above)) else {
                continue;
            };
            each(Listed {
                key: key.to_owned(),
                size: object.size().unwrap_or(0).max(0) as u64,
                etag: object.e_tag().map(unquoted),
            });
        }
        next = page.next_continuation_token().map(str::to_owned);
        if next.is_none() || page.is_truncated() == Some(false) {
            return Ok(());
        }
    }
}

pub(super) async fn head(remote: &S3Remote, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
    let what = format!("asking for {key}");
    remote.pace().request().await;
    let request = remote
        .client
        .head_object()
        .bucket(&remote.address.bucket)
        .key(remote.address.object_name(key.as_str()))
        .send();
    match in_time(remote, &what, request).await? {
        Ok(answer) => {
            let says = |name: &str| answer.metadata()?.get(name).map(String::as_str);
            let size = says(ORIGINAL_SIZE).and_then(|size| size.parse().ok());
            Ok(Some(ObjectInfo {
                size: answer.content_length().unwrap_or(0).max(0) as u64,
                original_size: size.filter(|_| answer.content_encoding() == Some(GZIP)),
                etag: answer.e_tag().map(unquoted),
                blake3: says("blake3").and_then(|hex| blake3::Hash::from_hex(hex).ok()),
                mtime_ns: says("mtime").and_then(parse_mtime),
            }))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failure::explain(&remote.address, &what, &error)),
    }
}

pub(super) async fn get(
    remote: &S3Remote,
    key: &Key,
    sink: Sink<'_>,
) -> Result<Option<u64>, RemoteError> {
    let what = format!("reading {key}");
    remote.pace().request().await;
    let request = remote
        .client
        .get_object()
        .bucket(&remote.address.bucket)
        .key(remote.address.object_name(key.as_str()))
        .send();
    let mut answer = match in_time(remote, &what, request).await? {
        Ok(answer) => answer,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failure::explain(&remote.address, &what, &error)),
    };
    let says_size = answer
        .metadata()
        .is_some_and(|metadata| metadata.contains_key(ORIGINAL_SIZE));
    // Others may have stored what is gzip in itself, and is meant so.
    let mut sink = match says_size && answer.content_encoding() == Some(GZIP) {
        true => Decoding::Gzip(GzDecoder::new(Counted { sink, len: 0 })),
        false => Decoding::None(Counted { sink, len: 0 }),
    };
    let not_kept = |error: io::Error| {
        RemoteError::permanent(format!("{what}: its content cannot be kept: {error}"))
    };
    let mut size = 0;
    while let Some(bytes) = in_time(remote, &what, answer.body.next()).await? {
        let bytes = bytes
            .map_err(|error| RemoteError::transient(format!("{what} was broken off: {error}")))?;
        size += bytes.len() as u64;
        sink.write(&bytes).map_err(not_kept)?;
    }
    match answer.content_length {
        Some(promised) if promised as u64 != size => Err(RemoteError::transient(format!(
            "{what} ended after {size} of {promised} bytes"
        ))),
        _ => sink.end().map(Some).map_err(not_kept),
    }
}

/// Content on its way to whoever reads it.
enum Decoding<'a> {
    None(Counted<'a>),
    Gzip(GzDecoder<Counted<'a>>),
}

struct Counted<'a> {
    sink: Sink<'a>,
    len: u64,
}

impl Decoding<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    /// How many bytes there were after decoding.
    fn end(self) -> io::Result<u64> {
        match self {
            Self::None(sink) => Ok(sink.len),
            Self::Gzip(decoder) => Ok(decoder.finish()?.len),
        }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// An answer, or a piece of one, within our patience.
pub(super) async fn in_time<T>(
    remote: &S3Remote,
    what: &str,
    answer: impl Future<Output = T>,
) -> Result<T, RemoteError> {
    let patience: Duration = PATIENCE;
    tokio::time::timeout(patience, answer)
        .await
        .map_err(|_| failure::stalled(&remote.address, what, patience))
}

/// A 404 that is the object's and not the bucket's. HEAD has no body that could tell; that the
/// bucket is there was found out before.
pub(super) fn is_missing<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    status == Some(404) && error.code() != Some("NoSuchBucket")
}
