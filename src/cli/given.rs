//! The settings that a command line gives, and those of the file that it names.

use std::path::PathBuf;

use super::Error;
use crate::config::Settings;

#[derive(Debug, Clone, clap::Args)]
pub struct Given {
    /// A TOML file with settings.
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

impl Given {
    /// What is given here goes before what stands in the file.
    pub fn settings(&self) -> Result<Settings, Error> {
        let given = self.settings.clone();
        match &self.config {
            Some(file) => Ok(given.over(Settings::from_file(file)?)),
            None => Ok(given),
        }
    }
}
