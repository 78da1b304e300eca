//! Requests to Cloudinary's Upload and Admin APIs, and what its answers mean.
//! <https://cloudinary.com/documentation/image_upload_api_reference>,
//! <https://cloudinary.com/documentation/admin_api>

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::header::{DATE, HeaderMap};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::address::{Address, Credentials};
use super::public_id::Kind;
use super::signature::Parameters;
use crate::remote::flow::Progress;
use crate::remote::http::{self, Answer, Http};
use crate::remote::{Environment, Pace, RemoteError, Sink};

pub(super) struct Api {
    http: Http,
    pub address: Address,
    credentials: Credentials,
    /// The service's clock less ours, seconds; known once it has complained.
    skew: AtomicI64,
    /// Until then the Admin API, which counts by the hour, has said that it answers nothing.
    admin_rests_until: Mutex<Option<Instant>>,
}

/// Cloudinary's account of an asset, in all answers that have one.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Asset {
    pub public_id: String,
    #[serde(default)]
    pub version: u64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub etag: Option<String>,
    #[serde(default)]
    pub format: Option<String>,
    #[serde(default)]
    pub width: Option<u32>,
    #[serde(default)]
    pub height: Option<u32>,
    #[serde(default)]
    pub secure_url: Option<String>,
    /// Of an upload that replaced nothing because it was not to.
    #[serde(default)]
    pub existing: bool,
    #[serde(default)]
    context: Context,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Context {
    #[serde(default)]
    custom: std::collections::HashMap<String, String>,
}

impl Asset {
    /// What was stored beside it under this name.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.context.custom.get(name).map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

impl Api {
    pub fn open(address: Address, environment: &Environment) -> Result<Self, RemoteError> {
        let credentials = Credentials::find(&address.cloud, environment)?;
        let http = Http::open(&address.endpoint, "Cloudinary", environment)?;
        Ok(Self {
            http,
            address,
            credentials,
            skew: AtomicI64::new(0),
            admin_rests_until: Mutex::default(),
        })
    }

    pub fn keep_pace(&self, pace: Arc<Pace>) {
        self.http.keep_pace(pace);
    }

    pub fn progress(&self) -> Progress {
        self.http.progress()
    }

    /// `path` below the cloud's part of the API.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.address.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .push("v1_1")
                .push(&self.address.cloud);
            segments.extend(path);
        }
        url
    }

    /// The parameters, signed, with the time.
    fn sign(&self, parameters: Parameters) -> Vec<(&'static str, String)> {
        let skew = self.skew.load(Ordering::Relaxed);
        let now = jiff::Timestamp::now().as_second() + skew;
        parameters.with("timestamp", now.to_string()).signed(
            self.address.algorithm,
            &self.credentials.key,
            &self.credentials.secret,
        )
    }

    fn form(&self, parameters: Parameters) -> Form {
        let signed = self.sign(parameters).into_iter();
        signed.fold(Form::new(), |form, (name, value)| form.text(name, value))
    }

    /// A call of the Upload API without a file: `destroy`, `rename`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        what: &str,
        kind: Kind,
        action: &str,
        parameters: Parameters,
    ) -> Result<T, RemoteError> {
        let url = self.url(&[kind.name(), action]);
        let request = self.http.request(Method::POST, url);
        let request = request.multipart(self.form(parameters));
        let answer = self.http.send(what, request, &self.progress()).await?;
        self.understand(what, &answer)
    }

    /// Uploads a file, or with `headers` a piece of one.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        what: &str,
        kind: Kind,
        parameters: Parameters,
        bytes: bytes::Bytes,
        headers: HeaderMap,
    ) -> Result<T, RemoteError> {
        let (length, progress) = (bytes.len() as u64, self.progress());
        let body = http::body(progress.body(bytes));
        // What the file is called is the public id's to say.
        let file = Part::stream_with_length(body, length).file_name("file");
        let url = self.url(&[kind.name(), "upload"]);
        let request = self.http.request(Method::POST, url).headers(headers);
        let request = request.multipart(self.form(parameters).part("file", file));
        let answer = self.http.send(what, request, &progress).await?;
        self.understand(what, &answer)
    }

    /// A question to the Admin API; `None` if there is no such thing.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<T>, RemoteError> {
        self.refuse_while_admin_rests(what)?;
        let request = self.http.request(Method::GET, self.url(path)).query(query);
        let request = request.basic_auth(&self.credentials.key, Some(&self.credentials.secret));
        let answer = self.http.send(what, request, &self.progress()).await?;
        if let Some(reset) = allowance_ends(&answer.headers) {
            *self.admin_rests_until.lock() = Some(Instant::now() + reset);
        }
        if answer.status == 404 && self.http.foreign(what, &answer).is_none() {
            return Ok(None);
        }
        self.understand(what, &answer).map(Some)
    }

    fn refuse_while_admin_rests(&self, what: &str) -> Result<(), RemoteError> {
        let until = *self.admin_rests_until.lock();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let Some(left) = left.filter(|left| !left.is_zero()) else {
            return Ok(());
        };
        let mut error = RemoteError::transient(format!(
            "{what} waits: Cloudinary's Admin API answers no more questions for {} minutes",
            left.as_secs().div_ceil(60)
        ));
        error.retry_after = Some(left);
        error.throttled = true;
        Err(error)
    }

    /// The bytes as they were uploaded, whoever may see them; `None` if there are none.
    pub async fn download(
        &self,
        what: &str,
        kind: Kind,
        asset: &Asset,
        sink: Sink<'_>,
    ) -> Result<Option<u64>, RemoteError> {
        let parameters = Parameters::default()
            .with("public_id", &asset.public_id)
            .with("format", asset.format.clone().unwrap_or_default())
            .with("type", &self.address.access);
        let url = self.url(&[kind.name(), "download"]);
        let request: RequestBuilder = self.http.request(Method::GET, url);
        let request = request.query(&self.sign(parameters));
        match self.http.fetch(what, request, sink).await? {
            Ok(size) => Ok(Some(size)),
            Err(answer) if answer.status == 404 => Ok(None),
            Err(answer) => Err(self.refused(what, &answer)),
        }
    }

    /// The asset that an answer to an upload tells of.
    pub fn asset(&self, what: &str, answer: Value) -> Result<Asset, RemoteError> {
        serde_json::from_value(answer).map_err(|error| {
            RemoteError::transient(format!(
                "{what} failed: Cloudinary answered no asset ({error})"
            ))
        })
    }

    fn understand<T: DeserializeOwned>(
        &self,
        what: &str,
        answer: &Answer,
    ) -> Result<T, RemoteError> {
        match answer.status.is_success() {
            true => self.http.json(what, answer),
            false => Err(self.refused(what, answer)),
        }
    }

    fn refused(&self, what: &str, answer: &Answer) -> RemoteError {
        if let Some(error) = self.http.foreign(what, answer) {
            return error;
        }
        let said = serde_json::from_slice::<Refusal>(&answer.body);
        let said = said.map_or_else(
            |_| answer.text(),
            |refusal| http::one_line(&refusal.error.message),
        );
        let status = answer.status.as_u16();
        if status == 400 && said.starts_with("Stale request") {
            self.learn_the_time(&answer.headers);
            return RemoteError::transient(format!(
                "{what} was refused for its time; it is signed by Cloudinary's clock from now on"
            ));
        }
        let advice = match status {
            401 => {
                "; see that key and secret are those of this cloud, and are enabled in the console"
            }
            403 => "; give the key's role the right to do that",
            _ => "",
        };
        let mut error = answer.refusal(format!(
            "{what} was refused by Cloudinary ({status}: {said}){advice}"
        ));
        error.retry_after = error.retry_after.or(allowance_ends(&answer.headers));
        error
    }

    fn learn_the_time(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let Some(date) = date {
            let skew = date.timestamp().as_second() - jiff::Timestamp::now().as_second();
            self.skew.store(skew, Ordering::Relaxed);
        }
    }
}

/// When nothing is left of an allowance: how long until there is a new one.
fn allowance_ends(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    match text("x-featureratelimit-remaining")?.trim() {
        "0" => http::until(text("x-featureratelimit-reset")?),
        _ => None,
    }
}
