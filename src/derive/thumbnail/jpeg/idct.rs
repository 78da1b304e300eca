//! The inverse cosine transform of a block, to 8×8 samples or fewer.
//!
//! The N longest waves of a block, transformed back at N points, give the block at N/8 of its size:
//! the average stays, and what N samples cannot show is left out and does not alias.

/// For each zigzag position its place in an 8×8 block (T.81, figure 5).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A coefficient that is not kept.
pub(super) const DROPPED: u8 = 64;

/// For each zigzag position its place in the block, or [`DROPPED`] beyond the first `side` waves
/// across or down.
pub(super) fn places(side: u32) -> [u8; 64] {
    ZIGZAG.map(|place| {
        let inside = u32::from(place % 8) < side && u32::from(place / 8) < side;
        if inside { place } else { DROPPED }
    })
}

/// The last zigzag position that is kept.
pub(super) fn last_kept(side: u32) -> usize {
    match side {
        1 => 0,
        2 => 4,
        4 => 24,
        _ => 63,
    }
}

/// The waves at the points of a block of one size.
pub(super) struct Transform {
    side: usize,
    /// `[wave][point]`
    waves: [[f32; 8]; 8],
}

impl Transform {
    pub(super) fn new(side: u32) -> Self {
        let mut waves = [[0.0; 8]; 8];
        for (wave, points) in waves.iter_mut().enumerate().take(side as usize) {
            let weight = if wave == 0 { 0.5f64.sqrt() } else { 1.0 } / 2.0;
            for (point, value) in points.iter_mut().enumerate().take(side as usize) {
                let angle = (2 * point + 1) as f64 * wave as f64 * std::f64::consts::PI
                    / f64::from(2 * side);
                *value = (weight * angle.cos()) as f32;
            }
        }
        Self {
            side: side as usize,
            waves,
        }
    }

    /// Samples from dequantised coefficients; rows lie 8 apart in both.
    #[inline]
    pub(super) fn run(&self, coefficients: &[f32; 64], samples: &mut [u8; 64]) {
        match self.side {
            1 => samples[0] = sample(coefficients[0] / 8.0),
            2 => self.run_sized::<2>(coefficients, samples),
            4 => self.run_sized::<4>(coefficients, samples),
            _ => self.run_sized::<8>(coefficients, samples),
        }
    }

    #[inline]
    fn run_sized<const N: usize>(&self, coefficients: &[f32; 64], samples: &mut [u8; 64]) {
        // Down the columns, all of them at once, then along the rows.
        let mut columns = [[0f32; N]; N];
        for wave in 0..N {
            let row = &coefficients[wave * 8..wave * 8 + N];
            if row.iter().all(|value| *value == 0.0) {
                continue;
            }
            for (point, line) in columns.iter_mut().enumerate() {
                let weight = self.waves[wave][point];
                for (sum, value) in line.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
        }
        for (line, to) in columns.iter().zip(samples.chunks_exact_mut(8)) {
            let mut sums = [0f32; N];
            for (value, points) in line.iter().zip(&self.waves) {
                for (sum, point) in sums.iter_mut().zip(points) {
                    *sum += value * point;
                }
            }
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = sample(sum);
            }
        }
    }
}

/// Samples are stored around zero. The cast saturates at 0 and 255.
#[inline]
fn sample(value: f32) -> u8 {
    (value + 128.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_block_stays_even_at_every_size() {
        let mut coefficients = [0.0; 64];
        coefficients[0] = 8.0 * 50.0;
        for side in [1, 2, 4, 8] {
            let mut samples = [0; 64];
            Transform::new(side).run(&coefficients, &mut samples);
            for row in 0..side as usize {
                assert!(
                    samples[row * 8..][..side as usize]
                        .iter()
                        .all(|s| *s == 178)
                );
            }
        }
    }

    #[test]
    fn a_wave_across_is_a_wave_across() {
        let mut coefficients = [0.0; 64];
        coefficients[1] = 400.0;
        let mut samples = [0; 64];
        Transform::new(8).run(&coefficients, &mut samples);
        // 400 / 4 / √2 × cos(π/16) around 128.
        assert_eq!(samples[0], 197);
        assert_eq!(samples[7], 59);
        assert_eq!(samples[56], 197);
    }
}
