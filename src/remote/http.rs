//! What remotes behind a service's own HTTP interface have in common: a client that keeps secrets with
//! the host that they are for, waits as long as something moves, and takes no answer without end.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use super::certificates::certificates;
use super::flow::{Progress, Slices};
use super::{Environment, Pace, RemoteError, Sink};

/// For name look-up, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may go without any progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read whole, bytes. Listings are the longest.
const LONGEST_ANSWER: usize = 8 << 20;
/// How much of what a service says is repeated, characters.
const REPEATED: usize = 300;

/// The way to a service. Secrets go with the requests that need them, not with all: what leads to
/// another host must not have any.
pub(super) struct Http {
    client: Client,
    /// For people.
    name: String,
    pace: OnceLock<Arc<Pace>>,
    /// Until somebody sets one.
    unlimited: Arc<Pace>,
}

/// What a service answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Http {
    /// To the service at `base`, which people know as `name`. Plain `http://` is for this machine only,
    /// unless the person said otherwise. Redirects are not followed.
    pub fn open(base: &Url, name: &str, environment: &Environment) -> Result<Self, RemoteError> {
        refuse_readable(base, environment.insecure())?;
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("outboxfs/", env!("CARGO_PKG_VERSION")));
        let failed = |error: reqwest::Error| {
            RemoteError::permanent(format!("TLS cannot be set up: {error}"))
        };
        if let Some(file) = environment.ca_file() {
            let pem = certificates(file)?;
            let trusted = reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)?;
            client = client.tls_certs_merge(trusted);
        }
        Ok(Self {
            client: client.build().map_err(failed)?,
            name: name.to_owned(),
            pace: OnceLock::new(),
            unlimited: Arc::default(),
        })
    }

    pub fn keep_pace(&self, pace: Arc<Pace>) {
        let _ = self.pace.set(pace);
    }

    pub fn pace(&self) -> &Arc<Pace> {
        self.pace.get().unwrap_or(&self.unlimited)
    }

    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Counts what a request sends, so that [`Self::send`] sees it move.
    pub fn progress(&self) -> Progress {
        Progress::at(self.pace().clone())
    }

    /// Sends a request, whose body is of `progress` if it is more than a few bytes, and reads the
    /// answer, whatever it is; `what` is what the request is for ("storing original/a.jpg").
    pub async fn send(
        &self,
        what: &str,
        request: RequestBuilder,
        progress: &Progress,
    ) -> Result<Answer, RemoteError> {
        self.pace().request().await;
        let exchange = async {
            let response = request
                .send()
                .await
                .map_err(|error| self.broken(what, error))?;
            self.read(what, response).await
        };
        let answer = progress.watch(PATIENCE, exchange).await;
        let answer = answer.ok_or_else(|| self.stalled(what))??;
        if let (true, Some(wait)) = (is_throttling(answer.status), answer.retry_after()) {
            self.pace().rest(wait);
        }
        Ok(answer)
    }

    /// Sends a request without a body and writes what comes to `sink`; `Err` holds the answer if it is
    /// none of success.
    pub async fn fetch(
        &self,
        what: &str,
        request: RequestBuilder,
        sink: Sink<'_>,
    ) -> Result<Result<u64, Answer>, RemoteError> {
        self.pace().request().await;
        let sent = tokio::time::timeout(PATIENCE, request.send()).await;
        let sent = sent.map_err(|_| self.stalled(what))?;
        let mut response = sent.map_err(|error| self.broken(what, error))?;
        if !response.status().is_success() {
            let answer = tokio::time::timeout(PATIENCE, self.read(what, response)).await;
            return answer.map_err(|_| self.stalled(what))?.map(Err);
        }
        let mut size = 0;
        loop {
            let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.stalled(what))?;
            let Some(chunk) = chunk.map_err(|error| self.broken(what, error))? else {
                return Ok(Ok(size));
            };
            size += chunk.len() as u64;
            sink.write_all(&chunk).map_err(|error| {
                RemoteError::transient(format!("{what}: it could not be written here: {error}"))
            })?;
        }
    }

    async fn read(&self, what: &str, mut response: Response) -> Result<Answer, RemoteError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broken(what, error))?
        {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(RemoteError::transient(format!(
                    "{what} failed: {} answered with more than {LONGEST_ANSWER} bytes",
                    self.name
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            headers,
            body: body.freeze(),
        })
    }

    fn stalled(&self, what: &str) -> RemoteError {
        RemoteError::transient(format!(
            "{what} failed: nothing has moved for {} seconds on the way to {}",
            PATIENCE.as_secs(),
            self.name
        ))
    }

    /// No answer, or not all of it.
    fn broken(&self, what: &str, error: reqwest::Error) -> RemoteError {
        // An error of reqwest repeats the URL, which may be signed.
        let error = error.without_url();
        let why = root_cause(&error);
        let name = &self.name;
        if !error.is_connect() {
            return RemoteError::transient(format!(
                "{what} failed: the connection to {name} broke ({why})"
            ));
        }
        let hint = match &why {
            why if why.contains("InvalidContentType") => {
                "; does it speak http:// rather than https://?"
            }
            why if why.contains("UnknownIssuer") => {
                "; --ca-file names a certificate to trust beside the system's"
            }
            why if why.contains("not valid for name") || why.contains("NotValidForName") => {
                "; somebody else answers at this address, and was told nothing"
            }
            _ => "",
        };
        RemoteError::unreachable(format!(
            "{name} cannot be reached ({why}){hint}; {what} waits until it can"
        ))
    }

    /// A redirect, or an answer that is not the service's, as an error; `None` for what is the service's
    /// own to tell.
    pub fn foreign(&self, what: &str, answer: &Answer) -> Option<RemoteError> {
        let name = &self.name;
        if answer.status.is_redirection() {
            let to = answer.headers.get(LOCATION);
            let to = to.and_then(|to| Url::parse(to.to_str().ok()?).ok());
            let to = match to.as_ref().and_then(Url::host_str) {
                Some(host) => format!("to {}", host.escape_debug()),
                None => "elsewhere".to_owned(),
            };
            return Some(RemoteError::permanent(format!(
                "{what} failed: {name} sends us {to}, and secrets are not sent after it; write the \
                 address that is meant"
            )));
        }
        let kind = answer.headers.get(CONTENT_TYPE);
        let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        // A page in the place of an answer is a proxy's, or that of a network that wants a login.
        (is_page && !answer.status.is_server_error()).then(|| {
            RemoteError::unreachable(format!(
                "{what} failed: a web page answers in the place of {name} (status {}): is the address \
                 right, and does the network want a login?",
                answer.status.as_u16()
            ))
        })
    }

    /// The answer's JSON.
    pub fn json<T: DeserializeOwned>(&self, what: &str, answer: &Answer) -> Result<T, RemoteError> {
        if let Some(error) = self.foreign(what, answer) {
            return Err(error);
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            RemoteError::transient(format!(
                "{what} failed: {} answered something that is not its JSON ({error})",
                self.name
            ))
        })
    }
}

impl Answer {
    /// How long the service asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => until(text),
        }
    }

    /// What a refusal means for the delivery, where the service has no code of its own for it; `said`
    /// is the whole sentence.
    pub fn refusal(&self, said: String) -> RemoteError {
        let mut error = match self.status.as_u16() {
            408 | 420 | 423 | 425 | 429 | 500.. => RemoteError::transient(said),
            _ => RemoteError::permanent(said),
        };
        error.retry_after = self.retry_after();
        error.throttled = is_throttling(self.status);
        error
    }

    /// The beginning of the body, in one line, for people.
    pub fn text(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.body))
    }
}

/// The beginning of what a service says, in one line.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars()
        .filter(|c| !c.is_control())
        .take(REPEATED)
        .collect()
}

/// A time as HTTP writes it (RFC 9110, 5.6.7), from now on.
pub(super) fn until(text: &str) -> Option<Duration> {
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = at.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}

fn is_throttling(status: StatusCode) -> bool {
    matches!(status.as_u16(), 420 | 429 | 503)
}

/// A header's value that logs do not show.
pub(super) fn secret_header(value: &str, name: &str) -> Result<HeaderValue, RemoteError> {
    let mut header = HeaderValue::from_str(value).map_err(|_| {
        RemoteError::permanent(format!("{name} has characters that no header can carry"))
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// A body of `progress` for a request.
pub(super) fn body(slices: Slices) -> reqwest::Body {
    reqwest::Body::wrap(slices)
}

/// Whether what goes to `base` could be read by everybody on the way, and nobody said that is well.
pub(crate) fn refuse_readable(base: &Url, insecure: bool) -> Result<(), RemoteError> {
    let is_here = match base.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match base.scheme() {
        "https" => Ok(()),
        "http" if is_here || insecure => Ok(()),
        "http" => Err(RemoteError::permanent(format!(
            "{base} would have everybody on the way read the secrets: write https://, or give \
             --insecure if that is what you want"
        ))),
        _ => Err(RemoteError::permanent(format!(
            "{base} is no address of a service; write https://host"
        ))),
    }
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
        (*error).source()
    });
    one_line(&causes.last().map(ToString::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_in_the_clear_only_to_this_machine() {
        let open = |url: &str, insecure: bool| {
            let environment = Environment::process().with_insecure(insecure);
            Http::open(&Url::parse(url).unwrap(), "x", &environment)
        };
        for url in [
            "https://a.example",
            "http://127.0.0.1:1",
            "http://[::1]/",
            "http://localhost",
        ] {
            assert!(open(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://a.example",
            "http://10.0.0.1",
            "http://localhost.example.org",
        ] {
            let error = open(url, false).err().unwrap();
            assert!(error.message.contains("--insecure"), "{error}");
            assert!(open(url, true).is_ok(), "{url}");
        }
        assert!(open("ftp://a.example", true).is_err());
    }

    #[test]
    fn waits_are_read_in_seconds_and_as_times() {
        let answer = |retry_after: &str| Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: [(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap())]
                .into_iter()
                .collect(),
            body: Bytes::new(),
        };
        assert_eq!(answer("7").retry_after(), Some(Duration::from_secs(7)));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(answer(past).retry_after(), Some(Duration::ZERO));
        assert_eq!(answer("soon").retry_after(), None);
        let error = answer("7").refusal("no".into());
        assert!(error.throttled && error.may_pass());
    }
}
