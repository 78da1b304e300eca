//! TIFF with a palette, which `image` does not know: decoded as if its numbers were shades of grey,
//! and coloured then.

use super::color::Channels;
use super::from_pixels::Pixels;
use super::raw::number;

const BITS: u64 = 258;
const PHOTOMETRIC: u64 = 262;
const COLOR_MAP: u64 = 320;
/// Values of [`PHOTOMETRIC`].
const BLACK_IS_ZERO: u16 = 1;
const BY_PALETTE: u64 = 3;

/// The palette of a file's first page.
pub(super) struct Palette {
    /// Where the file says that it has one.
    photometric: usize,
    little_endian: bool,
    colors: Vec<[u8; 3]>,
}

impl Palette {
    /// `None` where there is none, or one of a kind that is not known here: 1 and 8 bits are.
    pub(super) fn find(file: &[u8]) -> Option<Self> {
        let little_endian = file.starts_with(b"II");
        let read = |at, size| number(file, little_endian, at, size);
        if read(2, 2)? != 42 {
            return None;
        }
        let directory = read(4, 4)? as usize;
        let (mut photometric, mut bits, mut map) = (None, None, None);
        for entry in 0..read(directory, 2)? as usize {
            let at = directory.checked_add(2 + 12 * entry)?;
            match read(at, 2)? {
                PHOTOMETRIC if read(at + 8, 2)? == BY_PALETTE => photometric = Some(at + 8),
                BITS => bits = Some(read(at + 8, 2)?),
                COLOR_MAP => map = Some((read(at + 4, 4)?, read(at + 8, 4)? as usize)),
                _ => {}
            }
        }
        let count = match bits? {
            bits @ (1 | 8) => 1 << bits,
            _ => return None,
        };
        let (numbers, map) = map.filter(|(numbers, _)| *numbers == 3 * count)?;
        let channel = |index: u64, channel: u64| {
            let at = map.checked_add(2 * (channel * numbers / 3 + index) as usize)?;
            Some((read(at, 2)? >> 8) as u8)
        };
        let colors = (0..count)
            .map(|index| Some([channel(index, 0)?, channel(index, 1)?, channel(index, 2)?]));
        Some(Self {
            photometric: photometric?,
            little_endian,
            colors: colors.collect::<Option<_>>()?,
        })
    }

    /// The file with shades of grey instead.
    pub(super) fn as_greys(&self, file: &[u8]) -> Vec<u8> {
        let mut greys = file.to_vec();
        let value = match self.little_endian {
            true => BLACK_IS_ZERO.to_le_bytes(),
            false => BLACK_IS_ZERO.to_be_bytes(),
        };
        greys[self.photometric..self.photometric + 2].copy_from_slice(&value);
        greys
    }

    pub(super) fn color(&self, greys: &Pixels) -> Pixels {
        // One bit was made 0 and 255.
        let last = self.colors.len() - 1;
        let color = |grey: &u8| self.colors[usize::from(*grey).min(last)];
        Pixels {
            samples: greys.samples.iter().flat_map(color).collect(),
            channels: Channels::Rgb,
            size: greys.size,
        }
    }
}
