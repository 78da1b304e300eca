//! What can be written to `.upload/control`.

use crate::path::RelPath;

pub const USAGE: &str = "\
Write a line to this file; paths are as seen from the directory that .upload is in:
retry          try again what has failed from this directory on
retry PATH     the same of a file or folder in it
flush          deliver now what settles, or waits for its next attempt, from this directory on
flush PATH     the same of a file or folder in it
pause          deliver nothing from now on (in the mount's root)
resume         go on (in the mount's root)
";

/// A line; paths are seen from the mount's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Retry(RelPath),
    Flush(RelPath),
    Pause,
    Resume,
}

impl Command {
    /// What is written in the `.upload` of `directory`; an error is one sentence.
    pub fn parse(directory: &RelPath, line: &[u8]) -> Result<Self, String> {
        let end = line.iter().position(u8::is_ascii_whitespace);
        let (word, rest) = line.split_at(end.unwrap_or(line.len()));
        let rest = rest.trim_ascii();
        let whole_mount = |what: &str| match (directory.is_root(), rest.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("'{what}' takes no path: it is for the whole mount")),
            (false, _) => Err(format!(
                "'{what}' is for the whole mount: write it to .upload/control in its root"
            )),
        };
        match word {
            b"retry" => path_in(directory, rest).map(Self::Retry),
            b"flush" => path_in(directory, rest).map(Self::Flush),
            b"pause" => whole_mount("pause").map(|()| Self::Pause),
            b"resume" => whole_mount("resume").map(|()| Self::Resume),
            _ => Err(format!(
                "'{}' is no command; known are retry, flush, pause and resume",
                word.escape_ascii()
            )),
        }
    }
}

/// A path that somebody has written, as seen from a directory.
fn path_in(directory: &RelPath, given: &[u8]) -> Result<RelPath, String> {
    let path = RelPath::parse(given).ok_or_else(|| {
        format!(
            "'{}' is no path below the directory that .upload is in",
            given.escape_ascii()
        )
    })?;
    Ok(path
        .components()
        .fold(directory.clone(), |path, name| path.join(name)))
}
