//! The settings that a command line gives, and those of the configuration file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::Error;
use super::mounts::real_path;
use crate::config::{
    ConfigError, ConfigFile, NamedMount, Places, SETTINGS, Settings, Written, limits,
};
use crate::daemon::{self, Reread};

/// What [`limits`] are made of.
const LIMITS: [&str; 4] = ["workers", "bwlimit", "tps-limit", "upload-hours"];

/// For help: of the settings, which each command takes from where a mount does, these alone mean something to it.
pub fn only(used: &[&str], flag: clap::Arg) -> clap::Arg {
    let is_setting = flag.get_help_heading() == Some(SETTINGS);
    let is_used = used.contains(&flag.get_id().as_str());
    flag.hide(is_setting && !is_used)
}

/// For help: these settings mean nothing to the command.
pub fn without(unused: &[&str], flag: clap::Arg) -> clap::Arg {
    let is_unused = unused.contains(&flag.get_id().as_str());
    flag.hide(is_unused)
}

#[derive(Debug, Clone, clap::Args)]
pub struct Given {
    /// A TOML file with settings. [default: DIR.outboxfs.toml beside the directory or one above it,
    /// else ~/.config/outboxfs/config.toml, else /etc/outboxfs/config.toml]
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTBOXFS_CONFIG",
        hide_env = true,
        value_hint = clap::ValueHint::FilePath
    )]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

/// What holds for a path that was given.
#[derive(Debug)]
pub struct Found {
    /// What is given on the command line and in the environment, over what stands in the file.
    pub settings: Settings,
    /// The path; the directory, where it was the name of a mount.
    pub path: PathBuf,
    pub file: Option<ConfigFile>,
    /// The mount of the file that the path names, or lies in.
    pub mount: Option<NamedMount>,
}

impl Given {
    /// `path` is what the command is about: a path, or the name of a mount in the file.
    pub fn at(&self, path: &Path) -> Result<Found, Error> {
        let near = match real_path(path) {
            Ok(real) => Some(real),
            Err(_) => std::path::absolute(path).ok(),
        };
        let file = match &self.config {
            Some(file) => Some(ConfigFile::read(file)?),
            None => ConfigFile::find(near.as_deref(), &Places::from_env()?)?,
        };
        let mounts = match &file {
            Some(file) => file.mounts()?,
            None => Vec::new(),
        };
        let mut path = path.to_owned();
        let mount = match named(&path, &mounts)? {
            Some(mount) => {
                path = mount.directory.clone();
                Some(mount.clone())
            }
            None if is_name(&path) && !path.exists() && !mounts.is_empty() => {
                return Err(nobody(&path, file.as_ref(), &mounts));
            }
            None => near.and_then(|near| holding(&near, &mounts)),
        };
        let name = mount.as_ref().map(|mount| mount.name.as_str());
        Ok(Found {
            settings: self.over(file.as_ref(), name)?,
            path,
            file,
            mount,
        })
    }

    /// For a mount with the settings that were `found`: reads the file again.
    pub fn reread(&self, found: &Found) -> Result<Reread, ConfigError> {
        let Some(file) = &found.file else {
            let none =
                "there was no configuration file when it was mounted; unmount, and mount again";
            return Ok(Box::new(|| Err(none.to_owned())));
        };
        let mount = found.mount.as_ref().map(|mount| mount.name.clone());
        let (path, given) = (file.path().to_owned(), self.settings.clone());
        let before = file.written(mount.as_deref())?;
        let Settings {
            folder_workers,
            file_workers,
            sequential,
            ..
        } = found.settings;
        let read = move || {
            let file = ConfigFile::read(&path)?;
            let settings = Settings {
                // The number of workers follows from these too, but they are the next mount's.
                folder_workers,
                file_workers,
                sequential,
                ..given.clone().over(file.settings(mount.as_deref())?)
            };
            Ok(daemon::NewLimits {
                limits: limits(&settings)?,
                others: differing(&before, &file.written(mount.as_deref())?),
            })
        };
        Ok(Box::new(move || {
            read().map_err(|error: ConfigError| error.to_string())
        }))
    }

    /// What holds for every path that the file says nothing of.
    pub fn for_all(&self) -> Result<Found, Error> {
        let file = match &self.config {
            Some(file) => Some(ConfigFile::read(file)?),
            None => ConfigFile::find(None, &Places::from_env()?)?,
        };
        Ok(Found {
            settings: self.over(file.as_ref(), None)?,
            path: PathBuf::new(),
            file,
            mount: None,
        })
    }

    fn over(&self, file: Option<&ConfigFile>, mount: Option<&str>) -> Result<Settings, Error> {
        let given = self.settings.clone();
        Ok(match file {
            Some(file) => given.over(file.settings(mount)?),
            None => given,
        })
    }
}

/// Keys that mean something else than before, other than the limits'.
fn differing(before: &BTreeMap<String, Written>, now: &BTreeMap<String, Written>) -> Vec<String> {
    let is_same = |key: &str| {
        let value = |written: &BTreeMap<String, Written>| Some(written.get(key)?.value.clone());
        value(before) == value(now)
    };
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    keys.into_iter()
        .filter(|key| !LIMITS.contains(&key.as_str()) && !is_same(key))
        .cloned()
        .collect()
}

/// The mount that is called so, if `path` is a name.
fn named<'a>(path: &Path, mounts: &'a [NamedMount]) -> Result<Option<&'a NamedMount>, Error> {
    let is_same = |mount: &&NamedMount| Path::new(&mount.name).as_os_str() == path.as_os_str();
    let Some(mount) = mounts.iter().find(is_same) else {
        return Ok(None);
    };
    let (here, there) = (real_path(path), real_path(&mount.directory));
    if here.is_ok() && here.ok() != there.ok() {
        let (name, directory) = (&mount.name, mount.directory.display());
        return Err(Error::Refused(format!(
            "'{name}' is a directory here, and the name of a mount of {directory}; write ./{name} \
             or {directory}"
        )));
    }
    Ok(Some(mount))
}

/// The mount that a path lies in; the innermost.
fn holding(path: &Path, mounts: &[NamedMount]) -> Option<NamedMount> {
    let depth = |mount: &&NamedMount| {
        let places = [Some(&mount.directory), mount.mountpoint.as_ref()];
        let places = places.into_iter().flatten();
        let real = places.map(|place| real_path(place).unwrap_or_else(|_| place.clone()));
        real.filter(|place| path.starts_with(place))
            .map(|place| place.components().count())
            .max()
    };
    let holding = mounts.iter().filter(|mount| depth(mount).is_some());
    holding.max_by_key(depth).cloned()
}

/// Where a mount is that is only named: its mount point. What is no such name stays as it is.
pub fn place(path: &Path) -> Result<PathBuf, Error> {
    if !is_name(path) {
        return Ok(path.to_owned());
    }
    let mounts = match mounts_of_file() {
        Ok(mounts) => mounts,
        // What is there needs no file.
        Err(_) if path.symlink_metadata().is_ok() => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(match named(path, &mounts)? {
        Some(mount) => mount
            .mountpoint
            .as_ref()
            .unwrap_or(&mount.directory)
            .clone(),
        None => path.to_owned(),
    })
}

/// No path of several steps.
fn is_name(path: &Path) -> bool {
    matches!(
        path.components().collect::<Vec<_>>()[..],
        [Component::Normal(_)]
    )
}

fn nobody(name: &Path, file: Option<&ConfigFile>, mounts: &[NamedMount]) -> Error {
    let names: Vec<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
    let file = file.map_or_else(String::new, |file| file.path().display().to_string());
    Error::Refused(format!(
        "'{}' is neither a directory here nor a mount of {file}, which has: {}",
        name.display(),
        names.join(", ")
    ))
}

/// Those of the file that holds where nothing is said of a directory.
fn mounts_of_file() -> Result<Vec<NamedMount>, Error> {
    let file = match std::env::var_os("OUTBOXFS_CONFIG") {
        Some(file) => Some(ConfigFile::read(Path::new(&file))?),
        None => ConfigFile::find(None, &Places::from_env()?)?,
    };
    Ok(match file {
        Some(file) => file.mounts()?,
        None => Vec::new(),
    })
}
