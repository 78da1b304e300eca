//! Checksums that go with requests, and that the service verifies.

use crc_fast::CrcAlgorithm;

use super::provider::Checksum;

/// CRC32C, which processors compute, and which those of pieces make that of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crc32c(u64);

impl Crc32c {
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
    }

    /// The checksum of these bytes and `len` more, whose own is `next`.
    pub fn then(self, next: Self, len: u64) -> Self {
        let algorithm = CrcAlgorithm::Crc32Iscsi;
        Self(crc_fast::checksum_combine(algorithm, self.0, next.0, len))
    }

    /// As S3's headers have it: big-endian, in base64.
    pub fn header(self) -> String {
        aws_smithy_types::base64::encode((self.0 as u32).to_be_bytes())
    }
}

/// A checksum in the form that the service verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    Crc32c(Crc32c),
    /// Base64, as in `Content-MD5`.
    Md5(String),
}

impl Sum {
    pub fn of(checksum: Checksum, bytes: &[u8]) -> Self {
        use md5::{Digest, Md5};
        match checksum {
            Checksum::Crc32c => Self::Crc32c(Crc32c::of(bytes)),
            Checksum::Md5 => Self::Md5(aws_smithy_types::base64::encode(Md5::digest(bytes))),
        }
    }

    /// As it stands in the request, whichever it is.
    pub fn text(&self) -> String {
        match self {
            Self::Crc32c(crc) => crc.header(),
            Self::Md5(md5) => md5.clone(),
        }
    }

    pub fn crc32c(&self) -> Option<String> {
        match self {
            Self::Crc32c(crc) => Some(crc.header()),
            Self::Md5(_) => None,
        }
    }

    pub fn md5(&self) -> Option<String> {
        match self {
            Self::Crc32c(_) => None,
            Self::Md5(md5) => Some(md5.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_pieces_combine() {
        // The check value of CRC-32/ISCSI, 0xE3069283.
        assert_eq!(Crc32c::of(b"123456789").header(), "4waSgw==");
        let pieces = Crc32c::of(b"12345").then(Crc32c::of(b"6789"), 4);
        assert_eq!(pieces.header(), "4waSgw==");
        assert_eq!(Crc32c::of(b"").then(Crc32c::of(b"x"), 1), Crc32c::of(b"x"));
    }

    #[test]
    fn content_md5_is_the_digest_in_base64() {
        // The digest of the empty string, RFC 1321 appendix A.5.
        let sum = Sum::of(Checksum::Md5, b"");
        assert_eq!(sum.md5().as_deref(), Some("1B2M2Y8AsgTpgAmY7PhCfg=="));
        assert_eq!(sum.crc32c(), None);
    }
}
