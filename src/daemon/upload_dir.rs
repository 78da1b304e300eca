//! What a mount's directories `.upload` hold: status, lists, files that wait and take commands, and what
//! each file says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::command::{Command, USAGE};
use crate::journal::{Journal, JournalError};
use crate::mount::{Content, Kind, Pages, VirtualFiles};
use crate::path::RelPath;
use crate::remote::Remote;
use crate::status::about::ATTRIBUTES;
use crate::status::collect::Source;
use crate::status::lists::{List, ListError, What};

/// A list may be read for so long: the journal's log cannot be begun anew meanwhile.
const LONGEST_READ: Duration = Duration::from_secs(120);
/// Lists that may be open at a time.
const LISTS: usize = 64;

const NAMES: &[(&str, Kind)] = &[
    ("status", Kind::Content),
    ("status.json", Kind::Content),
    ("pending", Kind::Content),
    ("failed", Kind::Content),
    ("suspect", Kind::Content),
    ("batches", Kind::Content),
    ("recent", Kind::Content),
    ("metrics", Kind::Content),
    ("wait", Kind::Wait),
    ("control", Kind::Control),
];

/// What the mount is given to show.
pub(super) struct UploadDir {
    pub source: Arc<Source>,
    pub journal: Journal,
    pub remote: Arc<dyn Remote>,
    /// Where lists that are open for too long are ended.
    pub runtime: tokio::runtime::Handle,
    pub lists: Arc<AtomicUsize>,
}

impl UploadDir {
    fn open_list(&self, what: What, directory: &RelPath) -> Result<Content, Errno> {
        let place = ListPlace::take(&self.lists).ok_or(Errno::NFILE)?;
        let list = self
            .journal
            .view()
            .and_then(|view| List::new(what, directory.clone(), view));
        let list = list.map_err(|error| unreadable(&error))?;
        let list = Arc::new(Mutex::new(list));
        let its_list = Arc::downgrade(&list);
        let end = self.runtime.spawn(async move {
            tokio::time::sleep(LONGEST_READ).await;
            if let Some(list) = its_list.upgrade() {
                list.lock().give_up();
            }
        });
        Ok(Content::List(Box::new(OpenList {
            list,
            end,
            _place: place,
        })))
    }

    fn text(&self, directory: &RelPath, name: &str) -> Result<String, JournalError> {
        match name {
            "status" => self.source.status_text(directory),
            "status.json" => self.source.status_json(directory),
            "batches" => self.source.batches(),
            "recent" => Ok(self.source.recent(directory)),
            _ => self.source.metrics(),
        }
    }
}

fn unreadable(error: &JournalError) -> Errno {
    tracing::error!(%error, "a list for .upload cannot be read");
    Errno::IO
}

impl VirtualFiles for UploadDir {
    fn names(&self) -> &'static [(&'static str, Kind)] {
        NAMES
    }

    fn open(&self, directory: &RelPath, name: &str) -> Result<Content, Errno> {
        match name {
            "pending" => self.open_list(What::Pending, directory),
            "failed" => self.open_list(What::Failed, directory),
            "suspect" => self.open_list(What::Suspect, directory),
            // Somebody is looking at the status: here is what is wrong.
            _ => Ok(Content::Text(match self.text(directory, name) {
                Ok(text) => text.into_bytes(),
                Err(error) => format!("{error}\n").into_bytes(),
            })),
        }
    }

    fn about(&self, file: &RelPath) -> Option<Vec<u8>> {
        let status = self.source.file(file, &*self.remote)?;
        Some(status.render().into_bytes())
    }

    fn known_names(&self, directory: &RelPath, after: &[u8], limit: usize) -> Vec<Vec<u8>> {
        self.source.known_names(directory, after, limit)
    }

    fn waited(&self, directory: &RelPath) -> Option<Result<(), String>> {
        self.source.waited(directory)
    }

    fn usage(&self) -> &'static str {
        USAGE
    }

    fn command(&self, directory: &RelPath, line: &[u8]) -> Result<String, String> {
        let journal = &self.journal;
        let done = match Command::parse(directory, line)? {
            Command::Retry(path) => journal
                .retry(&path)
                .map(|count| format!("{count} queued again")),
            Command::Flush(path) => journal
                .flush(&path)
                .map(|count| format!("{count} more due now")),
            Command::Pause => journal
                .pause(true)
                .map(|()| "paused; write 'resume' to go on".to_owned()),
            Command::Resume => journal.pause(false).map(|()| "going on".to_owned()),
        };
        done.map_err(|error| error.to_string())
    }

    fn attributes(&self) -> &'static [&'static str] {
        ATTRIBUTES
    }

    fn attribute(&self, file: &RelPath, name: &str) -> Option<Vec<u8>> {
        let status = self.source.file(file, &*self.remote)?;
        Some(status.attribute(name)?.into_bytes())
    }
}

/// A list that somebody reads.
struct OpenList {
    list: Arc<Mutex<List>>,
    /// Ends it after [`LONGEST_READ`].
    end: tokio::task::JoinHandle<()>,
    _place: ListPlace,
}

impl Pages for OpenList {
    fn read(&mut self, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        self.list
            .lock()
            .read(offset, size)
            .map_err(|error| match error {
                ListError::GivenUp => Errno::STALE,
                ListError::Journal(error) => unreadable(&error),
            })
    }
}

impl Drop for OpenList {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// One of [`LISTS`].
struct ListPlace(Arc<AtomicUsize>);

impl ListPlace {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let before = open.fetch_add(1, Ordering::Relaxed);
        // Given back at once if there are too many.
        let place = Self(open.clone());
        (before < LISTS).then_some(place)
    }
}

impl Drop for ListPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
