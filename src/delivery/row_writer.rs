//! Writes the stats rows of folders whose files are all delivered.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::gone_rows;
use super::open::open_file;
use crate::derive::stats::{self, StatusRules};
use crate::journal::{Kind, RowClaim, RowOutcome, View, now_ms};
use crate::path::RelPath;
use crate::rows::folder::{self, FolderFiles, StatsFile};
use crate::rows::{FolderRow, RowError, RowSink};

/// Rows written with one visit to the sink, at most.
const BATCH: usize = 1000;
/// After a failure of the journal itself.
const PAUSE: Duration = Duration::from_secs(1);
/// A folder whose `stats.json` is newer than what was delivered is looked at again after this
/// long, milliseconds; its change is on its way.
const CHANGED: i64 = 500;

pub(super) async fn run(context: Arc<Context>) {
    let Some(sink) = context.rows.clone() else {
        return;
    };
    while !context.is_stopping() {
        let claimed = match context.journal.claim_rows(BATCH).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "no rows can be claimed from the journal");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let gone = match gone_rows::remove(&context, sink.as_ref()).await {
            Ok(gone) => gone,
            Err(error) => {
                tracing::error!(%error, "rows of folders that are gone stay for now");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if claimed.claims.is_empty() && gone.removed == 0 {
            let next_due = [claimed.next_due, gone.next_due];
            let next_due = next_due.into_iter().flatten().min();
            if !context.wait_for_work(&context.alarms.rows, next_due).await {
                return;
            }
            continue;
        }
        let outcomes = write(&context, sink.as_ref(), claimed.claims).await;
        if let Err(error) = context.journal.settle_rows(outcomes).await {
            tracing::error!(%error, "rows could not be recorded as written");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn write(
    context: &Arc<Context>,
    sink: &dyn RowSink,
    claims: Vec<RowClaim>,
) -> Vec<(RowClaim, RowOutcome)> {
    let its_context = context.clone();
    let its_claims = claims.clone();
    let built = tokio::task::spawn_blocking(move || build_all(&its_context, &its_claims)).await;
    let built = match built {
        Ok(Ok(built)) => built,
        Ok(Err(error)) => return all_retry(context, claims, &error.to_string()),
        Err(error) => return all_retry(context, claims, &error.to_string()),
    };
    let mut outcomes = Vec::with_capacity(claims.len());
    let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
    let mut empty = Vec::new();
    for (claim, built) in claims.into_iter().zip(built) {
        match built {
            Built::Row(row) => {
                rows.push(*row);
                of_rows.push(claim);
            }
            // Nothing left in the folder that a row would tell of.
            Built::Nothing if context.options.sync_deletes => empty.push(claim),
            Built::Nothing => outcomes.push((claim, RowOutcome::Written)),
            Built::Later => outcomes.push((
                claim,
                RowOutcome::Released {
                    due: now_ms() + CHANGED,
                },
            )),
        }
    }
    outcomes.extend(upsert(context, sink, rows, of_rows).await);
    outcomes.extend(gone_rows::remove_empty(context, sink, empty).await);
    outcomes
}

/// All rows at once; if the sink refuses them, each alone, so that one bad row harms no other.
async fn upsert(
    context: &Context,
    sink: &dyn RowSink,
    rows: Vec<FolderRow>,
    claims: Vec<RowClaim>,
) -> Vec<(RowClaim, RowOutcome)> {
    if rows.is_empty() {
        return Vec::new();
    }
    let result = sink.upsert(&rows).await;
    match result {
        Ok(()) => {
            context.progress.set_rows_error(None);
            tracing::info!(rows = rows.len(), "rows written");
            claims
                .into_iter()
                .map(|claim| (claim, RowOutcome::Written))
                .collect()
        }
        Err(error) if error.permanent && rows.len() > 1 => {
            let mut outcomes = Vec::with_capacity(claims.len());
            for (row, claim) in rows.into_iter().zip(claims) {
                let result = sink.upsert(std::slice::from_ref(&row)).await;
                let outcome = outcome(context, &claim, result);
                outcomes.push((claim, outcome));
            }
            outcomes
        }
        Err(error) => claims
            .into_iter()
            .map(|claim| {
                let outcome = outcome(context, &claim, Err(error.clone()));
                (claim, outcome)
            })
            .collect(),
    }
}

fn outcome(context: &Context, claim: &RowClaim, result: Result<(), RowError>) -> RowOutcome {
    outcome_of(context, &claim.path, claim.attempts, result)
}

/// What the sink's answer about a folder's row means for it.
pub(super) fn outcome_of(
    context: &Context,
    folder: &RelPath,
    attempts: u32,
    result: Result<(), RowError>,
) -> RowOutcome {
    let Err(error) = result else {
        return RowOutcome::Written;
    };
    tracing::warn!(folder = %folder, %error, "row not written");
    if error.permanent {
        return RowOutcome::Failed {
            error: error.message,
        };
    }
    // A sink that is away delays its rows, however long: no number of attempts is too many.
    context.progress.set_rows_error(Some(error.message.clone()));
    let due = now_ms() + context.options.backoff.delay(attempts).as_millis() as i64;
    RowOutcome::Retry {
        error: error.message,
        due,
    }
}

pub(super) fn all_retry(
    context: &Context,
    claims: Vec<RowClaim>,
    error: &str,
) -> Vec<(RowClaim, RowOutcome)> {
    let retry = |claim: &RowClaim| RowOutcome::Retry {
        error: format!("the row of {} could not be made: {error}", claim.path),
        due: now_ms() + context.options.backoff.delay(claim.attempts).as_millis() as i64,
    };
    claims
        .into_iter()
        .map(|claim| (claim.clone(), retry(&claim)))
        .collect()
}

enum Built {
    Row(Box<FolderRow>),
    Nothing,
    Later,
}

fn build_all(
    context: &Context,
    claims: &[RowClaim],
) -> Result<Vec<Built>, crate::journal::JournalError> {
    let view = context.journal.view()?;
    let mount_id = view.meta()?.mount_id;
    claims
        .iter()
        .map(|claim| build(context, &view, &mount_id, claim))
        .collect()
}

fn build(
    context: &Context,
    view: &View,
    mount_id: &str,
    claim: &RowClaim,
) -> Result<Built, crate::journal::JournalError> {
    let delivered = view.delivered_files(claim.id)?;
    let content;
    let unreadable;
    let stats = match delivered.iter().find(|file| file.kind == Kind::Stats) {
        None => StatsFile::Absent,
        Some(file) if file.size > stats::MAX_STATS_BYTES => StatsFile::TooLarge(file.size),
        Some(file) => match read_stats(context, claim) {
            Ok(read) if blake3::hash(&read) == file.hash => {
                content = read;
                StatsFile::Content(&content)
            }
            Ok(_) => return Ok(Built::Later),
            Err(error) => {
                unreadable = format!("stats.json could not be read: {error}");
                StatsFile::Unreadable(&unreadable)
            }
        },
    };
    let files: Vec<folder::DeliveredFile> = delivered
        .into_iter()
        .map(|file| folder::DeliveredFile {
            picture: file.kind == Kind::Picture,
            name: file.name,
            size: file.size,
            hash: file.hash,
            dimensions: file.dimensions,
            thumbnail: file.thumbnail,
            delivered_at: file.delivered_at,
        })
        .collect();
    let row = folder::build(&FolderFiles {
        folder: &claim.path,
        version: claim.version,
        files: &files,
        stats,
        status_rules: &StatusRules::default(),
        host: &context.options.host,
        mount_id,
        url: &|key| context.remote.url(key),
    });
    Ok(row.map_or(Built::Nothing, |row| Built::Row(Box::new(row))))
}

fn read_stats(context: &Context, claim: &RowClaim) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_file(&context.backing, &claim.path.join(stats::STATS_FILE))?
        .take(stats::MAX_STATS_BYTES + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}
