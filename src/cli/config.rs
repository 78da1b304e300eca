//! `outboxfs config`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::given::{Found, Given};
use super::{Error, say};
use crate::config::{Described, described};
use crate::remote::{Environment, SECRETS};

const EXAMPLES: &str = "\
Examples:
  outboxfs config show
  outboxfs config show rig
      What holds for the mount [mounts.rig] of the configuration file.
  outboxfs config show ~/Pictures --workers 4

Exit codes:
  0  shown
  2  wrong usage, or something in the settings is wrong";

/// Look at the settings.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    Show(Box<ShowArgs>),
}

/// Show each setting, its value and where that comes from; of secrets only where they come from.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// The directory, or the name of a mount in the configuration file. [default: what holds for
    /// all]
    #[arg(value_name = "DIR|NAME", value_hint = clap::ValueHint::DirPath)]
    path: Option<PathBuf>,

    #[command(flatten)]
    given: Given,
}

/// `matches` are those of the whole command line: they know where values come from.
pub fn run(args: ConfigArgs, matches: &ArgMatches) -> Result<ExitCode, Error> {
    let ConfigCommand::Show(args) = args.command;
    let matches = ["config", "show"]
        .into_iter()
        .try_fold(matches, |matches, name| matches.subcommand_matches(name));
    let found = match &args.path {
        Some(path) => args.given.at(path)?,
        None => args.given.for_all()?,
    };
    let mut lines = Vec::new();
    if let Some(mount) = &found.mount {
        let mountpoint = mount.mountpoint.as_ref().unwrap_or(&mount.directory);
        let at = format!("[mounts.{}]", mount.name);
        lines.push([
            "directory".into(),
            mount.directory.display().to_string(),
            at.clone(),
        ]);
        lines.push(["mountpoint".into(), mountpoint.display().to_string(), at]);
    }
    lines.extend(settings(&found, matches)?);
    lines.extend(secrets(&found)?);
    say(&table(&lines));
    Ok(ExitCode::SUCCESS)
}

/// Key, value, source.
type Line = [String; 3];

fn settings(found: &Found, matches: Option<&ArgMatches>) -> Result<Vec<Line>, Error> {
    let mount = found.mount.as_ref().map(|mount| mount.name.as_str());
    let mut written = match &found.file {
        Some(file) => file.written(mount)?,
        None => Default::default(),
    };
    let path = found.file.as_ref().map(|file| file.path().display());
    let mut lines = Vec::new();
    for setting in described() {
        let in_file = written.remove(&setting.key);
        let line = match (given(&setting, matches), in_file, &path) {
            (Some((value, source)), _, _) => [setting.key, value, source],
            (None, Some(written), Some(path)) => [
                setting.key,
                written.value,
                format!("{path}:{}", written.line),
            ],
            _ => {
                let default = setting.default.unwrap_or_else(|| "-".to_owned());
                [setting.key, default, "default".to_owned()]
            }
        };
        lines.push(line);
    }
    // What has no flag.
    let further = written.into_iter().zip(path.iter().cycle());
    lines
        .extend(further.map(|((key, written), path)| {
            [key, written.value, format!("{path}:{}", written.line)]
        }));
    Ok(lines)
}

/// The value from the command line or the environment, and which.
fn given(setting: &Described, matches: Option<&ArgMatches>) -> Option<(String, String)> {
    let matches = matches?;
    let source = match matches.value_source(&setting.id)? {
        ValueSource::CommandLine => format!("--{}", setting.key),
        ValueSource::EnvVariable => setting.variable.clone(),
        _ => return None,
    };
    let values = matches.get_raw(&setting.id)?;
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    Some((values.join(", "), source))
}

fn secrets(found: &Found) -> Result<Vec<Line>, Error> {
    let file = found.settings.env_file.as_deref();
    let environment =
        Environment::with_env_file(file).map_err(|error| Error::Refused(error.message))?;
    let of = |name: &&str| {
        let source = match environment.source(name)? {
            "env-file" => file?.display().to_string(),
            source => source.to_owned(),
        };
        Some([(*name).to_owned(), "********".to_owned(), source])
    };
    Ok(SECRETS.iter().filter_map(of).collect())
}

fn table(lines: &[Line]) -> String {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0).min(48)
    };
    let (keys, values) = (width(0), width(1));
    lines
        .iter()
        .map(|[key, value, source]| format!("{key:<keys$}  {value:<values$}  {source}\n"))
        .collect()
}
