//! `outboxfs check`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Error, FAILED, say};
use crate::config::{RemoteUrl, RowsUrl};
use crate::path::RelPath;
use crate::remote::{self, Artifact, Body, Environment, Key, Listed, Put, Remote, RemoteError};
use crate::rows;
use crate::status::one_line;

const EXAMPLES: &str = "\
Examples:
  outboxfs check --remote 's3://rig-7/raw?endpoint=https://s3.example.org'
  outboxfs check --remote file:///mnt/nas/rig --rows sqlite:/srv/rows.db

Exit codes:
  0  everything works
  1  a step failed; delivery needs write, verify needs list and read
  2  wrong usage";

/// Try whether a remote and a row sink work, step by step.
///
/// Stores a small object, reads it back and deletes it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// The remote, as for mount and push.
    #[arg(long, value_name = "URL", env = "OUTBOXFS_REMOTE", hide_env = true)]
    remote: RemoteUrl,

    /// A `.env` file with the remote's secrets, as for mount and push.
    #[arg(long, value_name = "FILE", env = "OUTBOXFS_ENV_FILE", hide_env = true)]
    env_file: Option<PathBuf>,

    /// Certificates that the remote is trusted by, as for mount and push.
    #[arg(long, value_name = "FILE", env = "OUTBOXFS_CA_FILE", hide_env = true)]
    ca_file: Option<PathBuf>,

    /// Secrets may go over http://, as for mount and push.
    #[arg(long, env = "OUTBOXFS_INSECURE", hide_env = true)]
    insecure: bool,

    /// The row sink, as for mount and push.
    #[arg(long, value_name = "URL", env = "OUTBOXFS_ROWS", hide_env = true)]
    rows: Option<RowsUrl>,
}

pub fn run(args: CheckArgs) -> Result<ExitCode, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    let works = runtime.block_on(async {
        let mut environment = Environment::with_env_file(args.env_file.as_deref())
            .map_err(|error| failed(&error))?
            .with_insecure(args.insecure);
        if let Some(file) = &args.ca_file {
            environment = environment.with_ca_file(file);
        }
        let remote = remote::open_with(args.remote.as_url(), &environment)
            .await
            .map_err(|error| failed(&error))?;
        let works = check_remote(remote.as_ref()).await;
        Ok::<_, Error>(match &args.rows {
            Some(url) => check_rows(url, &environment).await & works,
            None => works,
        })
    })?;
    Ok(match works {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

async fn check_remote(remote: &dyn Remote) -> bool {
    let can = remote.capabilities();
    if !can.deletes {
        // What is stored there stays there: it is only asked.
        return step("ask", &remote.describe(), remote.probe().await);
    }
    let content = b"outboxfs check\n";
    let name = format!(".outboxfs-check-{:016x}", fastrand::u64(..));
    let key = Key::new(Artifact::Original, &RelPath::root().join(name.as_bytes()));
    let put = Put {
        key: key.clone(),
        body: Body::Bytes(content[..].into()),
        content_type: "text/plain".to_owned(),
        hash: blake3::hash(content),
        decoded: None,
        metadata: Vec::new(),
    };
    let stored = async {
        remote.probe().await?;
        remote.put(put).await.map(drop)
    };
    if !step("write", &remote.describe(), stored.await) {
        return false;
    }
    let mut works = true;
    if can.reads {
        works &= step("look", key.as_str(), look(remote, &key).await);
    }
    if can.lists {
        works &= step("list", key.as_str(), list(remote, &key).await);
    }
    if can.reads {
        works &= step("read", key.as_str(), read(remote, &key, content).await);
    }
    works & step("delete", key.as_str(), remote.delete(&key).await)
}

async fn look(remote: &dyn Remote, key: &Key) -> Result<(), RemoteError> {
    match remote.head(key).await? {
        Some(_) => Ok(()),
        None => Err(RemoteError::permanent(
            "it is not there, though it was stored",
        )),
    }
}

async fn list(remote: &dyn Remote, key: &Key) -> Result<(), RemoteError> {
    let mut listed = false;
    let each = &mut |object: Listed| listed |= object.key == key.as_str();
    remote.list(key.as_str(), each).await?;
    match listed {
        true => Ok(()),
        false => Err(RemoteError::permanent(
            "it is not listed, though it was stored",
        )),
    }
}

async fn read(remote: &dyn Remote, key: &Key, content: &[u8]) -> Result<(), RemoteError> {
    let mut stored = Vec::new();
    remote.get(key, &mut stored).await?;
    match stored == content {
        true => Ok(()),
        false => Err(RemoteError::permanent("it is not what was stored")),
    }
}

async fn check_rows(url: &RowsUrl, environment: &Environment) -> bool {
    let url = url.as_url().as_str();
    let sink = match rows::open(
        &[url],
        &rows::Options {
            credentials: rows::Credentials::find(environment),
            ..Default::default()
        },
    ) {
        Ok(sink) => sink,
        Err(error) => return step("rows", url, Err(error)),
    };
    let probed = sink.probe().await;
    step("rows", &sink.describe(), probed)
}

/// Says how a step went.
fn step(name: &str, on: &str, result: Result<(), impl std::fmt::Display>) -> bool {
    let (word, why) = match &result {
        Ok(()) => ("ok", String::new()),
        Err(error) => ("FAILED", format!(": {}", one_line(&error.to_string()))),
    };
    say(&format!("{name:<7} {word:<7} {}{why}\n", one_line(on)));
    result.is_ok()
}
