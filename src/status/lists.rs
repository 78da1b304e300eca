//! The long files of `.upload`: made as they are read, from one state of the journal.

use super::failed;
use super::human::one_line;
use crate::journal::{JournalError, Troubles, View, Waiting, Walk};
use crate::path::RelPath;

/// Entries that are asked of the journal at a time.
const PAGE: usize = 500;

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Waits, or is on its way.
    Pending,
    /// Has failed.
    Failed,
    /// Looks damaged.
    Suspect,
}

/// A list, read from the journal as of when it was opened.
pub struct List {
    what: What,
    folder: RelPath,
    /// `None` after [`Self::give_up`].
    view: Option<View>,
    lines: Lines,
    /// Where `text` begins.
    at: u64,
    text: Vec<u8>,
}

enum Lines {
    Pending(Walk),
    Failed(Troubles),
    Suspect(Troubles),
    Ended,
}

/// Why there is nothing more to read.
pub enum ListError {
    /// The list was open for too long.
    GivenUp,
    Journal(JournalError),
}

impl List {
    pub fn new(what: What, folder: RelPath, view: View) -> Result<Self, JournalError> {
        view.hold_still()?;
        Ok(Self {
            lines: Lines::new(what, &folder),
            what,
            folder,
            view: Some(view),
            at: 0,
            text: Vec::new(),
        })
    }

    /// Lets the journal go. What was not read by now is not to be had.
    pub fn give_up(&mut self) {
        if let Some(view) = self.view.take() {
            view.let_go();
        }
    }

    /// At most `size` bytes from `offset` on; fewer only at the end.
    pub fn read(&mut self, offset: u64, size: usize) -> Result<Vec<u8>, ListError> {
        let Some(view) = &self.view else {
            return Err(ListError::GivenUp);
        };
        if offset < self.at {
            self.lines = Lines::new(self.what, &self.folder);
            self.at = 0;
            self.text.clear();
        }
        loop {
            let before = (offset - self.at).min(self.text.len() as u64);
            self.text.drain(..before as usize);
            self.at += before;
            if self.at == offset && self.text.len() >= size {
                break;
            }
            let more = self.lines.next(view, &self.folder);
            match more.map_err(ListError::Journal)? {
                Some(lines) => self.text.extend_from_slice(lines.as_bytes()),
                None => break,
            }
        }
        match self.at == offset {
            true => Ok(self.text[..size.min(self.text.len())].to_vec()),
            false => Ok(Vec::new()),
        }
    }
}

impl Lines {
    fn new(what: What, folder: &RelPath) -> Self {
        match what {
            What::Pending => Self::Pending(Walk::new(folder.clone())),
            What::Failed => Self::Failed(Troubles::failures(folder.clone())),
            What::Suspect => Self::Suspect(Troubles::suspects(folder.clone())),
        }
    }

    /// `None` at the end.
    fn next(&mut self, view: &View, folder: &RelPath) -> Result<Option<String>, JournalError> {
        let lines = match self {
            Self::Pending(walk) => {
                let found = walk.next(view, PAGE)?;
                let lines = found.iter().map(|waiting| pending_line(waiting, folder));
                (!found.is_empty()).then(|| lines.collect())
            }
            Self::Failed(troubles) => {
                let found = troubles.next(view, PAGE)?;
                found.map(|found| found.iter().map(failed::line).collect())
            }
            Self::Suspect(troubles) => {
                let found = troubles.next(view, PAGE)?;
                found.map(|found| found.iter().map(failed::suspect_line).collect())
            }
            Self::Ended => None,
        };
        if lines.is_none() {
            *self = Self::Ended;
        }
        Ok(lines)
    }
}

/// `path<TAB>bytes<TAB>state<TAB>attempts<TAB>error<NEWLINE>`, as seen from `folder`.
fn pending_line(waiting: &Waiting, folder: &RelPath) -> String {
    format!(
        "{}\t{}\t{}\t{}\t{}\n",
        waiting.path.below(folder),
        waiting.size,
        waiting.state.name(),
        waiting.attempts,
        one_line(waiting.error.as_deref().unwrap_or_default())
    )
}
