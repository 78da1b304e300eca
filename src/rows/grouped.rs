//! Many small upserts as few large ones. Delivery's workers each bring the row of the folder that
//! they finished; what comes while a sink is busy goes to it together in the next call.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::{FolderRow, Removed, RowError, RowSink};

/// Rows in one call at most, unless one caller brings more.
const GROUP: usize = 5000;

/// A sink whose concurrent upserts are grouped. No task of its own: of the callers that wait, the
/// one that gets `turn` writes for all, and the others find their answer when they get it.
pub struct Grouped {
    sink: Arc<dyn RowSink>,
    waiting: Mutex<Vec<Arc<Call>>>,
    turn: AsyncMutex<()>,
}

struct Call {
    rows: Vec<FolderRow>,
    answer: Mutex<Option<Result<(), RowError>>>,
}

impl Grouped {
    pub fn new(sink: Arc<dyn RowSink>) -> Self {
        Self {
            sink,
            waiting: Mutex::default(),
            turn: AsyncMutex::default(),
        }
    }

    /// Writes what waits, oldest first, until `call` is among it.
    async fn write_with(&self, call: &Call) {
        while call.answer.lock().is_none() {
            let group = self.next_group();
            if group.is_empty() {
                // It was taken by a caller that was cancelled while it wrote.
                *call.answer.lock() = Some(self.write(&call.rows).await);
                return;
            }
            self.write_group(&group).await;
        }
    }

    fn next_group(&self) -> Vec<Arc<Call>> {
        let mut waiting = self.waiting.lock();
        // A caller that was cancelled is nobody's any more, and its row will be brought again.
        waiting.retain(|call| Arc::strong_count(call) > 1);
        let mut rows = 0;
        let fits = |call: &Arc<Call>| {
            rows += call.rows.len();
            rows <= GROUP
        };
        let count = waiting.iter().map(fits).take_while(|fits| *fits).count();
        let count = count.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    async fn write_group(&self, group: &[Arc<Call>]) {
        if let [only] = group {
            *only.answer.lock() = Some(self.write(&only.rows).await);
            return;
        }
        let rows: Vec<FolderRow> = group.iter().flat_map(|call| call.rows.clone()).collect();
        match self.sink.upsert(&rows).await {
            Err(error) if error.permanent => {
                // One row is at fault, and the others shall not be held up by it.
                for call in group {
                    *call.answer.lock() = Some(self.write(&call.rows).await);
                }
            }
            result => {
                for call in group {
                    *call.answer.lock() = Some(result.clone());
                }
            }
        }
    }

    /// Writes one caller's rows. An error is permanent only if it is the rows': while the sink
    /// itself cannot be used, rows wait for it, whatever is wrong with it.
    async fn write(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        match self.sink.upsert(rows).await {
            Err(error) if error.permanent => match self.sink.probe().await {
                Ok(()) => Err(error),
                Err(sink) => Err(RowError::transient(sink.message)),
            },
            result => result,
        }
    }
}

#[async_trait]
impl RowSink for Grouped {
    fn describe(&self) -> String {
        self.sink.describe()
    }

    async fn probe(&self) -> Result<(), RowError> {
        self.sink.probe().await
    }

    fn lies_with_objects(&self, has_rows: bool) {
        self.sink.lies_with_objects(has_rows);
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        if rows.is_empty() {
            return Ok(());
        }
        let call = Arc::new(Call {
            rows: rows.to_vec(),
            answer: Mutex::new(None),
        });
        self.waiting.lock().push(call.clone());
        let _turn = self.turn.lock().await;
        self.write_with(&call).await;
        call.answer
            .lock()
            .take()
            .unwrap_or_else(|| Err(RowError::transient("writing rows was interrupted")))
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        if folders.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.sink.remove(folders).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rows::folder::tests::any_row;

    /// Takes its time, and refuses rows of version 0 and everything while it is away.
    #[derive(Default)]
    struct Slow {
        calls: Mutex<Vec<usize>>,
        away: bool,
    }

    #[async_trait]
    impl RowSink for Slow {
        fn describe(&self) -> String {
            "slow".into()
        }
        async fn probe(&self) -> Result<(), RowError> {
            match self.away {
                true => Err(RowError::permanent("there is no table")),
                false => Ok(()),
            }
        }
        async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.away || rows.iter().any(|row| row.version == 0) {
                return Err(RowError::permanent("refused"));
            }
            self.calls.lock().push(rows.len());
            Ok(())
        }
        async fn remove(&self, _: &[Removed]) -> Result<(), RowError> {
            Ok(())
        }
    }

    async fn upsert_all(sink: &Arc<Grouped>, versions: &[i64]) -> Vec<Result<(), RowError>> {
        let mut tasks = Vec::new();
        for version in versions {
            let (sink, row) = (sink.clone(), any_row(*version));
            tasks.push(tokio::spawn(async move { sink.upsert(&[row]).await }));
        }
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        results
    }

    #[tokio::test]
    async fn what_comes_together_is_written_together() {
        let slow = Arc::new(Slow::default());
        let sink = Arc::new(Grouped::new(slow.clone()));
        let results = upsert_all(&sink, &[1; 50]).await;
        assert!(results.iter().all(Result::is_ok));
        let calls = slow.calls.lock().clone();
        assert_eq!(calls.iter().sum::<usize>(), 50);
        assert!(calls.len() <= 2, "{calls:?}");
    }

    #[tokio::test]
    async fn one_bad_row_holds_up_no_other() {
        let sink = Arc::new(Grouped::new(Arc::new(Slow::default())));
        let results = upsert_all(&sink, &[1, 0, 2]).await;
        assert!(results[0].is_ok() && results[2].is_ok());
        assert!(results[1].as_ref().unwrap_err().permanent);
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_sink_is_not_held_against_the_row() {
        let away = Slow {
            away: true,
            ..Slow::default()
        };
        let sink = Arc::new(Grouped::new(Arc::new(away)));
        for result in upsert_all(&sink, &[1, 2]).await {
            let error = result.unwrap_err();
            assert!(!error.permanent);
            assert_eq!(error.message, "there is no table");
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_nobody_along() {
        let slow = Arc::new(Slow::default());
        let sink = Arc::new(Grouped::new(slow.clone()));
        let rows = [any_row(1)];
        let cancelled = tokio::time::timeout(Duration::from_millis(5), sink.upsert(&rows));
        let (cancelled, results) = tokio::join!(cancelled, upsert_all(&sink, &[2, 3]));
        assert!(cancelled.is_err());
        assert!(results.iter().all(Result::is_ok));
    }
}
