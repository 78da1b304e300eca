//! Where remotes and row sinks find their secrets: never in a URL, where process lists and logs show them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::RemoteError;
use crate::config::MountSettings;

/// Variables such as `AWS_ACCESS_KEY_ID`: those that are set here, else those of the process, else
/// those of a `.env` file; and whom to trust. Has no `Debug`, for it holds secrets.
#[derive(Clone, Default)]
pub struct Environment {
    over: HashMap<String, String>,
    file: HashMap<String, String>,
    ca_file: Option<PathBuf>,
    insecure: bool,
}

impl Environment {
    /// What the process was started with.
    pub fn process() -> Self {
        Self::default()
    }

    /// What a mount, push or other command is told.
    pub fn configured(settings: &MountSettings) -> Result<Self, RemoteError> {
        let mut environment = Self::process().with_insecure(settings.insecure);
        if let Some(file) = &settings.env_file {
            environment = environment.with_file(file)?;
        }
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

    /// The same with what a `.env` file adds. The file must be there.
    pub fn with_file(mut self, path: &Path) -> Result<Self, RemoteError> {
        // The reader's own errors repeat the line, which may be a secret.
        let failed =
            |why: &str| RemoteError::permanent(format!("reading {} failed: {why}", path.display()));
        let explain = |error: &dotenvy::Error| match error {
            dotenvy::Error::Io(error) => failed(&error.to_string()),
            _ => failed("each of its lines must be NAME=value, NAME='value' or a # comment"),
        };
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

    pub(super) fn insecure(&self) -> bool {
        self.insecure
    }

    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// A variable's value; one that is empty counts as not set.
    pub fn get(&self, name: &str) -> Option<String> {
        let over = self.over.get(name).cloned();
        over.or_else(|| std::env::var(name).ok())
            .or_else(|| self.file.get(name).cloned())
            .filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
