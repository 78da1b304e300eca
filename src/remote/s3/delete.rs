//! Removing objects: one, or a thousand with one request.

use std::collections::HashMap;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_types::base64;
use md5::{Digest, Md5};

use super::failure::Refusal;
use super::provider::Checksum;
use super::read::{in_time, is_missing};
use super::{S3Remote, failure};
use crate::remote::{Key, RemoteError};

/// S3's limit on the keys of one request.
const AT_ONCE: usize = 1000;

pub(super) async fn delete(remote: &S3Remote, key: &Key) -> Result<(), RemoteError> {
    let what = deleting(key);
    remote.pace().request().await;
    let request = remote
        .client
        .delete_object()
        .bucket(&remote.address.bucket)
        .key(remote.address.object_name(key.as_str()))
        .send();
    match in_time(remote, &what, request).await? {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(failure::explain(&remote.address, &what, &error)),
    }
}

pub(super) async fn delete_all(remote: &S3Remote, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
    let mut answers = Vec::with_capacity(keys.len());
    for keys in keys.chunks(AT_ONCE) {
        if let [key] = keys {
            answers.push(delete(remote, key).await);
            continue;
        }
        match delete_some(remote, keys).await {
            Ok(Some(of_these)) => answers.extend(of_these),
            // A service without that request (Google's, for one).
            Ok(None) => {
                for key in keys {
                    answers.push(delete(remote, key).await);
                }
            }
            Err(error) => answers.extend(keys.iter().map(|_| Err(error.clone()))),
        }
    }
    answers
}

/// `DeleteObjects`; `None` if the service does not know it.
async fn delete_some(
    remote: &S3Remote,
    keys: &[Key],
) -> Result<Option<Vec<Result<(), RemoteError>>>, RemoteError> {
    let what = format!("deleting {} objects, {} the first", keys.len(), keys[0]);
    let name = |key: &Key| remote.address.object_name(key.as_str());
    let objects: Result<Vec<_>, BuildError> = keys
        .iter()
        .map(|key| ObjectIdentifier::builder().key(name(key)).build())
        .collect();
    let delete = objects.and_then(|objects| {
        Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
    });
    let delete = delete.map_err(|error| RemoteError::permanent(format!("{what}: {error}")))?;
    remote.pace().request().await;
    let only_md5 = remote.address.provider.checksum() == Checksum::Md5;
    let request = remote
        .client
        .delete_objects()
        .bucket(&remote.address.bucket)
        .delete(delete)
        .customize()
        .mutate_request(move |request| sum(request, only_md5))
        .send();
    let answer = match in_time(remote, &what, request).await? {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("NotImplemented") => return Ok(None),
        Err(error) => return Err(failure::explain(&remote.address, &what, &error)),
    };
    let mut refused: HashMap<&str, RemoteError> = HashMap::new();
    for error in answer.errors() {
        let (Some(key), code) = (error.key(), error.code().unwrap_or_default()) else {
            continue;
        };
        if code != "NoSuchKey" {
            let refusal = Refusal::of_one(code, error.message().unwrap_or_default());
            let what = format!("deleting {key}");
            refused.insert(key, refusal.explain(&remote.address, &what));
        }
    }
    let answers = keys
        .iter()
        .map(|key| match refused.remove(name(key).as_str()) {
            Some(error) => Err(error),
            None => Ok(()),
        });
    Ok(Some(answers.collect()))
}

/// The request needs a checksum. The SDK knows only the newer ones, which some services refuse; all
/// of them take the oldest.
fn sum(request: &mut HttpRequest, only_md5: bool) {
    let Some(body) = request.body().bytes() else {
        return;
    };
    let md5 = base64::encode(Md5::digest(body));
    request.headers_mut().insert("content-md5", md5);
    if only_md5 {
        for newer in ["x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm"] {
            request.headers_mut().remove(newer);
        }
    }
}

fn deleting(key: &Key) -> String {
    format!("deleting {key}")
}
