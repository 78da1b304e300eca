//! Files that are being written: what they hold just now is not what anybody has closed.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The files that are open for writing through the mount, by inode number. The mount says so before
/// anything is written, and until what was written is recorded; delivery asks before it sends what is
/// not as it was recorded.
#[derive(Debug, Default)]
pub struct Writing(Mutex<HashMap<u64, usize>>);

impl Writing {
    pub fn begins(&self, inode: u64) {
        *self.0.lock().entry(inode).or_default() += 1;
    }

    pub fn ends(&self, inode: u64) {
        let mut open = self.0.lock();
        if let Some(count) = open.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                open.remove(&inode);
            }
        }
    }

    /// The mount has ended: nobody writes through it any more.
    pub fn all_end(&self) {
        self.0.lock().clear();
    }

    pub fn is_written(&self, inode: u64) -> bool {
        self.0.lock().contains_key(&inode)
    }
}
