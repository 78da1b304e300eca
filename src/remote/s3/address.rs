//! What an `s3://` URL says: bucket, prefix, and how to reach the service.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{ObjectCannedAcl, ServerSideEncryption, StorageClass};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::provider::Provider;
use crate::remote::{Environment, Key, RemoteError};

/// The options that an `s3://` URL may have; [`Address::set`] says what each takes.
const KNOWN: [&str; 12] = [
    "endpoint",
    "region",
    "provider",
    "path_style",
    "profile",
    "acl",
    "storage_class",
    "sse",
    "kms_key",
    "cache_control",
    "tag",
    "metadata",
];

/// Where the AWS tools look for an endpoint that nobody names, in this order.
const AWS_ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// All but RFC 3986's unreserved characters and the slash between components.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Where objects go, as `s3://bucket/prefix?endpoint=…&region=…` says it. Holds no secret: those
/// come from the environment and the AWS configuration only.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Address {
    pub bucket: String,
    /// Without slashes at its ends; empty if objects start at the bucket's root.
    pub prefix: String,
    pub provider: Provider,
    /// Base URL of the service without a slash at its end; `None` for AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `http://host/bucket/key` rather than `http://bucket.host/key`.
    pub path_style: Option<bool>,
    /// Section of `~/.aws/config` and `~/.aws/credentials`.
    pub profile: Option<String>,
    pub object: ObjectOptions,
}

/// What each object is to be stored with.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ObjectOptions {
    pub acl: Option<ObjectCannedAcl>,
    pub storage_class: Option<StorageClass>,
    pub sse: Option<ServerSideEncryption>,
    /// Id or ARN of the key for `sse=aws:kms`; the bucket's own if there is none.
    pub kms_key: Option<String>,
    pub cache_control: Option<String>,
    /// As S3's header has them: a query string.
    pub tags: Option<String>,
    /// Further metadata, by name.
    pub metadata: BTreeMap<String, String>,
}

impl Address {
    /// Reads the URL; then what it leaves open in the variables of the AWS tools, and in the
    /// `SPACES_…` ones where it means DigitalOcean Spaces.
    pub fn parse(url: &Url, environment: &Environment) -> Result<Self, RemoteError> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(credentials_in_url());
        }
        if url.port().is_some() {
            return Err(misformed());
        }
        let mut address = Self {
            bucket: decode(url.host_str().unwrap_or_default())?,
            prefix: prefix(&decode(url.path())?)?,
            provider: Provider::Aws,
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            object: ObjectOptions::default(),
        };
        let mut provider = None;
        for (name, value) in url.query_pairs() {
            match &*name {
                "provider" => provider = Some(provider_named(&value)?),
                _ => address.set(&name, &value)?,
            }
        }
        if address.endpoint.is_none()
            && provider.is_none()
            && let Some(value) = AWS_ENDPOINT.iter().find_map(|name| environment.get(name))
        {
            address.endpoint = Some(endpoint(&value)?);
        }
        address.provider = provider.unwrap_or(Provider::at(address.endpoint.as_deref()));
        if address.provider == Provider::Spaces {
            address.add_spaces(environment)?;
        }
        address.complete()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), RemoteError> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "region" => self.region = Some(value.to_owned()),
            "path_style" => self.path_style = Some(boolean(name, value)?),
            "profile" => self.profile = Some(value.to_owned()),
            "acl" => self.object.acl = Some(acl(value)?),
            // Services have classes of their own; they say if they do not know one.
            "storage_class" => self.object.storage_class = Some(value.into()),
            "sse" => self.object.sse = Some(sse(value)?),
            "kms_key" => self.object.kms_key = Some(value.to_owned()),
            "cache_control" => self.object.cache_control = Some(value.to_owned()),
            "tag" => add_tag(&mut self.object.tags, value)?,
            "metadata" => self.object.metadata.extend([metadata(value)?]),
            _ if looks_secret(name) => return Err(credentials_in_url()),
            _ => {
                return Err(RemoteError::permanent(format!(
                    "an s3: URL has no option '{name}' (known: {})",
                    KNOWN.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// What the URL leaves open may stand in the variables that scripts for Spaces use.
    fn add_spaces(&mut self, environment: &Environment) -> Result<(), RemoteError> {
        if self.bucket.is_empty() {
            self.bucket = environment.get("SPACES_BUCKET").unwrap_or_default();
        }
        if self.region.is_none() {
            self.region = environment.get("SPACES_REGION");
        }
        if self.endpoint.is_none()
            && let Some(value) = environment.get("SPACES_ENDPOINT")
        {
            self.endpoint = Some(endpoint(&value)?);
        }
        if self.object.acl.is_none()
            && let Some(value) = environment.get("SPACES_ACL")
        {
            self.object.acl = Some(acl(&value)?);
        }
        Ok(())
    }

    /// Fills in what the provider implies, and refuses what does not go together.
    fn complete(mut self) -> Result<Self, RemoteError> {
        if self.bucket.is_empty() {
            return Err(misformed());
        }
        let provider = self.provider;
        if self.endpoint.is_none() && provider != Provider::Aws {
            let region = self.region.as_deref();
            self.endpoint = region.and_then(|region| provider.endpoint(region));
            if self.endpoint.is_none() {
                return Err(RemoteError::permanent(
                    "this provider needs endpoint=https://… in the s3: URL (for spaces and b2, \
                     region=NAME will do)",
                ));
            }
        }
        if self.object.acl.is_some() && !provider.has_acls() {
            return Err(RemoteError::permanent(
                "this provider has no ACLs for objects: leave acl= out of the s3: URL, and make \
                 the bucket public or private there",
            ));
        }
        if self.object.kms_key.is_some() && self.object.sse.is_none() {
            self.object.sse = Some(ServerSideEncryption::AwsKms);
        }
        Ok(self)
    }

    /// Whether the bucket stands in the path; if not, in the host name.
    pub fn path_style(&self) -> bool {
        self.path_style.unwrap_or(self.provider.path_style())
    }

    /// The whole name of an object in the bucket.
    pub fn object_name(&self, key: &str) -> String {
        match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// For sentences: the service that is spoken to.
    pub fn service(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("AWS S3")
    }

    /// Where a reader finds the object, if the bucket lets them.
    pub fn public_url(&self, key: &Key, region: Option<&str>) -> String {
        let object = self.object_name(key.as_str());
        let object = utf8_percent_encode(&object, IN_PATH);
        let bucket = &self.bucket;
        match &self.endpoint {
            Some(endpoint) if self.path_style() => format!("{endpoint}/{bucket}/{object}"),
            Some(endpoint) => match endpoint.split_once("://") {
                Some((scheme, host)) => format!("{scheme}://{bucket}.{host}/{object}"),
                None => format!("{endpoint}/{bucket}/{object}"),
            },
            None => {
                let host = aws_host(region);
                // A certificate for *.s3.… does not cover names with dots.
                if self.path_style() || bucket.contains('.') {
                    format!("https://{host}/{bucket}/{object}")
                } else {
                    format!("https://{bucket}.{host}/{object}")
                }
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

fn aws_host(region: Option<&str>) -> String {
    match region {
        None => "s3.amazonaws.com".to_owned(),
        Some(region) if region.starts_with("cn-") => format!("s3.{region}.amazonaws.com.cn"),
        Some(region) => format!("s3.{region}.amazonaws.com"),
    }
}

fn decode(text: &str) -> Result<String, RemoteError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(RemoteError::permanent(
            "the bucket and prefix of an s3: URL must be UTF-8 when percent-decoded",
        )),
    }
}

fn prefix(path: &str) -> Result<String, RemoteError> {
    let prefix = path.trim_matches('/');
    let odd = |component: &str| matches!(component, "" | "." | "..");
    if !prefix.is_empty() && prefix.split('/').any(odd) {
        return Err(RemoteError::permanent(format!(
            "the prefix '{prefix}' of the s3: URL has an empty, '.' or '..' component; S3 takes \
             those literally, so write the prefix without them"
        )));
    }
    Ok(prefix.to_owned())
}

fn endpoint(value: &str) -> Result<String, RemoteError> {
    let wrong = |why: &str| {
        RemoteError::permanent(format!(
            "the endpoint of an s3: URL must be like https://host or http://host:port: {why}"
        ))
    };
    let url = Url::parse(value).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(credentials_in_url());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must start with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must have no query and no fragment"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn boolean(name: &str, value: &str) -> Result<bool, RemoteError> {
    value.parse().map_err(|_| {
        RemoteError::permanent(format!(
            "the option {name} of an s3: URL is true or false, not '{value}'"
        ))
    })
}

fn acl(value: &str) -> Result<ObjectCannedAcl, RemoteError> {
    ObjectCannedAcl::try_parse(value).map_err(|_| {
        RemoteError::permanent(format!(
            "the option acl of an s3: URL is one of {}, not '{value}'",
            ObjectCannedAcl::values().join(", ")
        ))
    })
}

fn provider_named(name: &str) -> Result<Provider, RemoteError> {
    Provider::parse(name).ok_or_else(|| {
        RemoteError::permanent(format!(
            "the option provider of an s3: URL is one of {}, not '{name}'",
            Provider::ALL.map(|(name, _)| name).join(", ")
        ))
    })
}

fn sse(value: &str) -> Result<ServerSideEncryption, RemoteError> {
    ServerSideEncryption::try_parse(value).map_err(|_| {
        RemoteError::permanent(format!(
            "the option sse of an s3: URL is one of {}, not '{value}'",
            ServerSideEncryption::values().join(", ")
        ))
    })
}

fn add_tag(tags: &mut Option<String>, value: &str) -> Result<(), RemoteError> {
    let Some((name, value)) = value.split_once(':') else {
        return Err(RemoteError::permanent(
            "a tag of an s3: URL is tag=NAME:VALUE, once for each",
        ));
    };
    let mut all = url::form_urlencoded::Serializer::new(tags.take().unwrap_or_default());
    *tags = Some(all.append_pair(name, value).finish());
    Ok(())
}

fn metadata(value: &str) -> Result<(String, String), RemoteError> {
    let is_plain = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    match value.split_once(':') {
        Some((name, value))
            if is_plain(name) && value.bytes().all(|b| matches!(b, b' '..=b'~')) =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(RemoteError::permanent(
            "metadata of an s3: URL is metadata=NAME:VALUE, once for each; a name has a-z, 0-9 and -, \
             a value printable ASCII",
        )),
    }
}

/// Names that people try for credentials. What follows them must not be repeated anywhere.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "password", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

fn misformed() -> RemoteError {
    RemoteError::permanent(
        "an s3: URL is s3://bucket/prefix; a service other than AWS goes into its query, as in \
         s3://bucket/prefix?endpoint=https://host:port",
    )
}

fn credentials_in_url() -> RemoteError {
    RemoteError::permanent(
        "credentials do not belong into an s3: URL, where process lists and logs show them; set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile of ~/.aws/credentials \
         (profile=NAME)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::remote::Artifact;

    fn parse(url: &str) -> Result<Address, RemoteError> {
        Address::parse(&Url::parse(url).unwrap(), &Environment::process())
    }

    fn key(path: &str) -> Key {
        Key::new(
            Artifact::Original,
            &RelPath::parse(path.as_bytes()).unwrap(),
        )
    }

    #[test]
    fn a_url_says_bucket_prefix_and_service() {
        let address =
            parse("s3://My_bucket/a%20b/c/?endpoint=http://127.0.0.1:8333/&region=eu").unwrap();
        assert_eq!(address.bucket, "My_bucket");
        assert_eq!(address.prefix, "a b/c");
        assert_eq!(address.endpoint.as_deref(), Some("http://127.0.0.1:8333"));
        assert_eq!(address.region.as_deref(), Some("eu"));
        assert!(address.path_style());
        assert_eq!(address.to_string(), "s3://My_bucket/a b/c");
        assert_eq!(address.object_name("original/x"), "a b/c/original/x");
    }

    #[test]
    fn aws_is_addressed_by_host_and_the_root_of_a_bucket_is_a_prefix() {
        for url in ["s3://bucket", "s3://bucket/"] {
            let address = parse(url).unwrap();
            assert!(!address.path_style());
            assert_eq!(address.object_name("original/x"), "original/x");
        }
    }

    #[test]
    fn a_provider_says_what_it_needs() {
        let spaces = parse("s3://b?provider=spaces&region=nyc3&acl=public-read").unwrap();
        let endpoint = spaces.endpoint.as_deref();
        assert_eq!(endpoint, Some("https://nyc3.digitaloceanspaces.com"));
        assert!(!spaces.path_style());
        let r2 = parse("s3://b?endpoint=https://1a.r2.cloudflarestorage.com").unwrap();
        assert!(r2.provider == Provider::R2 && r2.path_style());
    }

    #[test]
    fn the_names_of_scripts_for_spaces_are_read_for_spaces_only() {
        let environment = Environment::process()
            .with("SPACES_BUCKET", "photos")
            .with("SPACES_REGION", "fra1")
            .with("SPACES_ACL", "public-read");
        let parse = |url| Address::parse(&Url::parse(url).unwrap(), &environment);
        let address = parse("s3:///2024?provider=spaces").unwrap();
        assert_eq!(address.to_string(), "s3://photos/2024");
        assert_eq!(address.object.acl, Some(ObjectCannedAcl::PublicRead));
        let endpoint = address.endpoint.as_deref();
        assert_eq!(endpoint, Some("https://fra1.digitaloceanspaces.com"));
        assert_eq!(parse("s3://own?provider=spaces").unwrap().bucket, "own");
        assert_eq!(parse("s3://own").unwrap().object.acl, None);
        assert!(parse("s3:///2024").is_err());
    }

    #[test]
    fn an_endpoint_in_the_environment_counts_where_the_url_names_none() {
        let environment = Environment::process().with("AWS_ENDPOINT_URL", "http://127.0.0.1:1/");
        let parse = |url| Address::parse(&Url::parse(url).unwrap(), &environment).unwrap();
        let address = parse("s3://b");
        assert_eq!(address.endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert!(address.provider == Provider::Other && address.path_style());
        let address = parse("s3://b?endpoint=http://127.0.0.1:2");
        assert_eq!(address.endpoint.as_deref(), Some("http://127.0.0.1:2"));
    }

    #[test]
    fn objects_can_be_tagged_and_encrypted() {
        let address = parse("s3://b?tag=who:a%26b&tag=year:2024&kms_key=k").unwrap();
        let tags = address.object.tags.as_deref();
        assert_eq!(tags, Some("who=a%26b&year=2024"));
        assert_eq!(address.object.sse, Some(ServerSideEncryption::AwsKms));
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for url in [
            "s3://AKIAX:hunter2@bucket/p",
            "s3://bucket?access_key=AKIAX",
            "s3://bucket?secret_access_key=hunter2",
            "s3://bucket?AWS_SESSION_TOKEN=hunter2",
            "s3://bucket?endpoint=https://AKIAX:hunter2@host",
        ] {
            let message = parse(url).unwrap_err().message;
            assert!(message.contains("AWS_ACCESS_KEY_ID"), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("AKIAX"));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, said) in [
            ("s3:///prefix", "s3://bucket/prefix"),
            ("s3://host:8333/bucket", "endpoint="),
            ("s3://b?endpont=http://x", "known: endpoint, region"),
            ("s3://b?endpoint=127.0.0.1:8333", "http://"),
            ("s3://b?endpoint=host", "http://host:port"),
            ("s3://b?path_style=yes", "true or false"),
            ("s3://b?acl=public", "public-read"),
            ("s3://b?sse=yes", "AES256"),
            ("s3://b?tag=x", "NAME:VALUE"),
            ("s3://b?provider=minio", "one of aws, spaces"),
            ("s3://b?provider=r2", "endpoint="),
            (
                "s3://b?provider=r2&endpoint=https://x&acl=private",
                "no ACLs",
            ),
            ("s3://b/a//c", "empty"),
        ] {
            let message = parse(url).unwrap_err().message;
            assert!(message.contains(said), "{url}: {message}");
        }
    }

    #[test]
    fn objects_have_a_url_that_a_browser_can_open() {
        let at = |url: &str, region| {
            parse(url)
                .unwrap()
                .public_url(&key("ä b/100%+?#.jpg"), region)
        };
        let path = "original/%C3%A4%20b/100%25%2B%3F%23.jpg";
        assert_eq!(
            at("s3://b/p?endpoint=http://h:1", None),
            format!("http://h:1/b/p/{path}")
        );
        assert_eq!(
            at("s3://b?endpoint=https://h&path_style=false", None),
            format!("https://b.h/{path}")
        );
        assert_eq!(
            at("s3://b", Some("eu-west-1")),
            format!("https://b.s3.eu-west-1.amazonaws.com/{path}")
        );
        assert_eq!(
            at("s3://b.c", Some("cn-north-1")),
            format!("https://s3.cn-north-1.amazonaws.com.cn/b.c/{path}")
        );
    }
}
