//! URLs of remotes and row sinks, as far as they can be judged without opening anything.
//!
//! No message repeats the URL: it may hold a secret that does not belong there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

/// Query parameters that look like this are secrets, whatever the service calls them.
const SECRET_NAMES: [&str; 6] = [
    "secret",
    "password",
    "token",
    "credential",
    "access_key",
    "accesskey",
];

/// Where objects go: `file:///path`, `s3://bucket/prefix` or the others of [`crate::remote::open_with`],
/// without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RemoteUrl(Url);

impl RemoteUrl {
    /// The remote in a local directory; `path` must be absolute.
    pub fn from_directory(path: &Path) -> Option<Self> {
        Url::from_file_path(path).ok().map(Self)
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The local directory that it is, if it is one.
    pub fn directory(&self) -> Option<PathBuf> {
        (self.0.scheme() == "file")
            .then(|| self.0.to_file_path().ok())
            .flatten()
    }
}

impl FromStr for RemoteUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| match text.starts_with(['/', '.', '~']) {
            true => "this is a path; for a directory write file:///absolute/path".to_owned(),
            false => {
                format!("this is not a URL ({error}); write file:///path or s3://bucket/prefix")
            }
        })?;
        refuse_credentials(&url)?;
        match url.scheme() {
            "file" => check_file(&url)?,
            "s3" => check_s3(&url)?,
            // What else there is to say of these their remotes say when they are opened.
            "cloudinary" | "supabase" => {}
            "rails+https" | "rails+http" => check_rails(&url)?,
            other => {
                return Err(format!(
                    "unknown remote scheme '{other}:'; write file:///path, s3://bucket/prefix, \
                     cloudinary://CLOUD/folder, supabase://PROJECT/BUCKET or rails+https://host"
                ));
            }
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for RemoteUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn refuse_credentials(url: &Url) -> Result<(), String> {
    let in_authority = !url.username().is_empty() || url.password().is_some();
    if in_authority || has_secret_parameter(url) {
        let instead = match url.scheme() {
            "cloudinary" => "CLOUDINARY_URL in the environment",
            "supabase" => "SUPABASE_KEY in the environment",
            _ => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile in ~/.aws",
        };
        return Err(format!(
            "the URL holds credentials, which other users could see; take them out and set {instead}"
        ));
    }
    Ok(())
}

fn has_secret_parameter(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| {
        let name = name.to_lowercase().replace('-', "_");
        SECRET_NAMES.iter().any(|secret| name.contains(secret))
    })
}

fn check_file(url: &Url) -> Result<(), String> {
    if url.host().is_some() {
        return Err("a file URL has three slashes: file:///absolute/path".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "a file URL has no '?' or '#'; write %3F or %23 where they belong to a name".to_owned(),
        );
    }
    match url.to_file_path() {
        Ok(path) if path != Path::new("/") => Ok(()),
        _ => Err("the file URL names no directory; write file:///absolute/path".to_owned()),
    }
}

fn check_s3(url: &Url) -> Result<(), String> {
    match url.host_str() {
        Some(bucket) if !bucket.is_empty() => Ok(()),
        _ => Err("the URL names no bucket; write s3://bucket/prefix".to_owned()),
    }
}

fn check_rails(url: &Url) -> Result<(), String> {
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err("the URL names no host; write rails+https://host".to_owned()),
    }
}

/// Row sinks that are files, and those that are services.
const ROW_FILES: [&str; 3] = ["sqlite", "csv", "jsonl"];
const ROW_SERVICES: [&str; 4] = [
    "postgres",
    "postgresql",
    "postgrest+https",
    "postgrest+http",
];

/// Where rows go: `sqlite:/path/rows.db`, `postgres://user@host/database` and the others of
/// [`crate::rows::open`], without passwords.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RowsUrl(Url);

impl RowsUrl {
    /// Rows in an SQLite database; `path` must be absolute.
    pub fn from_database(path: &Path) -> Option<Self> {
        let file = Url::from_file_path(path).ok()?;
        format!("sqlite:{}", file.path()).parse().ok()
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The file that rows are written to, if it is a file.
    pub fn file(&self) -> Option<PathBuf> {
        let path: Vec<u8> = percent_decode_str(self.0.path()).collect();
        ROW_FILES
            .contains(&self.0.scheme())
            .then(|| PathBuf::from(OsString::from_vec(path)))
    }
}

impl FromStr for RowsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("this is not a URL ({error}); write sqlite:/path/rows.db"))?;
        let scheme = url.scheme();
        if ROW_SERVICES.contains(&scheme) {
            return match url.password().is_some() || has_secret_parameter(&url) {
                true => Err(
                    "the URL holds a secret, which other users could see; take it out and set \
                             PGPASSWORD, or SUPABASE_KEY for PostgREST"
                        .to_owned(),
                ),
                false => Ok(Self(url)),
            };
        }
        if !ROW_FILES.contains(&scheme) {
            return Err(format!(
                "unknown row sink '{scheme}:'; write sqlite:/path/rows.db, postgres://user@host/database, \
                 postgrest+https://host/rest/v1/table, csv:/path/rows.csv or jsonl:/path/rows.jsonl"
            ));
        }
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        if url.cannot_be_a_base() || has_host || url.path().ends_with('/') {
            return Err(format!(
                "the row sink needs a file's absolute path: {scheme}:/path/rows"
            ));
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for RowsUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_remotes_are_taken() {
        for url in [
            "file:///srv/pictures",
            "file:///srv/with%20space",
            "s3://bucket",
            "s3://bucket/pre/fix?endpoint=http://127.0.0.1:8333&region=eu-1",
        ] {
            let parsed: RemoteUrl = url.parse().unwrap();
            assert_eq!(parsed.as_url().as_str(), url);
        }
    }

    #[test]
    fn bad_remotes_say_what_to_write() {
        for (url, hint) in [
            ("/srv/pictures", "file:///absolute/path"),
            ("./pictures", "file:///absolute/path"),
            ("pictures", "file:///path or s3://bucket/prefix"),
            ("", "file:///path or s3://bucket/prefix"),
            ("ftp://host/x", "unknown remote scheme 'ftp:'"),
            ("file://srv/pictures", "three slashes"),
            ("file:///", "names no directory"),
            ("file:///a?b", "%3F"),
            ("s3:///prefix", "names no bucket"),
            ("s3:bucket", "names no bucket"),
            ("s3://AKIA:hush@bucket/", "credentials"),
            ("s3://bucket/?secret_access_key=hush", "credentials"),
            ("s3://bucket/?Session-Token=hush", "credentials"),
            ("cloudinary://12:hush@demo", "CLOUDINARY_URL"),
        ] {
            let error = url.parse::<RemoteUrl>().unwrap_err();
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hush") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn rows_need_a_known_sink_and_an_absolute_path() {
        for url in ["sqlite:/srv/rows.db", "sqlite:///srv/rows.db"] {
            let rows: RowsUrl = url.parse().unwrap();
            assert_eq!(rows.file().unwrap(), Path::new("/srv/rows.db"));
        }
        let odd = Path::new("/srv/50% of #1?/rows.db");
        let rows = RowsUrl::from_database(odd).unwrap();
        assert_eq!(rows.file().unwrap(), odd);
        for (url, hint) in [
            ("/srv/rows.db", "not a URL"),
            ("sqlite:rows.db", "absolute"),
            ("sqlite:", "absolute"),
            ("sqlite://host/rows.db", "absolute"),
            ("mysql://user:hush@host/db", "unknown row sink 'mysql:'"),
            ("postgres://user:hush@host/db", "PGPASSWORD"),
            ("postgres://user@host/db?password=hush", "PGPASSWORD"),
        ] {
            let error = url.parse::<RowsUrl>().unwrap_err();
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
