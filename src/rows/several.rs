//! Several sinks as one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::grouped::Grouped;
use super::{FolderRow, Removed, RowError, RowSink};

/// How long a sink that did not answer is left alone: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Rows remembered for each sink while another one lacks them; beyond, they are written again.
const REMEMBERED: usize = 100_000;

/// Rows go to all of them at once. A sink that is away makes the call fail, so that its rows are
/// brought again; the others have theirs by then and are not asked twice, and a sink that did not
/// answer is left alone for a while, so that it does not slow the others down.
pub struct Several {
    members: Vec<Member>,
}

struct Member {
    sink: Grouped,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Versions that it took in a call that failed elsewhere, by mount and folder.
    taken: HashMap<(String, String), i64>,
    away: Option<Away>,
}

struct Away {
    until: Instant,
    pause: Duration,
    error: String,
}

impl Several {
    pub fn new(sinks: Vec<Grouped>) -> Self {
        let member = |sink| Member {
            sink,
            state: Mutex::default(),
        };
        Self {
            members: sinks.into_iter().map(member).collect(),
        }
    }

    /// One error for all that went wrong. Permanent only if waiting helps none of them.
    fn summary(&self, results: Vec<Result<(), RowError>>) -> Result<(), RowError> {
        let errors: Vec<RowError> = results.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            return Ok(());
        }
        let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        Err(RowError {
            permanent: errors.iter().all(|error| error.permanent),
            message: messages.join("; "),
        })
    }
}

impl Member {
    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        self.asked()?;
        let lacking = self.lacking(rows);
        let result = self.sink.upsert(&lacking).await;
        self.note(&result);
        result
    }

    /// The rows that it has not taken yet.
    fn lacking(&self, rows: &[FolderRow]) -> Vec<FolderRow> {
        let state = self.state.lock();
        let lacks = |row: &&FolderRow| state.taken.get(&key(row)) != Some(&row.version);
        rows.iter().filter(lacks).cloned().collect()
    }

    /// Whether it may be asked now.
    fn asked(&self) -> Result<(), RowError> {
        match &self.state.lock().away {
            Some(away) if Instant::now() < away.until => Err(RowError::transient(&away.error)),
            _ => Ok(()),
        }
    }

    fn note(&self, result: &Result<(), RowError>) {
        let mut state = self.state.lock();
        state.away = match result {
            Err(error) if !error.permanent => {
                let last = state.away.as_ref().map(|away| away.pause);
                let pause = last.map_or(PAUSE.0, |last| (last * 2).min(PAUSE.1));
                Some(Away {
                    until: Instant::now() + pause,
                    pause,
                    error: error.message.clone(),
                })
            }
            _ => None,
        };
    }

    fn remember(&self, rows: &[FolderRow]) {
        let mut state = self.state.lock();
        for row in rows {
            if state.taken.len() < REMEMBERED || state.taken.contains_key(&key(row)) {
                state.taken.insert(key(row), row.version);
            }
        }
    }

    fn forget<'a>(&self, folders: impl Iterator<Item = (&'a String, &'a String)>) {
        let mut state = self.state.lock();
        if state.taken.is_empty() {
            return;
        }
        for (mount_id, folder) in folders {
            state.taken.remove(&(mount_id.clone(), folder.clone()));
        }
    }
}

fn key(row: &FolderRow) -> (String, String) {
    (row.mount_id.clone(), row.folder.clone())
}

#[async_trait]
impl RowSink for Several {
    fn describe(&self) -> String {
        let names: Vec<String> = self
            .members
            .iter()
            .map(|member| member.sink.describe())
            .collect();
        names.join(", ")
    }

    fn lies_with_objects(&self, has_rows: bool) {
        for member in &self.members {
            member.sink.lies_with_objects(has_rows);
        }
    }

    async fn probe(&self) -> Result<(), RowError> {
        let probes = self.members.iter().map(|member| member.sink.probe());
        self.summary(futures_util::future::join_all(probes).await)
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let upserts = self.members.iter().map(|member| member.upsert(rows));
        let results = futures_util::future::join_all(upserts).await;
        let all = results.iter().all(Result::is_ok);
        for (member, result) in self.members.iter().zip(&results) {
            match result {
                Ok(()) if !all => member.remember(rows),
                _ => member.forget(rows.iter().map(|row| (&row.mount_id, &row.folder))),
            }
        }
        self.summary(results)
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        let removals = self
            .members
            .iter()
            .map(|member| member.sink.remove(folders));
        let results = futures_util::future::join_all(removals).await;
        for member in &self.members {
            member.forget(folders.iter().map(|gone| (&gone.mount_id, &gone.folder)));
        }
        self.summary(results)
    }
}
