//! The FUSE filesystem: translates the kernel's requests to calls on the backing directory, and
//! what they change to the journal's words. Knows nothing of remotes.
//!
//! [`mount`] starts it: a few event loops that answer requests, each a thread of its own that ends
//! with the session. An answer that must wait for the journal is given on the journal's thread. More
//! threads watch closed files that are still mapped ([`mapped`]), work for files of `.upload`
//! ([`upload_files`]), and answer who waits for deliveries ([`waiting`]).

mod attr;
mod attributes;
mod caller;
mod content;
mod dirs;
mod fs;
mod handles;
mod kernel;
mod linger;
mod listing;
mod mapped;
mod namespace;
mod nodes;
mod probe;
mod requests;
mod resolve;
mod session;
mod taken;
mod upload_dir;
mod upload_files;
mod waiting;
mod xattrs;

pub use kernel::{Restriction, mount_only};
use rustix::io::Errno;
pub use session::{Allow, Mount, MountError, Options, Renewer, Unmounter, mount};

use crate::path::RelPath;

/// What the directories `.upload` hold, and what files say of themselves.
pub trait VirtualFiles: Send + Sync {
    /// The files of `.upload`, which never change: a place in the list is a part of a file's number.
    fn names(&self) -> &'static [(&'static str, Kind)];
    /// Opens one of them, of a directory.
    fn open(&self, directory: &RelPath, name: &str) -> Result<Content, Errno>;
    /// All that is known of one file; `None` if nothing is.
    fn about(&self, file: &RelPath) -> Option<Vec<u8>>;
    /// The names of files of a directory of which something is known, in order, those after `after`; at
    /// most `limit`.
    fn known_names(&self, directory: &RelPath, after: &[u8], limit: usize) -> Vec<Vec<u8>>;
    /// `None` while something from the directory on down may still be delivered by itself; then whether
    /// all was, or what was not, for people.
    fn waited(&self, directory: &RelPath) -> Option<Result<(), String>>;
    /// What can be written to the file for commands, for people.
    fn usage(&self) -> &'static str;
    /// Does what is asked for, in a line; returns when it is done. Both answers are sentences.
    fn command(&self, directory: &RelPath, line: &[u8]) -> Result<String, String>;
    /// The extended attributes that a file may have, in full.
    fn attributes(&self) -> &'static [&'static str];
    /// The value of one of them; `None` if the file has none.
    fn attribute(&self, file: &RelPath, name: &str) -> Option<Vec<u8>>;
}

/// What a file of `.upload` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`VirtualFiles::open`] opens it.
    Content,
    /// Reading it returns when [`VirtualFiles::waited`] says so.
    Wait,
    /// What is written to it is a [`VirtualFiles::command`]; its owner's alone.
    Control,
}

/// What a file of `.upload` holds, as of its opening.
pub enum Content {
    Text(Vec<u8>),
    /// Too long to be held.
    List(Box<dyn Pages>),
}

/// A text that is made as it is read. What was read once at an offset is there again.
pub trait Pages: Send {
    /// At most `size` bytes from `offset` on; fewer only at the end.
    fn read(&mut self, offset: u64, size: usize) -> Result<Vec<u8>, Errno>;
}
