//! Telling the journal only of what is taken: what globs, size or `.outboxignore` leave out is not
//! recorded, and what is renamed to such a name is gone as far as delivery is concerned.

use super::fs::OutboxFs;
use crate::filter::IGNORE_FILE;
use crate::journal::{Change, Durability, Entry, JournalError};
use crate::path::RelPath;
use crate::selection::Selection;

impl OutboxFs {
    /// Records a change as far as it is one of something that is taken; `done` as for
    /// [`crate::journal::Journal::record`].
    pub fn record(
        &self,
        change: Change,
        durability: Durability,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        let found_anew = found_anew(&self.selection, &change);
        let mut changes = taken(&self.selection, change);
        match (changes.pop(), durability) {
            (Some(last), _) => {
                for change in changes {
                    self.journal.record(change, durability, |result| {
                        if let Err(error) = result {
                            tracing::error!("A change could not be journaled: {error}");
                        }
                    });
                }
                self.journal.record(last, durability, done);
            }
            (None, Durability::Synced) => self.journal.sync(done),
            (None, Durability::Committed) => done(Ok(())),
        }
        for folder in found_anew {
            if self.to_scan.try_send(folder).is_err() {
                tracing::warn!("too much is renamed: what is taken now is found by the next mount");
            }
        }
    }
}

/// The change, or those that it comes to.
fn taken(selection: &Selection, change: Change) -> Vec<Change> {
    match change {
        Change::Opening { path } if !selection.takes_name(&path) => Vec::new(),
        Change::Added { path, stat } if !selection.takes_file(&path, stat.size) => Vec::new(),
        Change::Written { path, stat } if !selection.takes_file(&path, stat.size) => {
            match stat.links {
                0 | 1 => Vec::new(),
                _ => vec![Change::WrittenElsewhere { stat }],
            }
        }
        Change::Renamed { from, to, entry } if !takes(selection, &to, &entry) => {
            [gone(from), gone(to)].into_iter().flatten().collect()
        }
        Change::Exchanged { a, b }
            if !takes(selection, &a.0, &a.1) || !takes(selection, &b.0, &b.1) =>
        {
            let mut changes: Vec<Change> = [gone(a.0.clone()), gone(b.0.clone())]
                .into_iter()
                .flatten()
                .collect();
            for (path, entry) in [a, b] {
                if let Entry::File(stat) = entry
                    && takes(selection, &path, &entry)
                {
                    changes.push(Change::Written { path, stat });
                }
            }
            changes
        }
        change => vec![change],
    }
}

/// Whatever there was under the name.
fn gone(path: RelPath) -> [Change; 2] {
    let folder = path.clone();
    [
        Change::Removed { path },
        Change::FolderRemoved { path: folder },
    ]
}

fn takes(selection: &Selection, path: &RelPath, entry: &Entry) -> bool {
    match entry {
        Entry::File(stat) => selection.takes_file(path, stat.size),
        Entry::Folder => selection.takes_folder(path),
        Entry::Other => true,
    }
}

/// Folders in which files may be taken now that were not before: their rules have changed, or they
/// have got another place.
fn found_anew(selection: &Selection, change: &Change) -> Vec<RelPath> {
    let mut folders = Vec::new();
    let mut rules_of = |path: &RelPath| {
        if path.name() == IGNORE_FILE {
            selection.forget();
            folders.extend(path.split().map(|(folder, _)| folder));
        }
    };
    match change {
        Change::Added { path, .. } | Change::Written { path, .. } | Change::Removed { path } => {
            rules_of(path);
        }
        Change::Renamed { from, to, entry } => {
            rules_of(from);
            rules_of(to);
            if *entry == Entry::Folder {
                folders.extend(moved(selection, to));
            }
        }
        Change::Exchanged { a, b } => {
            rules_of(&a.0);
            rules_of(&b.0);
            for (path, entry) in [a, b] {
                if *entry == Entry::Folder {
                    folders.extend(moved(selection, path));
                }
            }
        }
        Change::FolderRemoved { .. } => selection.forget(),
        Change::Opening { .. } | Change::Rested { .. } | Change::WrittenElsewhere { .. } => {}
    }
    folders
}

fn moved(selection: &Selection, folder: &RelPath) -> Option<RelPath> {
    selection.forget();
    (selection.has_rules() && selection.takes_folder(folder)).then(|| folder.clone())
}
