//! What kind of file an object is, for browsers and programs that fetch it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How much of a file's beginning [`media_type`] makes use of, in bytes.
pub const MEDIA_TYPE_HEAD: usize = 4096;

/// The media type (RFC 6838) of a file by its name, else by its first bytes (`head`, of which
/// [`MEDIA_TYPE_HEAD`] are enough), else `application/octet-stream`. Text says that it is UTF-8 where it is:
/// browsers guess otherwise.
pub fn media_type(name: &[u8], head: &[u8]) -> String {
    let by_name = mime_guess::from_path(Path::new(OsStr::from_bytes(name)));
    if let Some(known) = by_name.first_raw() {
        return match known.starts_with("text/") && is_text(head) {
            true => format!("{known}; charset=utf-8"),
            false => known.to_owned(),
        };
    }
    if let Some(kind) = infer::get(head) {
        return kind.mime_type().to_owned();
    }
    match !head.is_empty() && is_text(head) {
        true => "text/plain; charset=utf-8".to_owned(),
        false => "application/octet-stream".to_owned(),
    }
}

/// Whether it is UTF-8 without the control characters that text has no use for. Where more of the
/// file follows, a character that the end cuts off is no objection.
fn is_text(head: &[u8]) -> bool {
    let more = head.len() >= MEDIA_TYPE_HEAD;
    let head = &head[..head.len().min(MEDIA_TYPE_HEAD)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if more && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c' | '\x1b');
    valid.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_first_and_then_the_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        for (name, head, expected) in [
            ("a.jpg", &b""[..], "image/jpeg"),
            ("A.JPG", b"", "image/jpeg"),
            ("a.jpg", png, "image/jpeg"),
            ("stats.json", b"{}", "application/json"),
            ("no-extension", png, "image/png"),
            ("clip", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
            ("README", b"plain words\n", "text/plain; charset=utf-8"),
            ("unknown", b"\0\x01\x02", "application/octet-stream"),
            ("empty", b"", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name.as_bytes(), head), expected, "{name}");
        }
        assert_eq!(media_type(b"\xff.png", b""), "image/png");
    }

    #[test]
    fn text_names_its_encoding_only_where_it_is_certain() {
        let utf8 = "text/plain; charset=utf-8";
        assert_eq!(media_type(b"a.txt", "a café".as_bytes()), utf8);
        assert_eq!(media_type(b"a.txt", b"a caf\xe9"), "text/plain");
        // The head of a longer file ends within a character.
        let long = format!("{}é", "a".repeat(MEDIA_TYPE_HEAD - 1));
        assert_eq!(
            media_type(b"a.txt", &long.as_bytes()[..MEDIA_TYPE_HEAD]),
            utf8
        );
    }
}
