//! What is made from a file: a thumbnail from a picture, a row from a folder and its `stats.json`.
//! Pure functions of bytes; nothing here knows the journal, the remote or the mount.

mod contents;
pub mod decode;
pub mod stats;
pub mod thumbnail;

pub use contents::content_hash;
