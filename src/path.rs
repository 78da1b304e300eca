//! Paths below the backing directory, as bytes: file names on Linux need not be UTF-8.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path relative to the backing directory: components separated by single slashes, none of them
/// empty, `.` or `..`. The empty path is the backing directory itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The backing directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes a relative path as given by a person or a program. `None` if it is absolute, contains
    /// `..` or a NUL byte; empty and `.` components are dropped.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.first() == Some(&b'/') || bytes.contains(&0) {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len());
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return None,
                _ => {
                    if !out.is_empty() {
                        out.push(b'/');
                    }
                    out.extend_from_slice(component);
                }
            }
        }
        Some(Self(out.into()))
    }

    /// The path whose text form, as in keys and events, this is: `%XX` is a byte, everything else is
    /// itself. `None` as for [`Self::parse`].
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
        Self::parse(&bytes)
    }

    /// Whether this is `other`, or is below it.
    pub fn is_within(&self, other: &RelPath) -> bool {
        match self.0.strip_prefix(&*other.0) {
            Some(rest) => other.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }

    /// This path as seen from `folder`, which it is within.
    pub fn below(&self, folder: &RelPath) -> Self {
        let rest = self.0.strip_prefix(&*folder.0).unwrap_or(&self.0);
        Self(rest.strip_prefix(b"/").unwrap_or(rest).into())
    }

    /// This directory's entry `name`, which is one component as the kernel hands it over.
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
        if self.0.is_empty() {
            return Self(name.into());
        }
        let mut out = Vec::with_capacity(self.0.len() + 1 + name.len());
        out.extend_from_slice(&self.0);
        out.push(b'/');
        out.extend_from_slice(name);
        Self(out.into())
    }

    /// The directory it is in and its name there; `None` for the backing directory itself.
    pub fn split(&self) -> Option<(RelPath, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(self.0[..slash].into()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0[..]),
        })
    }

    /// The last component; empty for the backing directory itself.
    pub fn name(&self) -> &[u8] {
        let start = self
            .0
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |slash| slash + 1);
        &self.0[start..]
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|b| *b == b'/')
            .filter(|component| !component.is_empty())
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// For messages: invalid UTF-8 and control characters are shown escaped, so that a file name can
/// never forge a second line.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_backing_directory() {
        for bad in [&b"/etc"[..], b"..", b"a/../b", b"a\0b"] {
            assert_eq!(RelPath::parse(bad), None, "{bad:?}");
        }
        assert_eq!(RelPath::parse(b"./a//b/").unwrap().as_bytes(), b"a/b");
        assert!(RelPath::parse(b".").unwrap().is_root());
    }

    #[test]
    fn split_undoes_join() {
        let path = RelPath::root().join(b"a").join(b"b.jpg");
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.as_bytes(), name), (&b"a"[..], &b"b.jpg"[..]));
        assert_eq!(parent.split().unwrap().0, RelPath::root());
    }

    #[test]
    fn a_neighbour_with_a_longer_name_is_not_within() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        assert!(path("a/b").is_within(&path("a")) && path("a").is_within(&path("a")));
        assert!(path("a").is_within(&RelPath::root()));
        assert!(!path("ab").is_within(&path("a")) && !path("a").is_within(&path("a/b")));
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let path = RelPath::root().join(b"a\nb\xff");
        assert_eq!(path.to_string(), "a\\nb\\xff");
    }
}
