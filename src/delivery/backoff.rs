use std::time::Duration;

/// Pauses between attempts: exponential with full jitter, so that a thousand failed files don't come
/// back at once.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first pause's upper bound, and the longest.
    pub base: Duration,
    pub cap: Duration,
}

impl Backoff {
    /// How long to wait before the attempt that follows `attempts` failed ones.
    pub fn delay(self, attempts: u32) -> Duration {
        let bound = self.base.saturating_mul(1 << attempts.min(16));
        bound.min(self.cap).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_below_the_cap() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
        };
        for attempts in 0..40 {
            let longest = (0..200).map(|_| backoff.delay(attempts)).max().unwrap();
            assert!(longest <= backoff.cap);
            assert!(longest <= backoff.base * (1 << attempts.min(16)));
        }
        assert!((0..200).map(|_| backoff.delay(8)).max().unwrap() > backoff.base * 8);
    }
}
