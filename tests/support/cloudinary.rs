//! A double of Cloudinary: takes only requests as its documentation has them, and verifies each
//! signature (<https://cloudinary.com/documentation/authentication_signatures>).
#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::result_large_err)] // answers that refuse are answers

#[path = "cloudinary/asset.rs"]
mod asset;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use outboxfs::remote::Environment;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;

pub use asset::{Asset, Name};
use asset::{describe, detailed};

use crate::double::{Answer, Came, Double, json as answer};

pub const CLOUD: &str = "rig-cloud";
pub const KEY: &str = "123456789012345";
pub const SECRET: &str = "s3cr-t_Hush";

/// What an upload may say, of which this double knows what it means.
const UPLOAD: [&str; 13] = [
    "public_id",
    "timestamp",
    "type",
    "overwrite",
    "invalidate",
    "tags",
    "context",
    "eager",
    "asset_folder",
    "display_name",
    "upload_preset",
    "signature",
    "api_key",
];

/// What the double does and knows.
#[derive(Default)]
pub struct State {
    pub assets: BTreeMap<Name, Asset>,
    /// How often each was created, not replaced.
    pub created: BTreeMap<String, u32>,
    /// By the upload's id: the total, and the pieces by where they begin.
    pieces: BTreeMap<String, (usize, BTreeMap<usize, Bytes>)>,
    pub requests: Vec<Came>,
    clock: u64,
    /// The key is not valid any more.
    pub revoked: bool,
    /// The key may only read.
    pub read_only: bool,
    /// Larger files are refused, bytes.
    pub largest: Option<usize>,
    /// Images that are none are refused.
    pub looks: bool,
    /// Questions that the Admin API still answers.
    pub allowance: Option<u32>,
    /// So many uploads are refused for being too many.
    pub busy: u32,
    /// By how much its clock is ahead of ours, seconds.
    pub ahead: i64,
    pub sha256: bool,
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
    pub fn url(&self, folder: &str, options: &str) -> String {
        url_at(self.endpoint(), folder, options)
    }

    pub fn environment(&self) -> Environment {
        Environment::process().with("CLOUDINARY_URL", &credentials())
    }

    /// The assets' keys and contents, by the rule for names that docs/remotes.md has.
    pub fn objects(&self, folder: &str) -> BTreeMap<String, Asset> {
        let state = self.state.lock();
        let assets = state.assets.iter().map(|((_, _, id), asset)| {
            let id = match folder {
                "" => id.as_str(),
                folder => id.strip_prefix(folder).unwrap().strip_prefix('/').unwrap(),
            };
            (format!("original/{}", decode(id)), asset.clone())
        });
        assets.collect()
    }

    pub fn requests(&self) -> Vec<Came> {
        std::mem::take(&mut self.state.lock().requests)
    }
}

pub fn url_at(endpoint: &str, folder: &str, options: &str) -> String {
    format!("cloudinary://{CLOUD}/{folder}?endpoint={endpoint}{options}")
}

pub fn credentials() -> String {
    format!("cloudinary://{KEY}:{SECRET}@{CLOUD}")
}

/// `_x26` is `&`.
fn decode(id: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), id.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.strip_prefix(b"x").and_then(|tail| tail.get(..2));
        let hex = hex.filter(|hex| {
            hex.iter()
                .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        });
        let byte =
            hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).ok());
        match (first, byte) {
            (b'_', Some(byte)) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn refusal(status: u16, message: impl std::fmt::Display) -> Answer {
    answer(
        status,
        &json!({ "error": { "message": message.to_string() } }),
    )
}

fn undocumented(what: impl std::fmt::Display) -> Answer {
    refusal(501, format!("undocumented: {what}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Parameters = BTreeMap<String, String>;

impl State {
    fn answer(&mut self, came: &Came) -> Result<Answer, Answer> {
        let components = came.components();
        let path: Vec<&str> = components.iter().map(String::as_str).collect();
        match (came.method.as_str(), &path[..]) {
            ("POST", ["v1_1", CLOUD, kind, action]) => self.upload_api(came, kind, action),
            ("GET", ["v1_1", CLOUD, kind, "download"]) => self.download(came, kind),
            ("GET", ["v1_1", CLOUD, "resources", kind, access, rest @ ..]) => {
                self.admin_api(came, kind, access, rest)
            }
            (_, ["v1_1", cloud, ..]) if *cloud != CLOUD => Err(refusal(401, "cloud_name mismatch")),
            (method, _) => Err(undocumented(format!("{method} {}", came.path))),
        }
    }

    fn upload_api(&mut self, came: &Came, kind: &str, action: &str) -> Result<Answer, Answer> {
        let mut file = None;
        let mut parameters = Parameters::new();
        for (name, content) in came.form() {
            match name.as_str() {
                "file" => file = Some(content),
                _ => {
                    let text = String::from_utf8(content.to_vec()).map_err(undocumented)?;
                    if parameters.insert(name.clone(), text).is_some() {
                        return Err(undocumented(format!("{name} twice")));
                    }
                }
            }
        }
        self.verify(&parameters)?;
        if self.read_only {
            return Err(refusal(403, "The API key may not do this action"));
        }
        let access = parameters
            .get("type")
            .map_or("upload", String::as_str)
            .to_owned();
        match action {
            "upload" => {
                let file = file.ok_or_else(|| refusal(400, "Missing required parameter - file"))?;
                self.upload(came, kind, access, parameters, file)
            }
            "destroy" => {
                let id = take(&parameters, "public_id")?;
                only(
                    &parameters,
                    &[
                        "public_id",
                        "type",
                        "invalidate",
                        "timestamp",
                        "signature",
                        "api_key",
                    ],
                )?;
                let there = self.assets.remove(&(kind.to_owned(), access, id));
                let result = if there.is_some() { "ok" } else { "not found" };
                Ok(answer(200, &json!({ "result": result })))
            }
            "rename" => self.rename(kind, access, &parameters),
            other => Err(undocumented(other)),
        }
    }

    fn verify(&self, parameters: &Parameters) -> Result<(), Answer> {
        let key = take(parameters, "api_key")?;
        if key != KEY || self.revoked {
            return Err(refusal(401, format!("Unknown API key {key}")));
        }
        // Sorted by name; all but these, and those without a value.
        let unsigned = [
            "api_key",
            "signature",
            "file",
            "cloud_name",
            "resource_type",
        ];
        let signed = parameters
            .iter()
            .filter(|(name, value)| !unsigned.contains(&name.as_str()) && !value.is_empty());
        let signed: Vec<String> = signed
            .map(|(name, value)| format!("{name}={}", value.replace('&', "%26")))
            .collect();
        let text = signed.join("&");
        let expected = match self.sha256 {
            true => hex(&Sha256::digest(format!("{text}{SECRET}"))),
            false => hex(&Sha1::digest(format!("{text}{SECRET}"))),
        };
        let signature = take(parameters, "signature")?;
        if signature != expected {
            let message = format!("Invalid Signature {signature}. String to sign - '{text}'.");
            return Err(refusal(401, message));
        }
        let timestamp: i64 = take(parameters, "timestamp")?
            .parse()
            .map_err(undocumented)?;
        let now = jiff::Timestamp::now().as_second() + self.ahead;
        if (now - timestamp).abs() > 3600 {
            let ahead = jiff::Timestamp::from_second(now).unwrap();
            let mut stale = refusal(400, "Stale request - reported time is more than 1 hour ago");
            let date = jiff::fmt::rfc2822::DateTimePrinter::new();
            let date = date.timestamp_to_rfc9110_string(&ahead).unwrap();
            stale.headers_mut().insert("date", date.parse().unwrap());
            return Err(stale);
        }
        Ok(())
    }

    fn upload(
        &mut self,
        came: &Came,
        kind: &str,
        access: String,
        parameters: Parameters,
        file: Bytes,
    ) -> Result<Answer, Answer> {
        only(&parameters, &UPLOAD)?;
        if self.busy > 0 {
            self.busy -= 1;
            return Err(refusal(420, "Too many concurrent requests"));
        }
        let id = valid_id(take(&parameters, "public_id")?)?;
        let file = match came.header("x-unique-upload-id") {
            None => file,
            Some(upload) => match self.piece(came, upload, file)? {
                Some(whole) => whole,
                None => {
                    let body = json!({ "done": false, "public_id": id, "bytes": 0 });
                    return Ok(answer(200, &body));
                }
            },
        };
        if file.is_empty() {
            return Err(refusal(400, "Empty file"));
        }
        if let Some(largest) = self.largest.filter(|largest| file.len() > *largest) {
            let message = format!(
                "File size too large. Got {}. Maximum is {largest}. Upgrade your plan to enjoy higher \
                 limits https://www.cloudinary.com/pricing/upgrades/file-limit",
                file.len()
            );
            return Err(refusal(400, message));
        }
        if self.looks && kind == "image" && infer::get(&file).is_none() {
            return Err(refusal(400, "Invalid image file"));
        }
        let name = (kind.to_owned(), access, id.clone());
        if let Some(there) = self.assets.get(&name)
            && parameters
                .get("overwrite")
                .is_some_and(|value| value == "0" || value == "false")
        {
            let mut body = describe(&name, there);
            body["existing"] = true.into();
            return Ok(answer(200, &body));
        }
        if !self.assets.contains_key(&name) {
            *self.created.entry(id).or_default() += 1;
        }
        self.clock += 1;
        let context = context(parameters.get("context").map_or("", String::as_str))?;
        let asset = Asset {
            bytes: file,
            version: 1_700_000_000 + self.clock,
            context,
            parameters,
        };
        let body = describe(&name, &asset);
        self.assets.insert(name, asset);
        Ok(answer(200, &body))
    }

    /// The whole, with its last piece.
    fn piece(&mut self, came: &Came, upload: &str, piece: Bytes) -> Result<Option<Bytes>, Answer> {
        let range = came
            .header("content-range")
            .ok_or_else(|| undocumented("no range"))?;
        let range = range
            .strip_prefix("bytes ")
            .ok_or_else(|| undocumented(range))?;
        let (range, total) = range.split_once('/').ok_or_else(|| undocumented(range))?;
        let (from, to) = range.split_once('-').ok_or_else(|| undocumented(range))?;
        let number = |text: &str| text.parse::<usize>().map_err(undocumented);
        let (from, to, total) = (number(from)?, number(to)?, number(total)?);
        if to + 1 - from != piece.len() || to >= total {
            return Err(refusal(400, "Content-Range does not match the file"));
        }
        if to + 1 < total && piece.len() < 5_000_000 {
            return Err(refusal(
                400,
                "All parts except EOF-chunk must be larger than 5mb",
            ));
        }
        let (its_total, pieces) = self.pieces.entry(upload.to_owned()).or_default();
        *its_total = total;
        pieces.insert(from, piece);
        let mut whole = Vec::new();
        for (from, piece) in pieces.iter() {
            if *from != whole.len() {
                return Ok(None);
            }
            whole.extend_from_slice(piece);
        }
        if whole.len() < total {
            return Ok(None);
        }
        self.pieces.remove(upload);
        Ok(Some(whole.into()))
    }

    fn rename(
        &mut self,
        kind: &str,
        access: String,
        parameters: &Parameters,
    ) -> Result<Answer, Answer> {
        only(
            parameters,
            &[
                "from_public_id",
                "to_public_id",
                "type",
                "overwrite",
                "invalidate",
                "context",
                "timestamp",
                "signature",
                "api_key",
            ],
        )?;
        let from = take(parameters, "from_public_id")?;
        let to = valid_id(take(parameters, "to_public_id")?)?;
        let name = (kind.to_owned(), access, to);
        let from = (name.0.clone(), name.1.clone(), from);
        let overwrites = parameters
            .get("overwrite")
            .is_some_and(|value| value == "1");
        if !self.assets.contains_key(&from) {
            return Err(refusal(404, format!("Resource not found - {}", from.2)));
        }
        if self.assets.contains_key(&name) && !overwrites {
            return Err(refusal(
                409,
                format!("to_public_id {} already exists", name.2),
            ));
        }
        let mut asset = self.assets.remove(&from).unwrap();
        if let Some(text) = parameters.get("context") {
            asset.context = context(text)?;
        }
        let body = describe(&name, &asset);
        self.assets.insert(name, asset);
        Ok(answer(200, &body))
    }

    fn admin_api(
        &mut self,
        came: &Came,
        kind: &str,
        access: &str,
        id: &[&str],
    ) -> Result<Answer, Answer> {
        let expected = format!("Basic {}", base64_of(&format!("{KEY}:{SECRET}")));
        if came.header("authorization") != Some(&expected) || self.revoked {
            return Err(refusal(401, "Invalid credentials"));
        }
        let left = self.allowance;
        self.allowance = left.map(|left| left.saturating_sub(1));
        let limited = |mut answer: Answer| {
            let Some(left) = left else { return answer };
            let reset = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(30);
            let reset = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&reset)
                .unwrap();
            let headers = answer.headers_mut();
            headers.insert("x-featureratelimit-limit", "500".parse().unwrap());
            headers.insert(
                "x-featureratelimit-remaining",
                left.saturating_sub(1).into(),
            );
            headers.insert("x-featureratelimit-reset", reset.parse().unwrap());
            answer
        };
        if left == Some(0) {
            return Err(limited(refusal(
                420,
                "Rate Limit Exceeded. Limit of 500 api operations reached.",
            )));
        }
        if !id.is_empty() {
            let name = (kind.to_owned(), access.to_owned(), id.join("/"));
            return Ok(limited(match self.assets.get(&name) {
                Some(asset) => answer(200, &detailed(&name, asset)),
                None => refusal(404, format!("Resource not found - {}", name.2)),
            }));
        }
        let prefix = came.asked("prefix").unwrap_or_default();
        let most: usize = came
            .asked("max_results")
            .unwrap_or("10")
            .parse()
            .map_err(undocumented)?;
        // Small pages, so that there are some.
        let most = most.min(7);
        let after = came.asked("next_cursor").unwrap_or_default();
        let of_kind = self
            .assets
            .iter()
            .filter(|((its_kind, its_access, id), _)| {
                its_kind == kind
                    && its_access == access
                    && id.starts_with(prefix)
                    && id.as_str() > after
            });
        let page: Vec<_> = of_kind.take(most + 1).collect();
        let more = page.len() > most;
        let shown = &page[..page.len().min(most)];
        let resources: Vec<Value> = shown
            .iter()
            .map(|(name, asset)| {
                let mut listed = describe(name, asset);
                // Only details have it.
                listed.as_object_mut().unwrap().remove("etag");
                listed
            })
            .collect();
        let mut body = json!({ "resources": resources });
        if more {
            body["next_cursor"] = shown.last().unwrap().0.2.clone().into();
        }
        Ok(limited(answer(200, &body)))
    }

    fn download(&mut self, came: &Came, kind: &str) -> Result<Answer, Answer> {
        let parameters: Parameters = came.query.iter().cloned().collect();
        self.verify(&parameters)?;
        only(
            &parameters,
            &[
                "public_id",
                "format",
                "type",
                "timestamp",
                "signature",
                "api_key",
            ],
        )?;
        let id = take(&parameters, "public_id")?;
        let access = take(&parameters, "type")?;
        let name = (kind.to_owned(), access, id);
        let Some(asset) = self.assets.get(&name) else {
            return Err(refusal(404, "Resource not found"));
        };
        Ok(Response::new(Full::new(asset.bytes.clone())))
    }
}

fn take(parameters: &Parameters, name: &str) -> Result<String, Answer> {
    let missing = || refusal(400, format!("Missing required parameter - {name}"));
    parameters.get(name).cloned().ok_or_else(missing)
}

fn only(parameters: &Parameters, known: &[&str]) -> Result<(), Answer> {
    match parameters
        .keys()
        .find(|name| !known.contains(&name.as_str()))
    {
        Some(name) => Err(undocumented(name)),
        None => Ok(()),
    }
}

fn valid_id(id: String) -> Result<String, Answer> {
    let forbidden = id.contains(['?', '&', '#', '\\', '%', '<', '>', '+']);
    let trimmed = id.trim() != id || id.starts_with('/') || id.ends_with('/');
    match forbidden || trimmed || id.is_empty() || id.chars().count() > 255 {
        true => Err(refusal(400, format!("public_id ({id}) is invalid"))),
        false => Ok(id),
    }
}

/// `name=value|name=value`, with `\=` and `\|` in values.
fn context(text: &str) -> Result<BTreeMap<String, String>, Answer> {
    let hidden = text.replace("\\=", "\u{1}").replace("\\|", "\u{2}");
    let pairs = hidden.split('|').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some((name, value)) => {
            let value = value.replace('\u{1}', "=").replace('\u{2}', "|");
            Ok((name.to_owned(), value))
        }
        None => Err(undocumented(pair)),
    });
    pairs.collect()
}

fn base64_of(text: &str) -> String {
    aws_smithy_types::base64::encode(text)
}
