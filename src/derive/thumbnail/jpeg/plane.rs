//! One component's samples, at the resolution and of the part that the thumbnail needs.

use super::frame::{Component, Frame};

/// Samples of brightness to decode for each pixel wanted, at least: below this the block transform
/// and not the resampling filter would decide how the thumbnail looks. Measured; see
/// `docs/benchmarks.md`.
const BRIGHTNESS_HEADROOM: f64 = 1.6;
/// The same for colour, of which the eye and the thumbnail's own 4:2:0 keep half.
const COLOR_HEADROOM: f64 = 1.0;
/// Lanczos looks this many pixels of the result to each side.
const FILTER_REACH: f64 = 3.0;

/// The part of the picture that is shown, in its own pixels, and how much it will be scaled.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Want {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
    pub(in super::super) width: f64,
    pub(in super::super) height: f64,
    /// Pixels of the result per pixel of the picture.
    pub(in super::super) scale: f64,
}

/// A component's samples.
#[derive(Debug)]
pub(in super::super) struct Plane {
    pub(in super::super) samples: Vec<u8>,
    pub(in super::super) grid: Grid,
    /// Whether a scan has brought anything of this component.
    pub(super) seen: bool,
}

/// Which samples a plane has.
#[derive(Debug, Clone)]
pub(in super::super) struct Grid {
    /// Samples.
    pub(in super::super) width: u32,
    pub(in super::super) height: u32,
    /// Samples a side of a block: 1, 2, 4 or 8.
    pub(super) side: u32,
    /// Samples per pixel of the picture.
    density: (f64, f64),
    /// The blocks that are decoded: first and one past the last.
    pub(super) columns: std::ops::Range<u32>,
    pub(super) rows: std::ops::Range<u32>,
}

impl Grid {
    /// What `want` needs of `component`.
    pub(super) fn new(frame: &Frame, component: &Component, want: &Want) -> Self {
        let across = f64::from(component.h) / f64::from(frame.h_max);
        let down = f64::from(component.v) / f64::from(frame.v_max);
        let side = side(frame, component, across.min(down), want.scale);
        let per_pixel = f64::from(side) / 8.0;
        let density = (across * per_pixel, down * per_pixel);
        let reach = FILTER_REACH / want.scale.min(1.0) + 8.0;
        let columns = blocks(want.x, want.width, reach, across, component.blocks_wide);
        let rows = blocks(want.y, want.height, reach, down, component.blocks_high);
        // The last block may reach past the picture; what the encoder put there does not count.
        let visible = |end: u32, pixels: u32, density: f64| {
            (end * side).min((f64::from(pixels) * density).ceil() as u32)
        };
        let width = visible(columns.end, frame.width, density.0) - columns.start * side;
        let height = visible(rows.end, frame.height, density.1) - rows.start * side;
        Self {
            width,
            height,
            side,
            density,
            columns,
            rows,
        }
    }

    /// Where the wanted part lies in this plane, in samples: left, top, width, height.
    pub(in super::super) fn part(&self, want: &Want) -> (f64, f64, f64, f64) {
        let along = |from: f64, length: f64, density: f64, first: u32, samples: u32| {
            let samples = f64::from(samples);
            let start = (from * density - f64::from(first * self.side)).clamp(0.0, samples);
            (start, (length * density).min(samples - start))
        };
        let (left, width) = along(
            want.x,
            want.width,
            self.density.0,
            self.columns.start,
            self.width,
        );
        let (top, height) = along(
            want.y,
            want.height,
            self.density.1,
            self.rows.start,
            self.height,
        );
        (left, top, width, height)
    }

    /// Whether the block is one of those that are decoded.
    #[inline]
    pub(super) fn holds(&self, column: u32, row: u32) -> bool {
        self.columns.contains(&column) && self.rows.contains(&row)
    }
}

impl Plane {
    /// An empty plane for what `want` needs of `component`.
    pub(super) fn new(frame: &Frame, component: &Component, want: &Want) -> Self {
        let grid = Grid::new(frame, component, want);
        Self {
            samples: vec![0; grid.width as usize * grid.height as usize],
            grid,
            seen: false,
        }
    }

    /// Writes a block of `side`×`side` samples, of which rows lie 8 apart.
    #[inline]
    pub(super) fn put(&mut self, column: u32, row: u32, block: &[u8; 64]) {
        let grid = &self.grid;
        let x = ((column - grid.columns.start) * grid.side) as usize;
        let y = ((row - grid.rows.start) * grid.side) as usize;
        let (width, side) = (grid.width as usize, grid.side as usize);
        let Some(visible) = width.checked_sub(x).map(|rest| rest.min(side)) else {
            return;
        };
        let lines = self.samples.chunks_exact_mut(width).skip(y).take(side);
        for (line, from) in lines.zip(block.chunks_exact(8)) {
            line[x..x + visible].copy_from_slice(&from[..visible]);
        }
    }
}

/// Samples that the plane of `component` will have.
pub(super) fn samples(frame: &Frame, component: &Component, want: &Want) -> u64 {
    let grid = Grid::new(frame, component, want);
    u64::from(grid.width) * u64::from(grid.height)
}

/// Samples a side of a block that `scale` needs.
fn side(frame: &Frame, component: &Component, density: f64, scale: f64) -> u32 {
    let full = component.h == frame.h_max && component.v == frame.v_max;
    let headroom = if full && std::ptr::eq(component, &raw const frame.components[0]) {
        BRIGHTNESS_HEADROOM
    } else {
        COLOR_HEADROOM
    };
    [1, 2, 4]
        .into_iter()
        .find(|side| f64::from(*side) / 8.0 * density >= scale * headroom)
        .unwrap_or(8)
}

/// The blocks that hold `length` pixels from `start` on, and what the filter reaches beside them.
fn blocks(start: f64, length: f64, reach: f64, density: f64, count: u32) -> std::ops::Range<u32> {
    let first = ((start - reach) * density / 8.0).floor().max(0.0) as u32;
    let end = ((start + length + reach) * density / 8.0).ceil().max(0.0) as u32;
    let end = end.clamp(1, count);
    first.min(end - 1)..end
}
