//! What is taken of a tree, asked path by path as a mount does: the globs, the size, the rules of
//! `.outboxignore` files, which are read when they are needed and kept, and our own markers.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::beneath::{self, Links};
use crate::filter::{Filter, Ignores, rules_in};
use crate::path::RelPath;
use crate::{marker, suspect};

/// Folders whose rules are kept.
const KEPT: usize = 10_000;

/// A scan of the same tree with the same filter takes the same files.
pub struct Selection {
    backing: OwnedFd,
    filter: Filter,
    /// How long rules may be believed that others can change; `None`: all changes are told.
    lasting: Option<Duration>,
    cache: Mutex<Cache>,
    /// There is something that may be left out.
    has_rules: AtomicBool,
}

struct Cache {
    since: Instant,
    /// The rules in a folder; `None` of one that is left out.
    folders: HashMap<RelPath, Option<Arc<Ignores>>>,
}

impl Selection {
    pub fn new(backing: OwnedFd, filter: Filter, lasting: Option<Duration>) -> Self {
        Self {
            has_rules: AtomicBool::new(!filter.takes_everything()),
            backing,
            filter,
            lasting,
            cache: Mutex::new(Cache {
                since: Instant::now(),
                folders: HashMap::new(),
            }),
        }
    }

    /// Whether a file is delivered.
    pub fn takes_file(&self, path: &RelPath, size: u64) -> bool {
        !self.filter.is_too_large(size) && self.takes_name(path)
    }

    /// The same, whatever its size.
    pub fn takes_name(&self, path: &RelPath) -> bool {
        let Some((folder, name)) = path.split() else {
            return false;
        };
        let Some(ignores) = self.rules_of(&folder) else {
            return false;
        };
        let left_out = self.filter.leaves_out(path, false)
            || ignores.ignores(path, false)
            || suspect::is_unfinished(name)
            || (marker::may_be_ours(name) && self.is_marker(&folder, name));
        !left_out
    }

    /// Whether what is in a folder may be delivered.
    pub fn takes_folder(&self, path: &RelPath) -> bool {
        self.rules_of(path).is_some()
    }

    /// Whether there is anything that may be left out, as far as is known.
    pub fn has_rules(&self) -> bool {
        self.has_rules.load(Ordering::Relaxed)
    }

    /// Rules have changed, or folders have got other names: all rules are read anew.
    pub fn forget(&self) {
        self.cache.lock().folders.clear();
    }

    fn is_marker(&self, folder: &RelPath, name: &[u8]) -> bool {
        let folder = beneath::open_folder(&self.backing, folder, Links::Refused);
        folder.is_ok_and(|folder| marker::is_ours(folder.as_fd(), name))
    }

    fn rules_of(&self, folder: &RelPath) -> Option<Arc<Ignores>> {
        {
            let mut cache = self.cache.lock();
            let is_old = self
                .lasting
                .is_some_and(|for_so_long| cache.since.elapsed() > for_so_long);
            if is_old || cache.folders.len() >= KEPT {
                cache.folders.clear();
                cache.since = Instant::now();
            }
            if let Some(rules) = cache.folders.get(folder) {
                return rules.clone();
            }
        }
        let rules = match folder.split() {
            None => Some(self.own_rules(folder, &Ignores::default())),
            Some((parent, _)) => self.rules_of(&parent).and_then(|above| {
                let left_out = self.filter.leaves_out(folder, true) || above.ignores(folder, true);
                (!left_out).then(|| self.own_rules(folder, &above))
            }),
        };
        let mut cache = self.cache.lock();
        cache.folders.insert(folder.clone(), rules.clone());
        rules
    }

    fn own_rules(&self, folder: &RelPath, above: &Ignores) -> Arc<Ignores> {
        let fd = beneath::open_folder(&self.backing, folder, Links::Refused);
        let text = fd.ok().and_then(|fd| rules_in(fd.as_fd()));
        Arc::new(match text {
            Some(text) => {
                self.has_rules.store(true, Ordering::Relaxed);
                above.with(folder, &text)
            }
            None => above.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_from_their_folder_on_until_they_change() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".outboxignore", "*.tmp\ncache/\n");
        write("a/.outboxignore", "!keep.tmp\n");
        let backing = std::fs::File::open(tree.path()).unwrap();
        let filter = Filter::new(&[], &["secret".to_owned()], Some(10)).unwrap();
        let selection = Selection::new(backing.into(), filter, None);
        let takes = |path: &str, size| {
            selection.takes_file(&RelPath::parse(path.as_bytes()).unwrap(), size)
        };
        for (path, taken) in [
            ("x.tmp", false),
            ("a/x.tmp", false),
            ("a/keep.tmp", true),
            ("cache/x", false),
            ("b/cache/c/x", false),
            ("b/x", true),
            ("b/secret", false),
        ] {
            assert_eq!(takes(path, 1), taken, "{path}");
        }
        assert!(!takes("b/x", 11));
        assert!(selection.has_rules());

        write(".outboxignore", "");
        assert!(!takes("x.tmp", 1), "nobody has told");
        selection.forget();
        assert!(takes("x.tmp", 1));
    }
}
