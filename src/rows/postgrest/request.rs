//! Requests as PostgREST's documentation has them (version 12, "Tables and Views").

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder};
use url::Url;

use super::error;
use crate::rows::{Credentials, RowError};

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// The longest answer that is read whole, bytes: rows of a few hundred paths, and the schema's columns.
const LONGEST_ANSWER: usize = 8 << 20;

/// A table behind PostgREST.
pub struct Api {
    client: Client,
    /// The table's URL, without parameters.
    url: Url,
    /// The schema, if not the service's first one.
    schema: Option<HeaderValue>,
}

type Parameters<'a> = &'a [(&'a str, String)];

impl Api {
    pub fn open(
        address: &str,
        schema: Option<String>,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let address = address.strip_prefix("postgrest+").unwrap_or(address);
        let url = Url::parse(address).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "keys do not belong into the URL; set SUPABASE_KEY or POSTGREST_TOKEN".into(),
            );
        }
        crate::remote::refuse_readable(&url, credentials.insecure)
            .map_err(|refused| refused.message)?;
        if url.path().trim_matches('/').is_empty() || url.path().ends_with('/') {
            return Err("it names no table".into());
        }
        let schema = schema.map(|schema| HeaderValue::from_str(&schema));
        // A redirected POST would become a GET, and the key would go to another host.
        let client = Client::builder()
            .default_headers(headers(credentials)?)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("outboxfs/", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            client: client.build().map_err(|error| error.to_string())?,
            url,
            schema: schema.transpose().map_err(|error| error.to_string())?,
        })
    }

    pub fn describe(&self) -> String {
        format!("postgrest+{}", self.url)
    }

    pub async fn get(&self, query: Parameters<'_>) -> Result<String, RowError> {
        let request = self.client.get(self.url.clone()).query(query);
        self.send(self.in_schema(request, "accept-profile")).await
    }

    /// Inserts the rows of `body`, a JSON array, or merges them into those with the same key.
    pub async fn post(&self, query: Parameters<'_>, body: String) -> Result<(), RowError> {
        let request = self
            .client
            .post(self.url.clone())
            .query(query)
            .header(CONTENT_TYPE, "application/json")
            .header("prefer", "resolution=merge-duplicates,return=minimal")
            .body(body);
        let done = self.send(self.in_schema(request, "content-profile")).await;
        done.map(drop)
    }

    pub async fn delete(&self, query: Parameters<'_>) -> Result<(), RowError> {
        let request = self
            .client
            .delete(self.url.clone())
            .query(query)
            .header("prefer", "return=minimal");
        let done = self.send(self.in_schema(request, "content-profile")).await;
        done.map(drop)
    }

    fn in_schema(&self, request: RequestBuilder, header: &'static str) -> RequestBuilder {
        match &self.schema {
            Some(schema) => request.header(header, schema),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<String, RowError> {
        let name = self.describe();
        let unreachable = |error| error::unreachable(&name, &error);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(RowError::transient(format!(
                    "{name} answered with more than {LONGEST_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(body),
            false => Err(error::refused(&name, status, &body)),
        }
    }
}

/// Supabase's gateway wants the API key in `apikey`; PostgREST itself looks at the bearer token,
/// which is the key again unless there is a token of its own.
fn headers(credentials: &Credentials) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let secret = |text: &str, name: &str| {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| format!("{name} has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    if let Some(key) = &credentials.supabase_key {
        headers.insert(
            HeaderName::from_static("apikey"),
            secret(key, "SUPABASE_KEY")?,
        );
    }
    let token = credentials.postgrest_token.as_ref();
    if let Some(token) = token.or(credentials.supabase_key.as_ref()) {
        let bearer = secret(&format!("Bearer {token}"), "POSTGREST_TOKEN")?;
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// Values or names of columns in double quotes, within which `"` and `\` are escaped.
pub fn quoted_list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let quote = |value: &str| {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    };
    values.map(quote).collect::<Vec<_>>().join(",")
}
