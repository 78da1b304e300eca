//! What S3 services do differently. One row a service; `docs/remotes.md` says the same to people.

use url::Url;

/// What goes with each body for the service to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// `x-amz-checksum-crc32c`, of parts and of the whole.
    Crc32c,
    /// `Content-MD5`, for services that refuse or ignore the newer headers. Some ten times dearer
    /// to compute.
    Md5,
}

/// A service, or a server that one runs oneself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    Aws,
    Spaces,
    Supabase,
    R2,
    B2,
    SeaweedFs,
    Garage,
    Ceph,
    Other,
}

impl Provider {
    pub const ALL: [(&str, Self); 9] = [
        ("aws", Self::Aws),
        ("spaces", Self::Spaces),
        ("supabase", Self::Supabase),
        ("r2", Self::R2),
        ("b2", Self::B2),
        ("seaweedfs", Self::SeaweedFs),
        ("garage", Self::Garage),
        ("ceph", Self::Ceph),
        ("other", Self::Other),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(known, provider)| (known == name).then_some(provider))
    }

    /// The service that an endpoint's host name gives away.
    pub fn at(endpoint: Option<&str>) -> Self {
        let Some(endpoint) = endpoint else {
            return Self::Aws;
        };
        let url = Url::parse(endpoint);
        let host = url.as_ref().ok().and_then(Url::host_str).unwrap_or("");
        let hosted = [
            (".amazonaws.com", Self::Aws),
            (".amazonaws.com.cn", Self::Aws),
            (".digitaloceanspaces.com", Self::Spaces),
            (".supabase.co", Self::Supabase),
            (".r2.cloudflarestorage.com", Self::R2),
            (".backblazeb2.com", Self::B2),
        ];
        let mut hosted = hosted.into_iter();
        hosted
            .find_map(|(end, provider)| host.ends_with(end).then_some(provider))
            .unwrap_or(Self::Other)
    }

    /// The service's endpoint in a region, where the region is all there is to say.
    pub fn endpoint(self, region: &str) -> Option<String> {
        match self {
            Self::Spaces => Some(format!("https://{region}.digitaloceanspaces.com")),
            Self::B2 => Some(format!("https://s3.{region}.backblazeb2.com")),
            _ => None,
        }
    }

    /// The region to sign for if none is named; `None` where it matters and the AWS configuration
    /// is to be asked.
    pub fn region(self) -> Option<&'static str> {
        match self {
            Self::Aws => None,
            Self::R2 => Some("auto"),
            Self::Garage => Some("garage"),
            _ => Some("us-east-1"),
        }
    }

    /// Whether buckets have no host names of their own.
    pub fn path_style(self) -> bool {
        !matches!(self, Self::Aws | Self::Spaces | Self::B2)
    }

    /// Whether an object can have an ACL; where not, the bucket as a whole is public or private.
    pub fn has_acls(self) -> bool {
        !matches!(self, Self::Supabase | Self::R2 | Self::B2 | Self::Garage)
    }

    pub fn checksum(self) -> Checksum {
        match self {
            Self::Aws | Self::SeaweedFs | Self::Garage | Self::Other => Checksum::Crc32c,
            Self::Spaces | Self::Supabase | Self::R2 | Self::B2 | Self::Ceph => Checksum::Md5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_host_names() {
        for (endpoint, provider) in [
            (None, Provider::Aws),
            (Some("https://s3.eu-west-1.amazonaws.com"), Provider::Aws),
            (
                Some("https://nyc3.digitaloceanspaces.com"),
                Provider::Spaces,
            ),
            (
                Some("https://x.supabase.co/storage/v1/s3"),
                Provider::Supabase,
            ),
            (Some("https://1a2b.r2.cloudflarestorage.com"), Provider::R2),
            (Some("https://s3.us-west-002.backblazeb2.com"), Provider::B2),
            (Some("http://127.0.0.1:8333"), Provider::Other),
            (Some("https://backblazeb2.com.example.org"), Provider::Other),
        ] {
            assert_eq!(Provider::at(endpoint), provider, "{endpoint:?}");
        }
    }

    #[test]
    fn every_service_can_be_named() {
        for (name, provider) in Provider::ALL {
            assert_eq!(Provider::parse(name), Some(provider));
        }
        assert_eq!(Provider::parse("minio"), None);
    }
}
