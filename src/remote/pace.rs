//! How fast a remote may be used: bytes and requests a second, over all that goes on at a time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Smaller pieces would cost more than they help, bytes.
const SMALLEST_SLICE: usize = 1024;

/// The longest that a service can ask everybody to wait.
const LONGEST_REST: Duration = Duration::from_secs(120);

/// Shared by all uploads. The default sets no bounds.
#[derive(Debug, Default)]
pub struct Pace {
    bytes: Mutex<Option<Rate>>,
    requests: Mutex<Option<Rate>>,
    rest_until: Mutex<Option<Instant>>,
}

/// When the next one may go, if each takes its share of a second. (The generic cell rate algorithm,
/// without a burst: a dozen lines, which can be waited for in threads, tasks and bodies alike.)
#[derive(Debug)]
struct Rate {
    per_second: f64,
    next: Option<Instant>,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second as f64,
            next: None,
        }
    }

    /// Takes `count`; they may go after so long.
    fn take(&mut self, count: u64) -> Duration {
        self.take_at(Instant::now(), count)
    }

    fn take_at(&mut self, now: Instant, count: u64) -> Duration {
        let at = self.next.map_or(now, |next| next.max(now));
        self.next = Some(at + Duration::from_secs_f64(count as f64 / self.per_second));
        at - now
    }
}

impl Pace {
    /// Both a second; `None` for as much as there can be.
    pub fn new(bytes: Option<u64>, requests: Option<u64>) -> Self {
        let pace = Self::default();
        pace.set(bytes, requests);
        pace
    }

    /// The same from now on; who waits already waits as long as he was told.
    pub fn set(&self, bytes: Option<u64>, requests: Option<u64>) {
        *self.bytes.lock() = bytes.map(Rate::new);
        *self.requests.lock() = requests.map(Rate::new);
    }

    /// The service asked somebody to wait so long: everybody does.
    pub fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_REST);
        let mut rest_until = self.rest_until.lock();
        *rest_until = Some(rest_until.map_or(until, |other| other.max(until)));
    }

    fn resting(&self) -> Option<Duration> {
        let mut rest_until = self.rest_until.lock();
        let left = rest_until.map(|until| until.saturating_duration_since(Instant::now()))?;
        if left.is_zero() {
            *rest_until = None;
            return None;
        }
        Some(left)
    }

    /// Waits until one more request may be made.
    pub async fn request(&self) {
        while let Some(left) = self.resting() {
            tokio::time::sleep(left).await;
        }
        let wait = self.requests.lock().as_mut().map(|rate| rate.take(1));
        sleep(wait).await;
    }

    /// [`Self::request`] for a thread that may block.
    pub fn request_blocking(&self) {
        let wait = self.requests.lock().as_mut().map(|rate| rate.take(1));
        std::thread::sleep(wait.unwrap_or_default());
    }

    /// Takes so many bytes, and says how long to wait before they go; `None` where there is no bound.
    pub fn bytes(&self, count: u64) -> Option<Duration> {
        let wait = self.bytes.lock().as_mut()?.take(count);
        (!wait.is_zero()).then_some(wait)
    }

    /// How many bytes to give to a connection at a time, so that many of them take turns.
    pub fn slice(&self, most: usize) -> usize {
        let fair = |rate: &Rate| (rate.per_second / 20.0) as usize;
        let slice = self.bytes.lock().as_ref().map_or(most, fair);
        slice.max(SMALLEST_SLICE).min(most)
    }

    /// Waits until so many bytes may go, for a thread that may block.
    pub fn bytes_blocking(&self, count: u64) {
        if let Some(wait) = self.bytes(count) {
            std::thread::sleep(wait);
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_waits_for_those_before() {
        let mut rate = Rate::new(10);
        let now = Instant::now();
        let waits: Vec<u128> = (0..4).map(|_| rate.take_at(now, 1).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        // Time that passed is not saved up.
        let later = now + Duration::from_secs(60);
        assert_eq!(rate.take_at(later, 20), Duration::ZERO);
        assert_eq!(rate.take_at(later, 1), Duration::from_secs(2));
    }

    #[test]
    fn what_one_is_asked_to_wait_all_wait() {
        let pace = Pace::default();
        pace.rest(Duration::from_secs(3));
        pace.rest(Duration::from_secs(1));
        let left = pace.resting().unwrap();
        assert!(left > Duration::from_secs(2) && left <= Duration::from_secs(3));
        pace.rest(Duration::MAX);
        assert!(pace.resting().unwrap() <= LONGEST_REST);
    }

    #[test]
    fn without_bounds_nobody_waits() {
        let pace = Pace::default();
        for _ in 0..3 {
            assert_eq!(pace.bytes(u64::MAX), None);
        }
        assert_eq!(pace.slice(1 << 20), 1 << 20);
        assert_eq!(Pace::new(Some(20_480), None).slice(1 << 20), 1024);
    }

    #[test]
    fn bounds_may_change() {
        let pace = Pace::new(Some(1000), None);
        assert_eq!(pace.bytes(60_000), None);
        assert!(pace.bytes(1) > Some(Duration::from_secs(59)));
        pace.set(None, None);
        assert_eq!(pace.bytes(1), None);
        pace.set(Some(1000), None);
        assert_eq!(pace.bytes(1), None, "nobody pays for what went before");
    }
}
