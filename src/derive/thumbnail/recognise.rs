//! Which format a picture is in, by its content: names lie, and cameras' names differ.

/// A picture format that thumbnails are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl Kind {
    /// As people call it, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }
}

/// The format of the file that begins with `head`, or `None` when it is no picture known here.
pub(super) fn kind(head: &[u8]) -> Option<Kind> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some(Kind::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Kind::Png),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some(Kind::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Kind::Gif),
        // 42 is TIFF, 43 is BigTIFF.
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Kind::Tiff),
        _ if is_bmp(head) => Some(Kind::Bmp),
        _ => None,
    }
}

/// Two letters are too few to tell a bitmap from a text that starts with "BM", so the size of the
/// header that must follow is looked at too (12 for OS/2, 40 to 124 for Windows).
fn is_bmp(head: &[u8]) -> bool {
    head.starts_with(b"BM")
        && head
            .get(14..18)
            .is_some_and(|size| matches!(size, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_begins_with_bm_is_no_bitmap() {
        assert_eq!(kind(b"BM25 ranks documents by their terms"), None);
        assert_eq!(kind(b"BM"), None);
    }

    #[test]
    fn every_prefix_of_a_header_is_looked_at_without_a_panic() {
        let head = b"RIFF\x10\0\0\0WEBPVP8 ";
        for end in 0..head.len() {
            let _ = kind(&head[..end]);
        }
        assert_eq!(kind(head), Some(Kind::WebP));
    }
}
