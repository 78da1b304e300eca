//! The list of `outboxfs push --files-from`.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::tree::Tree;
use crate::path::RelPath;
use crate::push::Events;

/// Listed paths that may wait for the scan.
const LISTED: usize = 4096;

/// The listed paths as they come, read on a thread of their own, `list`. What is no path in the
/// tree is an event.
pub fn listed(
    list: &Path,
    null: bool,
    tree: &Tree,
    events: Arc<Events>,
) -> Result<crossbeam_channel::Receiver<RelPath>, Error> {
    let input: Box<dyn BufRead + Send> = match list.as_os_str() == "-" {
        true => Box::new(io::BufReader::new(io::stdin())),
        false => Box::new(io::BufReader::new(std::fs::File::open(list).map_err(
            |error| Error::Refused(format!("cannot read the list {}: {error}", list.display())),
        )?)),
    };
    let (sender, paths) = crossbeam_channel::bounded(LISTED);
    let directory = tree.directory.clone();
    let separator = if null { 0 } else { b'\n' };
    std::thread::Builder::new()
        .name("list".into())
        .spawn(move || {
            for line in input.split(separator) {
                let line = match line {
                    Ok(line) => line,
                    Err(error) => {
                        events.unlisted("the list", &format!("cannot be read on: {error}"));
                        return;
                    }
                };
                let line = line.strip_suffix(b"\r").filter(|_| !null).unwrap_or(&line);
                if line.is_empty() {
                    continue;
                }
                match parse_listed(line, null, &directory) {
                    Some(path) => {
                        if sender.send(path).is_err() {
                            return;
                        }
                    }
                    None => events.unlisted(
                        &String::from_utf8_lossy(line),
                        &format!("it is no path in {}", directory.display()),
                    ),
                }
            }
        })
        .map_err(|error| Error::Failed(format!("cannot start a thread: {error}")))?;
    Ok(paths)
}

fn parse_listed(line: &[u8], null: bool, directory: &Path) -> Option<RelPath> {
    use std::os::unix::ffi::OsStrExt;
    #[derive(serde::Deserialize)]
    struct Line {
        path: String,
    }
    if !null && line.first() == Some(&b'{') {
        return RelPath::from_text(&serde_json::from_slice::<Line>(line).ok()?.path);
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(line));
    let path = match path.is_absolute() {
        true => path.strip_prefix(directory).ok()?,
        false => path,
    };
    RelPath::parse(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[u8], null: bool) -> Option<String> {
        parse_listed(line, null, Path::new("/srv/rig")).map(|path| path.to_string())
    }

    #[test]
    fn a_line_is_a_path_or_an_object_with_one() {
        for (line, path) in [
            (&b"a/b"[..], "a/b"),
            (b"/srv/rig/a", "a"),
            (b"./100%41", "100%41"),
            (br#"{"path": "100%2541", "more": [1]}"#, "100%41"),
            (br#"{"path": "new%0Aline"}"#, "new\\nline"),
        ] {
            assert_eq!(parsed(line, false).as_deref(), Some(path));
        }
        assert_eq!(
            parsed(b"{\"path\": 1}", true).as_deref(),
            Some("{\"path\": 1}")
        );
        for line in [&b"../a"[..], b"/srv/rigs", b"{", br#"{"name": "a"}"#] {
            assert_eq!(parsed(line, false), None);
        }
    }
}
