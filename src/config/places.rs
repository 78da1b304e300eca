use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Where root's mounts keep everything, unless XDG variables say otherwise.
const SYSTEM: &str = "/var/lib";
/// Where the machine's configuration file is.
const MACHINE: &str = "/etc/outboxfs";
/// The configuration file's name, in a directory of ours,
const CONFIG: &str = "config.toml";
/// and what is added to a directory's name for the one beside it.
const BESIDE: &str = ".outboxfs.toml";
/// Characters of a directory's name that its state directory's name repeats.
const NAME_LENGTH: usize = 64;

/// Where journals, default remotes and configuration files lie
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    state: PathBuf,
    data: PathBuf,
    /// `None` without a home directory.
    config: Option<PathBuf>,
}

impl Places {
    /// The places of the user that runs this program.
    pub fn from_env() -> Result<Self, ConfigError> {
        let root = rustix::process::geteuid().is_root();
        Self::new(root, std::env::home_dir(), |name| std::env::var_os(name))
    }

    fn new(
        root: bool,
        home: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let place = |name: &str, below_home: &str| {
            // The specification: a relative path is to be ignored.
            let given = variable(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute());
            let usual = || match root {
                true => Some(PathBuf::from(SYSTEM)),
                false => Some(home.as_ref().filter(|h| h.is_absolute())?.join(below_home)),
            };
            given
                .or_else(usual)
                .map(|place| place.join("outboxfs"))
                .ok_or_else(|| {
                    ConfigError(format!("you have no home directory; set HOME or {name}"))
                })
        };
        let config = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join(".config")));
        Ok(Self {
            state: place("XDG_STATE_HOME", ".local/state")?,
            data: place("XDG_DATA_HOME", ".local/share")?,
            config: config
                .filter(|config| config.is_absolute())
                .map(|config| config.join("outboxfs")),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(state: PathBuf, data: PathBuf) -> Self {
        Self {
            state,
            data,
            config: None,
        }
    }

    /// Where configuration files are looked for, the first one counts: beside `near` (canonical) and
    /// the directories above it, the user's, the machine's.
    pub fn config_files(&self, near: Option<&Path>) -> Vec<PathBuf> {
        let beside = near.into_iter().flat_map(Path::ancestors);
        let beside = beside.filter_map(|directory| {
            let mut name = directory.file_name()?.to_owned();
            name.push(BESIDE);
            Some(directory.with_file_name(name))
        });
        beside
            .chain(self.own_config_file())
            .chain([Path::new(MACHINE).join(CONFIG)])
            .collect()
    }

    /// The user's configuration file.
    pub fn own_config_file(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|config| config.join(CONFIG))
    }

    /// Where a new configuration file belongs: for root, the machine's.
    pub fn new_config_file(&self) -> PathBuf {
        let own = self.own_config_file();
        own.filter(|_| !rustix::process::geteuid().is_root())
            .unwrap_or_else(|| Path::new(MACHINE).join(CONFIG))
    }

    /// The journal of a directory, given by its canonical path.
    pub fn journal(&self, directory: &Path) -> PathBuf {
        self.state.join(nickname(directory)).join("journal.db")
    }

    /// The remote of a directory for which none was given.
    pub fn remote(&self, directory: &Path) -> PathBuf {
        let remote = self.data.join(nickname(directory));
        if self.data == self.state {
            // The journal is there already; delivered files get a folder of their own.
            return remote.join("remote");
        }
        remote
    }
}

/// A name that people recognise and that only this directory has.
fn nickname(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name
        .chars()
        .take(NAME_LENGTH)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    let name = if name.is_empty() { "root" } else { &name };
    let hash = blake3::hash(directory.as_os_str().as_bytes()).to_hex();
    format!("{name}-{}", &hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: bool, variables: &[(&str, &str)]) -> Places {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Places::new(root, Some("/home/ann".into()), variable).unwrap()
    }

    #[test]
    fn users_keep_state_and_data_in_their_home() {
        let places = places(false, &[("XDG_STATE_HOME", "not/absolute")]);
        let dir = Path::new("/srv/My Pictures");
        let name = nickname(dir);
        assert!(
            name.starts_with("My_Pictures-") && name.len() == 20,
            "{name}"
        );
        assert_eq!(
            places.journal(dir),
            Path::new("/home/ann/.local/state/outboxfs")
                .join(&name)
                .join("journal.db")
        );
        assert_eq!(
            places.remote(dir),
            Path::new("/home/ann/.local/share/outboxfs").join(&name)
        );
    }

    #[test]
    fn root_keeps_both_below_var_lib_and_apart() {
        let places = places(true, &[]);
        let dir = Path::new("/srv/pictures");
        let own = Path::new("/var/lib/outboxfs").join(nickname(dir));
        assert_eq!(places.journal(dir), own.join("journal.db"));
        assert_eq!(places.remote(dir), own.join("remote"));
    }

    #[test]
    fn xdg_variables_win_for_root_too() {
        let places = places(true, &[("XDG_STATE_HOME", "/s"), ("XDG_DATA_HOME", "/d")]);
        assert!(places.journal(Path::new("/a")).starts_with("/s/outboxfs"));
        assert!(places.remote(Path::new("/a")).starts_with("/d/outboxfs"));
    }

    #[test]
    fn directories_of_one_name_are_told_apart() {
        assert_ne!(nickname(Path::new("/a/x")), nickname(Path::new("/b/x")));
        assert!(nickname(Path::new("/")).starts_with("root-"));
        let long = format!("/{}", "ü".repeat(127));
        assert!(nickname(Path::new(&long)).len() < 255);
    }

    #[test]
    fn configuration_is_looked_for_beside_then_at_home_then_for_all() {
        let files = places(false, &[]).config_files(Some(Path::new("/srv/rig/2024")));
        let expected = [
            "/srv/rig/2024.outboxfs.toml",
            "/srv/rig.outboxfs.toml",
            "/srv.outboxfs.toml",
            "/home/ann/.config/outboxfs/config.toml",
            "/etc/outboxfs/config.toml",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        let elsewhere = places(true, &[("XDG_CONFIG_HOME", "/c")]);
        let files = elsewhere.config_files(None);
        assert_eq!(files[0], Path::new("/c/outboxfs/config.toml"));
    }

    #[test]
    fn without_a_home_the_error_says_what_to_set() {
        let error = Places::new(false, None, |_| None).unwrap_err();
        assert!(error.to_string().contains("set HOME or XDG_STATE_HOME"));
    }
}
