//! `rails+https://host?api=archive`: where the application is, and how its API is spoken.

use std::time::Duration;

use reqwest::header::HeaderName;
use url::Url;

use super::template::{Fields, Member, Template};
use crate::remote::RemoteError;

/// Everything that the URL says.
pub(super) struct Address {
    /// The application's, with a slash at its end; without options.
    pub base: Url,
    pub login: Option<Login>,
    pub upload: Upload,
    pub record: Option<Record>,
}

/// Where a token is had for e-mail and password.
pub(super) struct Login {
    pub path: String,
    pub fields: Fields,
    pub token: Member,
    /// How long a token is good for, unless the answer says so.
    pub lifetime: Duration,
}

/// Where a blob is announced, which answers the URL that its bytes are put to.
pub(super) struct Upload {
    pub path: String,
    pub fields: Fields,
    pub signed_id: Member,
    pub url: Member,
    pub headers: Member,
}

/// Where a record is made of a blob.
pub(super) struct Record {
    pub path: String,
    pub fields: Fields,
    pub id: Member,
    pub url: Member,
    /// Where the record of a blob is asked for.
    pub lookup: Option<Template>,
    /// Header of a key that is the same for every attempt to create a record.
    pub once: Option<HeaderName>,
}

/// What is known of an API beforehand.
struct Preset {
    login: Option<&'static str>,
    upload: &'static str,
    record: Option<&'static str>,
}

/// Active Storage's own endpoint, which makes no records.
const STOCK: Preset = Preset {
    login: None,
    upload: "rails/active_storage/direct_uploads",
    record: None,
};

/// The music archive's.
const ARCHIVE: Preset = Preset {
    login: Some("api/v1/auth/login"),
    upload: "api/v1/songs/direct_upload",
    record: Some("api/v1/songs/create_from_blob"),
};

const LOGIN_FIELDS: [&str; 2] = ["email:{email}", "password:{password}"];
const UPLOAD_FIELDS: [&str; 4] = [
    "blob.filename:{filename}",
    "blob.content_type:{content_type}",
    "blob.byte_size:{byte_size}",
    "blob.checksum:{checksum}",
];
const RECORD_FIELDS: [&str; 8] = [
    "blob_signed_id:{signed_id}",
    "filename:{filename}",
    "metadata.title:{title}",
    "metadata.artist:{artist}",
    "metadata.album:{album}",
    "metadata.track:{track}",
    "metadata.year:{year}",
    "metadata.duration:{duration}",
];

/// Tokens of the archive are good for an hour.
const LIFETIME: Duration = Duration::from_secs(3600);
const ONCE: HeaderName = HeaderName::from_static("idempotency-key");

impl Address {
    pub fn parse(url: &Url) -> Result<Self, RemoteError> {
        Self::of(url).map_err(|why| RemoteError::permanent(format!("the remote's URL: {why}")))
    }

    fn of(url: &Url) -> Result<Self, String> {
        let mut options = Options::of(url);
        let preset = match options.take("api").as_deref() {
            None | Some("stock") => STOCK,
            Some("archive") => ARCHIVE,
            Some(other) => return Err(format!("api={other} is neither stock nor archive")),
        };
        let login = options
            .take("login")
            .or(preset.login.map(str::to_owned))
            .map(|path| {
                Ok::<_, String>(Login {
                    path,
                    fields: options.fields("login_field", &LOGIN_FIELDS)?,
                    token: options.member("bearer", "api_token,token"),
                    lifetime: options.lifetime()?,
                })
            });
        let upload = Upload {
            path: options
                .take("upload")
                .unwrap_or_else(|| preset.upload.to_owned()),
            fields: options.fields("upload_field", &UPLOAD_FIELDS)?,
            signed_id: options.member("signed_id", "signed_id,blob_signed_id"),
            url: options.member("upload_url", "direct_upload.url,url"),
            headers: options.member("upload_headers", "direct_upload.headers,headers"),
        };
        let record = options
            .take("record")
            .or(preset.record.map(str::to_owned))
            .map(|path| {
                Ok::<_, String>(Record {
                    path,
                    fields: options.fields("record_field", &RECORD_FIELDS)?,
                    id: options.member("record_id", "song.id,id"),
                    url: options.member("record_url", "song.url,url"),
                    lookup: options
                        .take("lookup")
                        .map(|path| Template::parse(&path))
                        .transpose()?,
                    once: options.once()?,
                })
            });
        let address = Self {
            base: base(url)?,
            login: login.transpose()?,
            upload,
            record: record.transpose()?,
        };
        options.finish()?;
        Ok(address)
    }

    /// `rails+https://host/`, for people.
    pub fn name(&self) -> String {
        format!("rails+{}", self.base)
            .trim_end_matches('/')
            .to_owned()
    }

    /// A path of the application, with its parameters.
    pub fn url(&self, path: &str) -> Result<Url, RemoteError> {
        let url = self.base.join(path.trim_start_matches('/'));
        url.map_err(|error| RemoteError::permanent(format!("'{path}' is no path: {error}")))
    }
}

fn base(url: &Url) -> Result<Url, String> {
    let text = url.as_str().trim_start_matches("rails+");
    let mut base = Url::parse(text).map_err(|error| error.to_string())?;
    base.set_query(None);
    base.set_fragment(None);
    let path = format!("{}/", base.path().trim_end_matches('/'));
    base.set_path(&path);
    Ok(base)
}

/// The parameters of the URL that nobody has looked at yet.
struct Options(Vec<(String, String)>);

impl Options {
    fn of(url: &Url) -> Self {
        Self(url.query_pairs().into_owned().collect())
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(other, _)| other == name);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    /// Those that are given, else the usual ones.
    fn fields(&mut self, name: &str, usual: &[&str]) -> Result<Fields, String> {
        let given = self.all(name);
        if given.is_empty() {
            return Ok(Fields::of(usual));
        }
        let mut fields = Fields::default();
        for field in given {
            fields
                .add(&field)
                .map_err(|why| format!("{name}= is wrong: {why}"))?;
        }
        Ok(fields)
    }

    fn member(&mut self, name: &str, usual: &str) -> Member {
        Member::of(self.take(name).as_deref().unwrap_or(usual))
    }

    fn lifetime(&mut self) -> Result<Duration, String> {
        let Some(text) = self.take("lifetime") else {
            return Ok(LIFETIME);
        };
        humantime::parse_duration(&text)
            .map_err(|error| format!("lifetime={text} is no time like 1h or 30m: {error}"))
    }

    fn once(&mut self) -> Result<Option<HeaderName>, String> {
        match self.take("once").as_deref() {
            None => Ok(Some(ONCE)),
            Some("no") => Ok(None),
            Some(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(Some(name)),
                Err(_) => Err(format!("once={name} is no name of a header, nor no")),
            },
        }
    }

    fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "'{name}' is no option here; docs/remotes.md has them (what concerns login or record \
                 needs login= or record=, or api=archive)"
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
    fn any_application_has_the_stock_endpoint() {
        let stock = address("rails+https://a.example/music/").unwrap();
        assert_eq!(stock.name(), "rails+https://a.example/music");
        let url = stock.url(&stock.upload.path).unwrap();
        assert_eq!(
            url.as_str(),
            "https://a.example/music/rails/active_storage/direct_uploads"
        );
        assert!(stock.login.is_none() && stock.record.is_none());
    }

    #[test]
    fn the_archive_has_its_own_and_other_applications_theirs() {
        let archive = address("rails+https://a.example?api=archive&lifetime=10m&once=no").unwrap();
        let login = archive.login.as_ref().unwrap();
        assert_eq!(login.lifetime, Duration::from_secs(600));
        assert!(archive.record.as_ref().unwrap().once.is_none());
        let other = address(
            "rails+http://127.0.0.1:3000?login=/sessions&bearer=data.jwt&record=/tracks\
             &record_field=track.audio:{signed_id}&record_field=track.name:{title}\
             &lookup=/tracks/find?blob={signed_id}",
        )
        .unwrap();
        assert_eq!(
            other
                .url(&other.login.as_ref().unwrap().path)
                .unwrap()
                .as_str(),
            "http://127.0.0.1:3000/sessions"
        );
        let record = other.record.unwrap();
        assert!(record.fields.need_tags() && record.lookup.is_some());
    }

    #[test]
    fn what_is_wrong_with_the_options_is_said() {
        for (options, why) in [
            ("api=other", "neither stock nor archive"),
            ("apí=stock", "no option here"),
            ("record_field=a:b", "needs login= or record="),
            ("api=archive&record_field=title", "not NAME:VALUE"),
            ("api=archive&record_field=a:{titel}", "none of album"),
            ("api=archive&lifetime=soon", "no time like 1h"),
            ("api=archive&once=a%20b", "no name of a header"),
        ] {
            let error = address(&format!("rails+https://a.example?{options}"));
            let error = error.err().unwrap();
            assert!(error.message.contains(why), "{options}: {error}");
        }
    }
}
