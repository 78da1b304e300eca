use std::time::Duration;

/// First delay's upper bound, and the longest.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(300);

/// How long to wait before the attempt that follows `attempts` failed ones: exponential with full
/// jitter, so that a thousand failed files don't come back at once.
pub fn delay(attempts: u32) -> Duration {
    let bound = BASE.saturating_mul(1 << attempts.min(16)).min(CAP);
    bound.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_below_the_cap() {
        for attempts in 0..40 {
            let longest = (0..200).map(|_| delay(attempts)).max().unwrap();
            assert!(longest <= CAP);
            assert!(longest <= BASE * (1 << attempts.min(16)));
        }
        assert!((0..200).map(|_| delay(8)).max().unwrap() > BASE * 8);
    }
}
