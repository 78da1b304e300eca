//! How a CSV file is written: encoding, delimiter, quoting, line ends. Found out from the file and
//! kept; a new file is as RFC 4180 has it, in UTF-8.

use std::borrow::Cow;

use encoding_rs::WINDOWS_1252;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    encoding: Encoding,
    pub delimiter: u8,
    /// Every field is in quotes.
    pub quote_all: bool,
    pub line_end: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf8Bom,
    Utf16Le,
    Utf16Be,
    /// What a file is that is not UTF-8: West European, of which ISO 8859-1 is a part.
    Windows1252,
}

/// The usual ones, the likeliest first.
const DELIMITERS: [u8; 4] = *b",;\t|";

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

impl Dialect {
    /// The dialect and the text. The error says why this is no CSV file.
    pub fn read(content: &[u8]) -> Result<(Self, Cow<'_, str>), String> {
        let (encoding, text) = decode(content)?;
        if text.contains('\0') {
            return Err("it holds NUL characters, so it is no CSV file".into());
        }
        let header = first_record(&text);
        let dialect = Self {
            encoding,
            delimiter: delimiter(header),
            quote_all: !header.is_empty() && all_quoted(header, delimiter(header)),
            line_end: line_end(&text[header.len()..]),
        };
        Ok((dialect, text))
    }

    /// The text in the file's encoding. The error names a character that it does not have.
    pub fn encode(&self, text: String) -> Result<Vec<u8>, String> {
        Ok(match self.encoding {
            Encoding::Utf8 => text.into_bytes(),
            Encoding::Utf8Bom => [UTF8_BOM, text.as_bytes()].concat(),
            Encoding::Utf16Le => utf16(&text, u16::to_le_bytes),
            Encoding::Utf16Be => utf16(&text, u16::to_be_bytes),
            Encoding::Windows1252 => windows_1252(&text)?,
        })
    }
}

fn decode(content: &[u8]) -> Result<(Encoding, Cow<'_, str>), String> {
    if let Some(content) = content.strip_prefix(UTF8_BOM) {
        let text = std::str::from_utf8(content)
            .map_err(|error| format!("it is not the UTF-8 it claims to be: {error}"))?;
        return Ok((Encoding::Utf8Bom, text.into()));
    }
    if let Some(content) = content.strip_prefix(b"\xff\xfe") {
        return Ok((Encoding::Utf16Le, from_utf16(content, u16::from_le_bytes)?));
    }
    if let Some(content) = content.strip_prefix(b"\xfe\xff") {
        return Ok((Encoding::Utf16Be, from_utf16(content, u16::from_be_bytes)?));
    }
    Ok(match std::str::from_utf8(content) {
        Ok(text) => (Encoding::Utf8, text.into()),
        Err(_) => (
            Encoding::Windows1252,
            WINDOWS_1252.decode_without_bom_handling(content).0,
        ),
    })
}

fn from_utf16(content: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'static, str>, String> {
    let (pairs, rest) = content.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    match String::from_utf16(&units) {
        Ok(text) if rest.is_empty() => Ok(text.into()),
        _ => Err("it is not the UTF-16 it claims to be".into()),
    }
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(bytes).collect()
}

fn windows_1252(text: &str) -> Result<Vec<u8>, String> {
    let (content, _, unmappable) = WINDOWS_1252.encode(text);
    if !unmappable {
        return Ok(content.into_owned());
    }
    let lacks = |c: &char| WINDOWS_1252.encode(c.encode_utf8(&mut [0; 4])).2;
    let missing = text.chars().find(lacks).unwrap_or('?');
    Err(format!(
        "it is in Windows-1252, which has no '{missing}'; save it as UTF-8"
    ))
}

/// The header without its line end. Line ends in quotes are part of a field.
fn first_record(text: &str) -> &str {
    let mut ends = outside_quotes(text).filter(|(_, byte)| matches!(byte, b'\r' | b'\n'));
    ends.next().map_or(text, |(at, _)| &text[..at])
}

/// What is in no quoted field, and where. As for whoever reads the file, a quotation mark begins one at the start
/// of a field only.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, u8)> + '_ {
    let bytes = text.as_bytes();
    let (mut quoted, mut at_start, mut escaped) = (false, true, false);
    bytes.iter().enumerate().filter_map(move |(at, byte)| {
        if quoted {
            match (escaped, byte) {
                (true, _) => escaped = false,
                (false, b'"') if bytes.get(at + 1) == Some(&b'"') => escaped = true,
                (false, b'"') => quoted = false,
                _ => {}
            }
            return None;
        }
        if std::mem::replace(&mut at_start, DELIMITERS.contains(byte)) && *byte == b'"' {
            quoted = true;
            return None;
        }
        Some((at, *byte))
    })
}

fn line_end(after_header: &str) -> &'static str {
    if after_header.starts_with("\r\n") || after_header.is_empty() {
        "\r\n"
    } else if after_header.starts_with('\r') {
        "\r"
    } else {
        "\n"
    }
}

/// Of the usual ones, that which the header has most of outside quotes.
fn delimiter(header: &str) -> u8 {
    let mut counts = DELIMITERS.map(|delimiter| (delimiter, 0));
    for (_, byte) in outside_quotes(header) {
        if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == byte) {
            *count += 1;
        }
    }
    // Of equals max_by_key takes the last one, and a comma is the likeliest.
    let most = counts.iter().rev().max_by_key(|(_, count)| *count);
    most.map_or(b',', |(delimiter, _)| *delimiter)
}

fn all_quoted(header: &str, delimiter: u8) -> bool {
    let mut quoted = false;
    let mut at_start = true;
    for byte in header.bytes() {
        if at_start && byte != b'"' {
            return false;
        }
        at_start = false;
        match byte {
            b'"' => quoted = !quoted,
            _ if byte == delimiter && !quoted => at_start = true,
            _ => {}
        }
    }
    !at_start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(content: &[u8]) -> Dialect {
        Dialect::read(content).unwrap().0
    }

    #[test]
    fn delimiters_quotes_and_line_ends_are_found_in_the_header() {
        for (content, delimiter, quote_all, line_end) in [
            ("", b',', false, "\r\n"),
            ("a", b',', false, "\r\n"),
            ("a,b\n1,2\n", b',', false, "\n"),
            ("a;b\r\n1,5;2\r\n", b';', false, "\r\n"),
            ("\"a\"\t\"b;c;d\"\r1\t2", b'\t', true, "\r"),
            ("\"a\n;;b\"|c\n", b'|', false, "\n"),
            ("\"a \"\"x\"\"\",\"b\"\n", b',', true, "\n"),
            // A quotation mark within a field is one.
            ("6\" wide;12\" high\r\n", b';', false, "\r\n"),
            ("a\";\"b; 2\"c\n", b';', false, "\n"),
        ] {
            let found = dialect(content.as_bytes());
            let expected = (delimiter, quote_all, line_end);
            let found = (found.delimiter, found.quote_all, found.line_end);
            assert_eq!(found, expected, "{content:?}");
        }
    }

    #[test]
    fn every_encoding_comes_out_as_it_went_in() {
        let utf16 = |bytes: fn(u16) -> [u8; 2]| utf16("größe;名\n", bytes);
        let all_bytes: Vec<u8> = (1..=255).collect();
        for content in [
            "größe;名\n".as_bytes().to_vec(),
            [UTF8_BOM, "größe;名\n".as_bytes()].concat(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
            b"gr\xf6\xdfe;\x80\n".to_vec(),
            all_bytes,
        ] {
            let (dialect, text) = Dialect::read(&content).unwrap();
            let text = text.into_owned();
            assert_eq!(dialect.encode(text).unwrap(), content);
        }
    }

    #[test]
    fn a_character_that_the_file_cannot_have_is_named() {
        let error = dialect(b"gr\xf6\xdfe\n")
            .encode("größe 名".into())
            .unwrap_err();
        assert!(error.contains("no '名'"), "{error}");
    }

    #[test]
    fn what_is_no_text_is_no_csv_file() {
        assert!(Dialect::read(b"PK\x03\x04\0\0").is_err());
        assert!(Dialect::read(b"\xff\xfea\0\0").is_err());
    }
}
