//! From a path to the key of an object and back: a bijection, also for names that are not UTF-8.

use std::fmt;

use crate::path::RelPath;

/// What is delivered for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Artifact {
    Original,
    Thumbnail,
}

impl Artifact {
    /// The first component of the key.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Thumbnail => "thumbnail",
        }
    }

    /// The first components of all keys, where thumbnails of further sizes have these folders.
    pub fn folders(further: Vec<String>) -> Vec<String> {
        let mut folders = vec![Self::Original.folder().to_owned()];
        folders.push(Self::Thumbnail.folder().to_owned());
        folders.extend(further);
        folders
    }
}

/// The name of an object below the remote's prefix: `original/<path>` or `thumbnail/<path>`.
///
/// Bytes that are not UTF-8, control characters, a `%` that two hexadecimal digits follow, and the
/// backslash (SeaweedFS and Windows take it for a slash) are percent-encoded; all else stands as it
/// is. So ordinary names look as they do on disk, and each
/// key belongs to one path only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    pub fn new(artifact: Artifact, path: &RelPath) -> Self {
        Self::below(artifact.folder(), path)
    }

    /// In another folder than an artifact's: thumbnails of further sizes have theirs.
    pub fn below(folder: &str, path: &RelPath) -> Self {
        let mut key = String::with_capacity(folder.len() + 1 + path.as_bytes().len());
        key.push_str(folder);
        key.push('/');
        encode(path.as_bytes(), &mut key);
        Self(key)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path as the text that keys and rows use.
pub fn path_text(path: &RelPath) -> String {
    let mut text = String::with_capacity(path.as_bytes().len());
    encode(path.as_bytes(), &mut text);
    text
}

fn encode(bytes: &[u8], out: &mut String) {
    use fmt::Write;
    let mut rest = bytes;
    for chunk in bytes.utf8_chunks() {
        for (at, c) in chunk.valid().char_indices() {
            let after = &rest[at + c.len_utf8()..];
            let ambiguous = c == '%'
                && after.len() >= 2
                && after[0].is_ascii_hexdigit()
                && after[1].is_ascii_hexdigit();
            if ambiguous || c == '\\' || c.is_ascii_control() {
                write!(out, "%{:02X}", c as u32).expect("writing to a String");
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(out, "%{byte:02X}").expect("writing to a String");
        }
        rest = &rest[chunk.valid().len() + chunk.invalid().len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &[u8]) -> String {
        path_text(&RelPath::parse(name).unwrap())
    }

    /// What a reader of keys does: `%XX` is a byte, everything else is itself.
    fn decode(key: &str) -> Vec<u8> {
        percent_encoding::percent_decode_str(key).collect()
    }

    #[test]
    fn ordinary_names_look_as_they_do_on_disk() {
        for name in ["a/b c.jpg", "100%.txt", "Zürich/ß+&=.png", "%zz", "%"] {
            assert_eq!(key(name.as_bytes()), name);
        }
    }

    #[test]
    fn every_key_reads_back_as_its_name() {
        for name in [
            &b"a%FF"[..],
            b"a\xff",
            b"%\xff",
            b"%4\xff",
            b"%%41",
            b"new\nline",
            b"a\x7f",
            b"%2",
            b"%25",
            b"back\\slash",
            b"back%5Cslash",
        ] {
            assert_eq!(decode(&key(name)), name, "{:?}", key(name));
        }
        assert_ne!(key(b"a%FF"), key(b"a\xff"));
    }

    #[test]
    fn artifacts_have_folders_of_their_own() {
        let path = RelPath::parse(b"x/y.png").unwrap();
        assert_eq!(
            Key::new(Artifact::Original, &path).as_str(),
            "original/x/y.png"
        );
        assert_eq!(
            Key::new(Artifact::Thumbnail, &path).as_str(),
            "thumbnail/x/y.png"
        );
    }
}
