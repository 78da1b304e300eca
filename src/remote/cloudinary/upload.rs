//! Storing a file: with one request, or in pieces if it is large.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::CloudinaryRemote;
use super::address::Folders;
use super::api::Asset;
use super::public_id::Kind;
use super::signature::Parameters;
use crate::remote::flow;
use crate::remote::{Body, Key, Proof, Put, RemoteError, RemoteErrorKind};

/// Larger files go in pieces, bytes, as the documentation advises.
const ONE_REQUEST: u64 = 20_000_000;
/// Of such a file; Cloudinary takes no smaller ones than 5 MB but the last.
const PIECE: u64 = 8 << 20;
/// Tries of a piece, and the pause after the first that failed.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

impl CloudinaryRemote {
    pub(super) async fn upload(&self, put: Put) -> Result<Proof, RemoteError> {
        let what = format!("storing {}", put.key);
        let id = self.public_id(&put.key)?;
        let kind = Kind::of(put.key.as_str());
        if put.body.is_empty() {
            return Err(RemoteError::permanent(format!(
                "{what} is not possible: Cloudinary takes no empty files"
            )));
        }
        let parameters = self.describe_upload(&put, &id);
        let asset = match &put.body {
            Body::File { file, len } if *len > ONE_REQUEST => {
                self.in_pieces(&what, kind, &parameters, file, *len, put.hash)
                    .await?
            }
            body => {
                let _room = match body {
                    Body::File { len, .. } => Some(self.memory.room(*len).await),
                    Body::Bytes(_) => None,
                };
                let bytes = flow::content(body, put.hash).await?;
                let uploaded =
                    self.api
                        .upload::<Asset>(&what, kind, parameters, bytes, HeaderMap::new());
                uploaded.await?
            }
        };
        if asset.existing {
            refuse_others(&what, &put, &asset).await?;
        } else if self.address().preset.is_empty() {
            // A preset may change what is stored.
            compare(&what, &put, &asset).await?;
        }
        Ok(self.proof(kind, asset))
    }

    /// The parameters that go with the file.
    fn describe_upload(&self, put: &Put, id: &str) -> Parameters {
        let address = self.address();
        let is_picture = Kind::of(put.key.as_str()) == Kind::Image;
        let eager = match address.eager && is_picture {
            true => address.thumbnail.clone(),
            false => String::new(),
        };
        let parameters = self
            .named("public_id", id)
            .with("overwrite", self.flag(address.overwrite))
            .with("invalidate", self.flag(address.invalidate))
            .with("tags", address.tags.join(","))
            .with("context", self.context(put.hash, &put.metadata))
            .with("upload_preset", &address.preset)
            .with("eager", eager);
        match address.folders {
            Folders::Fixed => parameters,
            Folders::Dynamic => {
                let (folder, name) = folder_and_name(&address.folder, &put.key);
                parameters
                    .with("asset_folder", folder)
                    .with("display_name", name)
            }
        }
    }

    /// What is stored beside the bytes, as the parameter `context` has it.
    pub(super) fn context(
        &self,
        hash: blake3::Hash,
        metadata: &[(&'static str, String)],
    ) -> String {
        let given = self.address().context.iter();
        let given = given.map(|(name, value)| (name.as_str(), value.clone()));
        let ours = metadata.iter().map(|(name, value)| (*name, value.clone()));
        let blake3 = ("blake3", hash.to_hex().to_string());
        // What is ours comes last, and is not to be replaced.
        let context: BTreeMap<&str, String> = given.chain(ours).chain([blake3]).collect();
        let escaped = context.iter().map(|(name, value)| {
            let value = value.replace('=', "\\=").replace('|', "\\|");
            format!("{name}={value}")
        });
        escaped.collect::<Vec<_>>().join("|")
    }

    /// In order, one after the other; the asset is there with the last piece, which is sent only when
    /// all of the file has been seen to be what it should.
    async fn in_pieces(
        &self,
        what: &str,
        kind: Kind,
        parameters: &Parameters,
        file: &Arc<File>,
        len: u64,
        hash: blake3::Hash,
    ) -> Result<Asset, RemoteError> {
        let upload = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        loop {
            let length = PIECE.min(len - offset);
            let _room = self.memory.room(length).await;
            let bytes = flow::read_hashed(file, offset, length as usize, &mut hasher).await?;
            let end = offset + length;
            if end == len && hasher.finalize() != hash {
                return Err(RemoteError::content_changed());
            }
            let range = format!("bytes {offset}-{}/{len}", end - 1);
            let answer = self
                .one_piece(what, kind, parameters, bytes, &upload, &range)
                .await?;
            match answer {
                Some(asset) if end == len => return Ok(asset),
                None if end < len => offset = end,
                _ => {
                    return Err(RemoteError::transient(format!(
                        "{what} failed: Cloudinary has lost count of its pieces"
                    )));
                }
            }
        }
    }

    /// The asset, if that was its last piece.
    async fn one_piece(
        &self,
        what: &str,
        kind: Kind,
        parameters: &Parameters,
        bytes: Bytes,
        upload: &str,
        range: &str,
    ) -> Result<Option<Asset>, RemoteError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-unique-upload-id", upload), ("content-range", range)] {
            let value = HeaderValue::from_str(value).expect("digits and letters");
            headers.insert(HeaderName::from_static(name), value);
        }
        let mut attempt = 1;
        loop {
            let (parameters, bytes) = (parameters.clone(), bytes.clone());
            let headers = headers.clone();
            let answer = self
                .api
                .upload::<Value>(what, kind, parameters, bytes, headers);
            match answer.await {
                Ok(answer) if answer["done"] == Value::Bool(false) => return Ok(None),
                Ok(answer) => return self.api.asset(what, answer).map(Some),
                Err(error)
                    if error.kind == RemoteErrorKind::Transient
                        && error.retry_after.is_none()
                        && attempt < TRIES =>
                {
                    tracing::debug!(what, range, %error, "a piece is sent again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            attempt += 1;
        }
    }
}

/// With `overwrite=false` there is something under the public id: ours, if an answer was lost.
async fn refuse_others(what: &str, put: &Put, asset: &Asset) -> Result<(), RemoteError> {
    match is_same(put, asset).await? {
        Some(true) => Ok(()),
        _ => Err(RemoteError::permanent(format!(
            "{what} is not possible: Cloudinary has other content as '{}', and overwrite=false; delete it \
             there, or give the file another name",
            asset.public_id.escape_debug()
        ))),
    }
}

/// What Cloudinary says that it has stored is held against what was sent.
async fn compare(what: &str, put: &Put, asset: &Asset) -> Result<(), RemoteError> {
    match is_same(put, asset).await? {
        Some(false) => Err(RemoteError::transient(format!(
            "{what} went wrong: Cloudinary stored other bytes than were sent; they will be sent again"
        ))),
        _ => Ok(()),
    }
}

/// Whether size and, as far as the entity tag is one, MD5 are those of the file; `None` if only the
/// size is known.
async fn is_same(put: &Put, asset: &Asset) -> Result<Option<bool>, RemoteError> {
    if asset.bytes != put.body.len() {
        return Ok(Some(false));
    }
    let is_md5 = |etag: &&String| etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(etag) = asset.etag.as_ref().filter(is_md5) else {
        return Ok(None);
    };
    let body = put.body.clone();
    let md5 = flow::blocking(move || md5_of(&body)).await?;
    Ok(Some(md5 == *etag))
}

/// The asset folder of a key and what it is shown as.
fn folder_and_name(base: &str, key: &Key) -> (String, String) {
    let path = key.as_str().split_once('/').map_or("", |(_, path)| path);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let both = [base, folder].into_iter().filter(|part| !part.is_empty());
    (both.collect::<Vec<_>>().join("/"), name.to_owned())
}

fn md5_of(body: &Body) -> Result<String, RemoteError> {
    let mut digest = Md5::new();
    let (mut offset, len) = (0, body.len());
    while offset < len {
        let length = PIECE.min(len - offset);
        match body {
            Body::Bytes(bytes) => digest.update(&bytes[offset as usize..][..length as usize]),
            Body::File { file, .. } => digest.update(flow::read(file, offset, length as usize)?),
        }
        offset += length;
    }
    let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
    Ok(digest.finalize().iter().fold(String::new(), hex))
}
