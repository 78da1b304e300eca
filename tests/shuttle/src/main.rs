//! What threads share, under shuttle: thousands of interleavings of each scene. One that fails is printed
//! as a schedule, which `shuttle::replay` plays again.

#[allow(dead_code)]
#[path = "../../../src/delivery/busy.rs"]
mod busy;
#[allow(dead_code)]
#[path = "../../../src/delivery/gate.rs"]
mod gate;
#[allow(dead_code)]
#[path = "../../../src/mount/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "../../../src/path.rs"]
mod path;
#[allow(dead_code)]
#[path = "../../../src/journal/writing.rs"]
mod writing;

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::{future, thread};

use busy::Busy;
use gate::Gate;
use nodes::{Identity, Nodes, Place, ROOT};
use path::RelPath;
use writing::Writing;

/// Of the journal's, what is needed here.
#[derive(Debug, Clone, Copy)]
pub struct FileStat {
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
}

fn main() {
    let schedules = std::env::args().nth(1).map_or(100_000, |number| {
        number
            .parse()
            .expect("the argument is a number of interleavings")
    });
    let play = |what: &str, scene: fn()| {
        shuttle::check_random(scene, schedules);
        println!("{schedules} interleavings: {what}");
    };
    play("a path is busy for one at a time", busy_for_one_at_a_time);
    play("places are neither lost nor doubled", places_are_kept);
    play("half a file is never taken for whole", half_is_not_whole);
    play(
        "nodes are found under a name of theirs, and all are forgotten",
        nodes_are_found,
    );
}

/// No two uploads under one key at a time, and a path is free again afterwards.
fn busy_for_one_at_a_time() {
    let busy = Arc::new(Busy::default());
    let inside = Arc::new(AtomicUsize::new(0));
    let path = RelPath::parse(b"a/b").unwrap();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (busy, inside, path) = (busy.clone(), inside.clone(), path.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(_entered) = busy.enter(&path) {
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(busy.enter(&path).is_some());
}

/// However places are given back, taken away and added: never more uploads than places, and who waits
/// for one gets it.
fn places_are_kept() {
    const PLACES: usize = 2;
    future::block_on(async {
        let gate = Gate::new(PLACES);
        let inside = Arc::new(AtomicUsize::new(0));
        let mut uploads = Vec::new();
        for round in 0..4 {
            for place in gate.take(PLACES).await {
                let (gate, inside) = (gate.clone(), inside.clone());
                uploads.push(future::spawn(async move {
                    assert!(inside.fetch_add(1, SeqCst) < PLACES);
                    match round {
                        1 => gate.slow_down(None),
                        2 => gate.set_places(PLACES),
                        _ => gate.arrived(Some(Duration::from_millis(5))),
                    }
                    inside.fetch_sub(1, SeqCst);
                    drop(place);
                }));
            }
        }
        for upload in uploads {
            upload.await.unwrap();
        }
    });
}

/// While a file is being written, what nobody has closed is never taken for finished.
fn half_is_not_whole() {
    const BEFORE: usize = 0;
    const HALF: usize = 1;
    const CLOSED: usize = 2;
    let stat = |size| FileStat {
        size,
        mtime_ns: 1,
        inode: 7,
    };
    let writing = Arc::new(Writing::default());
    let state = Arc::new(AtomicUsize::new(BEFORE));
    let writer = {
        let (writing, state) = (writing.clone(), state.clone());
        thread::spawn(move || {
            writing.begins(7, Some(&stat(9)));
            state.store(HALF, SeqCst);
            writing.closed(&stat(10));
            state.store(CLOSED, SeqCst);
            writing.ends(7);
        })
    };
    let another = {
        let writing = writing.clone();
        thread::spawn(move || {
            writing.begins(8, None);
            writing.ends(8);
        })
    };
    // Delivery looks at the file, asks, and sends it if it is finished.
    let before = state.load(SeqCst);
    let half = writing.is_unfinished(&stat(5));
    if before == HALF && state.load(SeqCst) == HALF {
        assert!(half, "five bytes of ten would be sent");
    }
    writer.join().unwrap();
    another.join().unwrap();
    assert!(!writing.is_unfinished(&stat(10)));
}

/// Lookups, renames, removals and forgets from several event loops: a node has a name that it had at
/// some time, or none; and when the kernel has forgotten all, nothing is left.
fn nodes_are_found() {
    const FOLDER: u64 = 10;
    const FILE: u64 = 11;
    const IDENTITY: Identity = Identity {
        btime_ns: 7,
        linked: false,
    };
    let open = || Arc::new(std::fs::File::open("/").unwrap().into());
    let nodes = Arc::new(Nodes::new());
    nodes.enter(ROOT, b"d", FOLDER, IDENTITY);
    nodes.enter(FOLDER, b"f", FILE, IDENTITY);
    let looks_up = {
        let nodes = nodes.clone();
        thread::spawn(move || {
            nodes.enter(ROOT, b"d", FOLDER, IDENTITY);
            nodes.forget(FOLDER, 1);
        })
    };
    let moves = {
        let nodes = nodes.clone();
        thread::spawn(move || {
            nodes.moved(FILE, (FOLDER, b"f"), (ROOT, b"g"));
            nodes.removed(ROOT, b"g", FILE, true, open());
            nodes.forget(FILE, 1);
        })
    };
    let path = nodes.path(FILE);
    let path = path.as_ref().map(RelPath::as_bytes);
    assert!(matches!(path, None | Some(b"d/f" | b"g")), "{path:?}");
    if let Some(Place::At(parent, name)) = nodes.place(FILE) {
        assert!(matches!((parent, &*name), (FOLDER, b"f") | (ROOT, b"g")));
    }
    looks_up.join().unwrap();
    moves.join().unwrap();
    nodes.forget(FOLDER, 1);
    assert!(nodes.place(FILE).is_none() && nodes.place(FOLDER).is_none());
}
