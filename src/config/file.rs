use std::fs;
use std::path::Path;

use super::{ConfigError, Settings};

impl Settings {
    /// Reads a TOML file. A relative `journal` is meant from the file's directory. Errors name the
    /// file and the line.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigError(format!(
                "cannot read the configuration file {}: {error}",
                path.display()
            ))
        })?;
        let mut settings = parse(&text)
            .map_err(|(line, what)| ConfigError(format!("{}:{line}: {what}", path.display())))?;
        if let (Some(journal), Some(folder)) = (&mut settings.journal, path.parent()) {
            *journal = folder.join(&journal);
        }
        Ok(settings)
    }
}

/// The settings in `text`, or the line (from 1) where something is wrong and what it is.
fn parse(text: &str) -> Result<Settings, (usize, String)> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        // The parser's message may itself have several lines; people get one.
        (line, error.message().replace('\n', ", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_line() {
        for (text, line, what) in [
            ("workers = 3\nworker = 3\n", 2, "unknown field `worker`"),
            ("\n\nworkers = 0\n", 3, "from 1 to 256"),
            ("settle = \"soon\"\n", 1, "invalid type"),
            ("workers = 3\nsettle = \n", 2, ""),
            ("\nremote = \"ftp://x/y\"\n", 2, "unknown"),
            ("remote = \"s3://key:hush@bucket/\"\n", 1, "credentials"),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text}: {message}");
            assert!(message.contains(what), "{text}: {message}");
            assert!(
                !message.contains('\n') && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_relative_journal_lies_beside_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outboxfs.toml");
        fs::write(&file, "journal = \"j.db\"\n").unwrap();
        let settings = Settings::from_file(&file).unwrap();
        assert_eq!(settings.journal, Some(folder.path().join("j.db")));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Settings::from_file(Path::new("/nowhere/o.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/o.toml"), "{error}");
    }
}
