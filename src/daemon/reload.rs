//! Taking other limits while the mount is in use, which a changed configuration file has.

use crate::control::Reloaded;
use crate::delivery::{Limiter, Limits};
use indicatif::DecimalBytes;

/// Reads the configuration file again; an error is one sentence.
pub type Reread = Box<dyn Fn() -> Result<NewLimits, String> + Send + Sync>;

/// What stands there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLimits {
    pub limits: Limits,
    /// Other keys whose values have changed since the mount began.
    pub others: Vec<String>,
}

pub(super) fn reload(limiter: &Limiter, reread: &Reread) -> Result<Reloaded, String> {
    let read = reread()?;
    let workers = limiter.set(read.limits);
    let limits = shown(&read.limits, workers);
    tracing::info!(?limits, "other limits");
    Ok(Reloaded {
        limits,
        later: read.others,
    })
}

/// Keys and values, for people.
fn shown(limits: &Limits, workers: usize) -> Vec<(String, String)> {
    let none = || "-".to_owned();
    let rate = |bytes| format!("{}/s", DecimalBytes(bytes));
    [
        ("workers", workers.to_string()),
        ("bwlimit", limits.bwlimit.map_or_else(none, rate)),
        (
            "tps-limit",
            limits
                .tps_limit
                .map_or_else(none, |limit| format!("{limit}/s")),
        ),
        (
            "upload-hours",
            limits
                .upload_hours
                .map_or_else(none, |hours| hours.to_string()),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
