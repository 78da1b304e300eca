//! Baseline and extended scans: each block comes whole, and is transformed at once.

use super::super::clock::Deadline;
use super::JpegError;
use super::bits::{Bits, Huffman};
use super::frame::{Frame, Scan, Tables};
use super::idct::{DROPPED, Transform, last_kept, places};
use super::plane::Plane;

/// What decoding a block of one component takes.
struct Lane<'t> {
    dc: &'t Huffman,
    ac: &'t Huffman,
    quantiser: [f32; 64],
    places: [u8; 64],
    last_kept: usize,
    transform: Transform,
    /// The average of the block before, which the next one is told relative to.
    previous: i32,
}

/// Decodes one scan of some components into their planes.
pub(super) fn scan(
    frame: &Frame,
    scan: &Scan,
    data: &[u8],
    tables: &mut Tables,
    planes: &mut [Plane],
    deadline: Deadline,
) -> Result<(), JpegError> {
    for part in &scan.parts {
        if let Some(table) = &mut tables.ac[part.ac] {
            table.prepare_skipping();
        }
    }
    let mut lanes = scan
        .parts
        .iter()
        .map(|part| {
            let component = &frame.components[part.component];
            let side = planes[part.component].grid.side;
            planes[part.component].seen = true;
            Ok(Lane {
                dc: tables.dc[part.dc].as_ref().ok_or(NO_TABLE)?,
                ac: tables.ac[part.ac].as_ref().ok_or(NO_TABLE)?,
                quantiser: tables.quantiser(component)?.map(f32::from),
                places: places(side),
                last_kept: last_kept(side),
                transform: Transform::new(side),
                previous: 0,
            })
        })
        .collect::<Result<Vec<_>, JpegError>>()?;

    let mut bits = Bits::new(data);
    let (wide, high) = scan.units(frame);
    let mut until_restart = tables.restart;
    for y in 0..high {
        for x in 0..wide {
            if tables.restart > 0 {
                if until_restart == 0 {
                    bits.restart()?;
                    lanes.iter_mut().for_each(|lane| lane.previous = 0);
                    until_restart = tables.restart;
                }
                until_restart -= 1;
            }
            for (lane, part) in lanes.iter_mut().zip(&scan.parts) {
                let (across, down) = scan.blocks_in_unit(&frame.components[part.component]);
                for row in y * down..(y + 1) * down {
                    for column in x * across..(x + 1) * across {
                        lane.block(&mut bits, &mut planes[part.component], column, row)?;
                    }
                }
            }
        }
        if bits.exhausted() {
            return Err(JpegError::Truncated);
        }
        if deadline.has_passed() {
            return Err(JpegError::TooSlow);
        }
    }
    Ok(())
}

pub(super) const NO_TABLE: JpegError = JpegError::Damaged("a Huffman table is missing");

impl Lane<'_> {
    #[inline]
    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        plane: &mut Plane,
        column: u32,
        row: u32,
    ) -> Result<(), JpegError> {
        let size = bits.symbol(self.dc)?;
        if size > 15 {
            return Err(JpegError::Damaged("a block's average is out of range"));
        }
        self.previous = self.previous.wrapping_add(bits.signed(u32::from(size)));
        if !plane.grid.holds(column, row) {
            return bits.skip_block(self.ac, 1);
        }
        let mut coefficients = [0f32; 64];
        coefficients[0] = self.previous as f32 * self.quantiser[0];
        let mut k = 1;
        while k <= self.last_kept {
            let symbol = bits.symbol(self.ac)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            k += run;
            if size == 0 {
                if run != 15 {
                    k = 64;
                    break;
                }
                k += 1;
                continue;
            }
            let value = bits.signed(size);
            let Some(place) = self.places.get(k) else {
                return Err(JpegError::Damaged("a block is too long"));
            };
            if *place != DROPPED {
                coefficients[usize::from(*place)] = value as f32 * self.quantiser[k];
            }
            k += 1;
        }
        bits.skip_block(self.ac, k)?;
        let mut samples = [0; 64];
        self.transform.run(&coefficients, &mut samples);
        plane.put(column, row, &samples);
        Ok(())
    }
}
