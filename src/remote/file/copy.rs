//! Copying an object within a directory: by reflink where the file system has them.

use std::fs::File;
use std::io;

use super::root::Root;
use super::{ATTRIBUTES, Attributes, Temporary, described, explain, finish, read};
use crate::remote::{Copy, Pace, Proof, RemoteError, Sent};

pub(super) fn copy(root: &Root, copy: &Copy, pace: &Pace) -> Result<Option<Proof>, RemoteError> {
    let what = format!("copying {} to {}", copy.from, copy.to);
    let failed = |error| explain(&what, &error);
    root.is_there(&what)?;
    // Objects are replaced by others, never written to: what is open stays what it is.
    let Some(from) = read::open(root, &copy.from)? else {
        return Ok(None);
    };
    let kept = attributes_of(&from);
    let expected = (
        format!("{ATTRIBUTES}{}", copy.expected.0),
        copy.expected.1.clone().into_bytes(),
    );
    // Without such attributes nothing tells what is there but reading it all.
    if !kept.contains(&expected) {
        return Ok(None);
    }
    let mut temporary = Temporary::create(root).map_err(failed)?;
    if rustix::fs::ioctl_ficlone(&temporary.file, &from).is_err() {
        let len = from.metadata().map_err(failed)?.len();
        let hash =
            super::copy(&from, len, &mut temporary.file, pace, &Sent::default()).map_err(failed)?;
        // As it is being read anyway: is it still what it says to be?
        let says = kept.iter().find(|(name, _)| name.ends_with(".blake3"));
        let hex = hash.map(|hash| hash.to_hex().as_bytes().to_vec());
        if says.map(|(_, hex)| hex) != hex.as_ref() {
            return Ok(None);
        }
    }
    let attributes = match &copy.described {
        Some(new) => described(&new.content_type, new.hash, &new.metadata),
        None => kept,
    };
    super::describe(&temporary.file, &attributes).map_err(failed)?;
    finish(root, temporary, &copy.to, &what).map(Some)
}

/// What [`super::describe`] left; empty where there is no such thing.
fn attributes_of(file: &File) -> Attributes {
    list(file).unwrap_or_default()
}

fn list(file: &File) -> io::Result<Attributes> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::flistxattr(file, &mut names[..])?;
    let names = names[..length].split(|byte| *byte == 0);
    let ours = names.filter_map(|name| {
        let name = std::str::from_utf8(name).ok()?;
        name.starts_with(ATTRIBUTES).then(|| name.to_owned())
    });
    ours.map(|name| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::fgetxattr(file, &name, &mut value[..])?;
        value.truncate(length);
        Ok((name, value))
    })
    .collect()
}
