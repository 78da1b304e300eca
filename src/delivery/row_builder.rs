//! Takes folders whose files are all delivered from the journal, and makes their rows.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use super::Context;
use super::blocking::blocking;
use crate::derive::stats;
use crate::journal::{GoneRow, JournalError, Kind, RowClaim, View};
use crate::rows::FolderRow;
use crate::rows::folder::{self, FolderFiles, StatsFile};

/// Rows in a batch, at most; and removals.
const BATCH: usize = 1000;
/// A batch ends with the row that brings it to this many bytes. Two batches are held: one is made
/// while the sink takes the other.
const BYTES: usize = 4 << 20;
/// What a file takes in a row, roughly, bytes.
const FILE: usize = 512;

/// What the sink is to hear next, removals first.
#[derive(Default)]
pub(super) struct Batch {
    pub gone: Vec<GoneRow>,
    pub rows: Vec<(RowClaim, Built)>,
    /// Folders whose rows could not be made, and why.
    pub failed: Option<(Vec<RowClaim>, String)>,
    /// When there is more to do, milliseconds since 1970-01-01 UTC.
    pub next_due: Option<i64>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.rows.is_empty() && self.failed.is_none()
    }
}

pub(super) enum Built {
    Row(Box<FolderRow>),
    /// Nothing in the folder that a row would tell of.
    Nothing,
    /// Its statistics are not those that were delivered; their change is on its way.
    Later,
    /// There is to be none for now; a sentence.
    Refused(String),
}

/// What was claimed and is in no batch yet.
#[derive(Default)]
pub(super) struct Builder {
    gone: Vec<GoneRow>,
    claims: VecDeque<RowClaim>,
}

impl Builder {
    /// The next batch; empty if nothing is due.
    pub async fn next(&mut self, context: &Arc<Context>) -> Result<Batch, JournalError> {
        let mut batch = Batch::default();
        if self.claims.is_empty() {
            batch.next_due = self.claim(context).await?;
        }
        batch.gone = std::mem::take(&mut self.gone);
        let claims = std::mem::take(&mut self.claims);
        if claims.is_empty() {
            return Ok(batch);
        }
        let (its_context, its_claims) = (context.clone(), claims.clone());
        let built = blocking(move || build_some(&its_context, &its_claims)).await;
        match built.map_err(|error| error.to_string()) {
            Ok(Ok(built)) => {
                let mut claims = claims.into_iter();
                batch.rows = claims.by_ref().take(built.len()).zip(built).collect();
                self.claims = claims.collect();
            }
            Ok(Err(error)) => batch.failed = Some((claims.into(), error.to_string())),
            Err(error) => batch.failed = Some((claims.into(), error)),
        }
        Ok(batch)
    }

    /// Removals first: a folder that is claimed after them has the name that it has now, and what
    /// becomes of it later is heard of later. So no row comes back by overtaking its removal.
    async fn claim(&mut self, context: &Context) -> Result<Option<i64>, JournalError> {
        let gone = context.journal.claim_gone_rows(BATCH).await?;
        self.gone.extend(gone.claims);
        let rows = context.journal.claim_rows(BATCH).await?;
        self.claims.extend(rows.claims);
        Ok([gone.next_due, rows.next_due].into_iter().flatten().min())
    }
}

/// The rows of the first claims, one at least.
fn build_some(context: &Context, claims: &VecDeque<RowClaim>) -> Result<Vec<Built>, JournalError> {
    let view = context.journal.view()?;
    let mount_id = view.meta()?.mount_id;
    let (mut some, mut bytes) = (Vec::with_capacity(claims.len()), 0);
    for claim in claims {
        if bytes >= BYTES {
            break;
        }
        let built = build(context, &view, &mount_id, claim)?;
        if let Built::Row(row) = &built {
            let files = row.pictures.len() + row.other_files.len();
            bytes += row.stats.as_ref().map_or(0, String::len) + files * FILE;
        }
        some.push(built);
    }
    Ok(some)
}

fn build(
    context: &Context,
    view: &View,
    mount_id: &str,
    claim: &RowClaim,
) -> Result<Built, JournalError> {
    let delivered = view.delivered_files(claim.id)?;
    let content;
    let unreadable;
    let rules = &context.options.stats;
    let stats = match delivered.iter().find(|file| rules.is_stats(&file.name)) {
        None => StatsFile::Absent,
        // A damaged file is no reason to spoil a good row.
        Some(file) if file.is_suspect => {
            let why = format!(
                "{} is suspect: the row stays as it was until that is decided",
                rules.file()
            );
            return Ok(Built::Refused(why));
        }
        Some(file) if file.size > stats::MAX_STATS_BYTES => StatsFile::TooLarge(file.size),
        Some(file) => match read_stats(context, claim) {
            Ok(read) if blake3::hash(&read) == file.hash => {
                content = read;
                StatsFile::Content(&content)
            }
            Ok(_) => return Ok(Built::Later),
            Err(error) => {
                unreadable = format!("{} could not be read: {error}", rules.file());
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
            proof: file.proof,
        })
        .collect();
    let row = folder::build(&FolderFiles {
        folder: &claim.path,
        version: claim.version,
        files: &files,
        stats,
        stats_rules: rules,
        host: &context.options.host,
        mount_id,
        url: &|artifact, path, proof| proof.url(context.remote.as_ref(), artifact, path),
    });
    Ok(row.map_or(Built::Nothing, |row| Built::Row(Box::new(row))))
}

fn read_stats(context: &Context, claim: &RowClaim) -> std::io::Result<Vec<u8>> {
    let file = context.options.stats.file();
    let mut content = Vec::new();
    context
        .open_file(&claim.path.join(file.as_bytes()))?
        .take(stats::MAX_STATS_BYTES + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}
