//! Extended attributes and ACLs: those of the disk below, and what files say of themselves.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::Request;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::fs::{OutboxFs, Result};
use super::nodes::NodeId;
use super::resolve::proc_path;
use super::upload_dir;

/// Only shown to the privileged (xattr(7)); we, being privileged, see them always.
const TRUSTED: &[u8] = b"trusted.";

/// What files say of themselves; nobody can change it.
const OURS: &[u8] = b"user.upload.";

impl OutboxFs {
    pub fn xattr(&self, id: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        if upload_dir::owns(id) {
            return Err(Errno::NODATA);
        }
        if is_ours(name) {
            return self.own_xattr(id, name).ok_or(Errno::NODATA);
        }
        let node = self.reference(id)?;
        let path = proc_path(&node);
        read_growing(|buffer| rustix::fs::getxattr(&path, name, buffer))
    }

    pub fn xattr_names(&self, req: &Request, id: NodeId) -> Result<Vec<u8>> {
        if upload_dir::owns(id) {
            return Ok(Vec::new());
        }
        let node = self.reference(id)?;
        let path = proc_path(&node);
        let names = read_growing(|buffer| rustix::fs::listxattr(&path, buffer))?;
        // What the disk has under our names was copied there, and is of no file here.
        let visible = names
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| req.uid() == 0 || !name.starts_with(TRUSTED))
            .filter(|name| !name.starts_with(OURS));
        let mut visible: Vec<u8> = visible.flatten().copied().collect();
        if self.list_xattrs
            && let Some(path) = self.backing.nodes.path(id)
        {
            for name in self.files.attributes() {
                if self.files.attribute(&path, name).is_some() {
                    visible.extend_from_slice(name.as_bytes());
                    visible.push(0);
                }
            }
        }
        Ok(visible)
    }

    /// What a file says of itself.
    fn own_xattr(&self, id: NodeId, name: &OsStr) -> Option<Vec<u8>> {
        let name = name.to_str()?;
        let known = self.files.attributes().contains(&name);
        let path = known.then(|| self.backing.nodes.path(id))??;
        self.files.attribute(&path, name)
    }

    pub fn set_xattr(&self, id: NodeId, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
        refuse_ours(name)?;
        let flags = XattrFlags::from_bits_retain(flags as u32);
        self.change_xattr(id, |path| rustix::fs::setxattr(path, name, value, flags))
    }

    pub fn remove_xattr(&self, id: NodeId, name: &OsStr) -> Result<()> {
        refuse_ours(name)?;
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

fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OURS)
}

fn refuse_ours(name: &OsStr) -> Result<()> {
    match is_ours(name) {
        true => Err(Errno::PERM),
        false => Ok(()),
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
