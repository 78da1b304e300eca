//! Progressive scans: each brings some coefficients of all blocks, or one more bit of them.
//!
//! Only what the thumbnail shows is kept, and only scans that bring some of that are entered.

use super::super::clock::Deadline;
use super::JpegError;
use super::bits::{Bits, Huffman};
use super::frame::{Component, Frame, Part, Scan, Tables};
use super::idct::{DROPPED, Transform, last_kept, places};
use super::plane::Plane;
use super::sequential::NO_TABLE;
use std::ops::Range;

/// A coefficient that may be off by this much, dequantised, does not show in a thumbnail that keeps
/// two waves a side: spread over a block it is three levels of 255 at the very worst, where several
/// blocks become one pixel.
const HARMLESS: u32 = 24;

/// The coefficients collected so far, a lane a component.
pub(super) struct Store {
    lanes: Vec<Lane>,
}

struct Lane {
    side: u32,
    places: [u8; 64],
    last_kept: usize,
    /// Kept coefficients, `side`² a block, for the blocks that the plane holds.
    kept: Vec<i16>,
    columns: Range<u32>,
    rows: Range<u32>,
    /// Which coefficients of each block are not zero, by zigzag position: refinements are coded
    /// relative to that. Empty when refinements are left out.
    nonzero: Vec<u64>,
    /// Bits that the AC coefficients kept so far still lack.
    low: u8,
}

impl Store {
    /// Room for what `planes` need. `scans` are all scans to come.
    pub(super) fn new(frame: &Frame, planes: &[Plane], scans: &[Scan], tables: &Tables) -> Self {
        let lane = |(index, (component, plane)): (usize, (&Component, &Plane))| {
            let blocks = plane.grid.columns.len() * plane.grid.rows.len();
            let all = component.blocks_wide as usize * component.blocks_high as usize;
            let refined = is_refined(index, component, plane.grid.side, scans, tables);
            Lane {
                side: plane.grid.side,
                places: places(plane.grid.side),
                last_kept: last_kept(plane.grid.side),
                kept: vec![0; blocks * (plane.grid.side * plane.grid.side) as usize],
                columns: plane.grid.columns.clone(),
                rows: plane.grid.rows.clone(),
                nonzero: vec![0; if refined { all } else { 0 }],
                low: 0,
            }
        };
        let lanes = frame
            .components
            .iter()
            .zip(planes)
            .enumerate()
            .map(lane)
            .collect();
        Self { lanes }
    }

    /// Decodes one scan, as far as it counts.
    pub(super) fn scan(
        &mut self,
        frame: &Frame,
        scan: &Scan,
        data: &[u8],
        tables: &Tables,
        planes: &mut [Plane],
        deadline: Deadline,
    ) -> Result<(), JpegError> {
        if scan.first == 0 {
            for part in &scan.parts {
                planes[part.component].seen = true;
            }
            return self.dc_scan(frame, scan, data, tables, deadline);
        }
        let [part] = scan.parts.as_slice() else {
            return Ok(());
        };
        let lane = &mut self.lanes[part.component];
        let counts = if lane.nonzero.is_empty() {
            scan.first <= lane.last_kept && scan.high == 0
        } else {
            true
        };
        if !counts {
            return Ok(());
        }
        let component = &frame.components[part.component];
        lane.ac_scan(component, scan, part, data, tables, deadline)
    }

    fn dc_scan(
        &mut self,
        frame: &Frame,
        scan: &Scan,
        data: &[u8],
        tables: &Tables,
        deadline: Deadline,
    ) -> Result<(), JpegError> {
        let mut bits = Bits::new(data);
        let mut previous = [0i32; 4];
        let (wide, high) = scan.units(frame);
        let mut until_restart = tables.restart;
        for y in 0..high {
            for x in 0..wide {
                if tables.restart > 0 {
                    if until_restart == 0 {
                        bits.restart()?;
                        previous = [0; 4];
                        until_restart = tables.restart;
                    }
                    until_restart -= 1;
                }
                for (part, previous) in scan.parts.iter().zip(&mut previous) {
                    let (across, down) = scan.blocks_in_unit(&frame.components[part.component]);
                    let lane = &mut self.lanes[part.component];
                    for row in y * down..(y + 1) * down {
                        for column in x * across..(x + 1) * across {
                            let bits = &mut bits;
                            if scan.high == 0 {
                                let table = tables.dc[part.dc].as_ref().ok_or(NO_TABLE)?;
                                lane.dc_first(bits, table, previous, column, row, scan.low)?;
                            } else {
                                lane.dc_refine(bits, column, row, scan.low);
                            }
                        }
                    }
                }
            }
            check(&bits, deadline)?;
        }
        Ok(())
    }

    /// Samples from the coefficients, once all scans are in.
    pub(super) fn transform(
        &self,
        frame: &Frame,
        tables: &Tables,
        planes: &mut [Plane],
    ) -> Result<(), JpegError> {
        for ((lane, component), plane) in self.lanes.iter().zip(&frame.components).zip(planes) {
            lane.transform(tables.quantiser(component)?, plane);
        }
        Ok(())
    }
}

/// Whether the AC refinements of a component are worth reading.
fn is_refined(
    index: usize,
    component: &Component,
    side: u32,
    scans: &[Scan],
    tables: &Tables,
) -> bool {
    let last = last_kept(side);
    match (side, &tables.quantisers[component.quantiser]) {
        (1, _) => false,
        (2, Some(steps)) => {
            let step = steps[1..=last].iter().copied().max().map_or(0, u32::from);
            scans
                .iter()
                .filter(|scan| scan.parts.iter().any(|part| part.component == index))
                .filter(|scan| scan.high == 0 && (1..=last).contains(&scan.first))
                .any(|scan| step << scan.low > HARMLESS)
        }
        _ => true,
    }
}

fn check(bits: &Bits<'_>, deadline: Deadline) -> Result<(), JpegError> {
    if bits.exhausted() {
        return Err(JpegError::Truncated);
    }
    if deadline.has_passed() {
        return Err(JpegError::TooSlow);
    }
    Ok(())
}

impl Lane {
    /// Where the block's kept coefficients begin, if it is kept.
    #[inline]
    fn start(&self, column: u32, row: u32) -> Option<usize> {
        if !self.columns.contains(&column) || !self.rows.contains(&row) {
            return None;
        }
        let line = (row - self.rows.start) as usize * self.columns.len();
        let block = line + (column - self.columns.start) as usize;
        Some(block * (self.side * self.side) as usize)
    }

    /// Where in a block the coefficient at zigzag position `k` is kept, if it is.
    #[inline]
    fn place(&self, k: usize) -> Option<usize> {
        let place = self.places[k];
        (place != DROPPED)
            .then(|| (u32::from(place / 8) * self.side + u32::from(place % 8)) as usize)
    }

    #[inline]
    fn dc_first(
        &mut self,
        bits: &mut Bits<'_>,
        table: &Huffman,
        previous: &mut i32,
        column: u32,
        row: u32,
        low: u8,
    ) -> Result<(), JpegError> {
        let size = bits.symbol(table)?;
        if size > 15 {
            return Err(JpegError::Damaged("a block's average is out of range"));
        }
        *previous = previous.wrapping_add(bits.signed(u32::from(size)));
        if let Some(start) = self.start(column, row) {
            self.kept[start] = (*previous << low) as i16;
        }
        Ok(())
    }

    #[inline]
    fn dc_refine(&mut self, bits: &mut Bits<'_>, column: u32, row: u32, low: u8) {
        let bit = bits.take(1) as i16;
        if let Some(start) = self.start(column, row) {
            self.kept[start] |= bit << low;
        }
    }

    fn ac_scan(
        &mut self,
        component: &Component,
        scan: &Scan,
        part: &Part,
        data: &[u8],
        tables: &Tables,
        deadline: Deadline,
    ) -> Result<(), JpegError> {
        let table = tables.ac[part.ac].as_ref().ok_or(NO_TABLE)?;
        if scan.first <= self.last_kept {
            self.low = scan.low;
        }
        let mut bits = Bits::new(data);
        // Blocks still to come in which this scan has nothing new.
        let mut empty = 0u32;
        let mut until_restart = tables.restart;
        let mut block = 0;
        for row in 0..component.blocks_high {
            for column in 0..component.blocks_wide {
                if tables.restart > 0 {
                    if until_restart == 0 {
                        bits.restart()?;
                        empty = 0;
                        until_restart = tables.restart;
                    }
                    until_restart -= 1;
                }
                if scan.high > 0 {
                    self.ac_refine(&mut bits, table, scan, &mut empty, block, column, row)?;
                } else if empty > 0 {
                    empty -= 1;
                } else {
                    empty = self.ac_first(&mut bits, table, scan, block, column, row)?;
                }
                block += 1;
            }
            check(&bits, deadline)?;
        }
        Ok(())
    }

    /// One block of a first scan (T.81, G.1.2.2); returns how many empty blocks follow.
    #[inline]
    fn ac_first(
        &mut self,
        bits: &mut Bits<'_>,
        table: &Huffman,
        scan: &Scan,
        block: usize,
        column: u32,
        row: u32,
    ) -> Result<u32, JpegError> {
        let start = self.start(column, row);
        let mut nonzero = 0u64;
        let mut k = scan.first;
        let mut empty = 0;
        while k <= scan.last {
            let symbol = bits.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    empty = (1 << run) - 1 + bits.take(run as u32);
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            let value = bits.signed(size) << scan.low;
            if k > scan.last {
                return Err(JpegError::Damaged("a block is too long"));
            }
            nonzero |= 1 << k;
            if let (Some(start), Some(place)) = (start, self.place(k)) {
                self.kept[start + place] = value as i16;
            }
            k += 1;
        }
        if let Some(known) = self.nonzero.get_mut(block) {
            *known |= nonzero;
        }
        Ok(empty)
    }

    /// One block of a refinement (T.81, G.1.2.3).
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "a block's whole surroundings")]
    fn ac_refine(
        &mut self,
        bits: &mut Bits<'_>,
        table: &Huffman,
        scan: &Scan,
        empty: &mut u32,
        block: usize,
        column: u32,
        row: u32,
    ) -> Result<(), JpegError> {
        let start = self.start(column, row);
        let mut nonzero = self.nonzero[block];
        let mut k = scan.first;
        if *empty == 0 {
            while k <= scan.last {
                let symbol = bits.symbol(table)?;
                let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
                let mut fresh = 0;
                if size > 0 {
                    fresh = if bits.take(1) == 1 { 1 } else { -1 } << scan.low;
                } else if zeros < 15 {
                    *empty = (1 << zeros) + bits.take(zeros);
                    break;
                }
                // Passes over `zeros` zeros, and refines what is not zero on the way.
                while k <= scan.last {
                    if nonzero >> k & 1 == 1 {
                        self.refine(bits, start, k, scan.low);
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    k += 1;
                }
                if fresh != 0 {
                    if k > scan.last {
                        return Err(JpegError::Damaged("a block is too long"));
                    }
                    nonzero |= 1 << k;
                    if let (Some(start), Some(place)) = (start, self.place(k)) {
                        self.kept[start + place] = fresh;
                    }
                }
                k += 1;
            }
        }
        if *empty > 0 {
            while k <= scan.last {
                if nonzero >> k & 1 == 1 {
                    self.refine(bits, start, k, scan.low);
                }
                k += 1;
            }
            *empty -= 1;
        }
        self.nonzero[block] = nonzero;
        Ok(())
    }

    /// One more bit for a coefficient that is not zero: away from zero.
    #[inline]
    fn refine(&mut self, bits: &mut Bits<'_>, start: Option<usize>, k: usize, low: u8) {
        if bits.take(1) == 0 {
            return;
        }
        if let (Some(start), Some(place)) = (start, self.place(k)) {
            let value = &mut self.kept[start + place];
            *value = value.wrapping_add(value.signum() << low);
        }
    }

    fn transform(&self, quantiser: &[u16; 64], plane: &mut Plane) {
        let side = self.side as usize;
        let transform = Transform::new(self.side);
        // Place by place, as the kept coefficients lie.
        let mut steps = [0f32; 64];
        for (k, step) in quantiser.iter().enumerate() {
            if let Some(place) = self.place(k) {
                steps[place] = f32::from(*step);
            }
        }
        // The middle of what the missing bits leave open.
        let middle = if self.nonzero.is_empty() {
            ((1 << self.low) - 1) as f32 / 2.0
        } else {
            0.0
        };
        let mut coefficients = [0f32; 64];
        let mut samples = [0; 64];
        let mut blocks = self.kept.chunks_exact(side * side);
        for row in self.rows.clone() {
            for (column, block) in self.columns.clone().zip(&mut blocks) {
                for (place, (value, step)) in block.iter().zip(&steps).enumerate() {
                    let mut value = f32::from(*value);
                    if place > 0 && value != 0.0 {
                        value += middle * value.signum();
                    }
                    coefficients[place / side * 8 + place % side] = value * step;
                }
                transform.run(&coefficients, &mut samples);
                plane.put(column, row, &samples);
            }
        }
    }
}
