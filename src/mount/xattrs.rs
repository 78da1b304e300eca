//! Extended attributes and ACLs: those of the disk below, and a few that are on none.

use std::ffi::OsStr;

use fuser::Request;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::ATTRIBUTES;
use super::fs::{OutboxFs, Result};
use super::nodes::NodeId;
use super::resolve::proc_path;
use super::upload_dir;

/// Only shown to the privileged (xattr(7)); we, being privileged, see them always.
const TRUSTED: &[u8] = b"trusted.";

impl OutboxFs {
    pub fn xattr(&self, id: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        if upload_dir::owns(id) {
            return Err(Errno::NODATA);
        }
        if let Some(value) = self.virtual_xattr(id, name) {
            return Ok(value);
        }
        let node = self.reference(id)?;
        let path = proc_path(&node);
        read_growing(|buffer| rustix::fs::getxattr(&path, name, buffer))
    }

    fn virtual_xattr(&self, id: NodeId, name: &OsStr) -> Option<Vec<u8>> {
        let name = name.to_str().filter(|name| name.starts_with(ATTRIBUTES))?;
        self.files.attribute(&self.backing.nodes.path(id)?, name)
    }

    pub fn xattr_names(&self, req: &Request, id: NodeId) -> Result<Vec<u8>> {
        if upload_dir::owns(id) {
            return Ok(Vec::new());
        }
        let node = self.reference(id)?;
        let path = proc_path(&node);
        let names = read_growing(|buffer| rustix::fs::listxattr(&path, buffer))?;
        if req.uid() == 0 {
            return Ok(names);
        }
        let visible = names
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| !name.starts_with(TRUSTED));
        Ok(visible.flatten().copied().collect())
    }

    pub fn set_xattr(&self, id: NodeId, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        let flags = XattrFlags::from_bits_retain(flags as u32);
        self.change_xattr(id, |path| rustix::fs::setxattr(path, name, value, flags))
    }

    pub fn remove_xattr(&self, id: NodeId, name: &OsStr) -> Result<()> {
        self.change_xattr(id, |path| rustix::fs::removexattr(path, name))
    }

    fn change_xattr(&self, id: NodeId, change: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        if upload_dir::owns(id) {
            return Err(Errno::ACCESS);
        }
        let node = self.reference(id)?;
        let path = proc_path(&node);
        match self.handles.inode(id) {
            Some(inode) => inode.without_news(|| change(&path)),
            None => change(&path),
        }
    }
}

/// Reads a value of unknown length: most are short, none is longer than the kernel's 64 KiB.
fn read_growing(read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(64 * 1024, 0);
            read(&mut buffer)?
        }
        result => result?,
    };
    buffer.truncate(length);
    Ok(buffer)
}
