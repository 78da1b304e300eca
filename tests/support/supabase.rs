//! A double of a Supabase project: its Storage, and enough of its PostgREST for rows. Takes only
//! requests as the documentation and the official clients have them.
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::result_large_err)] // answers that refuse are answers

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use md5::{Digest, Md5};
use outboxfs::remote::Environment;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::double::{Answer, Came, Double, json as answer};

pub const PROJECT: &str = "abcdefghijklmnop";
pub const BUCKET: &str = "pictures";
pub const KEY: &str = "service-role-key";
pub const ANON: &str = "anon-key";
pub const TOKEN: &str = "token-of-a-user";
const PIECE: usize = 6 << 20;

#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub content_type: String,
    pub cache_control: String,
    pub metadata: BTreeMap<String, String>,
    id: String,
}

struct Upload {
    name: String,
    length: usize,
    bytes: Vec<u8>,
    fields: BTreeMap<String, String>,
    upsert: bool,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    ids: u64,
    pub requests: Vec<Came>,
    /// Rows that came to the table `device_test`.
    pub rows: Vec<Value>,
    pub revoked: bool,
    /// The key may read and no more.
    pub read_only: bool,
    /// Larger files are refused, bytes.
    pub largest: Option<usize>,
    /// Other media types are refused.
    pub only_type: Option<&'static str>,
}

impl State {
    /// Uploads that are neither done nor given up.
    pub fn unfinished(&self) -> usize {
        self.uploads.len()
    }

    pub fn forget_uploads(&mut self) {
        self.uploads.clear();
    }
}

pub struct Service {
    pub state: Arc<Mutex<State>>,
    double: Double,
}

impl Service {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let double = Double::start(move |came| {
            let mut state = shared.lock();
            let answer = state.answer(came).unwrap_or_else(|refused| refused);
            state.requests.push(came.clone());
            answer
        });
        Self { state, double }
    }

    pub fn endpoint(&self) -> &str {
        &self.double.endpoint
    }

    /// What `--remote` takes; `options` begin with `&`.
    pub fn url(&self, prefix: &str, options: &str) -> String {
        url_at(self.endpoint(), prefix, options)
    }

    pub fn environment(&self) -> Environment {
        environment(KEY)
    }

    /// By the keys that docs/remotes.md makes names of.
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Object> {
        let state = self.state.lock();
        let objects = state.objects.iter().map(|(name, object)| {
            let name = match prefix {
                "" => name.as_str(),
                prefix => name
                    .strip_prefix(prefix)
                    .unwrap()
                    .strip_prefix('/')
                    .unwrap(),
            };
            (decode(name), object.clone())
        });
        objects.collect()
    }

    pub fn requests(&self) -> Vec<Came> {
        std::mem::take(&mut self.state.lock().requests)
    }
}

pub fn url_at(endpoint: &str, prefix: &str, options: &str) -> String {
    format!("supabase://{PROJECT}/{BUCKET}/{prefix}?endpoint={endpoint}{options}")
}

pub fn environment(key: &str) -> Environment {
    let none = Environment::process().with("SUPABASE_SERVICE_KEY", "");
    none.with("SUPABASE_TOKEN", "").with("SUPABASE_KEY", key)
}

/// `_x26` is `&`.
fn decode(name: &str) -> String {
    let mut pieces = name.split("_x");
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        let hex = piece.get(..2).filter(|hex| *hex == hex.to_uppercase());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.extend_from_slice(b"_x");
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// As older answers are: 400, and what is meant in the body.
fn refusal(status: u16, error: &str, message: &str) -> Answer {
    let body = json!({ "statusCode": status.to_string(), "error": error, "message": message });
    answer(if status < 500 { 400 } else { status }, &body)
}

fn undocumented(what: impl std::fmt::Display) -> Answer {
    refusal(501, "undocumented", &what.to_string())
}

fn missing() -> Answer {
    refusal(404, "not_found", "Object not found")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode64(text: &str) -> Result<String, Answer> {
    let bytes = aws_smithy_types::base64::decode(text).map_err(undocumented)?;
    String::from_utf8(bytes).map_err(undocumented)
}

/// The characters of storage's `isValidKey`.
fn valid(name: &str) -> Result<&str, Answer> {
    let takes = |c: char| c.is_ascii_alphanumeric() || "_/!-.*'() &$@=;:+,?".contains(c);
    match !name.is_empty() && name.len() <= 1024 && name.chars().all(takes) && name.trim() == name {
        true => Ok(name),
        false => Err(refusal(400, "InvalidKey", &format!("Invalid key: {name}"))),
    }
}

impl State {
    fn answer(&mut self, came: &Came) -> Result<Answer, Answer> {
        let components = came.components();
        let path: Vec<&str> = components.iter().map(String::as_str).collect();
        if let ["rest", "v1", "device_test"] = path[..] {
            return self.rows(came);
        }
        let Some(path) = path.strip_prefix(&["storage", "v1"]) else {
            return Err(undocumented(&came.path));
        };
        if let ["object", "public", ..] = path {
            return Err(undocumented("nobody reads here"));
        }
        self.authorize(came)?;
        match (came.method.as_str(), path) {
            ("POST", ["upload", "resumable"]) => self.begin(came),
            ("PATCH", ["upload", "resumable", id]) => self.piece(came, id),
            ("HEAD", ["upload", "resumable", id]) => self.offset(came, id),
            ("DELETE", ["upload", "resumable", id]) => {
                let there = self.uploads.remove(*id);
                let status = if there.is_some() { 204 } else { 404 };
                Ok(Response::builder()
                    .status(status)
                    .body(Full::default())
                    .unwrap())
            }
            ("POST", ["object", "list", bucket]) => self.in_bucket(bucket)?.list(came),
            ("POST", ["object", "sign", bucket, name @ ..]) => {
                let name = name.join("/");
                let body: Value = serde_json::from_slice(&came.body).map_err(undocumented)?;
                let expires = body["expiresIn"]
                    .as_u64()
                    .ok_or_else(|| undocumented("expiresIn"))?;
                self.in_bucket(bucket)?;
                self.objects.get(&name).ok_or_else(missing)?;
                let url = format!("/object/sign/{bucket}/{name}?token=signed-for-{expires}");
                Ok(answer(200, &json!({ "signedURL": url })))
            }
            ("GET", ["object", "info", bucket, name @ ..]) => {
                self.in_bucket(bucket)?;
                let name = name.join("/");
                let object = self.objects.get(&name).ok_or_else(missing)?;
                Ok(answer(
                    200,
                    &json!({
                        "id": object.id, "name": name, "size": object.bytes.len(),
                        "content_type": object.content_type, "cache_control": object.cache_control,
                        "etag": object.etag(), "metadata": object.metadata,
                    }),
                ))
            }
            ("GET", ["object", bucket, name @ ..]) => {
                self.in_bucket(bucket)?;
                let object = self.objects.get(&name.join("/")).ok_or_else(missing)?;
                Ok(Response::new(Full::new(object.bytes.clone())))
            }
            ("POST", ["object", bucket, name @ ..]) => {
                self.in_bucket(bucket)?;
                self.upload(came, &name.join("/"))
            }
            ("DELETE", ["object", bucket]) => {
                self.in_bucket(bucket)?;
                let body: Value = serde_json::from_slice(&came.body).map_err(undocumented)?;
                let names = body["prefixes"]
                    .as_array()
                    .ok_or_else(|| undocumented("prefixes"))?;
                let names = names.iter().map(|name| name.as_str().unwrap());
                let gone =
                    names.filter(|name| !self.read_only && self.objects.remove(*name).is_some());
                let gone: Vec<Value> = gone.map(|name| json!({ "name": name })).collect();
                Ok(answer(200, &gone.into()))
            }
            (method, _) => Err(undocumented(format!("{method} {}", came.path))),
        }
    }

    fn in_bucket(&mut self, bucket: &str) -> Result<&mut Self, Answer> {
        match bucket == BUCKET {
            true => Ok(self),
            false => Err(refusal(404, "Bucket not found", "Bucket not found")),
        }
    }

    fn authorize(&self, came: &Came) -> Result<(), Answer> {
        let key = came.header("apikey").unwrap_or_default();
        if ![KEY, ANON].contains(&key) {
            let body = json!({ "message": "Invalid API key", "hint": "Double check your key" });
            return Err(answer(401, &body));
        }
        let bearer = came.header("authorization").unwrap_or_default();
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        match token {
            _ if self.revoked => Err(refusal(403, "Unauthorized", "jwt expired")),
            KEY | ANON | TOKEN => Ok(()),
            _ => Err(refusal(
                403,
                "Unauthorized",
                "invalid JWT: signature is invalid",
            )),
        }
    }

    /// Whether an object may be made: policies, sizes, types, what is there.
    fn may_store(
        &self,
        came: &Came,
        name: &str,
        length: usize,
        kind: &str,
    ) -> Result<bool, Answer> {
        valid(name)?;
        let role = came.header("authorization").unwrap_or_default();
        if self.read_only || role.ends_with(ANON) {
            let message = "new row violates row-level security policy";
            return Err(refusal(403, "Unauthorized", message));
        }
        if self.largest.is_some_and(|largest| length > largest) {
            let message = "The object exceeded the maximum allowed size";
            return Err(refusal(413, "Payload too large", message));
        }
        if self.only_type.is_some_and(|only| only != kind) {
            let message = format!("mime type {kind} is not supported");
            return Err(refusal(415, "invalid_mime_type", &message));
        }
        let upsert = match came.header("x-upsert") {
            Some("true") => true,
            Some("false") | None => false,
            Some(other) => return Err(undocumented(other)),
        };
        if self.objects.contains_key(name) && !upsert {
            return Err(refusal(409, "Duplicate", "The resource already exists"));
        }
        Ok(upsert)
    }

    fn upload(&mut self, came: &Came, name: &str) -> Result<Answer, Answer> {
        let kind = came
            .header("content-type")
            .ok_or_else(|| undocumented("no type"))?;
        self.may_store(came, name, came.body.len(), kind)?;
        let metadata = match came.header("x-metadata") {
            Some(text) => serde_json::from_str(&decode64(text)?).map_err(undocumented)?,
            None => BTreeMap::new(),
        };
        let cache = came
            .header("cache-control")
            .unwrap_or("no-cache")
            .to_owned();
        let id = self.store(name, came.body.clone(), kind, cache, metadata);
        let key = format!("{BUCKET}/{name}");
        Ok(answer(200, &json!({ "Id": id, "Key": key })))
    }

    fn store(
        &mut self,
        name: &str,
        bytes: Bytes,
        kind: &str,
        cache_control: String,
        metadata: BTreeMap<String, String>,
    ) -> String {
        self.ids += 1;
        let id = match self.objects.get(name) {
            Some(there) => there.id.clone(),
            None => format!("00000000-0000-4000-8000-{:012}", self.ids),
        };
        let object = Object {
            bytes,
            content_type: kind.to_owned(),
            cache_control,
            metadata,
            id: id.clone(),
        };
        self.objects.insert(name.to_owned(), object);
        id
    }

    fn begin(&mut self, came: &Came) -> Result<Answer, Answer> {
        tus(came)?;
        let length = number(came, "upload-length")?;
        let fields = came
            .header("upload-metadata")
            .ok_or_else(|| undocumented("no metadata"))?;
        let fields = fields.split(',').map(|field| {
            let (name, value) = field.split_once(' ').ok_or_else(|| undocumented(field))?;
            Ok((name.to_owned(), decode64(value)?))
        });
        let fields: BTreeMap<String, String> = fields.collect::<Result<_, Answer>>()?;
        let known = [
            "bucketName",
            "objectName",
            "contentType",
            "cacheControl",
            "metadata",
        ];
        if let Some(other) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(undocumented(other));
        }
        self.in_bucket(&fields["bucketName"])?;
        let name = fields["objectName"].clone();
        let upsert = self.may_store(came, &name, length, &fields["contentType"])?;
        self.ids += 1;
        let id = aws_smithy_types::base64::encode(format!("{BUCKET}/{name}/{}", self.ids));
        let id = id.replace(['/', '+', '='], "-");
        let upload = Upload {
            name,
            length,
            bytes: Vec::new(),
            fields,
            upsert,
        };
        self.uploads.insert(id.clone(), upload);
        // A project behind a proxy that does not say so: the host is not one to go to.
        let location = format!("http://storage.internal:5000/upload/resumable/{id}");
        let answer = Response::builder().status(201).header("location", location);
        Ok(answer
            .header("tus-resumable", "1.0.0")
            .body(Full::default())
            .unwrap())
    }

    fn piece(&mut self, came: &Came, id: &str) -> Result<Answer, Answer> {
        tus(came)?;
        let offset = number(came, "upload-offset")?;
        if came.header("content-type") != Some("application/offset+octet-stream") {
            return Err(undocumented("the type of a piece"));
        }
        let gone = || {
            Response::builder()
                .status(404)
                .body("Not found".into())
                .unwrap()
        };
        let upload = self.uploads.get_mut(id).ok_or_else(gone)?;
        let expected = came.header("x-upsert") == Some("true");
        if offset != upload.bytes.len() || upload.upsert != expected {
            return Err(Response::builder()
                .status(409)
                .body("Upload-Offset conflict".into())
                .unwrap());
        }
        upload.bytes.extend_from_slice(&came.body);
        let end = upload.bytes.len();
        if end > upload.length || (end < upload.length && came.body.len() != PIECE) {
            return Err(undocumented(format!(
                "a piece of {} bytes",
                came.body.len()
            )));
        }
        if end == upload.length {
            let upload = self.uploads.remove(id).unwrap();
            let cache = format!("max-age={}", upload.fields["cacheControl"]);
            let metadata = upload.fields.get("metadata").map_or("{}", String::as_str);
            let metadata = serde_json::from_str(metadata).map_err(undocumented)?;
            let kind = upload.fields["contentType"].clone();
            self.store(&upload.name, upload.bytes.into(), &kind, cache, metadata);
        }
        let answer = Response::builder().status(204).header("upload-offset", end);
        Ok(answer
            .header("tus-resumable", "1.0.0")
            .body(Full::default())
            .unwrap())
    }

    fn offset(&self, came: &Came, id: &str) -> Result<Answer, Answer> {
        tus(came)?;
        Ok(match self.uploads.get(id) {
            Some(upload) => Response::builder()
                .header("upload-offset", upload.bytes.len())
                .header("upload-length", upload.length)
                .header("tus-resumable", "1.0.0")
                .body(Full::default())
                .unwrap(),
            None => Response::builder()
                .status(404)
                .body(Full::default())
                .unwrap(),
        })
    }

    /// The entries of one folder: objects, and folders below it, which have no id.
    fn list(&self, came: &Came) -> Result<Answer, Answer> {
        let body: Value = serde_json::from_slice(&came.body).map_err(undocumented)?;
        let prefix = body["prefix"]
            .as_str()
            .ok_or_else(|| undocumented("prefix"))?;
        let sorted = json!({ "column": "name", "order": "asc" });
        if body["sortBy"] != sorted {
            return Err(undocumented("sortBy"));
        }
        let within = match prefix {
            "" => String::new(),
            prefix => format!("{}/", prefix.trim_end_matches('/')),
        };
        let mut folders = BTreeSet::new();
        let mut entries = BTreeMap::new();
        for (name, object) in &self.objects {
            let Some(rest) = name.strip_prefix(&within) else {
                continue;
            };
            match rest.split_once('/') {
                Some((folder, _)) => {
                    folders.insert(folder.to_owned());
                }
                None => {
                    let metadata = json!({
                        "eTag": object.etag(), "size": object.bytes.len(),
                        "mimetype": object.content_type, "cacheControl": object.cache_control,
                    });
                    let entry = json!({ "name": rest, "id": object.id, "metadata": metadata });
                    entries.insert(rest.to_owned(), entry);
                }
            }
        }
        for folder in folders {
            let entry = json!({ "name": folder, "id": null, "metadata": null });
            entries.insert(folder, entry);
        }
        let number = |name: &str| body[name].as_u64().ok_or_else(|| undocumented(name));
        let (offset, limit) = (number("offset")? as usize, number("limit")? as usize);
        let page: Vec<Value> = entries.into_values().skip(offset).take(limit).collect();
        Ok(answer(200, &page.into()))
    }

    fn rows(&mut self, came: &Came) -> Result<Answer, Answer> {
        self.authorize(came)?;
        if came.method == "POST" {
            let rows: Vec<Value> = serde_json::from_slice(&came.body).map_err(undocumented)?;
            self.rows.extend(rows);
            return Ok(answer(201, &Value::Null));
        }
        Ok(answer(200, &json!([])))
    }
}

impl Object {
    fn etag(&self) -> String {
        format!("\"{}\"", hex(&Md5::digest(&self.bytes)))
    }
}

fn tus(came: &Came) -> Result<(), Answer> {
    match came.header("tus-resumable") {
        Some("1.0.0") => Ok(()),
        other => Err(undocumented(format!("Tus-Resumable {other:?}"))),
    }
}

fn number(came: &Came, name: &str) -> Result<usize, Answer> {
    let text = came.header(name).ok_or_else(|| undocumented(name))?;
    text.parse().map_err(undocumented)
}
