//! One file's way to the application: announced, put where the application says, and made a record of,
//! once, whatever breaks in between.

use std::sync::Arc;

use md5::{Digest, Md5};
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::address::Record;
use super::template::Values;
use super::{RailsRemote, refusal, tags};
use crate::remote::flow::read;
use crate::remote::http::{Answer, body};
use crate::remote::{Body, Proof, Put, RemoteError, StoredPart, Unfinished, UploadNotes};

/// How much of a file is read at a time, bytes.
const CHUNK: u64 = 1 << 20;

/// A file on its way.
pub(super) struct Upload<'a> {
    remote: &'a RailsRemote,
    put: &'a Put,
    notes: &'a dyn UploadNotes,
    /// What errors begin with.
    what: String,
    values: Values,
}

/// What became of the wish for a record.
enum Made {
    Record(Proof),
    /// The application does not know the blob.
    NoBlob(RemoteError),
}

impl<'a> Upload<'a> {
    pub async fn of(remote: &'a RailsRemote, put: &'a Put, notes: &'a dyn UploadNotes) -> Self {
        Self {
            remote,
            put,
            notes,
            what: format!("storing {}", put.key),
            values: values(remote, put).await,
        }
    }

    /// Goes on with the blob that an earlier attempt has sent, if there was one.
    pub async fn run(mut self, unfinished: Option<&Unfinished>) -> Result<Proof, RemoteError> {
        if let Some(unfinished) = unfinished {
            if let Some(proof) = self.known(unfinished) {
                return Ok(proof);
            }
            match self.record(&unfinished.name, true).await? {
                Made::Record(proof) => return Ok(proof),
                // Removed there as nobody claimed it, most likely.
                Made::NoBlob(error) => {
                    tracing::info!(%error, "what was sent before is gone; it is sent again");
                    self.notes.given_up().await;
                }
            }
        }
        let checksum = checksum(self.put).await?;
        self.values.set("checksum", checksum);
        let signed_id = self.send().await?;
        // Before there can be a record: who finds this note asks for that first.
        self.notes.began(signed_id.clone()).await?;
        match self.record(&signed_id, false).await? {
            Made::Record(proof) => Ok(proof),
            Made::NoBlob(error) => {
                self.notes.given_up().await;
                Err(error)
            }
        }
    }

    /// What was noted of a record, or of a blob that needs none.
    fn known(&self, unfinished: &Unfinished) -> Option<Proof> {
        let signed_id = unfinished.name.clone();
        if self.remote.address.record.is_none() {
            return Some(self.proof(&signed_id, None, None));
        }
        let part = unfinished.parts.first()?;
        let id = Some(part.checksum.clone()).filter(|id| !id.is_empty());
        Some(self.proof(&signed_id, id, part.etag.clone()))
    }

    /// Announces a blob and puts its bytes where the application says; returns its signed id. A URL whose
    /// time is up is asked for again, once.
    async fn send(&self) -> Result<String, RemoteError> {
        let first = self.announce().await?;
        let answer = self.bytes(&first).await?;
        if answer.status.is_success() {
            return Ok(first.signed_id);
        }
        if !may_be_expired(&answer) {
            return Err(self.not_taken(&answer));
        }
        let second = self.announce().await?;
        let answer = self.bytes(&second).await?;
        match answer.status.is_success() {
            true => Ok(second.signed_id),
            false => Err(self.not_taken(&answer)),
        }
    }

    async fn announce(&self) -> Result<Target, RemoteError> {
        let RailsRemote { address, api, .. } = self.remote;
        let upload = &address.upload;
        let asked = upload.fields.json(&self.values);
        let url = address.url(&upload.path)?;
        let call = self
            .remote
            .call(&self.what, Method::POST, url, Some(asked), None);
        let answer = call.await?;
        if !answer.status.is_success() && !answer.status.is_redirection() {
            return Err(self.refused(&answer));
        }
        let answer: Value = api.json(&self.what, &answer)?;
        let missing =
            |member: &dyn std::fmt::Display| refusal::without(&address.name(), &self.what, member);
        let signed_id = upload.signed_id.text(&answer);
        let url = upload.url.text(&answer);
        let url = url.ok_or_else(|| missing(&upload.url))?;
        Ok(Target {
            signed_id: signed_id.ok_or_else(|| missing(&upload.signed_id))?,
            url: self.remote.storage_url(&self.what, &url)?,
            headers: headers(&self.what, upload.headers.find(&answer))?,
        })
    }

    /// Puts the bytes, with exactly the headers that go with the URL.
    async fn bytes(&self, target: &Target) -> Result<Answer, RemoteError> {
        let storage = &self.remote.storage;
        let progress = storage.progress();
        let slices = match &self.put.body {
            Body::Bytes(bytes) => progress.body(bytes.clone()),
            Body::File { file, len } => progress.file(file.clone(), *len, self.put.hash),
        };
        let request = storage
            .request(Method::PUT, target.url.clone())
            .headers(target.headers.clone())
            // Also where it is nothing: it may be signed.
            .header(CONTENT_LENGTH, self.put.body.len())
            .body(body(slices));
        let answer = storage.send(&self.what, request, &progress).await;
        match answer {
            Err(_) if progress.has_changed() => Err(RemoteError::content_changed()),
            Ok(answer) if answer.status.is_redirection() => {
                let foreign = storage.foreign(&self.what, &answer);
                Err(foreign.unwrap_or_else(|| self.not_taken(&answer)))
            }
            answer => answer,
        }
    }

    /// Has a record made of a blob. If somebody may have asked for it before (`again`), one that is there
    /// already is it.
    async fn record(&mut self, signed_id: &str, again: bool) -> Result<Made, RemoteError> {
        let address = &self.remote.address;
        let Some(record) = &address.record else {
            self.notes.completed().await;
            return Ok(Made::Record(self.proof(signed_id, None, None)));
        };
        self.values.set("signed_id", signed_id);
        if again && let Some(proof) = self.look_up(record, signed_id).await? {
            return Ok(Made::Record(self.noted(proof).await));
        }
        let asked = record.fields.json(&self.values);
        let once = record.once.clone().map(|name| (name, self.key()));
        let url = address.url(&record.path)?;
        let call = self
            .remote
            .call(&self.what, Method::POST, url, Some(asked), once);
        let answer = call.await?;
        if let Some(error) = self.remote.foreign(&self.what, &answer) {
            return Err(error);
        }
        if answer.status.is_success() {
            // It is made, also where nothing is told of it.
            let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let proof = self.proof_in(record, signed_id, &answer);
            return Ok(Made::Record(self.noted(proof).await));
        }
        let status = answer.status.as_u16();
        if again && matches!(status, 409 | 422) {
            let named: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let proof = self.proof_in(record, signed_id, &named);
            let is_named = record.id.text(&named).is_some() || record.url.text(&named).is_some();
            if status == 409 || is_named {
                return Ok(Made::Record(self.noted(proof).await));
            }
        }
        let error = self.refused(&answer);
        if matches!(status, 404 | 410) {
            return Ok(Made::NoBlob(error));
        }
        if !error.may_pass() && !refusal::concerns_account(&answer) {
            self.notes.given_up().await;
        }
        Err(error)
    }

    async fn look_up(
        &self,
        record: &Record,
        signed_id: &str,
    ) -> Result<Option<Proof>, RemoteError> {
        let Some(lookup) = &record.lookup else {
            return Ok(None);
        };
        let url = self.remote.address.url(&lookup.in_url(&self.values))?;
        let call = self.remote.call(&self.what, Method::GET, url, None, None);
        let answer = call.await?;
        if matches!(answer.status.as_u16(), 404 | 410) {
            return Ok(None);
        }
        if !answer.status.is_success() && !answer.status.is_redirection() {
            return Err(self.refused(&answer));
        }
        let answer: Value = self.remote.api.json(&self.what, &answer)?;
        let is_named = record.id.find(&answer).is_some() || record.url.find(&answer).is_some();
        Ok(is_named.then(|| self.proof_in(record, signed_id, &answer)))
    }

    /// Has it written down that there is a record: the next attempt need not ask.
    async fn noted(&self, proof: Proof) -> Proof {
        self.notes.stored(StoredPart {
            number: 1,
            etag: proof.url.clone(),
            checksum: proof.id.clone().unwrap_or_default(),
        });
        self.notes.completed().await;
        proof
    }

    fn proof_in(&self, record: &Record, signed_id: &str, answer: &Value) -> Proof {
        let url = record.url.text(answer);
        // It may be told without the host.
        let url = url.and_then(|url| self.remote.address.base.join(&url).ok());
        self.proof(signed_id, record.id.text(answer), url.map(Into::into))
    }

    fn proof(&self, signed_id: &str, id: Option<String>, url: Option<String>) -> Proof {
        Proof {
            id: Some(id.unwrap_or_else(|| signed_id.to_owned())),
            url: url.or_else(|| self.remote.blob_url(signed_id, filename(self.put))),
            ..Proof::default()
        }
    }

    /// The same for every attempt to make a record of this content under this path.
    fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.put.key.as_str().as_bytes());
        hasher.update(b"\0");
        hasher.update(self.put.hash.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn refused(&self, answer: &Answer) -> RemoteError {
        refusal::refused(&self.remote.address.name(), &self.what, answer)
    }

    /// The storage did not take the bytes.
    fn not_taken(&self, answer: &Answer) -> RemoteError {
        let status = answer.status.as_u16();
        let what = &self.what;
        let said = refusal::said(answer);
        let said = format!(
            "status {status}{}{said}",
            if said.is_empty() { "" } else { ": " }
        );
        let advice = match status {
            // Bytes that arrived damaged: the checksum tells, the next attempt sends all anew.
            400 | 422 => {
                return RemoteError::transient(format!(
                    "{what} failed: the bytes were not taken ({said}); they are sent again"
                ));
            }
            401 | 403 | 404 | 410 => {
                "; the URL for it had run out, twice: let the application make them good for longer \
                 (config.active_storage.service_urls_expire_in), and set the clocks right"
            }
            413 => "; no file of that size is taken: keep the file out with --max-size",
            _ => "",
        };
        answer.refusal(format!(
            "{what} failed: the storage that {} names did not take the bytes ({said}){advice}",
            self.remote.address.name()
        ))
    }
}

/// Where the bytes of a blob go.
struct Target {
    signed_id: String,
    url: Url,
    headers: HeaderMap,
}

/// A URL may be used for some minutes; what is late is refused in different words by different storages.
/// Bytes that were damaged are, too.
fn may_be_expired(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 400 | 401 | 403 | 404 | 410 | 422)
}

fn headers(what: &str, named: Option<&Value>) -> Result<HeaderMap, RemoteError> {
    let mut headers = HeaderMap::new();
    for (name, value) in named.and_then(Value::as_object).into_iter().flatten() {
        // Content-Disposition is null where a blob has no name.
        let Some(value) = value.as_str() else {
            continue;
        };
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let parsed = parsed.zip(HeaderValue::from_str(value).ok());
        let (name, value) = parsed.ok_or_else(|| {
            RemoteError::permanent(format!(
                "{what} failed: a header that the application wants with the bytes is none ({})",
                name.escape_debug()
            ))
        })?;
        // The length is ours to say, and the same.
        if name != CONTENT_LENGTH {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// The path as people know it.
fn path(put: &Put) -> &str {
    let key = put.key.as_str();
    key.split_once('/').map_or(key, |(_, path)| path)
}

fn filename(put: &Put) -> &str {
    let path = path(put);
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

async fn values(remote: &RailsRemote, put: &Put) -> Values {
    let mut values = Values::default();
    let name = filename(put).to_owned();
    if remote.needs_tags {
        let (body, of) = (put.body.clone(), name.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut values = Values::default();
            tags::read(&body, &of, &mut values);
            values
        });
        match read.await {
            Ok(read) => values = read,
            // It panicked over the file.
            Err(error) => {
                tracing::warn!(key = %put.key, %error, "its tags cannot be read");
                values.set("title", name.as_str());
            }
        }
    }
    let path = path(put);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    values.set("filename", name);
    values.set("path", path);
    values.set("folder", folder);
    values.set("key", put.key.as_str());
    values.set("content_type", put.content_type.as_str());
    values.set("byte_size", put.body.len());
    values.set("blake3", put.hash.to_hex().as_str());
    if let Some((_, mtime)) = put.metadata.iter().find(|(name, _)| *name == "mtime") {
        values.set("mtime", mtime.as_str());
    }
    values
}

/// The MD5 of the body in base64, if the body is what it is said to be.
async fn checksum(put: &Put) -> Result<String, RemoteError> {
    let (body, hash) = (put.body.clone(), put.hash);
    let summed = tokio::task::spawn_blocking(move || {
        let (mut blake3, mut md5) = (blake3::Hasher::new(), Md5::new());
        match body {
            Body::Bytes(bytes) => {
                blake3.update(&bytes);
                md5.update(&bytes);
            }
            Body::File { file, len } => each_chunk(&file, len, |bytes| {
                blake3.update(bytes);
                md5.update(bytes);
            })?,
        }
        match blake3.finalize() == hash {
            true => Ok(aws_smithy_types::base64::encode(md5.finalize())),
            false => Err(RemoteError::content_changed()),
        }
    });
    summed.await.unwrap_or_else(|error| {
        Err(RemoteError::transient(format!(
            "reading a file for its upload was broken off: {error}"
        )))
    })
}

fn each_chunk(
    file: &Arc<std::fs::File>,
    len: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<(), RemoteError> {
    let mut at = 0;
    while at < len {
        let bytes = read(file, at, CHUNK.min(len - at) as usize)?;
        each(&bytes);
        at += bytes.len() as u64;
    }
    Ok(())
}
