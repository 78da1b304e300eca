//! The FUSE filesystem: translates the kernel's requests to calls on the backing directory, and
//! what they change to the journal's words. Knows nothing of remotes.
