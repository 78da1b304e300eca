use parking_lot::Mutex;

use super::JournalError;

/// Why the journal could not be written when that was tried last, for those who ask how things are.
#[derive(Debug, Default)]
pub struct Fault(Mutex<Option<JournalError>>);

impl Fault {
    pub(super) fn note<T>(&self, result: &Result<T, JournalError>) {
        *self.0.lock() = result.as_ref().err().cloned();
    }

    /// `None` if it could be written.
    pub fn get(&self) -> Option<JournalError> {
        self.0.lock().clone()
    }
}
