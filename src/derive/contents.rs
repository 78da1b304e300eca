//! One hash for all that is in a folder.

/// BLAKE3 over `<hash in hexadecimal>  <name>` and a NUL byte for each file, by name. NUL cannot be
/// in a name, so no two folders share a hash; where no name has a backslash or a line end it is
/// `LC_ALL=C b3sum * | tr '\n' '\0' | b3sum`.
pub fn content_hash<'a>(
    by_name: impl IntoIterator<Item = (&'a [u8], &'a blake3::Hash)>,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in by_name {
        hasher.update(hash.to_hex().as_bytes());
        hasher.update(b"  ");
        hasher.update(name);
        hasher.update(b"\0");
    }
    hasher.finalize()
}
