//! What a `cloudinary://` URL says, and where the secrets come from.

use url::Url;

use super::signature::Algorithm;
use crate::remote::{Environment, RemoteError};

const EXAMPLE: &str = "write cloudinary://CLOUD/folder";
const API: &str = "https://api.cloudinary.com";
/// What the thumbnail's URL asks for, unless the remote's URL says otherwise.
const THUMBNAIL: &str = "c_fill,w_200,h_300,q_85";

/// Where a file's folder goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folders {
    /// It is part of the public id and nothing else is said: fixed folder mode.
    Fixed,
    /// It is told beside the public id: dynamic folder mode.
    Dynamic,
}

/// A cloud, and how things are stored there. Holds no secret.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub cloud: String,
    /// What public ids begin with; no slashes around it.
    pub folder: String,
    /// The API's, without a slash at its end.
    pub endpoint: Url,
    /// `upload`, `private` or `authenticated`.
    pub access: String,
    pub overwrite: bool,
    pub invalidate: bool,
    pub folders: Folders,
    pub tags: Vec<String>,
    pub context: Vec<(String, String)>,
    pub preset: String,
    /// Transformation of the thumbnail; empty for none.
    pub thumbnail: String,
    /// Whether it is made at once.
    pub eager: bool,
    pub algorithm: Algorithm,
}

impl Address {
    pub fn parse(url: &Url) -> Result<Self, RemoteError> {
        let wrong =
            |why: &str| RemoteError::permanent(format!("the Cloudinary URL {why}; {EXAMPLE}"));
        let cloud = url.host_str().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if cloud.is_empty() || !cloud.chars().all(is_name) || url.port().is_some() {
            return Err(wrong("names no cloud"));
        }
        let folder = percent_encoding::percent_decode_str(url.path().trim_matches('/'));
        let folder = folder
            .decode_utf8()
            .map_err(|_| wrong("has a folder that is not UTF-8"))?;
        if folder.contains(['?', '&', '#', '\\', '%', '<', '>', '+']) {
            return Err(wrong(
                "has a folder with one of ?&#\\%<>+, which Cloudinary forbids",
            ));
        }
        let mut address = Self {
            cloud: cloud.to_owned(),
            folder: folder.into_owned(),
            endpoint: Url::parse(API).expect("it is one"),
            access: "upload".to_owned(),
            overwrite: true,
            invalidate: true,
            folders: Folders::Fixed,
            tags: Vec::new(),
            context: Vec::new(),
            preset: String::new(),
            thumbnail: THUMBNAIL.to_owned(),
            eager: false,
            algorithm: Algorithm::Sha1,
        };
        for (name, value) in url.query_pairs() {
            address.set(&name, &value).map_err(|why| wrong(&why))?;
        }
        Ok(address)
    }

    /// The error completes "the Cloudinary URL …".
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let has = |expected: &str| format!("has {name}={value}, and it takes {expected}");
        let yes_or_no = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(has("true or false")),
        };
        let known = |values: &[&str]| match values.contains(&value) {
            true => Ok(value.to_owned()),
            false => Err(has(&values.join(", "))),
        };
        let word = |expected: &str| match value.is_empty() || value.contains(['&', '%']) {
            true => Err(has(expected)),
            false => Ok(value.to_owned()),
        };
        match name {
            "endpoint" => {
                let endpoint = value.trim_end_matches('/').parse();
                self.endpoint = endpoint.map_err(|_| has("the API's https://host"))?;
            }
            "type" => self.access = known(&["upload", "private", "authenticated"])?,
            "overwrite" => self.overwrite = yes_or_no()?,
            "invalidate" => self.invalidate = yes_or_no()?,
            "eager" => self.eager = yes_or_no()?,
            "folder_mode" => {
                self.folders = match known(&["fixed", "dynamic"])?.as_str() {
                    "dynamic" => Folders::Dynamic,
                    _ => Folders::Fixed,
                };
            }
            "signature" => {
                self.algorithm = match known(&["sha1", "sha256"])?.as_str() {
                    "sha256" => Algorithm::Sha256,
                    _ => Algorithm::Sha1,
                };
            }
            "thumbnail" if value == "none" => self.thumbnail = String::new(),
            "thumbnail" => self.thumbnail = word("a transformation, or none")?,
            "preset" => self.preset = word("the name of an upload preset")?,
            "tag" if value.contains(',') => return Err(has("one tag; repeat it for more")),
            "tag" => self.tags.push(word("a tag")?),
            "context" => match value.split_once(':') {
                Some((name, value)) if !name.is_empty() && !name.contains(['=', '|']) => {
                    self.context.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(has("NAME:VALUE")),
            },
            _ => {
                return Err(format!(
                    "has the unknown option '{name}' (known: endpoint, type, overwrite, invalidate, \
                     folder_mode, tag, context, preset, thumbnail, eager, signature)"
                ));
            }
        }
        Ok(())
    }
}

/// Who we are to the cloud. Has no `Debug`, for it is a secret.
pub(super) struct Credentials {
    pub key: String,
    pub secret: String,
}

impl Credentials {
    /// Of `CLOUDINARY_URL` (`cloudinary://KEY:SECRET@CLOUD`), else of `CLOUDINARY_API_KEY` and
    /// `CLOUDINARY_API_SECRET`.
    pub fn find(cloud: &str, environment: &Environment) -> Result<Self, RemoteError> {
        if let Some(text) = environment.get("CLOUDINARY_URL") {
            return Self::of_url(&text, cloud).map_err(RemoteError::permanent);
        }
        let pair = environment
            .get("CLOUDINARY_API_KEY")
            .zip(environment.get("CLOUDINARY_API_SECRET"));
        match pair {
            Some((key, secret)) => Ok(Self { key, secret }),
            None => Err(RemoteError::permanent(format!(
                "cloudinary://{cloud} needs credentials: set CLOUDINARY_URL to \
                 cloudinary://KEY:SECRET@{cloud}, or CLOUDINARY_API_KEY and CLOUDINARY_API_SECRET"
            ))),
        }
    }

    /// The error never repeats the URL, which is a secret.
    fn of_url(text: &str, cloud: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "CLOUDINARY_URL is not of the form cloudinary://KEY:SECRET@{cloud}; take it from the console"
            )
        };
        let url = Url::parse(text.trim()).map_err(|_| malformed())?;
        let decode = |text: &str| {
            let decoded = percent_encoding::percent_decode_str(text);
            decoded.decode_utf8_lossy().into_owned()
        };
        let key = decode(url.username());
        let secret = decode(url.password().unwrap_or_default());
        if url.scheme() != "cloudinary" || key.is_empty() || secret.is_empty() {
            return Err(malformed());
        }
        match url.host_str() {
            Some(host) if host == cloud => Ok(Self { key, secret }),
            _ => Err(format!(
                "CLOUDINARY_URL is of another cloud than the remote cloudinary://{cloud}; set the one \
                 that belongs to it"
            )),
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
        let url = "cloudinary://demo/rigs/a%20b/?type=private&overwrite=false&tag=x&tag=y&context=k:v:w\
                   &folder_mode=dynamic&signature=sha256&thumbnail=none&endpoint=https://api-eu.cloudinary.com/";
        let address = address(url).unwrap();
        assert_eq!(
            (address.cloud.as_str(), address.folder.as_str()),
            ("demo", "rigs/a b")
        );
        assert_eq!(address.endpoint.as_str(), "https://api-eu.cloudinary.com/");
        assert_eq!(address.tags, ["x", "y"]);
        assert_eq!(address.context, [("k".to_owned(), "v:w".to_owned())]);
        assert!(!address.overwrite && address.thumbnail.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, why) in [
            ("cloudinary:///x", "names no cloud"),
            ("cloudinary://de.mo", "names no cloud"),
            ("cloudinary://demo/a%26b", "forbids"),
            ("cloudinary://demo?overwrite=maybe", "true or false"),
            (
                "cloudinary://demo?type=public",
                "upload, private, authenticated",
            ),
            ("cloudinary://demo?tag=a,b", "repeat it"),
            ("cloudinary://demo?context=a", "NAME:VALUE"),
            ("cloudinary://demo?folder=x", "unknown option 'folder'"),
        ] {
            let error = address(url).unwrap_err();
            assert!(error.message.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_come_from_the_environment_and_are_not_repeated() {
        let none = Environment::process().with("CLOUDINARY_URL", "");
        let find = |environment: Environment| Credentials::find("demo", &environment);
        let url = |url: &str| find(none.clone().with("CLOUDINARY_URL", url));
        let found = url("cloudinary://12:h%2Fush@demo").ok().unwrap();
        assert_eq!((found.key.as_str(), found.secret.as_str()), ("12", "h/ush"));
        for wrong in [
            "cloudinary://12:hush@other",
            "https://12:hush@demo",
            "12:hush@demo",
            "cloudinary://hush@demo",
        ] {
            let error = url(wrong).err().unwrap();
            assert!(
                error.message.contains("CLOUDINARY_URL") && !error.message.contains("hush"),
                "{error}"
            );
        }
        let pair = none.clone().with("CLOUDINARY_API_KEY", "12");
        assert!(find(pair.clone()).is_err());
        assert!(find(pair.with("CLOUDINARY_API_SECRET", "hush")).is_ok());
    }
}
