//! The FUSE filesystem: translates the kernel's requests to calls on the backing directory, and
//! what they change to the journal's words. Knows nothing of remotes.
//!
//! [`mount`] starts it: a few event loops that answer requests, each a thread of its own that ends
//! with the session. An answer that must wait for the journal is given on the journal's thread. One
//! more thread watches closed files that are still mapped ([`mapped`]).

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
mod xattrs;

use crate::path::RelPath;
pub use kernel::{Restriction, mount_only};
pub use session::{Allow, Mount, MountError, Options, Renewer, Unmounter, mount};

/// What names of [attributes](VirtualFiles::attribute) begin with.
pub const ATTRIBUTES: &str = "user.outboxfs.";

/// Content of the files in `.upload`, and what else is known of files beside the disk.
pub trait VirtualFiles: Send + Sync {
    /// Their names, which never change: a name's place in the list is part of its file's number.
    fn names(&self) -> &'static [&'static str];
    /// What the file holds now; `None` if there is no such file.
    fn read(&self, name: &str) -> Option<Vec<u8>>;
    /// An extended attribute of the file at `path` that is on no disk. It can be asked for and is not
    /// listed, so that nobody copies it along. Asked for names only that begin with [`ATTRIBUTES`].
    fn attribute(&self, path: &RelPath, name: &str) -> Option<Vec<u8>>;
}
