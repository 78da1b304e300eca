//! How long uploads take, in a few hundred numbers however many there were.

use std::time::Duration;

/// Steps from one power of two to the next: a percentile is right to an eighth.
const STEPS: usize = 8;
/// The first step begins at a microsecond, the last ends after some hours.
const BUCKETS: usize = 34 * STEPS;

pub(super) struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            count: 0,
            sum: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, took: Duration) {
        let microseconds = (took.as_micros() as f64).max(1.0);
        let bucket = (microseconds.log2() * STEPS as f64) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum += took;
    }

    /// How many took no longer than a whole power of two of microseconds.
    pub(super) fn up_to(&self, power: usize) -> u64 {
        self.buckets[..power * STEPS].iter().sum()
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }

    /// `None` if there is nothing yet.
    pub(super) fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.sum.div_f64(self.count as f64))
    }

    /// As long as `part` of all took at most, from 0 to 1; an eighth too much at most.
    pub(super) fn percentile(&self, part: f64) -> Option<Duration> {
        let wanted = (self.count as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        let microseconds = ((bucket + 1) as f64 / STEPS as f64).exp2();
        Some(Duration::from_secs_f64(microseconds / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_percentiles_are_nearly_right_and_never_too_small() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.mean(), histogram.percentile(0.95)), (None, None));
        for milliseconds in 1..=1000 {
            histogram.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.mean(), Some(Duration::from_micros(500_500)));
        for (part, right) in [(0.5, 500.0), (0.95, 950.0), (1.0, 1000.0)] {
            let found = histogram.percentile(part).unwrap().as_secs_f64() * 1e3;
            assert!((right..right * 1.125).contains(&found), "{part}: {found}");
        }
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_secs(1_000_000));
        assert!(histogram.percentile(0.1).unwrap() < Duration::from_micros(2));
        assert!(histogram.percentile(1.0).unwrap() > Duration::from_secs(3600));
    }
}
