//! Who is writing goes first. Where processors are few, a burst of small files and its delivery only
//! hold each other up: then the delivery waits for the burst to end, but not for long.
//!
//! That processors are scarce is what the kernel says in /proc/pressure/cpu (Linux 4.20, "some": the
//! time for which anybody waited for one). Without it nothing is held back.

use std::fs;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Context;
use crate::clock;

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// A look that is older says nothing of now.
const STALE: Duration = Duration::from_millis(500);
/// Delivery waits this long at most, and then goes on for as long at least.
const LONGEST: Duration = Duration::from_secs(2);
/// So many changes a second are a burst,
const BURST: f64 = 100.0;
/// and for such a part of the time somebody waits for a processor.
const SCARCE: f64 = 0.4;

/// What the kernel and the journal have counted.
#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Instant,
    changes: u64,
    /// Since the machine was started, microseconds.
    waited: u64,
}

#[derive(Default)]
pub(super) struct Way(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Counts>,
    held_since: Option<Instant>,
    free_until: Option<Instant>,
}

impl State {
    /// Whether nobody was to be let past a moment ago: then it is too early to look again.
    fn has_just_looked(&self, at: Instant) -> bool {
        self.held_since.is_none() && self.last.is_some_and(|last| at - last.at < LOOK)
    }

    /// Whether to wait now.
    fn look(&mut self, now: Counts) -> bool {
        let Some(last) = self.last else {
            self.last = Some(now);
            return false;
        };
        let passed = now.at - last.at;
        if passed < LOOK {
            return self.held_since.is_some();
        }
        self.last = Some(now);
        let seconds = passed.as_secs_f64();
        let is_burst = (now.changes - last.changes) as f64 / seconds > BURST;
        let is_scarce = now.waited.saturating_sub(last.waited) as f64 / 1e6 / seconds > SCARCE;
        match self.held_since {
            Some(since) if !is_burst || now.at - since >= LONGEST => {
                self.held_since = None;
                self.free_until = Some(now.at + LONGEST);
            }
            None if is_burst
                && is_scarce
                && passed < STALE
                && self.free_until.is_none_or(|until| until <= now.at) =>
            {
                self.held_since = Some(now.at);
            }
            _ => {}
        }
        self.held_since.is_some()
    }
}

impl Context {
    /// Returns when nobody is to be let past.
    pub(super) async fn make_way(&self) {
        loop {
            let at = Instant::now();
            if self.way.0.lock().has_just_looked(at) {
                return;
            }
            let Some(waited) = waited_for_processors() else {
                return;
            };
            let now = Counts {
                at,
                changes: self.journal.changes(),
                waited,
            };
            if !self.way.0.lock().look(now) {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK) => {}
                () = self.alarms.hurried() => return,
            }
        }
    }
}

fn waited_for_processors() -> Option<u64> {
    if clock::is_simulated() {
        return None;
    }
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 100 ms, at so many changes and so much waiting in between; when it was held.
    fn held(looks: &[(u64, u64)]) -> String {
        let (mut state, begin) = (State::default(), Instant::now());
        let (mut changes, mut waited) = (0, 0);
        let look = |(number, (more, wait)): (usize, &(u64, u64))| {
            changes += more;
            waited += wait * 1000;
            let at = begin + LOOK * number as u32;
            let counts = Counts {
                at,
                changes,
                waited,
            };
            if state.look(counts) { '#' } else { '.' }
        };
        looks.iter().enumerate().map(look).collect()
    }

    #[test]
    fn a_burst_is_let_past_where_processors_are_scarce() {
        let burst = [(0, 0), (200, 90), (200, 5), (200, 5), (0, 5), (0, 90)];
        assert_eq!(held(&burst), ".###..");
        // There are enough of them, or it is no burst.
        assert_eq!(held(&[(0, 0), (200, 20), (200, 20)]), "...");
        assert_eq!(held(&[(0, 0), (5, 90), (5, 90)]), "...");
    }

    #[test]
    fn delivery_does_not_wait_for_ever() {
        let endless = [(200, 90); 63];
        let (wait, go) = ("#".repeat(20), ".".repeat(20));
        assert_eq!(held(&endless), format!(".{wait}{go}{wait}.."));
    }
}
