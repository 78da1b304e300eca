//! Where remotes and row sinks find their secrets: never in a URL, where process lists and logs show them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::RemoteError;
use crate::config::MountSettings;

/// Where systemd puts what `LoadCredential=NAME` and its relatives name: a file each
/// (<https://systemd.io/CREDENTIALS/>).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The variables that hold secrets, or go with them.
pub const SECRETS: [&str; 15] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "SPACES_ACCESS_KEY",
    "SPACES_SECRET_KEY",
    "OUTBOXFS_RAILS_TOKEN",
    "OUTBOXFS_RAILS_PASSWORD",
    "CLOUDINARY_URL",
    "CLOUDINARY_API_KEY",
    "CLOUDINARY_API_SECRET",
    "SUPABASE_KEY",
    "SUPABASE_SERVICE_KEY",
    "SUPABASE_TOKEN",
    "POSTGREST_TOKEN",
    "PGPASSWORD",
];

/// Variables such as `AWS_ACCESS_KEY_ID`: those that are set here, else those of the process, else
/// systemd's credentials of that name, else those of a `.env` file; and whom to trust. Has no `Debug`, for it holds secrets.
#[derive(Clone, Default)]
pub struct Environment {
    over: HashMap<String, String>,
    file: HashMap<String, String>,
    credentials: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    insecure: bool,
}

impl Environment {
    /// What the process was started with.
    pub fn process() -> Self {
        Self {
            credentials: std::env::var_os(CREDENTIALS).map(PathBuf::from),
            ..Self::default()
        }
    }

    /// That, and a `.env` file where there is one.
    pub fn with_env_file(file: Option<&Path>) -> Result<Self, RemoteError> {
        let process = Self::process();
        match file {
            Some(file) => process.with_file(file),
            None => Ok(process),
        }
    }

    /// What a mount, push or other command is told.
    pub fn configured(settings: &MountSettings) -> Result<Self, RemoteError> {
        let mut environment =
            Self::with_env_file(settings.env_file.as_deref())?.with_insecure(settings.insecure);
        if let Some(file) = &settings.ca_file {
            environment = environment.with_ca_file(file);
        }
        Ok(environment)
    }

    /// The same with one variable set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.over.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with what a `.env` file adds. The file must be there, and be for its owner only.
    pub fn with_file(mut self, path: &Path) -> Result<Self, RemoteError> {
        // The reader's own errors repeat the line, which may be a secret.
        let failed =
            |why: &str| RemoteError::permanent(format!("reading {} failed: {why}", path.display()));
        let explain = |error: &dotenvy::Error| match error {
            dotenvy::Error::Io(error) => failed(&error.to_string()),
            _ => failed("each of its lines must be NAME=value, NAME='value' or a # comment"),
        };
        let metadata = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
        if !is_private(&metadata) {
            let advice = "other users could read the secrets in it; make it yours alone with 'chmod \
                          600' (its owner has to be you or root)";
            return Err(failed(advice));
        }
        for entry in dotenvy::from_path_iter(path).map_err(|error| explain(&error))? {
            let (name, value) = entry.map_err(|error| explain(&error))?;
            self.file.insert(name, value);
        }
        Ok(self)
    }

    /// The same with certificates that are trusted beside the system's: a PEM file.
    pub fn with_ca_file(mut self, path: &Path) -> Self {
        self.ca_file = Some(path.to_owned());
        self
    }

    /// The same, and secrets may go over `http://` beyond this machine.
    pub fn with_insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Whether secrets may go to other machines in the clear.
    pub fn insecure(&self) -> bool {
        self.insecure
    }

    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// A variable's value; one that is empty counts as not set.
    pub fn get(&self, name: &str) -> Option<String> {
        let over = self.over.get(name).cloned();
        over.or_else(|| std::env::var(name).ok())
            .or_else(|| self.credential(name))
            .or_else(|| self.file.get(name).cloned())
            .filter(|value| !value.is_empty())
    }

    /// Where a variable's value comes from, for people; `None` if it has none.
    pub fn source(&self, name: &str) -> Option<&'static str> {
        self.get(name)?;
        Some(match std::env::var_os(name).is_some() {
            true => "environment",
            false if self.credential(name).is_some() => "systemd credential",
            false => "env-file",
        })
    }

    fn credential(&self, name: &str) -> Option<String> {
        let file = self.credentials.as_ref()?.join(name);
        // As editors and 'echo' leave it, with a newline that does not belong to the secret.
        let text = fs::read_to_string(file).ok()?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Nobody but its owner may read it, and the owner is the one who runs this, or root.
fn is_private(metadata: &fs::Metadata) -> bool {
    let me = rustix::process::geteuid().as_raw();
    // A pipe or device (`/dev/fd/3`) is nothing that lies around.
    !metadata.is_file()
        || metadata.mode() & 0o077 == 0 && (metadata.uid() == me || metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_set_goes_before_the_process_and_empty_is_unset() {
        let path = Environment::process().get("PATH");
        assert!(path.is_some());
        assert_eq!(Environment::process().with("PATH", "").get("PATH"), None);
        let set = Environment::process().with("OUTBOXFS_X", "1");
        assert_eq!(set.get("OUTBOXFS_X").as_deref(), Some("1"));
    }

    #[test]
    fn a_file_adds_what_the_process_has_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# comment\nexport OUTBOXFS_Y='two words'\nPATH=/nowhere\n";
        std::fs::write(file.path(), text).unwrap();
        let environment = Environment::process().with_file(file.path()).unwrap();
        let y = environment.get("OUTBOXFS_Y");
        assert_eq!(y.as_deref(), Some("two words"));
        assert_ne!(environment.get("PATH").as_deref(), Some("/nowhere"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "SECRET=hunter2\n").unwrap();
        for (mode, is_taken) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let taken = Environment::process().with_file(file.path());
            assert_eq!(taken.is_ok(), is_taken, "{mode:o}");
            if let Err(error) = taken {
                assert!(error.message.contains("chmod 600"), "{error}");
            }
        }
    }

    #[test]
    fn credentials_of_systemd_go_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("OUTBOXFS_Z"), "from systemd\n").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "OUTBOXFS_Z=from-file\nOUTBOXFS_W=w\n").unwrap();
        let environment = Environment {
            credentials: Some(folder.path().to_owned()),
            ..Environment::default()
        };
        let environment = environment.with_file(file.path()).unwrap();
        assert_eq!(
            environment.get("OUTBOXFS_Z").as_deref(),
            Some("from systemd")
        );
        let source = |name| environment.source(name);
        assert_eq!(source("OUTBOXFS_Z"), Some("systemd credential"));
        assert_eq!(source("OUTBOXFS_W"), Some("env-file"));
        assert_eq!(source("PATH"), Some("environment"));
        assert_eq!(source("OUTBOXFS_V"), None);
    }

    #[test]
    fn a_broken_file_is_said_without_its_secrets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SECRET hunter2\n").unwrap();
        let error = Environment::process().with_file(file.path()).err().unwrap();
        assert!(error.message.contains("NAME=value"), "{error}");
        assert!(!error.message.contains("hunter2"), "{error}");
        let missing = Path::new("/no/such/.env");
        let error = Environment::process().with_file(missing).err().unwrap();
        assert!(error.message.contains("/no/such/.env"), "{error}");
    }
}
