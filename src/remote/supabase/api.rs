//! Requests to Supabase Storage as its clients make them, and what its answers mean.
//! <https://supabase.com/docs/guides/storage/debugging/error-codes>

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::address::{Address, Credentials};
use crate::remote::flow::Progress;
use crate::remote::http::{self, Answer, Http, secret_header};
use crate::remote::{Environment, RemoteError, Sink};

pub(super) struct Api {
    pub http: Http,
    pub address: Address,
    key: HeaderValue,
    bearer: HeaderValue,
}

/// An error in one of the two forms that the service has.
#[derive(Default, Deserialize)]
struct Refusal {
    /// The status that is meant; the answer's own may be 400 all the same.
    #[serde(default, rename = "statusCode")]
    status: Option<Value>,
    #[serde(default)]
    code: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    message: Option<String>,
}

impl Api {
    pub fn open(address: Address, environment: &Environment) -> Result<Self, RemoteError> {
        let credentials = Credentials::find(&address.project, environment)?;
        let token = credentials.token.as_ref().unwrap_or(&credentials.key);
        Ok(Self {
            key: secret_header(&credentials.key, "SUPABASE_KEY")?,
            bearer: secret_header(&format!("Bearer {token}"), "SUPABASE_TOKEN")?,
            http: Http::open(&address.endpoint, "Supabase Storage", environment)?,
            address,
        })
    }

    /// `path` and the components of `name` below the service's part of the project.
    pub fn url(&self, path: &[&str], name: &str) -> Url {
        let mut url = self.address.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["storage", "v1"])
                .extend(path);
            if !name.is_empty() {
                segments.extend(name.split('/'));
            }
        }
        url
    }

    /// A request with the secrets, which go to the project's own address only.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http
            .request(method, url)
            .header(HeaderName::from_static("apikey"), &self.key)
            .header(AUTHORIZATION, &self.bearer)
    }

    /// Sends a request; `Ok` is an answer of success.
    pub async fn send(
        &self,
        what: &str,
        request: RequestBuilder,
        progress: &Progress,
    ) -> Result<Answer, RemoteError> {
        let answer = self.http.send(what, request, progress).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refused(what, &answer)),
        }
    }

    /// A request with a body of JSON.
    pub async fn call(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: &Value,
    ) -> Result<Answer, RemoteError> {
        let request = self.request(method, url);
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string());
        self.send(what, request, &self.http.progress()).await
    }

    /// The answer to a question; `None` if there is no such thing.
    pub async fn ask(&self, what: &str, url: Url) -> Result<Option<Answer>, RemoteError> {
        let request = self.request(Method::GET, url);
        let answer = self.http.send(what, request, &self.http.progress()).await?;
        match answer.status.is_success() {
            true => Ok(Some(answer)),
            false if self.is_missing(what, &answer) => Ok(None),
            false => Err(self.refused(what, &answer)),
        }
    }

    pub async fn download(
        &self,
        what: &str,
        url: Url,
        sink: Sink<'_>,
    ) -> Result<Option<u64>, RemoteError> {
        let request = self.request(Method::GET, url);
        match self.http.fetch(what, request, sink).await? {
            Ok(size) => Ok(Some(size)),
            Err(answer) if self.is_missing(what, &answer) => Ok(None),
            Err(answer) => Err(self.refused(what, &answer)),
        }
    }

    /// An object that is not there, and not the bucket.
    fn is_missing(&self, what: &str, answer: &Answer) -> bool {
        let refusal = Refusal::of(answer);
        let is_bucket = refusal.said(answer).to_lowercase().contains("bucket");
        self.http.foreign(what, answer).is_none() && refusal.status(answer) == 404 && !is_bucket
    }

    pub fn refused(&self, what: &str, answer: &Answer) -> RemoteError {
        if let Some(error) = self.http.foreign(what, answer) {
            return error;
        }
        let refusal = Refusal::of(answer);
        let (status, said) = (refusal.status(answer), refusal.said(answer));
        let code = [&refusal.code, &refusal.error].into_iter().flatten();
        let code = code.filter_map(Value::as_str).next().unwrap_or_default();
        let lower = said.to_lowercase();
        let is_token =
            lower.contains("jwt") || lower.contains("exp\" claim") || code == "InvalidJWT";
        let advice = match status {
            _ if lower.contains("row-level security") => {
                "; add policies on storage.objects that let this role insert, select, update and delete, \
                 or use the service_role key"
            }
            401 | 403 | 400 if is_token => {
                "; the key or token is wrong or has run out: set SUPABASE_KEY or SUPABASE_TOKEN anew"
            }
            401 | 403 => "; see that SUPABASE_KEY is of this project and may do that",
            404 if lower.contains("bucket") => "; create the bucket in the project's storage",
            409 => {
                "; overwrite=false keeps what is there: delete it, or give the file another name"
            }
            413 => "; raise the bucket's or the project's limit on the size of files",
            _ => "",
        };
        let meant = Answer {
            status: StatusCode::from_u16(status).unwrap_or(answer.status),
            headers: answer.headers.clone(),
            body: answer.body.clone(),
        };
        meant.refusal(format!(
            "{what} was refused by Supabase ({status}: {said}){advice}"
        ))
    }

    /// Whether a refusal is of the media type: then the bucket takes others.
    pub fn is_of_type(&self, error: &RemoteError) -> bool {
        error.message.contains("mime type")
    }
}

impl Refusal {
    fn of(answer: &Answer) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    fn status(&self, answer: &Answer) -> u16 {
        let number = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64().and_then(|number| number.try_into().ok()),
        };
        let meant = self.status.as_ref().and_then(number);
        meant.unwrap_or(answer.status.as_u16())
    }

    fn said(&self, answer: &Answer) -> String {
        match &self.message {
            Some(message) => http::one_line(message),
            None => answer.text(),
        }
    }
}
