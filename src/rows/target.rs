//! The URL of a sink, taken apart. Query parameters that nobody took are an error, so that a
//! misspelt one is not silently without effect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use url::Url;
use url::form_urlencoded;

use super::RowError;
use super::layout::Per;

/// The parameters after the `?` of a sink's URL.
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    pub fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self {
            parameters: pairs.into_owned().collect(),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self
            .parameters
            .iter()
            .position(|(there, _)| there == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// `per=folder` (the default), `per=picture` or `per=file`.
    pub fn per(&mut self) -> Result<Per, String> {
        match self.take("per").as_deref() {
            None | Some("folder") => Ok(Per::Folder),
            Some("picture") => Ok(Per::Picture),
            Some("file") => Ok(Per::File),
            Some(other) => Err(format!("per={other} is neither folder, picture nor file")),
        }
    }

    /// `table=NAME`.
    pub fn table(&mut self, per: Per) -> Result<String, String> {
        match self.take("table") {
            Some(table) if table.is_empty() || table.contains('\0') => {
                Err("the table has no name".into())
            }
            Some(table) => Ok(table),
            None => Ok(per.default_table().to_owned()),
        }
    }

    /// All must have been taken.
    pub fn finish(self) -> Result<(), String> {
        match self.parameters.first() {
            Some((name, _)) => Err(format!("'{name}' means nothing here")),
            None => Ok(()),
        }
    }
}

/// The file and the parameters of `scheme:/path?query`.
pub fn file(url: &str) -> Result<(PathBuf, Query), String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    if parsed.cannot_be_a_base() || parsed.host_str().is_some_and(|host| !host.is_empty()) {
        return Err("the path must be absolute".into());
    }
    if parsed.fragment().is_some() {
        return Err("a # in the path is written %23".into());
    }
    let path: Vec<u8> = percent_encoding::percent_decode_str(parsed.path()).collect();
    if path.ends_with(b"/") || path.contains(&0) {
        return Err("the path must name a file".into());
    }
    let path = PathBuf::from(OsStr::from_bytes(&path));
    Ok((path, Query::parse(parsed.query().unwrap_or(""))))
}

/// The error for a URL that cannot be used. Shows neither a password nor the parameters, of which
/// one may be a password.
pub fn wrong(url: &str, why: &str, example: &str) -> RowError {
    RowError::permanent(format!(
        "cannot use '{}' as a row sink: {why}; write it like {example}",
        without_secrets(url)
    ))
}

fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or(url);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) => {
            let user = rest.split([':', '@']).next().unwrap_or("");
            format!("{scheme}://{user}@{host}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_password() {
        for url in [
            "postgres://rig:hunter2@db:5432/lab",
            "postgres://rig:hun/ter2@db/lab?x=1",
            "postgres://rig@db/lab?password=hunter2",
            "postgrest+https://rig:hunter2:ter2@db/rest/v1/device_test",
        ] {
            let error = wrong(url, "of a reason", "an example").message;
            assert!(!error.contains("ter2"), "{error}");
            assert!(error.contains("://rig@db"), "{error}");
        }
    }

    #[test]
    fn a_file_is_named_by_an_absolute_path() {
        let (path, mut query) = file("csv:///srv/a%20b/ü.csv?per=picture").unwrap();
        assert_eq!(path, PathBuf::from("/srv/a b/ü.csv"));
        assert_eq!(query.per(), Ok(Per::Picture));
        assert_eq!(
            file("csv:/srv/x.csv").unwrap().0,
            PathBuf::from("/srv/x.csv")
        );
        for bad in [
            "csv:x.csv",
            "csv://srv/x.csv",
            "csv:///srv/",
            "csv:///x#1.csv",
        ] {
            assert!(file(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_that_nobody_knows_is_an_error() {
        let mut query = Query::parse("table=a&tabel=secret");
        assert_eq!(query.table(Per::Folder), Ok("a".into()));
        assert_eq!(query.finish().unwrap_err(), "'tabel' means nothing here");
        assert!(Query::parse("per=day").per().is_err());
    }
}
