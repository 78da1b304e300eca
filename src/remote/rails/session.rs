//! Who we are to the application: a token, had for e-mail and password, and had anew before its time is
//! up or when it is refused. One login serves all workers.

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use tokio::sync::Mutex;

use super::address::{Address, Login};
use super::refusal;
use super::template::Values;
use crate::remote::http::{Http, secret_header};
use crate::remote::{Environment, RemoteError, RemoteErrorKind};

const EMAIL: &str = "OUTBOXFS_RAILS_EMAIL";
const PASSWORD: &str = "OUTBOXFS_RAILS_PASSWORD";
const TOKEN: &str = "OUTBOXFS_RAILS_TOKEN";

/// A login that was refused is not tried again for so long: accounts get locked.
const REFUSED: Duration = Duration::from_secs(20);
/// Of a token's life, before it is renewed.
const USED: f64 = 0.9;

pub(super) struct Session {
    account: Option<(String, String)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// How many tokens there have been.
    count: u64,
    refused: Option<(Instant, RemoteError)>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    number: u64,
    /// `None`: nobody knows until when it is good.
    until: Option<Instant>,
}

/// A token to make a request with.
pub(super) struct Pass {
    pub header: HeaderValue,
    number: u64,
}

impl Session {
    /// Looks for credentials in the environment. An application without login may need none.
    pub fn open(address: &Address, environment: &Environment) -> Result<Self, RemoteError> {
        let account = environment.get(EMAIL).zip(environment.get(PASSWORD));
        let token = match environment.get(TOKEN) {
            Some(token) => Some(Token {
                header: bearer(&token, TOKEN)?,
                number: 0,
                until: None,
            }),
            None => None,
        };
        if token.is_none() && account.is_none() && address.login.is_some() {
            return Err(RemoteError::permanent(format!(
                "{} needs a login: set {EMAIL} and {PASSWORD}, or {TOKEN}",
                address.name()
            )));
        }
        if token.is_none() && account.is_some() && address.login.is_none() {
            return Err(RemoteError::permanent(format!(
                "{EMAIL} and {PASSWORD} are set, and nothing says where to log in; add login=PATH or \
                 api=archive to the remote's URL"
            )));
        }
        Ok(Self {
            account: account.filter(|_| address.login.is_some()),
            state: Mutex::new(State {
                token,
                ..State::default()
            }),
        })
    }

    /// A token that is good as far as one knows; `None` where none is needed.
    pub async fn pass(&self, http: &Http, address: &Address) -> Result<Option<Pass>, RemoteError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let is_good = |token: &Token| token.until.is_none_or(|until| now < until);
        if let Some(token) = state.token.as_ref().filter(|token| is_good(token)) {
            return Ok(Some(token.pass()));
        }
        let (Some(login), Some(account)) = (&address.login, &self.account) else {
            return Ok(state.token.as_ref().map(Token::pass));
        };
        if let Some((at, error)) = &state.refused
            && at.elapsed() < REFUSED
        {
            return Err(error.clone());
        }
        // All others wait here, and use the token that comes.
        let token = log_in(http, address, login, account).await;
        state.refused = match &token {
            Err(error) if error.kind == RemoteErrorKind::Permanent => Some((now, error.clone())),
            _ => None,
        };
        state.count += 1;
        let token = Token {
            number: state.count,
            ..token?
        };
        let pass = token.pass();
        state.token = Some(token);
        Ok(Some(pass))
    }

    pub async fn has_token(&self) -> bool {
        self.state.lock().await.token.is_some()
    }

    /// The application refuses this token. True if another can be had.
    pub async fn refuse(&self, pass: &Pass) -> bool {
        let mut state = self.state.lock().await;
        let is_last = state.token.as_ref().map(|token| token.number) == Some(pass.number);
        if is_last && self.account.is_some() {
            state.token = None;
        }
        !is_last || self.account.is_some()
    }
}

impl Token {
    fn pass(&self) -> Pass {
        Pass {
            header: self.header.clone(),
            number: self.number,
        }
    }
}

fn bearer(token: &str, name: &str) -> Result<HeaderValue, RemoteError> {
    secret_header(&format!("Bearer {token}"), name)
}

async fn log_in(
    http: &Http,
    address: &Address,
    login: &Login,
    (email, password): &(String, String),
) -> Result<Token, RemoteError> {
    let what = "logging in";
    let mut values = Values::default();
    values.set("email", email.as_str());
    values.set("password", password.as_str());
    let request = http
        .request(Method::POST, address.url(&login.path)?)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(login.fields.json(&values).to_string());
    let asked = Instant::now();
    let answer = http.send(what, request, &http.progress()).await?;
    let name = address.name();
    if answer.status.is_client_error() {
        let mut error = refusal::refused(&name, what, &answer);
        if matches!(answer.status.as_u16(), 400 | 401 | 403 | 422) {
            let said = refusal::said(&answer);
            error.message = format!(
                "{name} refuses the login ({said}); see that {EMAIL} and {PASSWORD} are right"
            );
        }
        return Err(error);
    }
    if answer.status.is_server_error() {
        return Err(refusal::refused(&name, what, &answer));
    }
    let answer: Value = http.json(what, &answer)?;
    let token = login.token.text(&answer);
    let token = token.ok_or_else(|| refusal::without(&name, what, &login.token))?;
    let lifetime = lifetime(&answer).unwrap_or(login.lifetime);
    tracing::debug!(remote = name, ?lifetime, "logged in");
    Ok(Token {
        header: bearer(&token, "the token of the login")?,
        number: 0,
        until: Some(asked + lifetime.mul_f64(USED)),
    })
}

/// What the answer says of the token's life.
fn lifetime(answer: &Value) -> Option<Duration> {
    if let Some(seconds) = answer.get("expires_in").and_then(Value::as_u64) {
        return Some(Duration::from_secs(seconds));
    }
    let at: jiff::Timestamp = answer.get("expires_at")?.as_str()?.parse().ok()?;
    let left = at.duration_since(jiff::Timestamp::now());
    Duration::try_from(left).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tokens_life_is_as_the_answer_says() {
        let seconds = Duration::from_secs;
        assert_eq!(lifetime(&json!({"expires_in": 60})), Some(seconds(60)));
        let at = jiff::Timestamp::now() + seconds(600);
        let left = lifetime(&json!({"expires_at": at.to_string()})).unwrap();
        assert!(left > seconds(500) && left <= seconds(600));
        assert_eq!(lifetime(&json!({"expires_at": "soon"})), None);
        assert_eq!(lifetime(&json!({})), None);
    }
}
