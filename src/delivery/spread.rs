//! How many folders are delivered from at a time, and how many files of each, where somebody has
//! said so. The journal passes over what there is no room for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::journal::{Claimed, Crowd, FileClaim, FolderId, Journal, JournalError, Lane};

/// `None` for as many as there are workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub folders: Option<usize>,
    pub files: Option<usize>,
}

pub(super) struct Spread {
    folders: usize,
    files: usize,
    busy: Mutex<HashMap<FolderId, usize>>,
    /// Lanes claim one after the other: what one has claimed, the other has to know.
    turn: tokio::sync::Mutex<()>,
    /// Rung when a seat is free again, for each lane.
    small: Notify,
    large: Notify,
}

/// One file's place in its folder; free again when this is dropped.
pub(super) struct Seat {
    spread: Arc<Spread>,
    folder: FolderId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut files) = self.spread.busy.lock().entry(self.folder) {
            *files.get_mut() -= 1;
            if *files.get() == 0 {
                files.remove();
            }
        }
        self.spread.small.notify_one();
        self.spread.large.notify_one();
    }
}

impl Spread {
    /// `None` if there are no limits.
    pub(super) fn new(limits: Limits) -> Option<Arc<Self>> {
        (limits != Limits::default()).then(|| {
            Arc::new(Self {
                folders: limits.folders.unwrap_or(usize::MAX),
                files: limits.files.unwrap_or(usize::MAX),
                busy: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
                small: Notify::new(),
                large: Notify::new(),
            })
        })
    }

    /// What is due and has room, with its seats, in the order of the claims.
    pub(super) async fn claim(
        self: &Arc<Self>,
        journal: &Journal,
        lane: Lane,
        limit: usize,
    ) -> Result<(Claimed<FileClaim>, Vec<Seat>), JournalError> {
        let _turn = self.turn.lock().await;
        let crowd = Crowd {
            folders: self.folders,
            files: self.files,
            busy: self.busy.lock().clone(),
        };
        let claimed = journal.claim_files_among(lane, limit, Some(crowd)).await?;
        let mut busy = self.busy.lock();
        let seats = claimed.claims.iter().map(|claim| {
            *busy.entry(claim.folder).or_default() += 1;
            Seat {
                spread: self.clone(),
                folder: claim.folder,
            }
        });
        let seats = seats.collect();
        drop(busy);
        Ok((claimed, seats))
    }
}

/// Returns when a seat is free again; never without limits.
pub(super) async fn freed(spread: &Option<Arc<Spread>>, lane: Lane) {
    match (spread, lane) {
        (Some(spread), Lane::Small) => spread.small.notified().await,
        (Some(spread), Lane::Large) => spread.large.notified().await,
        (None, _) => std::future::pending().await,
    }
}
