//! Objects in a bucket of Amazon S3 or of a service that speaks its language.
//!
//! The SDK signs, addresses and finds credentials. Ours are the body (read once, hashed, summed),
//! the patience (by progress, not by total time) and the retries (in `delivery`; the SDK's are off).

mod address;
mod bounded;
mod connect;
mod copy;
mod delete;
mod failure;
mod multipart;
mod provider;
mod read;
mod sum;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use self::address::Address;
use self::provider::{Checksum, Provider};
use self::sum::Sum;
use self::upload::Upload;
use super::flow::{self, Memory, Progress, Slices, blocking};
use super::{
    Body, Capabilities, Copy, Each, Environment, Key, ObjectInfo, Pace, Proof, Put, Remote,
    RemoteError, RemoteErrorKind, Sink, Unfinished, UploadNotes,
};

/// Objects up to this size are one request: below it, the three requests of a multipart upload cost
/// more than parallel parts gain.
const ONE_REQUEST: u64 = 16 << 20;
/// Of an object, prefix included, bytes of UTF-8
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>).
const LONGEST_KEY: usize = 1024;
/// How long a request may go without any progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// The probe stands between a person and their prompt.
const PROBE: Duration = Duration::from_secs(8);
/// What [`Put::decoded`] is to S3: an encoding, and a name of metadata.
const GZIP: &str = "gzip";
const ORIGINAL_SIZE: &str = "original-size";
/// Small enough to hash between two other things on an async thread (some 50 µs).
const HASH_HERE: usize = 256 << 10;

/// A request that begins an object, with all that is stored beside the bytes. PutObject and
/// CreateMultipartUpload take the same, but have no type in common.
macro_rules! described {
    ($request:expr, $address:expr, $description:expr) => {{
        let options = $address.object.clone();
        let description = $description;
        // What is ours is not to be replaced.
        let metadata = options.metadata.into_iter().chain(description.metadata);
        $request
            .bucket(&$address.bucket)
            .key(description.object)
            .content_type(description.content_type)
            .set_content_encoding(description.encoding)
            .set_metadata(Some(metadata.collect()))
            .set_acl(options.acl)
            .set_storage_class(options.storage_class)
            .set_server_side_encryption(options.sse)
            .set_ssekms_key_id(options.kms_key)
            .set_cache_control(options.cache_control)
            .set_tagging(options.tags)
    }};
}
use described;

/// What an object is called and stored with.
#[derive(Clone)]
struct Description {
    object: String,
    content_type: String,
    encoding: Option<String>,
    metadata: HashMap<String, String>,
}

impl Description {
    fn of(address: &Address, put: &Put) -> Self {
        let object = address.object_name(put.key.as_str());
        let hash = put.content_hash();
        let mut description = Self::new(object, &put.content_type, hash, &put.metadata);
        if let Some(decoded) = &put.decoded {
            description.encode(GZIP, decoded.size.to_string());
        }
        description
    }

    fn encode(&mut self, encoding: &str, original_size: String) {
        self.encoding = Some(encoding.to_owned());
        let size = (ORIGINAL_SIZE.to_owned(), original_size);
        self.metadata.extend([size]);
    }

    fn new(
        object: String,
        content_type: &str,
        hash: blake3::Hash,
        metadata: &[(&'static str, String)],
    ) -> Self {
        let further = metadata.iter();
        let further = further.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let blake3 = ("blake3".to_owned(), hash.to_hex().to_string());
        Self {
            object,
            content_type: content_type.to_owned(),
            encoding: None,
            metadata: further.chain([blake3]).collect(),
        }
    }
}

/// One bucket and prefix, shared by all workers.
pub struct S3Remote {
    address: Address,
    client: Client,
    region: Option<String>,
    memory: Memory,
    pace: OnceLock<Arc<Pace>>,
    /// Until somebody sets one.
    unlimited: Arc<Pace>,
}

impl S3Remote {
    /// Reads the URL and the AWS configuration (environment, `~/.aws`). Credentials are looked for
    /// with the first request.
    pub async fn open(url: &url::Url, environment: &Environment) -> Result<Self, RemoteError> {
        let mut address = Address::parse(url, environment)?;
        let config = connect::configure(&address, environment).await?;
        if address.endpoint.is_none()
            && let Some(endpoint) = config.endpoint_url()
        {
            // From the profile.
            address.endpoint = Some(endpoint.trim_end_matches('/').to_owned());
            address.provider = Provider::at(address.endpoint.as_deref());
        }
        let region = config.region().map(|region| region.as_ref().to_owned());
        if region.is_none() {
            return Err(RemoteError::permanent(format!(
                "{address} needs a region: add region=NAME to the URL, or set AWS_REGION"
            )));
        }
        let mut s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(address.path_style())
            .interceptor(bounded::Bounded);
        if let Some(endpoint) = &address.endpoint {
            s3 = s3.endpoint_url(closed(endpoint));
        }
        Ok(Self {
            address,
            client: Client::from_conf(s3.build()),
            region,
            memory: Memory::default(),
            pace: OnceLock::new(),
            unlimited: Arc::default(),
        })
    }

    fn pace(&self) -> Arc<Pace> {
        self.pace.get().unwrap_or(&self.unlimited).clone()
    }

    /// Room for `bytes` of file content, or for as much as there is at all.
    async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        self.memory.room(bytes).await
    }

    async fn put_small(&self, put: &Put) -> Result<Proof, RemoteError> {
        let checksum = self.address.provider.checksum();
        let (bytes, sum, _room) = match &put.body {
            Body::Bytes(bytes) => {
                let (bytes, sum) = check(bytes.clone(), put.hash, checksum).await?;
                (bytes, sum, None)
            }
            Body::File { file, len } => {
                let room = self.room(*len).await;
                let (file, len, hash) = (file.clone(), *len as usize, put.hash);
                let (bytes, sum) = blocking(move || {
                    let bytes = flow::read(&file, 0, len)?;
                    let sum = check_here(&bytes, hash, checksum)?;
                    Ok((bytes, sum))
                })
                .await?;
                (bytes, sum, Some(room))
            }
        };
        let description = Description::of(&self.address, put);
        let what = storing(&put.key);
        self.put_bytes(&what, description, bytes, sum).await
    }

    async fn put_bytes(
        &self,
        what: &str,
        description: Description,
        bytes: Bytes,
        sum: Sum,
    ) -> Result<Proof, RemoteError> {
        let pace = self.pace();
        pace.request().await;
        let progress = Progress::at(pace);
        let request = described!(self.client.put_object(), self.address, description)
            .content_length(bytes.len() as i64)
            .set_checksum_crc32_c(sum.crc32c())
            .set_content_md5(sum.md5())
            .body(stream(progress.body(bytes)))
            .send();
        let answer = progress
            .watch(PATIENCE, request)
            .await
            .ok_or_else(|| failure::stalled(&self.address, what, PATIENCE))?
            .map_err(|error| failure::explain(&self.address, what, &error))
            .map_err(|error| heed(&self.pace(), error))?;
        compare(what, sum.crc32c(), answer.checksum_crc32_c())?;
        Ok(Proof::of_etag(answer.e_tag().map(unquoted)))
    }

    /// Some services would cut the key, others keep what no other tool can read.
    fn check_length(&self, key: &Key) -> Result<(), RemoteError> {
        let length = self.address.object_name(key.as_str()).len();
        if length <= LONGEST_KEY {
            return Ok(());
        }
        Err(RemoteError::permanent(format!(
            "the key would have {length} bytes, and S3 takes 1,024 at most; give the file or its \
             folders shorter names"
        )))
    }

    /// Stores and deletes an empty object, stored as all are: policies may ask for an ACL, a
    /// checksum or encryption.
    async fn probe_unbounded(&self) -> Result<(), RemoteError> {
        let name = format!(".outboxfs-probe-{:016x}", fastrand::u64(..));
        let object = self.address.object_name(&name);
        let description = Description {
            object: object.clone(),
            content_type: "application/octet-stream".to_owned(),
            encoding: None,
            metadata: HashMap::new(),
        };
        let what = format!("storing a trial object in {}", self.address);
        let sum = Sum::of(self.address.provider.checksum(), b"");
        self.put_bytes(&what, description, Bytes::new(), sum)
            .await?;
        let deleted = self
            .client
            .delete_object()
            .bucket(&self.address.bucket)
            .key(&object)
            .send()
            .await;
        // Credentials that may write but not delete are a sensible thing to have.
        if let Err(error) = deleted {
            let what = format!("deleting the trial object {object} again");
            let error = failure::explain(&self.address, &what, &error);
            tracing::warn!("{error}; storing works");
        }
        Ok(())
    }
}

#[async_trait]
impl Remote for S3Remote {
    fn describe(&self) -> String {
        self.address.to_string()
    }

    async fn probe(&self) -> Result<(), RemoteError> {
        match tokio::time::timeout(PROBE, self.probe_unbounded()).await {
            Ok(result) => result,
            Err(_) => Err(RemoteError::new(
                RemoteErrorKind::Unreachable,
                format!(
                    "{} did not answer within {} s; is the endpoint right?",
                    self.address.service(),
                    PROBE.as_secs()
                ),
            )),
        }
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        self.check_length(&put.key)?;
        match &put.body {
            Body::File { file, len } if *len > ONE_REQUEST => {
                let (file, len) = (file.clone(), *len);
                multipart::put(self, &put, file, len).await
            }
            _ => self.put_small(&put).await,
        }
    }

    async fn put_resumable(
        &self,
        put: Put,
        unfinished: Option<&Unfinished>,
        notes: &dyn UploadNotes,
    ) -> Result<Proof, RemoteError> {
        self.check_length(&put.key)?;
        match &put.body {
            Body::File { file, len } if *len > ONE_REQUEST => {
                let (file, len) = (file.clone(), *len);
                multipart::resume(self, &put, file, len, unfinished, notes).await
            }
            _ => self.put_small(&put).await,
        }
    }

    async fn abandon(&self, name: &str) -> Result<(), RemoteError> {
        match Upload::to_abandon(self, name) {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            encodings: true,
            ..Capabilities::default()
        }
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        read::list(self, prefix, each).await
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        read::head(self, key).await
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        read::get(self, key, sink).await
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        delete::delete(self, key).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        delete::delete_all(self, keys).await
    }

    async fn copy(&self, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        self.check_length(&copy.to)?;
        copy::copy(self, copy).await
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        // A second one would come too late for what is being sent.
        let _ = self.pace.set(pace);
    }

    fn url(&self, key: &Key) -> Option<String> {
        Some(self.address.public_url(key, self.region.as_deref()))
    }
}

/// An endpoint with a slash after its path, if it has one: the SDK puts the bucket right behind it.
fn closed(endpoint: &str) -> String {
    match url::Url::parse(endpoint) {
        Ok(url) if url.path() != "/" => format!("{endpoint}/"),
        _ => endpoint.to_owned(),
    }
}

/// A body as the SDK takes it.
fn stream(slices: Slices) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(slices))
}

/// What an error about an object starts with.
fn storing(key: &Key) -> String {
    format!("storing {key}")
}

/// Verifies that the bytes are those that were to be sent, and sums them.
async fn check(
    bytes: Bytes,
    hash: blake3::Hash,
    checksum: Checksum,
) -> Result<(Bytes, Sum), RemoteError> {
    if bytes.len() <= HASH_HERE {
        let sum = check_here(&bytes, hash, checksum)?;
        return Ok((bytes, sum));
    }
    blocking(move || {
        let sum = check_here(&bytes, hash, checksum)?;
        Ok((bytes, sum))
    })
    .await
}

fn check_here(bytes: &[u8], hash: blake3::Hash, checksum: Checksum) -> Result<Sum, RemoteError> {
    if blake3::hash(bytes) != hash {
        return Err(RemoteError::content_changed());
    }
    Ok(Sum::of(checksum, bytes))
}

/// What one request is asked to wait, all wait.
fn heed(pace: &Pace, error: RemoteError) -> RemoteError {
    if let Some(wait) = error.retry_after {
        pace.rest(wait);
    }
    error
}

/// Services that tell what they have stored are held to it.
fn compare(what: &str, sent: Option<String>, stored: Option<&str>) -> Result<(), RemoteError> {
    match (sent, stored) {
        (Some(sent), Some(stored)) if stored != sent => Err(RemoteError::transient(format!(
            "{what} went wrong: the service stored bytes with the CRC32C {stored}, those sent have \
             {sent}; they will be sent again"
        ))),
        _ => Ok(()),
    }
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}
