//! Cloudinary, which keeps originals under public ids and makes thumbnails by URL:
//! `cloudinary://CLOUD/folder`.

mod address;
mod api;
mod public_id;
mod signature;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde::Deserialize;

use self::address::Address;
use self::api::{Api, Asset};
use self::public_id::Kind;
use self::signature::Parameters;
use super::flow::Memory;
use super::object::parse_mtime;
use super::{
    Capabilities, Copies, Copy, Each, Environment, Key, Listed, ObjectInfo, Pace, Proof, Put,
    Remote, RemoteError, Sink, Thumbnails,
};

/// Assets of one answer.
const PAGE: &str = "500";
/// Deletions on their way at a time, of one batch.
const DELETIONS: usize = 4;

/// One cloud and folder, shared by all workers.
pub struct CloudinaryRemote {
    api: Api,
    memory: Memory,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    resources: Vec<Asset>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Destroyed {
    result: String,
}

impl CloudinaryRemote {
    pub fn open(url: &url::Url, environment: &Environment) -> Result<Self, RemoteError> {
        Ok(Self {
            api: Api::open(Address::parse(url)?, environment)?,
            memory: Memory::default(),
        })
    }

    fn address(&self) -> &Address {
        &self.api.address
    }

    fn public_id(&self, key: &Key) -> Result<String, RemoteError> {
        public_id::of_key(&self.address().folder, key.as_str())
            .map_err(|why| RemoteError::permanent(format!("{key}: {why}")))
    }

    /// What every call that names an asset says of it.
    fn named(&self, name: &'static str, public_id: &str) -> Parameters {
        let address = self.address();
        let parameters = Parameters::default().with(name, public_id);
        match address.access.as_str() {
            "upload" => parameters,
            access => parameters.with("type", access),
        }
    }

    fn flag(&self, is_set: bool) -> &'static str {
        if is_set { "1" } else { "0" }
    }

    async fn destroy(&self, what: &str, kind: Kind, public_id: &str) -> Result<(), RemoteError> {
        let parameters = self
            .named("public_id", public_id)
            .with("invalidate", self.flag(self.address().invalidate));
        let done: Destroyed = self.api.call(what, kind, "destroy", parameters).await?;
        match done.result.as_str() {
            "ok" | "not found" => Ok(()),
            other => Err(RemoteError::transient(format!(
                "{what}: Cloudinary answered '{}'",
                super::http::one_line(other)
            ))),
        }
    }

    async fn asset(&self, what: &str, key: &Key) -> Result<Option<Asset>, RemoteError> {
        // An id that cannot be is not there.
        let Ok(id) = public_id::of_key(&self.address().folder, key.as_str()) else {
            return Ok(None);
        };
        let kind = Kind::of(key.as_str());
        let access = self.address().access.as_str();
        let path = ["resources", kind.name(), access, &id];
        self.api.ask(what, &path, &[("context", "true")]).await
    }

    /// The proof of an asset; `None` in it is what Cloudinary did not say.
    fn proof(&self, kind: Kind, asset: Asset) -> Proof {
        let thumbnail = &self.address().thumbnail;
        let is_picture = kind == Kind::Image && !thumbnail.is_empty();
        // Access that is signed is signed with the transformation, too.
        let is_public = self.address().access == "upload";
        let thumbnail_url = asset
            .secure_url
            .as_ref()
            .filter(|_| is_picture && is_public);
        Proof {
            thumbnail_url: thumbnail_url.and_then(|url| transformed(url, thumbnail)),
            etag: asset.etag,
            id: Some(asset.public_id),
            version: Some(asset.version.to_string()),
            url: asset.secure_url,
            picture: asset
                .width
                .zip(asset.height)
                .filter(|_| kind == Kind::Image),
        }
    }
}

/// The URL of a public image with a transformation, which stands between its type and its version.
fn transformed(url: &str, transformation: &str) -> Option<String> {
    let (before, after) = url.split_once("/image/upload/")?;
    Some(format!("{before}/image/upload/{transformation}/{after}"))
}

#[async_trait]
impl Remote for CloudinaryRemote {
    fn describe(&self) -> String {
        let Address { cloud, folder, .. } = self.address();
        match folder.as_str() {
            "" => format!("cloudinary://{cloud}"),
            folder => format!("cloudinary://{cloud}/{folder}"),
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            thumbnails: Thumbnails::Made,
            overwrites: self.address().overwrite,
            copies: Copies::AsMoves,
            empty_files: false,
            ..Capabilities::default()
        }
    }

    /// Deletes what is not there: that takes the same rights and signature as to store something.
    async fn probe(&self) -> Result<(), RemoteError> {
        let what = format!("trying {}", self.describe());
        let name = format!(".outboxfs-probe-{:016x}", fastrand::u64(..));
        self.destroy(&what, Kind::Raw, &name).await
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        self.upload(put).await
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        let what = format!("listing {}", self.describe());
        let folder = &self.address().folder;
        let Some(start) = public_id::prefix(folder, prefix) else {
            return Ok(());
        };
        for kind in Kind::ALL {
            let path = ["resources", kind.name(), self.address().access.as_str()];
            let mut cursor = None;
            loop {
                let mut query = vec![("prefix", start.as_str()), ("max_results", PAGE)];
                query.extend(cursor.as_deref().map(|cursor| ("next_cursor", cursor)));
                let page: Option<Page> = self.api.ask(&what, &path, &query).await?;
                let Some(page) = page else { break };
                for asset in page.resources {
                    let key = public_id::to_key(folder, &asset.public_id);
                    if let Some(key) = key.filter(|key| key.starts_with(prefix)) {
                        each(Listed {
                            key,
                            size: asset.bytes,
                            etag: asset.etag,
                        });
                    }
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        let asset = self.asset(&format!("looking at {key}"), key).await?;
        Ok(asset.map(|asset| ObjectInfo {
            size: asset.bytes,
            original_size: None,
            blake3: asset
                .context("blake3")
                .and_then(|hash| blake3::Hash::from_hex(hash).ok()),
            mtime_ns: asset.context("mtime").and_then(parse_mtime),
            etag: asset.etag,
        }))
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        let what = format!("reading {key}");
        let Some(asset) = self.asset(&what, key).await? else {
            return Ok(None);
        };
        let kind = Kind::of(key.as_str());
        self.api.download(&what, kind, &asset, sink).await
    }

    /// Renames the asset, if that is as good.
    async fn copy(&self, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        let kind = Kind::of(copy.from.as_str());
        if !copy.moves || kind != Kind::of(copy.to.as_str()) {
            return Ok(None);
        }
        let what = format!("renaming {}", copy.from);
        let (name, expected) = &copy.expected;
        let asset = self.asset(&what, &copy.from).await?;
        if asset.and_then(|asset| Some(asset.context(name)? == expected)) != Some(true) {
            return Ok(None);
        }
        let (from, to) = (self.public_id(&copy.from)?, self.public_id(&copy.to)?);
        let parameters = self
            .named("from_public_id", &from)
            .with("to_public_id", to)
            .with("overwrite", self.flag(self.address().overwrite))
            .with("invalidate", self.flag(self.address().invalidate));
        let parameters = match &copy.described {
            Some(described) => {
                parameters.with("context", self.context(described.hash, &described.metadata))
            }
            None => parameters,
        };
        let renamed: Asset = self.api.call(&what, kind, "rename", parameters).await?;
        Ok(Some(self.proof(kind, renamed)))
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        let Ok(id) = public_id::of_key(&self.address().folder, key.as_str()) else {
            return Ok(());
        };
        let what = format!("deleting {key}");
        self.destroy(&what, Kind::of(key.as_str()), &id).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        let mut answers = Vec::with_capacity(keys.len());
        for some in keys.chunks(DELETIONS) {
            answers.extend(join_all(some.iter().map(|key| self.delete(key))).await);
        }
        answers
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        self.api.keep_pace(pace);
    }

    /// Its version is part of the URL: the proof has it.
    fn url(&self, _key: &Key) -> Option<String> {
        None
    }
}
