//! What time it is. In one place, so that a simulation can let hours pass in a moment.

use std::cell::Cell;
use std::time::SystemTime;

use tokio::time::Instant;

thread_local! {
    /// The time that was set, and when that was; without that it stands still.
    static SIMULATED: Cell<Option<(i64, Option<Instant>)>> = const { Cell::new(None) };
}

/// Milliseconds since 1970-01-01 UTC, the journal's clock.
pub fn now_ms() -> i64 {
    match SIMULATED.get() {
        Some((ms, since)) => ms + since.map_or(0, |since| since.elapsed().as_millis() as i64),
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64),
    }
}

/// Sets the clock of this thread: from now on it goes as that of its tokio runtime does.
pub fn simulate(ms: i64) {
    SIMULATED.set(Some((ms, Some(Instant::now()))));
}

/// Sets the clock of this thread, which stands still then: where there is no runtime, time is real.
pub fn hold(ms: i64) {
    SIMULATED.set(Some((ms, None)));
}

/// Whether the clock of this thread was set, and all goes on in this thread, so that it goes the same
/// way each time.
pub fn is_simulated() -> bool {
    SIMULATED.get().is_some()
}
