//! The configuration file: settings, and mounts with names that may have settings of their own.
//!
//! ```toml
//! remote = "s3://bucket/prefix"
//!
//! [mounts.rig]
//! directory = "/srv/rig"
//! workers = 4
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{ConfigError, Places, Settings};

/// The table of named mounts.
const MOUNTS: &str = "mounts";
/// What a named mount has that is no setting.
const DIRECTORY: &str = "directory";
const MOUNTPOINT: &str = "mountpoint";

/// A file that was read and has no mistakes.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
}

/// A mount that a file names; absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMount {
    pub name: String,
    pub directory: PathBuf,
    pub mountpoint: Option<PathBuf>,
}

/// A value as it stands in the file, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub line: usize,
    pub value: String,
}

impl ConfigFile {
    /// Reads a file that somebody has named. Errors tell its line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let path = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
        Self::of(&path, text)
    }

    /// The same for a text that stands in the file at `path`, or will.
    pub fn of(path: &Path, text: String) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let file = Self { path, text };
        file.settings(None)?;
        for mount in file.mounts()? {
            file.settings(Some(&mount.name))?;
        }
        Ok(file)
    }

    /// The first file of those that are looked for: beside `near` (which is canonical) or a directory
    /// above it, then the user's, then the machine's.
    pub fn find(near: Option<&Path>, places: &Places) -> Result<Option<Self>, ConfigError> {
        for path in places.config_files(near) {
            match fs::metadata(&path) {
                Ok(metadata) => {
                    refuse_writable_by_others(&path, &metadata)?;
                    return Self::read(&path).map(Some);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok(None)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its named mounts.
    pub fn mounts(&self) -> Result<Vec<NamedMount>, ConfigError> {
        let parsed = self.parse()?;
        Ok(parsed
            .mounts
            .into_values()
            .map(|(mount, _)| mount)
            .collect())
    }

    /// Its settings, with those of the mount of that name in their place. Relative paths are meant
    /// from the file's directory.
    pub fn settings(&self, mount: Option<&str>) -> Result<Settings, ConfigError> {
        let table = self.parse()?.table_of(mount);
        let mut settings = deserialize(table).map_err(|mistake| self.explain(mistake))?;
        let paths = [
            &mut settings.journal,
            &mut settings.env_file,
            &mut settings.ca_file,
        ];
        for path in paths.into_iter().flatten() {
            *path = self.locate(path);
        }
        Ok(settings)
    }

    /// What stands where of these settings, by key.
    pub fn written(&self, mount: Option<&str>) -> Result<BTreeMap<String, Written>, ConfigError> {
        let table = self.parse()?.table_of(mount);
        let written = |(key, value): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| {
            let words = self.text[value.span()].split_whitespace();
            let written = Written {
                line: line(&self.text, key.span().start),
                value: words.collect::<Vec<_>>().join(" "),
            };
            (key.into_inner().into_owned(), written)
        };
        Ok(table.into_iter().map(written).collect())
    }

    fn parse(&self) -> Result<Parsed<'_>, ConfigError> {
        let locate = |path: &str| self.locate(Path::new(path));
        parse(&self.text, locate).map_err(|mistake| self.explain(mistake))
    }

    fn explain(&self, (at, what): Mistake) -> ConfigError {
        let line = line(&self.text, at);
        ConfigError(format!("{}:{line}: {what}", self.path.display()))
    }

    /// `~/x` is in the home directory, other relative paths are beside the file.
    fn locate(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), std::env::home_dir()) {
            (Ok(below), Some(home)) => home.join(below),
            _ => self.path.parent().unwrap_or(Path::new("/")).join(path),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError(format!(
        "cannot read the configuration file {}: {error}",
        path.display()
    ))
}

/// Not there, or in a directory that is not for us: then it is not meant for us.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    let is_dead_mount = error.raw_os_error() == Some(libc::ENOTCONN);
    is_dead_mount
        || matches!(
            error.kind(),
            NotFound | NotADirectory | PermissionDenied | InvalidFilename
        )
}

/// A file that nobody named decides where everything goes, and what is run: it has to be ours.
fn refuse_writable_by_others(path: &Path, metadata: &fs::Metadata) -> Result<(), ConfigError> {
    let me = rustix::process::geteuid().as_raw();
    let is_ours = metadata.uid() == me || metadata.uid() == 0;
    if is_ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(ConfigError(format!(
        "the configuration file {shown} could be changed by other users; make it yours alone with \
         'chmod go-w {shown}' (its owner has to be you or root), or name it with --config"
    )))
}

/// Where in the text something is wrong, and what.
type Mistake = (usize, String);

struct Parsed<'t> {
    common: DeTable<'t>,
    mounts: BTreeMap<String, (NamedMount, DeTable<'t>)>,
}

impl<'t> Parsed<'t> {
    fn table_of(mut self, mount: Option<&str>) -> DeTable<'t> {
        let mut table = self.common;
        let own = mount.and_then(|mount| self.mounts.remove(mount));
        for (key, value) in own.into_iter().flat_map(|(_, own)| own) {
            // An equal key would stay where it was, with its line.
            table.remove(&key);
            table.insert(key, value);
        }
        table
    }
}

fn parse(text: &str, locate: impl Fn(&str) -> PathBuf) -> Result<Parsed<'_>, Mistake> {
    let table = DeTable::parse(text).map_err(mistake)?;
    let mut common = table.into_inner();
    let mut mounts = BTreeMap::new();
    for (name, mut table) in tables(&mut common)? {
        let at = name.span().start;
        let name = name.into_inner().into_owned();
        let directory = path_of(&mut table, DIRECTORY)?.ok_or_else(|| {
            let what = format!("the mount '{name}' has no directory; add directory = \"/path\"");
            (at, what)
        })?;
        let mount = NamedMount {
            name: name.clone(),
            directory: locate(&directory),
            mountpoint: path_of(&mut table, MOUNTPOINT)?.map(|path| locate(&path)),
        };
        mounts.insert(name, (mount, table));
    }
    Ok(Parsed { common, mounts })
}

type Entry<'t> = (Spanned<Cow<'t, str>>, DeTable<'t>);

/// Takes the named mounts out of the file's table.
fn tables<'t>(table: &mut DeTable<'t>) -> Result<Vec<Entry<'t>>, Mistake> {
    let Some(mounts) = table.remove(MOUNTS) else {
        return Ok(Vec::new());
    };
    let wrong = |at: usize| {
        let what = "mounts are tables with names: [mounts.NAME]";
        (at, what.to_owned())
    };
    let at = mounts.span().start;
    let DeValue::Table(mounts) = mounts.into_inner() else {
        return Err(wrong(at));
    };
    let entry = |(name, mount): (Spanned<Cow<'t, str>>, Spanned<DeValue<'t>>)| {
        let at = name.span().start;
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.get_ref().is_empty() || !name.get_ref().chars().all(is_good) {
            let what = "the name of a mount has letters, digits, '-', '_' and '.' only";
            return Err((at, what.to_owned()));
        }
        match mount.into_inner() {
            DeValue::Table(mount) => Ok((name, mount)),
            _ => Err(wrong(at)),
        }
    };
    mounts.into_iter().map(entry).collect()
}

fn path_of(table: &mut DeTable<'_>, key: &str) -> Result<Option<String>, Mistake> {
    let Some(value) = table.remove(key) else {
        return Ok(None);
    };
    let at = value.span().start;
    match value.into_inner() {
        DeValue::String(path) if !path.is_empty() => Ok(Some(path.into_owned())),
        _ => Err((at, format!("{key} has to be a path: {key} = \"/path\""))),
    }
}

fn deserialize(table: DeTable<'_>) -> Result<Settings, Mistake> {
    let values: Vec<_> = table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), value.span()))
        .collect();
    let table = Spanned::new(0..0, table);
    Settings::deserialize(Deserializer::from(table)).map_err(|error| {
        let (at, what) = mistake(error);
        // Of a value the parser names what is wrong with it, and not whose it is.
        match values.into_iter().find(|(_, value)| value.contains(&at)) {
            Some((key, _)) => (at, format!("{key}: {what}")),
            None => (at, what),
        }
    })
}

fn mistake(error: toml::de::Error) -> Mistake {
    let at = error.span().map_or(0, |span| span.start);
    // The parser's message may itself have several lines; people get one.
    (at, error.message().replace('\n', ", "))
}

/// The line, from 1, of a place in the text.
fn line(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::of(Path::new("/etc/o.toml"), text.to_owned())
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, what) in [
            ("workers = 3\nworker = 3\n", 2, "unknown field `worker`"),
            ("\n\nworkers = 0\n", 3, "workers: "),
            ("\n\nworkers = 0\n", 3, "from 1 to 256"),
            ("settle = \"soon\"\n", 1, "settle: invalid type"),
            ("workers = 3\nsettle = \n", 2, ""),
            ("\nremote = \"ftp://x/y\"\n", 2, "unknown"),
            ("remote = \"s3://key:hush@bucket/\"\n", 1, "credentials"),
            ("mounts = 3\n", 1, "[mounts.NAME]"),
            ("[mounts]\nrig = 3\n", 2, "[mounts.NAME]"),
            ("[mounts.'a/b']\ndirectory = '/a'\n", 1, "letters, digits"),
            ("\n[mounts.rig]\nworkers = 3\n", 2, "has no directory"),
            ("[mounts.rig]\ndirectory = 3\n", 2, "has to be a path"),
            (
                "[mounts.rig]\ndirectory = '/a'\nworker = 3\n",
                3,
                "unknown field `worker`",
            ),
            (
                "workers = 3\n[mounts.rig]\ndirectory = '/a'\nworkers = 0\n",
                4,
                "from 1 to 256",
            ),
        ] {
            let message = file(text).unwrap_err().to_string();
            let place = format!("/etc/o.toml:{line}: ");
            assert!(message.starts_with(&place), "{text}: {message}");
            assert!(message.contains(what), "{text}: {message}");
            assert!(
                !message.contains('\n') && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_mount_has_what_is_set_for_all_and_its_own() {
        let file = file(
            "workers = 3\nsettle = 0\njournal = 'j.db'\n\
             [mounts.rig]\ndirectory = '/srv/rig'\nmountpoint = 'rig'\nworkers = 4\n\
             [mounts.cam-1]\ndirectory = 'cam'\n",
        )
        .unwrap();
        let rig = file.settings(Some("rig")).unwrap();
        assert_eq!(rig.workers.unwrap().get(), 4);
        assert_eq!(rig.settle.unwrap().get(), 0);
        assert_eq!(rig.journal.unwrap(), Path::new("/etc/j.db"));
        let workers = |mount| file.settings(mount).unwrap().workers.unwrap().get();
        assert_eq!((workers(Some("cam-1")), workers(None)), (3, 3));
        let mounts = file.mounts().unwrap();
        assert_eq!(mounts[0].directory, Path::new("/etc/cam"));
        assert_eq!(mounts[0].mountpoint, None);
        assert_eq!(mounts[1].directory, Path::new("/srv/rig"));
        assert_eq!(mounts[1].mountpoint.as_deref(), Some(Path::new("/etc/rig")));

        let written = file.written(Some("rig")).unwrap();
        let of = |key: &str| (written[key].line, written[key].value.as_str());
        assert_eq!(of("workers"), (7, "4"));
        assert_eq!(of("settle"), (2, "0"));
        assert_eq!(written.len(), 3, "{written:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ConfigFile::read(Path::new("/nowhere/o.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/o.toml"), "{error}");
    }
}
