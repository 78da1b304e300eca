//! Opening the remote and the row sink, and finding out whether they work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::DaemonError;
use crate::config::MountSettings;
use crate::journal::View;
use crate::remote::{self, Remote, RemoteError, RemoteErrorKind};
use crate::rows::{self, RowSink};

/// How long a remote may take to answer before the mount goes on without an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Places {
    pub remote: Arc<dyn Remote>,
    pub rows: Option<Arc<dyn RowSink>>,
    /// Set if the remote does not work now.
    pub remote_error: Option<RemoteError>,
    /// What is wrong with either, for the person who mounts.
    pub warnings: Vec<String>,
}

/// The first mount of a directory, and the first to another remote, is refused if the remote or the sink will never work like this:
/// wrong credentials, no such bucket. Everything else mounts, queues, and says so: a rig that boots
/// without its network must still be able to write.
pub(super) async fn open_and_probe(settings: &MountSettings) -> Result<Places, DaemonError> {
    let refuse = |error: String| Err(DaemonError::Refused(error));
    let remote = match remote::open_configured(settings).await {
        Ok(remote) => remote,
        Err(error) => return refuse(error.to_string()),
    };
    refuse_incapable(settings, remote.as_ref())?;
    let rows = match rows::open_configured(settings) {
        Ok(rows) => rows,
        Err(error) => return refuse(error.to_string()),
    };
    expect_what_is_there(settings, remote.as_ref(), rows.as_deref());
    let first = !mounted_before(settings);
    let mut warnings = Vec::new();
    let remote_error = probe_remote(remote.as_ref()).await;
    if let Some(error) = &remote_error {
        if first && error.kind == RemoteErrorKind::Permanent {
            return refuse(error.to_string());
        }
        warnings.push(format!("{error}; what is written waits in the journal"));
    }
    if let Some(sink) = &rows {
        match tokio::time::timeout(TIMEOUT, sink.probe()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if first && error.permanent => return refuse(error.to_string()),
            Ok(Err(error)) => warnings.push(format!("{error}; rows wait in the journal")),
            Err(_) => warnings.push(format!(
                "{} does not answer; rows wait in the journal",
                sink.describe()
            )),
        }
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(Places {
        remote,
        rows,
        remote_error,
        warnings,
    })
}

/// Lets remote and sink know that they are not new, if the journal says so.
pub(crate) fn expect_what_is_there(
    settings: &MountSettings,
    remote: &dyn Remote,
    rows: Option<&dyn RowSink>,
) {
    // A journal that is new or damaged knows of nothing.
    let rows = rows.filter(|_| rows_are_in_the_remote(settings));
    let known = View::open(&settings.journal).and_then(|view| {
        let is_this = view.meta()?.remote == Some(remote::place(&settings.remote));
        let has_objects = is_this && view.totals()?.delivered_files > 0;
        let has_rows = rows.is_some() && is_this && view.has_rows_delivered()?;
        Ok((has_objects, has_rows))
    });
    let (has_objects, has_rows) = known.unwrap_or_default();
    if has_objects {
        remote.expect_objects();
    }
    if let Some(rows) = rows {
        rows.lies_with_objects(has_rows);
    }
}

/// On the same disk, where they are unless somebody says otherwise.
fn rows_are_in_the_remote(settings: &MountSettings) -> bool {
    settings.remote.to_file_path().is_ok_and(|directory| {
        let paths = settings.rows.iter().map(|url| url.strip_prefix("sqlite:"));
        let mut paths =
            paths.map(|path| path.is_some_and(|path| Path::new(path).starts_with(&directory)));
        paths.all(|is_in_it| is_in_it)
    })
}

/// What was asked for and this remote can never do.
pub(crate) fn refuse_incapable(
    settings: &MountSettings,
    remote: &dyn Remote,
) -> Result<(), DaemonError> {
    let capabilities = remote.capabilities();
    let refuse = |flag: &str, what: &str| {
        let remote = remote.describe();
        Err(DaemonError::Refused(format!(
            "{flag} is not for {remote}, which cannot {what}; leave it out"
        )))
    };
    if settings.sync_deletes && !capabilities.deletes {
        return refuse("--sync-deletes", "delete");
    }
    if !settings.compress.is_empty() && !capabilities.encodings {
        return refuse("--compress", "say how an object is encoded");
    }
    Ok(())
}

async fn probe_remote(remote: &dyn Remote) -> Option<RemoteError> {
    match tokio::time::timeout(TIMEOUT, remote.probe()).await {
        Ok(result) => result.err(),
        Err(_) => Some(RemoteError::unreachable(format!(
            "{} has not answered for {} seconds",
            remote.describe(),
            TIMEOUT.as_secs()
        ))),
    }
}

fn mounted_before(settings: &MountSettings) -> bool {
    let meta = View::open(&settings.journal).and_then(|view| view.meta());
    meta.is_ok_and(|meta| meta.mounted_before) && other_remote(settings).is_none()
}

/// What is to be known where the journal tells of another remote; a sentence.
pub(crate) fn other_remote(settings: &MountSettings) -> Option<String> {
    let now = remote::place(&settings.remote);
    delivered_elsewhere(settings).map(|before| {
        format!(
            "until now the directory was delivered to {before}: everything is due again, for {now} \
             (for both, give each a --journal of its own)"
        )
    })
}

/// Somebody who names a remote once means it the next time, too: the usual one is not taken in its
/// place. The error is a sentence.
pub(crate) fn refuse_forgotten_remote(settings: &MountSettings) -> Result<(), DaemonError> {
    match delivered_elsewhere(settings) {
        Some(before) if settings.default_remote => Err(DaemonError::Refused(format!(
            "{} was delivered to {before}, and no remote is named now; give it again with --remote, \
             or '--remote {}' for the usual place",
            settings.directory.display(),
            settings.remote
        ))),
        _ => Ok(()),
    }
}

/// The place that the journal tells of, if it is another one than the remote's.
pub(crate) fn delivered_elsewhere(settings: &MountSettings) -> Option<String> {
    let meta = View::open(&settings.journal).and_then(|view| view.meta());
    let before = meta.ok()?.remote?;
    (before != remote::place(&settings.remote)).then_some(before)
}
