//! What the writer can be asked, what it answers, and what that means for the tables.

use super::store::Store;
use super::{
    Change, Claimed, Crowd, Deletion, FileClaim, FileOutcome, GoneRow, JournalError, Lane, Outcome,
    RowClaim, ScannedFolder, Settlement, StrayId, Unfinished, UploadId, UploadPart, upload,
};
use crate::path::RelPath;

/// What the writer is asked to do. Applied by reference, so that a failed group can be tried again
/// one by one.
#[derive(Debug)]
pub(super) enum Op {
    Change(Change),
    Sync,
    ClaimFiles {
        lane: Lane,
        limit: usize,
        crowd: Option<Crowd>,
    },
    SettleFiles(Vec<Settlement>),
    ClaimRows {
        limit: usize,
    },
    SettleRows(Vec<(RowClaim, Outcome)>),
    ClaimGoneRows {
        limit: usize,
    },
    SettleGoneRows(Vec<(GoneRow, Outcome)>),
    ClaimDeletions {
        limit: usize,
    },
    SettleDeletions(Vec<(StrayId, Outcome)>),
    BeginUpload(upload::Begun),
    PartStored {
        upload: UploadId,
        part: UploadPart,
    },
    UploadCompleted(UploadId),
    EndUpload(UploadId),
    Leftovers,
    Hurry,
    BeginScan(RelPath),
    Scanned(ScannedFolder),
    EndScan(RelPath),
    Retry(RelPath),
    Flush(RelPath),
    Pause(bool),
    Mounted,
    Ended,
    /// Something was written down without the writer.
    Arrived,
}

/// What the writer answers.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Files(Claimed<FileClaim>),
    Rows(Claimed<RowClaim>),
    GoneRows(Claimed<GoneRow>),
    Deletions(Claimed<Deletion>),
    Upload(UploadId),
    Leftovers(Vec<Unfinished>),
    Count(u64),
}

impl Op {
    pub(super) fn may_expand(&self) -> bool {
        matches!(
            self,
            Op::Change(Change::Renamed { .. } | Change::Exchanged { .. })
        )
    }

    pub(super) fn makes_work(&self) -> bool {
        !matches!(
            self,
            Op::ClaimFiles { .. }
                | Op::ClaimRows { .. }
                | Op::ClaimGoneRows { .. }
                | Op::ClaimDeletions { .. }
                | Op::BeginUpload(_)
                | Op::PartStored { .. }
                | Op::UploadCompleted(_)
                | Op::EndUpload(_)
                | Op::Leftovers
                | Op::Sync
                | Op::Arrived
        )
    }

    /// Whether it makes due at once what waited for a time, or for somebody's word.
    pub(super) fn makes_due(&self) -> bool {
        matches!(
            self,
            Op::Hurry | Op::Retry(_) | Op::Flush(_) | Op::Pause(false)
        )
    }

    /// Whether it asks for more than that closed files are written down: that they are in the tables.
    pub(super) fn needs_tables(&self) -> bool {
        match self {
            Op::Change(change) => !change.can_arrive(),
            // What is gone from one path may have been renamed.
            Op::SettleFiles(settlements) => settlements
                .iter()
                .any(|settlement| matches!(settlement.outcome, FileOutcome::Gone)),
            Op::Scanned(_)
            | Op::EndScan(_)
            | Op::Hurry
            | Op::Retry(_)
            | Op::Flush(_)
            | Op::Ended => true,
            _ => false,
        }
    }
}

impl Store {
    pub(super) fn apply(&mut self, op: &Op) -> Result<Answer, JournalError> {
        if op.needs_tables() {
            self.take_all_in()?;
        }
        match op {
            Op::Change(change) if change.can_arrive() && self.lets_arrive() => {
                self.arrive(change)?;
            }
            Op::Change(change) => {
                self.take_all_in()?;
                self.apply_change(change)?;
            }
            Op::Arrived => {}
            Op::Sync => {
                self.conn.execute("UPDATE meta SET syncs = syncs + 1", [])?;
            }
            Op::ClaimFiles { lane, limit, crowd } => {
                let claimed = self.claim_files(*lane, *limit, crowd.as_ref())?;
                return Ok(Answer::Files(claimed));
            }
            Op::SettleFiles(settlements) => self.settle_files(settlements)?,
            Op::ClaimRows { limit } => return Ok(Answer::Rows(self.claim_rows(*limit)?)),
            Op::SettleRows(outcomes) => self.settle_rows(outcomes)?,
            Op::ClaimGoneRows { limit } => {
                return Ok(Answer::GoneRows(self.claim_gone_rows(*limit)?));
            }
            Op::SettleGoneRows(outcomes) => self.settle_gone_rows(outcomes)?,
            Op::ClaimDeletions { limit } => {
                return Ok(Answer::Deletions(self.claim_deletions(*limit)?));
            }
            Op::SettleDeletions(outcomes) => self.settle_deletions(outcomes)?,
            Op::BeginUpload(begun) => return Ok(Answer::Upload(self.begin_upload(begun)?)),
            Op::PartStored { upload, part } => self.part_stored(*upload, part)?,
            Op::UploadCompleted(upload) => self.upload_completed(*upload)?,
            Op::EndUpload(upload) => self.end_upload(*upload)?,
            Op::Leftovers => return Ok(Answer::Leftovers(self.leftover_uploads()?)),
            Op::Hurry => self.hurry()?,
            Op::BeginScan(path) => {
                self.conn
                    .prepare_cached("INSERT OR IGNORE INTO scan (path) VALUES (?)")?
                    .execute([path.as_bytes()])?;
            }
            Op::Scanned(folder) => self.apply_scanned(folder)?,
            Op::EndScan(path) => {
                self.conn
                    .prepare_cached("DELETE FROM scan WHERE path = ?")?
                    .execute([path.as_bytes()])?;
                if path.is_root() {
                    self.end_doubt()?;
                }
            }
            Op::Retry(path) => return Ok(Answer::Count(self.retry(path)?)),
            Op::Flush(path) => return Ok(Answer::Count(self.flush(path)?)),
            Op::Pause(paused) => {
                self.conn.execute("UPDATE meta SET paused = ?", [paused])?;
                self.paused = *paused;
            }
            Op::Mounted => self.mounted()?,
            Op::Ended => self.ended()?,
        }
        Ok(Answer::Done)
    }
}
