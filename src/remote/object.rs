use std::io::Write;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As [`Key::as_str`](super::Key::as_str) gives it, below the remote's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// As [`Proof::etag`](super::Proof::etag).
    pub etag: Option<String>,
}

/// What a remote knows of one object without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes that are stored.
    pub size: u64,
    /// Bytes before they were encoded, if they are.
    pub original_size: Option<u64>,
    /// As [`Proof::etag`](super::Proof::etag).
    pub etag: Option<String>,
    /// The metadata `blake3` that [`Remote::put`](super::Remote::put) stores.
    pub blake3: Option<blake3::Hash>,
    /// The metadata `mtime`: of the file when it was delivered, nanoseconds since 1970-01-01 UTC.
    pub mtime_ns: Option<i64>,
}

impl ObjectInfo {
    /// Bytes that a reader gets who decodes them.
    pub fn content_size(&self) -> u64 {
        self.original_size.unwrap_or(self.size)
    }
}

/// Nanoseconds from seconds with up to nine decimals, as delivery writes them.
pub(super) fn parse_mtime(text: &str) -> Option<i64> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i64 = format!("{decimals:0<9}").get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Where the content of an object goes: a file, or a [`blake3::Hasher`].
pub type Sink<'a> = &'a mut (dyn Write + Send);

/// Hears of the objects of a listing, in no particular order.
pub type Each<'a> = &'a mut (dyn FnMut(Listed) + Send);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(
            parse_mtime("1700000000.000000001"),
            Some(1_700_000_000_000_000_001)
        );
        assert_eq!(parse_mtime("12"), Some(12_000_000_000));
        assert_eq!(parse_mtime("-1.5"), Some(-500_000_000));
        assert_eq!(parse_mtime("yesterday"), None);
    }
}
