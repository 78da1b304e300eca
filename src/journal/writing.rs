//! Files that are being written: what they hold just now is not what anybody has closed.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::FileStat;

/// The files that are open for writing through the mount, by inode number. The mount says so before
/// anything is written, and until what was written is recorded; and what each was closed or synced as.
/// Delivery asks before it sends anything else: a rename or a link records a file as it is, also in the
/// middle of being written.
#[derive(Debug, Default)]
pub struct Writing(Mutex<HashMap<u64, Open>>);

#[derive(Debug)]
struct Open {
    times: usize,
    /// Size and modification time of what was closed or synced last.
    closed: Option<(u64, i64)>,
}

impl Writing {
    /// `closed` is the file before anything is written; `None` if it was made by being opened.
    pub fn begins(&self, inode: u64, closed: Option<&FileStat>) {
        let mut open = self.0.lock();
        let file = open.entry(inode).or_insert(Open {
            times: 0,
            closed: None,
        });
        file.times += 1;
        file.closed = closed.map(|stat| (stat.size, stat.mtime_ns));
    }

    /// The file is closed or synced as this, whoever goes on writing it.
    pub fn closed(&self, stat: &FileStat) {
        if let Some(file) = self.0.lock().get_mut(&stat.inode) {
            file.closed = Some((stat.size, stat.mtime_ns));
        }
    }

    pub fn ends(&self, inode: u64) {
        let mut open = self.0.lock();
        if let Some(file) = open.get_mut(&inode) {
            file.times -= 1;
            if file.times == 0 {
                open.remove(&inode);
            }
        }
    }

    /// The mount has ended: nobody writes through it any more.
    pub fn all_end(&self) {
        self.0.lock().clear();
    }

    /// Whether what the file holds is half of something.
    pub fn is_unfinished(&self, stat: &FileStat) -> bool {
        let open = self.0.lock();
        let file = open.get(&stat.inode);
        file.is_some_and(|file| file.closed != Some((stat.size, stat.mtime_ns)))
    }
}
