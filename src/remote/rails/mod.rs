//! A Rails application with Active Storage: blobs by its direct uploads, and records made of them by its
//! API. There are no keys: what is put once more is there twice, and nothing is read, listed or deleted.

mod address;
mod refusal;
mod session;
mod tags;
mod template;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};
use url::Url;

use self::address::Address;
use self::session::Session;
use self::upload::Upload;
use super::http::{Answer, Http, refuse_readable};
use super::{
    Capabilities, Copies, Environment, Key, Pace, Proof, Put, Remote, RemoteError, StoredPart,
    Thumbnails, Unfinished, UploadNotes,
};

/// What is kind to an application of a few processes.
const WORKERS: usize = 5;
/// The probe stands between a person and their prompt.
const PROBE: Duration = Duration::from_secs(8);

pub struct RailsRemote {
    address: Address,
    api: Http,
    /// Where the application has bytes sent; it may be another host, which gets no token.
    storage: Http,
    session: Session,
    environment: Environment,
    needs_tags: bool,
}

impl RailsRemote {
    /// Takes `rails+https://host?api=archive`. Nobody is asked yet.
    pub fn open(url: &Url, environment: &Environment) -> Result<Self, RemoteError> {
        let address = Address::parse(url)?;
        let name = address.name();
        let storage = format!("the storage of {name}");
        let record = address.record.as_ref();
        Ok(Self {
            api: Http::open(&address.base, &name, environment)?,
            storage: Http::open(&address.base, &storage, environment)?,
            session: Session::open(&address, environment)?,
            environment: environment.clone(),
            needs_tags: address.upload.fields.need_tags()
                || record.is_some_and(|record| record.fields.need_tags()),
            address,
        })
    }

    /// Asks the API, as who we are; once more with another token if this one is refused.
    async fn call(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: Option<Value>,
        once: Option<(HeaderName, String)>,
    ) -> Result<Answer, RemoteError> {
        let mut again = true;
        loop {
            let pass = self.session.pass(&self.api, &self.address).await?;
            let mut request = self
                .api
                .request(method.clone(), url.clone())
                .header(ACCEPT, "application/json");
            if let Some(pass) = &pass {
                request = request.header(AUTHORIZATION, pass.header.clone());
            }
            if let Some((name, key)) = &once {
                request = request.header(name, key);
            }
            if let Some(body) = &body {
                request = request
                    .header(CONTENT_TYPE, "application/json")
                    .body(body.to_string());
            }
            let answer = self.api.send(what, request, &self.api.progress()).await?;
            let is_refused = answer.status.as_u16() == 401;
            if let Some(pass) = pass.filter(|_| is_refused && again)
                && self.session.refuse(&pass).await
            {
                again = false;
                continue;
            }
            return Ok(answer);
        }
    }

    /// Somebody else's answer in the place of a success, as an error. (Rails says errors in HTML, too.)
    fn foreign(&self, what: &str, answer: &Answer) -> Option<RemoteError> {
        let status = answer.status;
        (status.is_success() || status.is_redirection())
            .then(|| self.api.foreign(what, answer))
            .flatten()
    }

    /// What the application answers to nothing: who may upload hears that something is missing.
    async fn ask_nothing(&self) -> Result<(), RemoteError> {
        let what = "a trial request";
        let url = self.address.url(&self.address.upload.path)?;
        let call = self.call(what, Method::POST, url, Some(json!({})), None);
        let answer = call.await?;
        let name = self.address.name();
        match answer.status.as_u16() {
            400 => Ok(()),
            // Who has a token is past that, and hears so of what is missing, too.
            422 if self.session.has_token().await || !refusal::is_forgery(&answer) => Ok(()),
            // It did not expect nothing; that is past login and rights.
            500 => Ok(()),
            200..=399 => match self.foreign(what, &answer) {
                Some(error) => Err(error),
                None => Ok(()),
            },
            _ => Err(refusal::refused(&name, what, &answer)),
        }
    }

    /// Where the application has the bytes sent.
    fn storage_url(&self, what: &str, url: &str) -> Result<Url, RemoteError> {
        let url = self.address.base.join(url).map_err(|error| {
            let name = self.address.name();
            RemoteError::permanent(format!("{what} failed: {name} has no URL for it ({error})"))
        })?;
        // The URL is as good as a password. The error shows no more of it than the host.
        let mut host = url.clone();
        host.set_path("");
        host.set_query(None);
        refuse_readable(&host, self.environment.insecure())?;
        Ok(url)
    }

    /// Where Active Storage shows a blob to whoever has its signed id.
    fn blob_url(&self, signed_id: &str, filename: &str) -> Option<String> {
        let mut url = self.address.base.clone();
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .extend(["rails", "active_storage", "blobs", "redirect"])
            .extend([signed_id, filename]);
        Some(url.into())
    }
}

#[async_trait]
impl Remote for RailsRemote {
    fn describe(&self) -> String {
        self.address.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            thumbnails: Thumbnails::Absent,
            lists: false,
            reads: false,
            overwrites: false,
            deletes: false,
            copies: Copies::Needless,
            notes_all: true,
            workers: Some(WORKERS),
            ..Capabilities::default()
        }
    }

    async fn probe(&self) -> Result<(), RemoteError> {
        match tokio::time::timeout(PROBE, self.ask_nothing()).await {
            Ok(result) => result,
            Err(_) => Err(RemoteError::unreachable(format!(
                "{} has not answered for {} seconds",
                self.describe(),
                PROBE.as_secs()
            ))),
        }
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        Upload::of(self, &put, &Nowhere).await.run(None).await
    }

    async fn put_resumable(
        &self,
        put: Put,
        unfinished: Option<&Unfinished>,
        notes: &dyn UploadNotes,
    ) -> Result<Proof, RemoteError> {
        Upload::of(self, &put, notes).await.run(unfinished).await
    }

    fn keep_pace(&self, pace: Arc<Pace>) {
        self.api.keep_pace(pace.clone());
        self.storage.keep_pace(pace);
    }

    /// Only the answers tell.
    fn url(&self, _key: &Key) -> Option<String> {
        None
    }
}

/// For uploads that nobody goes on with.
struct Nowhere;

#[async_trait]
impl UploadNotes for Nowhere {
    async fn began(&self, _name: String) -> Result<(), RemoteError> {
        Ok(())
    }

    fn stored(&self, _part: StoredPart) {}

    async fn completed(&self) {}

    async fn given_up(&self) {}
}
