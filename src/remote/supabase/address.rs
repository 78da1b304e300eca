//! What a `supabase://` URL says, and where the secrets come from.

use std::time::Duration;

use url::Url;

use crate::remote::{Environment, RemoteError};

const EXAMPLE: &str = "write supabase://PROJECT/BUCKET/folder";

/// How readers reach what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urls {
    /// The bucket is public.
    Public,
    /// By URLs that the service signs, and which end after so long.
    Signed(Duration),
    Absent,
}

/// A bucket, and how things are stored there. Holds no secret.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub project: String,
    pub bucket: String,
    /// What object names begin with; no slashes around it.
    pub prefix: String,
    /// The project's own address.
    pub endpoint: Url,
    pub overwrite: bool,
    pub urls: Urls,
    /// How long readers may keep a copy, seconds.
    pub cache: u64,
}

impl Address {
    pub fn parse(url: &Url) -> Result<Self, RemoteError> {
        let wrong =
            |why: &str| RemoteError::permanent(format!("the Supabase URL {why}; {EXAMPLE}"));
        let project = url.host_str().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if project.is_empty() || !project.chars().all(is_name) || url.port().is_some() {
            return Err(wrong("names no project"));
        }
        let path = percent_encoding::percent_decode_str(url.path().trim_matches('/'));
        let path = path
            .decode_utf8()
            .map_err(|_| wrong("has a folder that is not UTF-8"))?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
        if bucket.is_empty() {
            return Err(wrong("names no bucket"));
        }
        if !path.chars().all(|c| c == '/' || super::stands(c)) {
            return Err(wrong("has characters that Supabase does not take in names"));
        }
        let endpoint = format!("https://{project}.supabase.co");
        let mut address = Self {
            project: project.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: Url::parse(&endpoint).map_err(|_| wrong("names no project"))?,
            overwrite: true,
            urls: Urls::Public,
            cache: 3600,
        };
        let mut expiry = None;
        for (name, value) in url.query_pairs() {
            let set = match &*name {
                "expires" => parse_expiry(&value).map(|seconds| expiry = Some(seconds)),
                _ => address.set(&name, &value),
            };
            set.map_err(|why| wrong(&why))?;
        }
        match (&mut address.urls, expiry) {
            (Urls::Signed(lasts), Some(expiry)) => *lasts = expiry,
            (_, Some(_)) => return Err(wrong("has expires=, which is for urls=signed")),
            (_, None) => {}
        }
        Ok(address)
    }

    /// The error completes "the Supabase URL …".
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let has = |expected: &str| format!("has {name}={value}, and it takes {expected}");
        match (name, value) {
            ("endpoint", _) => {
                let endpoint = value.trim_end_matches('/').parse();
                self.endpoint = endpoint.map_err(|_| has("the project's https://host"))?;
            }
            ("overwrite", "true") => self.overwrite = true,
            ("overwrite", "false") => self.overwrite = false,
            ("overwrite", _) => return Err(has("true or false")),
            ("urls", "public") => self.urls = Urls::Public,
            ("urls", "signed") => self.urls = Urls::Signed(Duration::from_secs(7 * 24 * 3600)),
            ("urls", "none") => self.urls = Urls::Absent,
            ("urls", _) => return Err(has("public, signed or none")),
            ("cache_control", _) => self.cache = value.parse().map_err(|_| has("seconds"))?,
            _ => {
                return Err(format!(
                    "has the unknown option '{name}' (known: endpoint, overwrite, urls, expires, \
                     cache_control)"
                ));
            }
        }
        Ok(())
    }
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(expiry) if expiry.as_secs() > 0 => Ok(expiry),
        _ => Err(format!("has expires={text}, and it takes a time like 7d")),
    }
}

/// Who we are to the project. Has no `Debug`, for it is a secret.
pub(super) struct Credentials {
    /// Of the project: for its gateway.
    pub key: String,
    /// Of a user, where it is not the key that says what may be done.
    pub token: Option<String>,
}

impl Credentials {
    pub fn find(project: &str, environment: &Environment) -> Result<Self, RemoteError> {
        let names = ["SUPABASE_SERVICE_KEY", "SUPABASE_KEY"];
        match names.iter().find_map(|name| environment.get(name)) {
            Some(key) => Ok(Self {
                key,
                token: environment.get("SUPABASE_TOKEN"),
            }),
            None => Err(RemoteError::permanent(format!(
                "supabase://{project} needs a key: set SUPABASE_KEY to the project's service_role key \
                 or, with a user's token in SUPABASE_TOKEN, to its anon key"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, RemoteError> {
        Address::parse(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_where_and_how() {
        let found = address("supabase://abcd/rigs/a%20b/c/?urls=signed&expires=2h&overwrite=false")
            .unwrap();
        assert_eq!(
            (found.bucket.as_str(), found.prefix.as_str()),
            ("rigs", "a b/c")
        );
        assert_eq!(found.endpoint.as_str(), "https://abcd.supabase.co/");
        assert_eq!(found.urls, Urls::Signed(Duration::from_secs(7200)));
        assert!(!found.overwrite);
        let local = address("supabase://local/b?endpoint=http://127.0.0.1:54321/").unwrap();
        assert_eq!(local.endpoint.as_str(), "http://127.0.0.1:54321/");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, why) in [
            ("supabase:///b", "names no project"),
            ("supabase://a.b/b", "names no project"),
            ("supabase://abcd", "names no bucket"),
            ("supabase://abcd/b/%C3%BC", "does not take"),
            ("supabase://abcd/b?urls=private", "public, signed or none"),
            ("supabase://abcd/b?expires=2h", "urls=signed"),
            ("supabase://abcd/b?urls=signed&expires=soon", "7d"),
            ("supabase://abcd/b?upsert=true", "unknown option 'upsert'"),
        ] {
            let error = address(url).unwrap_err();
            assert!(error.message.contains(why), "{url}: {error}");
        }
    }
}
