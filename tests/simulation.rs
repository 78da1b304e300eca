//! Journal and delivery in a simulated world: time, remote, rows, users, crashes and failing disks come
//! from a seed, and what was promised is looked at after each step. A seed is one story, the same each
//! time: `OUTBOXFS_SIM_SEEDS=17..18` plays that one, `OUTBOXFS_SIM_TRACE=1` tells it.

#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/promises.rs"]
mod promises;
#[path = "simulation/remote.rs"]
mod remote;
#[path = "simulation/sink.rs"]
mod sink;
#[path = "simulation/story.rs"]
mod story;
#[path = "simulation/tree.rs"]
mod tree;
#[path = "simulation/users.rs"]
mod users;
#[path = "simulation/world.rs"]
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Played where nobody says which.
const SEEDS: Range<u64> = 0..150;
/// Failures that are told before the rest is left out.
const ENOUGH: usize = 5;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("OUTBOXFS_SIM_SEEDS") else {
        return SEEDS;
    };
    let range = text.split_once("..").and_then(|(from, to)| {
        let range = from.parse().ok()?..to.parse().ok()?;
        (!range.is_empty()).then_some(range)
    });
    range.unwrap_or_else(|| panic!("OUTBOXFS_SIM_SEEDS={text}: not as in 0..1000"))
}

#[test]
fn every_promise_holds_whatever_happens() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || failures.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let played = std::panic::catch_unwind(|| world::play(seed));
                    let panicked = |_| Err(format!("seed {seed} panicked, see above"));
                    if let Err(failure) = played.unwrap_or_else(panicked) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    eprintln!("{} seeds", seeds.end - seeds.start);
}

#[test]
fn a_seed_is_one_story() {
    for seed in seeds().take(5) {
        let (first, second) = (world::play(seed), world::play(seed));
        assert_eq!(first, second, "seed {seed}");
    }
}
