//! Which format a picture is in, by its content: names lie, and cameras' names differ.

/// A picture format that thumbnails are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    /// TIFF, or a camera file that calls itself one: NEF, ARW, DNG, PEF.
    Tiff,
    /// A camera file built like TIFF that says so: CR2, ORF, RW2.
    CameraTiff,
    Raf,
    Cr3,
    /// HEIC and AVIF.
    Heif,
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
            Self::CameraTiff => "camera",
            Self::Raf => "RAF",
            Self::Cr3 => "CR3",
            Self::Heif => "HEIF",
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
        [b'I', b'I', 42, 0, _, _, _, _, b'C', b'R', ..] => Some(Kind::CameraTiff),
        [b'I', b'I', b'R', b'O' | b'S', ..] | [b'M', b'M', b'O', b'R', ..] => {
            Some(Kind::CameraTiff)
        }
        [b'I', b'I', 0x55, 0, ..] => Some(Kind::CameraTiff),
        // 42 is TIFF, 43 is BigTIFF.
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Kind::Tiff),
        _ if head.starts_with(b"FUJIFILMCCD-RAW ") => Some(Kind::Raf),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => by_brand(brand),
        _ if is_bmp(head) => Some(Kind::Bmp),
        _ => None,
    }
}

/// By the main brand of an ISO base media file; the compatible brands are looked at where the main
/// one only says that it is some picture.
fn by_brand(brands: &[u8]) -> Option<Kind> {
    let (main, rest) = brands.split_first_chunk::<4>()?;
    let is_heif = |brand: &[u8; 4]| {
        matches!(
            brand,
            b"heic" | b"heix" | b"heim" | b"heis" | b"avif" | b"avis"
        )
    };
    match main {
        b"crx " => Some(Kind::Cr3),
        main if is_heif(main) => Some(Kind::Heif),
        // Four bytes of version lie between.
        b"mif1" | b"msf1" => {
            let compatible = rest.get(4..)?.as_chunks::<4>().0;
            compatible.iter().any(is_heif).then_some(Kind::Heif)
        }
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
