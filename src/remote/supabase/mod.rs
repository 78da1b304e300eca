//! Supabase Storage by its own interface: `supabase://PROJECT/BUCKET/folder`.

mod address;
mod api;
mod resumable;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use self::address::{Address, Urls};
use self::api::Api;
use super::escaped::{escape, unescape};
use super::flow::{self, Memory};
use super::http;
use super::object::parse_mtime;
use super::{
    Body, Capabilities, Copies, Each, Environment, Key, Listed, ObjectInfo, Pace, Proof, Put,
    Remote, RemoteError, Sink, Unfinished, UploadNotes,
};

/// Larger files are uploaded in pieces, as the documentation advises, bytes.
const ONE_REQUEST: u64 = 6 << 20;
/// Entries of one answer.
const PAGE: usize = 1000;
/// Objects that are deleted with one request.
const DELETIONS: usize = 1000;

/// Whether Supabase takes a character in names.
fn stands(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_!-.*'() &$@=;:+,?".contains(c)
}

/// One bucket and prefix, shared by all workers.
pub struct SupabaseRemote {
    api: Arc<Api>,
    memory: Memory,
}

/// The answer to an upload.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "Id", default)]
    id: Option<String>,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "signedURL")]
    url: String,
}

/// An entry of a folder; one without metadata is a folder.
#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    metadata: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    size: u64,
    #[serde(rename = "eTag", default)]
    etag: Option<String>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    size: u64,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
}

fn unquoted(etag: String) -> String {
    etag.trim_matches('"').to_owned()
}

impl SupabaseRemote {
    pub fn open(url: &url::Url, environment: &Environment) -> Result<Self, RemoteError> {
        Ok(Self {
            api: Arc::new(Api::open(Address::parse(url)?, environment)?),
            memory: Memory::default(),
        })
    }

    fn address(&self) -> &Address {
        &self.api.address
    }

    /// What the service calls the object.
    fn name(&self, key: &str) -> String {
        let components = key.split('/').map(|component| escape(component, stands));
        let path = components.collect::<Vec<_>>().join("/");
        match self.address().prefix.as_str() {
            "" => path,
            prefix => format!("{prefix}/{path}"),
        }
    }

    fn upsert(&self) -> &'static str {
        match self.address().overwrite {
            true => "true",
            false => "false",
        }
    }

    /// What is stored beside the bytes.
    fn metadata(put: &Put) -> String {
        let further = put.metadata.iter();
        let further = further.map(|(name, value)| (*name, value.clone()));
        let blake3 = ("blake3", put.hash.to_hex().to_string());
        let all: BTreeMap<&str, String> = further.chain([blake3]).collect();
        json!(all).to_string()
    }

    /// The object's id, if the service told it.
    async fn put_small(
        &self,
        what: &str,
        put: &Put,
        name: &str,
    ) -> Result<Option<String>, RemoteError> {
        let _room = match &put.body {
            Body::File { len, .. } => Some(self.memory.room(*len).await),
            Body::Bytes(_) => None,
        };
        let bytes = flow::content(&put.body, put.hash).await?;
        let progress = self.api.http.progress();
        let url = self.api.url(&["object", &self.address().bucket], name);
        let metadata = aws_smithy_types::base64::encode(Self::metadata(put));
        let request = self
            .api
            .request(Method::POST, url)
            .header("x-upsert", self.upsert())
            .header(CACHE_CONTROL, format!("max-age={}", self.address().cache))
            .header(CONTENT_TYPE, &put.content_type)
            .header("x-metadata", metadata)
            .body(http::body(progress.body(bytes)));
        let answer = self.api.send(what, request, &progress).await?;
        let stored: Stored = self.api.http.json(what, &answer)?;
        Ok(stored.id)
    }

    /// The object's proof, with a URL that the service signed, if it is to have one.
    async fn proof(
        &self,
        what: &str,
        id: Option<String>,
        name: &str,
    ) -> Result<Proof, RemoteError> {
        let url = match self.address().urls {
            Urls::Signed(lasts) => Some(self.sign(what, name, lasts.as_secs()).await?),
            Urls::Public | Urls::Absent => None,
        };
        Ok(Proof {
            id,
            url,
            ..Proof::default()
        })
    }

    async fn sign(&self, what: &str, name: &str, seconds: u64) -> Result<String, RemoteError> {
        let url = self
            .api
            .url(&["object", "sign", &self.address().bucket], name);
        let body = json!({ "expiresIn": seconds });
        let answer = self.api.call(what, Method::POST, url, &body).await?;
        let signed: Signed = self.api.http.json(what, &answer)?;
        let whole = format!("{}{}", self.api.url(&[], ""), signed.url);
        let whole = url::Url::parse(&whole).map_err(|error| {
            RemoteError::transient(format!("{what} failed: its signed URL is none ({error})"))
        })?;
        Ok(whole.into())
    }

    async fn put_any(
        &self,
        put: Put,
        unfinished: Option<&Unfinished>,
        notes: Option<&dyn UploadNotes>,
    ) -> Result<Proof, RemoteError> {
        let what = format!("storing {}", put.key);
        let name = self.name(put.key.as_str());
        let stored = match &put.body {
            Body::File { file, len } if *len > ONE_REQUEST => {
                self.put_large(&what, &put, file, *len, &name, unfinished, notes)
                    .await
            }
            _ => self.put_small(&what, &put, &name).await,
        };
        let id = match stored {
            Ok(id) => id,
            // What must not be replaced may be ours, if an answer was lost.
            Err(error) if !self.address().overwrite && !error.may_pass() => {
                match self.head(&put.key).await {
                    Ok(Some(there)) if there.blake3 == Some(put.hash) => None,
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        self.proof(&what, id, &name).await
    }

    /// Entries of one folder, which ends in a slash or is empty.
    async fn folder(
        &self,
        what: &str,
        folder: &str,
        offset: usize,
    ) -> Result<Vec<Entry>, RemoteError> {
        let url = self
            .api
            .url(&["object", "list", &self.address().bucket], "");
        let body = json!({
            "prefix": folder,
            "limit": PAGE,
            "offset": offset,
            "sortBy": { "column": "name", "order": "asc" },
        });
        let answer = self.api.call(what, Method::POST, url, &body).await?;
        self.api.http.json(what, &answer)
    }

    async fn remove(&self, what: &str, names: &[String]) -> Result<(), RemoteError> {
        let url = self.api.url(&["object", &self.address().bucket], "");
        let body = json!({ "prefixes": names });
        self.api
            .call(what, Method::DELETE, url, &body)
            .await
            .map(drop)
    }
}

#[async_trait]
impl Remote for SupabaseRemote {
    fn describe(&self) -> String {
        let Address {
            project,
            bucket,
            prefix,
            ..
        } = self.address();
        match prefix.as_str() {
            "" => format!("supabase://{project}/{bucket}"),
            prefix => format!("supabase://{project}/{bucket}/{prefix}"),
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            overwrites: self.address().overwrite,
            copies: Copies::Never,
            ..Capabilities::default()
        }
    }

    /// Stores an empty object and deletes it again.
    async fn probe(&self) -> Result<(), RemoteError> {
        let what = format!("trying {}", self.describe());
        let name = self.name(&format!(".outboxfs-probe-{:016x}", fastrand::u64(..)));
        let progress = self.api.http.progress();
        let url = self.api.url(&["object", &self.address().bucket], &name);
        let request = self
            .api
            .request(Method::POST, url)
            .header("x-upsert", self.upsert())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body("");
        match self.api.send(&what, request, &progress).await {
            Ok(_) => self.remove(&what, &[name]).await,
            // A bucket of pictures only.
            Err(error) if self.api.is_of_type(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        self.put_any(put, None, None).await
    }

    async fn put_resumable(
        &self,
        put: Put,
        unfinished: Option<&Unfinished>,
        notes: &dyn UploadNotes,
    ) -> Result<Proof, RemoteError> {
        self.put_any(put, unfinished, Some(notes)).await
    }

    async fn abandon(&self, name: &str) -> Result<(), RemoteError> {
        self.api.give_up(name).await
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        let what = format!("listing {}", self.describe());
        // The last component may be cut anywhere.
        let whole = prefix.rfind('/').map_or("", |at| &prefix[..at]);
        let mut folders = vec![whole.to_owned()];
        while let Some(folder) = folders.pop() {
            let asked = match folder.as_str() {
                "" => self.address().prefix.clone(),
                folder => self.name(folder),
            };
            let mut offset = 0;
            loop {
                let entries = self.folder(&what, &asked, offset).await?;
                offset += entries.len();
                let is_last = entries.len() < PAGE;
                for entry in entries {
                    let Some(name) = unescape(&entry.name) else {
                        continue;
                    };
                    let key = match folder.as_str() {
                        "" => name,
                        folder => format!("{folder}/{name}"),
                    };
                    match entry.metadata {
                        Some(meta) if key.starts_with(prefix) => each(Listed {
                            key,
                            size: meta.size,
                            etag: meta.etag.map(unquoted),
                        }),
                        Some(_) => {}
                        None => {
                            let inside = format!("{key}/");
                            if inside.starts_with(prefix) || prefix.starts_with(&inside) {
                                folders.push(key);
                            }
                        }
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        let what = format!("looking at {key}");
        let name = self.name(key.as_str());
        let url = self
            .api
            .url(&["object", "info", &self.address().bucket], &name);
        let Some(answer) = self.api.ask(&what, url).await? else {
            return Ok(None);
        };
        let info: Info = self.api.http.json(&what, &answer)?;
        let metadata = info.metadata.unwrap_or_default();
        let stored = |name: &str| metadata.get(name).and_then(Value::as_str);
        Ok(Some(ObjectInfo {
            size: info.size,
            original_size: None,
            etag: info.etag.map(unquoted),
            blake3: stored("blake3").and_then(|hash| blake3::Hash::from_hex(hash).ok()),
            mtime_ns: stored("mtime").and_then(parse_mtime),
        }))
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        let name = self.name(key.as_str());
        let url = self.api.url(&["object", &self.address().bucket], &name);
        self.api
            .download(&format!("reading {key}"), url, sink)
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        let what = format!("deleting {key}");
        self.remove(&what, &[self.name(key.as_str())]).await
    }

    async fn delete_all(&self, keys: &[Key]) -> Vec<Result<(), RemoteError>> {
        let mut answers = Vec::with_capacity(keys.len());
        for some in keys.chunks(DELETIONS) {
            let names: Vec<String> = some.iter().map(|key| self.name(key.as_str())).collect();
            let what = format!("deleting {} objects", names.len());
            let answer = self.remove(&what, &names).await;
            answers.extend(some.iter().map(|_| answer.clone()));
        }
        answers
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        self.api.http.keep_pace(pace);
    }

    fn url(&self, key: &Key) -> Option<String> {
        let name = self.name(key.as_str());
        let public = ["object", "public", &self.address().bucket];
        (self.address().urls == Urls::Public).then(|| self.api.url(&public, &name).into())
    }
}
