use std::collections::HashSet;

use parking_lot::Mutex;

use crate::path::RelPath;

/// Paths whose content is on its way. A path can come to have another file while the old one's
/// upload is not through; two uploads under one key must not overtake each other.
#[derive(Default)]
pub(super) struct Busy(Mutex<HashSet<RelPath>>);

impl Busy {
    /// `None` if the path is busy already.
    pub(super) fn enter<'a>(&'a self, path: &'a RelPath) -> Option<Entered<'a>> {
        self.0
            .lock()
            .insert(path.clone())
            .then_some(Entered { busy: self, path })
    }
}

/// The path is free again when this is dropped.
pub(super) struct Entered<'a> {
    busy: &'a Busy,
    path: &'a RelPath,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.busy.0.lock().remove(self.path);
    }
}
