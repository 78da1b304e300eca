//! The inode table: what the kernel remembers, by node id, and under which names it lies.
//!
//! A node holds no descriptor (a mount may be walked over millions of files): it is found again by
//! its parent and its name. Only a node whose last known name was removed keeps one, until the
//! kernel forgets it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::path::RelPath;

/// The number by which the kernel and we call an inode.
pub(super) type NodeId = u64;

/// The mount's root, by the protocol.
pub(super) const ROOT: NodeId = 1;

/// Where a node is to be found.
pub(super) enum Place {
    Root,
    /// In the directory of that node, under that name.
    At(NodeId, Box<[u8]>),
    /// Nowhere any more, but somebody still refers to it.
    Orphan(Arc<OwnedFd>),
}

/// What tells a new inode with a reused number from the old one.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    /// Nanoseconds since the epoch; 0 where the filesystem does not tell.
    pub btime_ns: i64,
    /// Whether it can have more than one name.
    pub linked: bool,
}

/// Nearly every node has one name; a list for each would cost a million files 24 MB.
enum Names {
    None,
    One(NodeId, Box<[u8]>),
    Many(Vec<(NodeId, Box<[u8]>)>),
}

impl Names {
    fn first(&self) -> Option<(NodeId, &[u8])> {
        match self {
            Names::None => None,
            Names::One(parent, name) => Some((*parent, name)),
            Names::Many(list) => list.first().map(|(parent, name)| (*parent, &name[..])),
        }
    }

    fn contains(&self, parent: NodeId, name: &[u8]) -> bool {
        match self {
            Names::None => false,
            Names::One(p, n) => *p == parent && **n == *name,
            Names::Many(list) => list.iter().any(|(p, n)| *p == parent && **n == *name),
        }
    }

    fn add(&mut self, parent: NodeId, name: &[u8]) {
        *self = match std::mem::replace(self, Names::None) {
            Names::None => Names::One(parent, name.into()),
            Names::One(p, n) => Names::Many(vec![(p, n), (parent, name.into())]),
            Names::Many(mut list) => {
                list.push((parent, name.into()));
                Names::Many(list)
            }
        }
    }

    /// Whether the name was there.
    fn remove(&mut self, parent: NodeId, name: &[u8]) -> bool {
        if !self.contains(parent, name) {
            return false;
        }
        *self = match std::mem::replace(self, Names::None) {
            Names::Many(mut list) => {
                list.retain(|(p, n)| !(*p == parent && **n == *name));
                Names::Many(list)
            }
            _ => Names::None,
        };
        true
    }

    fn parents(&self) -> Vec<NodeId> {
        match self {
            Names::None => Vec::new(),
            Names::One(parent, _) => vec![*parent],
            Names::Many(list) => list.iter().map(|(parent, _)| *parent).collect(),
        }
    }
}

struct Node {
    names: Names,
    /// Lookups answered and not yet forgotten, by the protocol.
    lookups: u64,
    /// Names of other nodes that lie in this one; it stays as long as there are any.
    children: u32,
    generation: u32,
    btime_ns: i64,
    /// Its last link was removed: whatever turns up with its number is another inode.
    dead: bool,
    orphan: Option<Arc<OwnedFd>>,
}

/// All nodes. One lock: every operation is a handful of map accesses.
pub(super) struct Nodes {
    // Boxed, so that growing the map moves pointers and not nodes.
    table: Mutex<HashMap<NodeId, Box<Node>>>,
}

impl Nodes {
    pub fn new() -> Self {
        let root = Node {
            names: Names::None,
            lookups: 1,
            children: 0,
            generation: 0,
            btime_ns: 0,
            dead: false,
            orphan: None,
        };
        Self {
            table: Mutex::new(HashMap::from([(ROOT, Box::new(root))])),
        }
    }

    /// Notes that the kernel was told of `id` under `name`, which counts as one lookup. Returns
    /// the generation to tell it.
    pub fn enter(&self, parent: NodeId, name: &[u8], id: NodeId, identity: Identity) -> u64 {
        let mut table = self.table.lock();
        let mut old_parents = Vec::new();
        let (generation, named) = match table.entry(id) {
            Entry::Vacant(vacant) => {
                let node = vacant.insert(Box::new(Node {
                    names: Names::One(parent, name.into()),
                    lookups: 1,
                    children: 0,
                    generation: 0,
                    btime_ns: identity.btime_ns,
                    dead: false,
                    orphan: None,
                }));
                (node.generation, true)
            }
            Entry::Occupied(occupied) => {
                let node = occupied.into_mut();
                node.lookups += 1;
                let another = node.dead || node.btime_ns != identity.btime_ns;
                if another {
                    node.generation += 1;
                    node.btime_ns = identity.btime_ns;
                    node.dead = false;
                }
                node.orphan = None;
                if node.names.contains(parent, name) && !another {
                    (node.generation, false)
                } else {
                    // Without hard links an older name is out of date: it was moved below us.
                    if another || !identity.linked {
                        old_parents = node.names.parents();
                        node.names = Names::None;
                    }
                    node.names.add(parent, name);
                    (node.generation, true)
                }
            }
        };
        if named && let Some(parent) = table.get_mut(&parent) {
            parent.children += 1;
        }
        let dropped = release_parents(&mut table, old_parents);
        drop(table);
        drop(dropped);
        u64::from(generation)
    }

    /// The kernel forgets `count` lookups of `id`.
    pub fn forget(&self, id: NodeId, count: u64) {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(&id) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(count);
        let dropped = remove_if_unused(&mut table, id);
        // Closing a descriptor may truncate a large file: not under the lock.
        drop(table);
        drop(dropped);
    }

    pub fn place(&self, id: NodeId) -> Option<Place> {
        if id == ROOT {
            return Some(Place::Root);
        }
        let table = self.table.lock();
        let node = table.get(&id)?;
        if let Some(fd) = &node.orphan {
            return Some(Place::Orphan(fd.clone()));
        }
        let (parent, name) = node.names.first()?;
        Some(Place::At(parent, name.into()))
    }

    /// Path of the node, by one of its names; `None` if it has none.
    pub fn path(&self, id: NodeId) -> Option<RelPath> {
        let table = self.table.lock();
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let (parent, name) = table.get(&at)?.names.first()?;
            names.push(name);
            at = parent;
        }
        Some(
            names
                .iter()
                .rev()
                .fold(RelPath::root(), |path, name| path.join(name)),
        )
    }

    /// Path of the entry `name` of a directory.
    pub fn path_at(&self, parent: NodeId, name: &[u8]) -> Option<RelPath> {
        Some(self.path(parent)?.join(name))
    }

    /// A name is gone. `orphan` keeps what it named reachable for who still refers to it.
    pub fn removed(
        &self,
        parent: NodeId,
        name: &[u8],
        id: NodeId,
        dead: bool,
        orphan: Arc<OwnedFd>,
    ) {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(&id) else {
            return;
        };
        let removed = node.names.remove(parent, name);
        node.dead |= dead;
        if node.dead || node.names.first().is_none() {
            node.orphan = Some(orphan);
        }
        if removed {
            let dropped = release_parents(&mut table, vec![parent]);
            drop(table);
            drop(dropped);
        }
    }

    /// What was `from` is now `to`.
    pub fn moved(&self, id: NodeId, from: (NodeId, &[u8]), to: (NodeId, &[u8])) {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(&id) else {
            return;
        };
        let left = node.names.remove(from.0, from.1);
        let entered = !node.names.contains(to.0, to.1);
        if entered {
            node.names.add(to.0, to.1);
        }
        if entered && let Some(parent) = table.get_mut(&to.0) {
            parent.children += 1;
        }
        let dropped = release_parents(&mut table, if left { vec![from.0] } else { Vec::new() });
        drop(table);
        drop(dropped);
    }
}

/// Nodes taken out of the table, to be dropped when its lock is released.
type Dropped = Vec<Box<Node>>;

fn release_parents(table: &mut HashMap<NodeId, Box<Node>>, parents: Vec<NodeId>) -> Dropped {
    let mut dropped = Vec::new();
    for parent in parents {
        if let Some(node) = table.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
            dropped.append(&mut remove_if_unused(table, parent));
        }
    }
    dropped
}

/// Takes the node out if nobody refers to it any more, and its parents likewise.
fn remove_if_unused(table: &mut HashMap<NodeId, Box<Node>>, id: NodeId) -> Dropped {
    let mut dropped = Vec::new();
    let mut candidates = vec![id];
    while let Some(id) = candidates.pop() {
        if id == ROOT {
            continue;
        }
        let Entry::Occupied(entry) = table.entry(id) else {
            continue;
        };
        if entry.get().lookups > 0 || entry.get().children > 0 {
            continue;
        }
        let node = entry.remove();
        for parent in node.names.parents() {
            if let Some(node) = table.get_mut(&parent) {
                node.children = node.children.saturating_sub(1);
                candidates.push(parent);
            }
        }
        dropped.push(node);
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = Identity {
        btime_ns: 7,
        linked: false,
    };

    fn len(nodes: &Nodes) -> usize {
        nodes.table.lock().len()
    }

    #[test]
    fn a_directory_stays_while_something_lies_in_it() {
        let nodes = Nodes::new();
        nodes.enter(ROOT, b"d", 10, FILE);
        nodes.enter(10, b"f", 11, FILE);
        nodes.forget(10, 1);
        assert_eq!(nodes.path(11).unwrap().as_bytes(), b"d/f");
        nodes.forget(11, 1);
        assert_eq!(len(&nodes), 1);
    }

    #[test]
    fn a_moved_node_keeps_its_number_and_changes_its_path() {
        let nodes = Nodes::new();
        nodes.enter(ROOT, b"a", 10, FILE);
        nodes.enter(ROOT, b"b", 11, FILE);
        nodes.enter(10, b"f", 12, FILE);
        nodes.moved(12, (10, b"f"), (11, b"g"));
        assert_eq!(nodes.path(12).unwrap().as_bytes(), b"b/g");
        nodes.forget(10, 1);
        assert_eq!(len(&nodes), 3, "the old directory is not held any more");
    }

    #[test]
    fn a_hard_link_is_found_by_its_remaining_name() {
        let nodes = Nodes::new();
        let linked = Identity {
            linked: true,
            ..FILE
        };
        nodes.enter(ROOT, b"a", 10, FILE);
        nodes.enter(ROOT, b"b", 10, linked);
        let fd = Arc::new(std::fs::File::open("/").unwrap().into());
        nodes.removed(ROOT, b"a", 10, false, fd);
        assert_eq!(nodes.path(10).unwrap().as_bytes(), b"b");
    }

    #[test]
    fn a_reused_number_is_another_generation() {
        let nodes = Nodes::new();
        assert_eq!(nodes.enter(ROOT, b"a", 10, FILE), 0);
        assert_eq!(nodes.enter(ROOT, b"a", 10, FILE), 0);
        let later = Identity {
            btime_ns: 8,
            linked: false,
        };
        assert_eq!(nodes.enter(ROOT, b"a", 10, later), 1);
        let fd = Arc::new(std::fs::File::open("/").unwrap().into());
        nodes.removed(ROOT, b"a", 10, true, fd);
        assert!(nodes.path(10).is_none());
        assert_eq!(nodes.enter(ROOT, b"a", 10, later), 2);
    }
}
