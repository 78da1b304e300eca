//! How a PNG was held, as ImageMagick and ExifTool wrote it before PNG had a chunk for that: the EXIF
//! block in hexadecimal, as a text.

use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

/// What a block is called in its text's keyword.
const KEYWORDS: [&[u8]; 2] = [b"Raw profile type exif", b"Raw profile type APP1"];
/// No block of a JPEG, where these come from, is longer; in hexadecimal, with line ends, bytes.
const LONGEST: u64 = 3 * (1 << 16);

pub(super) fn orientation(png: &[u8]) -> Option<Orientation> {
    let mut rest = png.get(8..)?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_first_chunk::<4>()?;
        let body = after.get(..u32::from_be_bytes(*length) as usize)?;
        if let Some(block) = block(name, body) {
            return Orientation::from_exif_chunk(block.strip_prefix(b"Exif\0\0").unwrap_or(&block));
        }
        // The checksum.
        rest = after.get(body.len() + 4..)?;
    }
}

/// The block in a text chunk (PNG, third edition, 11.3.3).
fn block(name: &[u8; 4], body: &[u8]) -> Option<Vec<u8>> {
    let at = body.iter().take(80).position(|byte| *byte == 0)?;
    let (keyword, text) = (&body[..at], &body[at + 1..]);
    if !KEYWORDS.contains(&keyword) {
        return None;
    }
    match (name, text) {
        (b"tEXt", text) => unhex(text),
        (b"zTXt", [0, compressed @ ..]) => {
            let mut text = Vec::new();
            let mut unpacked = ZlibDecoder::new(compressed).take(LONGEST);
            unpacked.read_to_end(&mut text).ok()?;
            unhex(&text)
        }
        _ => None,
    }
}

/// A line with a name, one with the length, and then lines of digits.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.trim_ascii_start().split(|byte| *byte == b'\n');
    let (_name, _length) = (lines.next()?, lines.next()?);
    let digits: Vec<u8> = lines
        .flatten()
        .filter_map(|digit| char::from(*digit).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let pairs = digits.as_chunks::<2>().0.iter();
    Some(pairs.map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn png(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        for (name, body) in [(b"gAMA", &[0, 0, 0, 1][..]), (name, body)] {
            png.extend((body.len() as u32).to_be_bytes());
            png.extend(name);
            png.extend(body);
            png.extend([0; 4]);
        }
        png
    }

    #[test]
    fn a_block_as_text_is_read() {
        // Six: a quarter turn.
        let text = b"\nexif\n      32\n457869660000\n49492a0008000000010012010300010000000600\n000000000000\n";
        let plain = [b"Raw profile type exif\0", &text[..]].concat();
        assert_eq!(
            orientation(&png(b"tEXt", &plain)),
            Some(Orientation::Rotate90)
        );
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text).unwrap();
        let packed = packed.finish().unwrap();
        let packed = [b"Raw profile type APP1\0\0", &packed[..]].concat();
        assert_eq!(
            orientation(&png(b"zTXt", &packed)),
            Some(Orientation::Rotate90)
        );
    }

    #[test]
    fn other_texts_and_damage_say_nothing() {
        assert_eq!(
            orientation(&png(b"tEXt", b"Comment\0\nexif\n3\n123456")),
            None
        );
        let whole = png(b"tEXt", b"Raw profile type exif\0\nexif\n 9\n45786966");
        for end in 0..whole.len() {
            assert_eq!(orientation(&whole[..end]), None);
        }
    }
}
