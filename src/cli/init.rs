//! `outboxfs init`

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Error, complain, say};
use crate::config::{ConfigFile, Places, RemoteUrl, RowsUrl, described};
use crate::remote::Environment;

const EXAMPLES: &str = "\
Examples:
  outboxfs init
      Asks for what it needs, tries it, and writes a commented configuration file.
  outboxfs init rig --directory /srv/rig \\
      --remote 's3://rig-7/raw?endpoint=https://s3.example.org'
      Asks for the rest only; 'outboxfs mount rig' mounts it then.

Exit codes:
  0  written
  1  what was answered does not work; nothing is written
  2  wrong usage, or the file has such a mount";

/// Characters of a line of the file.
const WIDTH: usize = 98;

/// Write a configuration file, or add a mount to it.
///
/// What is not given is asked for on standard input, a line each. The remote and the row sink are tried
/// before anything is written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// What the mount is to be called. [default: the directory's name]
    name: Option<String>,

    /// Where to write. [default: /etc/outboxfs/config.toml for root, else
    /// ~/.config/outboxfs/config.toml]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// The directory where the files are kept.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    directory: Option<PathBuf>,

    /// Where they are written and read, if not in that directory itself.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    mountpoint: Option<PathBuf>,

    /// Where they go.
    #[arg(long, value_name = "URL")]
    remote: Option<RemoteUrl>,

    /// Where rows go.
    #[arg(long, value_name = "URL")]
    rows: Option<RowsUrl>,

    /// A `.env` file with the remote's secrets.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    env_file: Option<PathBuf>,

    /// Write without trying the remote and the row sink.
    #[arg(long)]
    no_check: bool,
}

pub fn run(args: InitArgs) -> Result<ExitCode, Error> {
    let path = match &args.config {
        Some(path) => absolute(path)?,
        None => Places::from_env()?.new_config_file(),
    };
    let ask = Ask::new();
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => ask.needed("Directory where the files are kept")?.into(),
    };
    let directory = absolute(&directory)?;
    if !directory.is_dir() {
        let shown = directory.display();
        return Err(Error::Refused(format!(
            "{shown} is no directory; make it with 'mkdir -p {shown}'"
        )));
    }
    let name = args.name.unwrap_or_else(|| name_of(&directory));
    let old = old_text(&path, &name)?;
    let usual = "a directory on this machine";
    let remote = ask.optional(args.remote, "URL of the remote", usual)?;
    let usual = "rows.db in the remote's directory, none for other remotes";
    let rows = ask.optional(args.rows, "URL of the rows", usual)?;
    let secrets = match (&remote, &args.env_file) {
        (Some(remote), None) => ask.secrets(remote)?,
        _ => Vec::new(),
    };
    let env_file = match secrets.is_empty() {
        true => args.env_file.as_deref().map(absolute).transpose()?,
        false => Some(path.with_file_name(format!("{name}.env"))),
    };
    let mount = Mount {
        directory,
        mountpoint: args.mountpoint.as_deref().map(absolute).transpose()?,
        remote,
        rows,
        env_file,
    };
    if !args.no_check {
        mount.check(&secrets)?;
    }
    let text = old.unwrap_or_else(commented) + &mount.section(&name)?;
    // Before anything is written: a mistake in it would be ours.
    ConfigFile::of(&path, text.clone())?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    }
    if let (Some(file), false) = (&mount.env_file, secrets.is_empty()) {
        write_secrets(file, &secrets).map_err(|error| cannot_write(file, &error))?;
        say(&format!(
            "{} has the secrets, for you alone\n",
            file.display()
        ));
    }
    write(&path, &text).map_err(|error| cannot_write(&path, &error))?;
    let shown = path.display();
    say(&format!(
        "{shown} has the mount '{name}'; 'outboxfs mount {name}' mounts it\n"
    ));
    Ok(ExitCode::SUCCESS)
}

struct Mount {
    directory: PathBuf,
    mountpoint: Option<PathBuf>,
    remote: Option<RemoteUrl>,
    rows: Option<RowsUrl>,
    env_file: Option<PathBuf>,
}

impl Mount {
    /// What there is to try: a remote that is made at the first mount is not there yet.
    fn check(&self, secrets: &[(&str, String)]) -> Result<(), Error> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let mut command = Command::new("/proc/self/exe");
        command.args(["check", "--remote", remote.as_url().as_str()]);
        if let Some(rows) = &self.rows {
            command.args(["--rows", rows.as_url().as_str()]);
        }
        if let Some(file) = self.env_file.as_ref().filter(|_| secrets.is_empty()) {
            command.arg("--env-file").arg(file);
        }
        let status = command
            .envs(secrets.iter().map(|(name, value)| (name, value)))
            .status()
            .map_err(|error| Error::Failed(format!("cannot run the check: {error}")))?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::Failed(
                "this does not work; nothing is written (--no-check writes it all the same)"
                    .to_owned(),
            )),
        }
    }

    fn section(&self, name: &str) -> Result<String, Error> {
        let mut section = format!("\n[mounts.{name}]\n");
        let url = |url: &url::Url| url.as_str().to_owned();
        let lines = [
            ("directory", Some(text_of(&self.directory)?)),
            (
                "mountpoint",
                self.mountpoint.as_deref().map(text_of).transpose()?,
            ),
            (
                "remote",
                self.remote.as_ref().map(|remote| url(remote.as_url())),
            ),
            ("rows", self.rows.as_ref().map(|rows| url(rows.as_url()))),
            (
                "env-file",
                self.env_file.as_deref().map(text_of).transpose()?,
            ),
        ];
        for (key, value) in lines {
            if let Some(value) = value {
                // A string of JSON is one of TOML.
                section += &format!("{key} = {}\n", serde_json::Value::from(value));
            }
        }
        Ok(section)
    }
}

/// The file as it is, if there is one, and it does not have that mount.
fn old_text(path: &Path, name: &str) -> Result<Option<String>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let file = ConfigFile::read(path)?;
    match file.mounts()?.iter().any(|mount| mount.name == name) {
        true => Err(Error::Refused(format!(
            "{} has a mount '{name}' already; give another name, or change it there",
            path.display()
        ))),
        false => Ok(Some(file.text().to_owned())),
    }
}

/// A new file: every setting, commented out.
fn commented() -> String {
    let mut text =
        "# Settings of outboxfs, for all mounts; the mounts are at the end. Flags and OUTBOXFS_\n\
                    # variables go before them. 'outboxfs config show' tells what holds, and why.\n"
            .to_owned();
    for setting in described() {
        text += "\n";
        for line in textwrap::wrap(&setting.about, WIDTH) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{}\n", setting.example);
    }
    text
}

/// Letters and digits of the directory's last name.
fn name_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    match name.trim_matches('-') {
        "" => "files".to_owned(),
        name => name.to_owned(),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| Error::Refused(format!("'{}' is no path: {error}", path.display())))
}

fn text_of(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let shown = path.display();
        Error::Refused(format!(
            "{shown} is not UTF-8, which the file could not hold"
        ))
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::Failed(format!("cannot write {}: {error}", path.display()))
}

/// Readable for its owner alone from the beginning.
fn write_secrets(path: &Path, secrets: &[(&str, String)]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for (name, value) in secrets {
        writeln!(file, "{name}='{value}'")?;
    }
    Ok(())
}

/// The old file stays whole until the new one is.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("toml.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    options.open(&temporary)?.write_all(text.as_bytes())?;
    fs::rename(temporary, path)
}

/// Questions on standard error, answers from standard input.
struct Ask {
    is_terminal: bool,
}

impl Ask {
    fn new() -> Self {
        Self {
            is_terminal: io::stdin().is_terminal(),
        }
    }

    fn line(&self, question: &str) -> Result<String, Error> {
        let failed = |error: io::Error| Error::Failed(format!("cannot ask: {error}"));
        let _ = write!(io::stderr(), "{question}: ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer).map_err(failed)?;
        if !self.is_terminal {
            let _ = writeln!(io::stderr());
        }
        match read {
            0 => Err(Error::Refused(format!(
                "nobody answers '{question}'; 'outboxfs init --help' tells the flag for it"
            ))),
            _ => Ok(answer.trim().to_owned()),
        }
    }

    fn needed(&self, question: &str) -> Result<String, Error> {
        match self.line(question)? {
            answer if answer.is_empty() => self.needed(question),
            answer => Ok(answer),
        }
    }

    /// An empty answer is none. A person may correct himself.
    fn optional<T>(&self, given: Option<T>, question: &str, usual: &str) -> Result<Option<T>, Error>
    where
        T: FromStr<Err = String>,
    {
        if given.is_some() {
            return Ok(given);
        }
        let answer = self.line(&format!("{question} [{usual}]"))?;
        match answer.parse() {
            _ if answer.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) if self.is_terminal => {
                complain(&error);
                self.optional(None, question, usual)
            }
            Err(error) => Err(Error::Refused(error)),
        }
    }

    /// What an S3 service wants to know, if the environment does not tell.
    fn secrets(&self, remote: &RemoteUrl) -> Result<Vec<(&'static str, String)>, Error> {
        let url = remote.as_url();
        let has_profile = url.query_pairs().any(|(name, _)| name == "profile");
        let environment = Environment::process();
        let is_set = |name: &str| environment.get(name).is_some();
        if url.scheme() != "s3"
            || has_profile
            || is_set("AWS_ACCESS_KEY_ID")
            || is_set("AWS_PROFILE")
        {
            return Ok(Vec::new());
        }
        let id = self.line("Access key [none: profiles and roles, as for other AWS programs]")?;
        if id.is_empty() {
            return Ok(Vec::new());
        }
        let secret = self.hidden("Secret key (not shown)")?;
        if [&id, &secret].iter().any(|text| text.contains('\'')) {
            return Err(Error::Refused("a key has no quotes".to_owned()));
        }
        Ok(vec![
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ])
    }

    /// A line that a terminal does not show.
    fn hidden(&self, question: &str) -> Result<String, Error> {
        let stdin = io::stdin();
        let usual = tcgetattr(&stdin).ok();
        if let Some(mut hidden) = usual.clone() {
            hidden.local_modes.remove(LocalModes::ECHO);
            // A terminal that cannot do it shows the line, as all terminals do.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &hidden);
        }
        let answer = self.needed(question);
        if let Some(usual) = usual {
            let _ = tcsetattr(&stdin, OptionalActions::Now, &usual);
            let _ = writeln!(io::stderr());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_every_setting_and_sets_none() {
        let text = commented();
        let file = ConfigFile::of(Path::new("/etc/o.toml"), text.clone()).unwrap();
        assert_eq!(file.written(None).unwrap().len(), 0);
        for setting in described() {
            let line = format!("\n#{} = ", setting.key);
            assert_eq!(text.matches(&line).count(), 1, "{}", setting.key);
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH + 2));
    }

    #[test]
    fn mounts_are_named_after_their_directories() {
        assert_eq!(name_of(Path::new("/srv/Rig 7")), "rig-7");
        assert_eq!(name_of(Path::new("/")), "files");
    }
}
