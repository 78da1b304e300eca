//! Removing objects from a directory, and the folders that are empty then.

use std::fs;
use std::io::ErrorKind;

use super::explain;
use super::read::is_missing;
use super::root::Root;
use crate::remote::{Key, RemoteError};

pub(super) fn delete(root: &Root, key: &Key) -> Result<(), RemoteError> {
    let what = format!("deleting {key}");
    let path = root.join(key.as_str());
    match fs::remove_file(&path) {
        // With its disk, perhaps.
        Err(error) if is_missing(&error) => return root.is_there(&what),
        // A folder is no object, and no object has a name that cannot be: what was being stored when it was
        // deleted is recorded as perhaps there.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::IsADirectory | ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(());
        }
        result => result.map_err(|error| explain(&what, &error))?,
    }
    // Up to the first that is not empty; that may be because of somebody who is faster. That of the
    // originals stays, for its sake a directory is known for a remote.
    let above = path.ancestors().skip(1);
    let kept = [&**root, &root.originals()];
    for folder in above.take_while(|folder| !kept.contains(folder)) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::remote::Artifact;

    #[test]
    fn what_has_a_name_that_cannot_be_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let path = RelPath::parse(&[b'%'; 255]).unwrap();
        let key = Key::new(Artifact::Original, &path);
        assert!(fs::write(root.path().join(key.as_str()), "").is_err());
        delete(&Root::new(root.path().into()), &key).unwrap();
    }
}
