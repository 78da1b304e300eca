//! A JPEG decoder for thumbnails: it decodes no more of a picture than its thumbnail shows.
//!
//! Each 8×8 block is a sum of waves. A thumbnail a tenth the size needs only the longest of them,
//! so blocks become 1×1, 2×2 or 4×4 samples by an inverse transform of that size, coefficients that
//! do not count are skipped without being read, blocks outside the part that is shown are not
//! transformed, and scans of a progressive file that only add detail are not entered. General
//! decoders cannot leave these things out, and that is why this one exists: it is safe Rust all the
//! way, and takes a fraction of their time (`docs/benchmarks.md`).
//!
//! Baseline, extended and progressive Huffman files with 8 bits a sample are understood (ITU-T T.81),
//! which is what cameras and editors write. Damage is an error: half a picture is no thumbnail.

mod bits;
mod frame;
mod idct;
mod plane;
mod progressive;
mod segments;
mod sequential;

pub(super) use frame::{Frame, Model};
pub(super) use plane::{Plane, Want};

use super::clock::Deadline;
use frame::{Scan, Tables};
use progressive::Store;
use segments::Segment;

/// Why a JPEG cannot be decoded; the end of a sentence that begins with the picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JpegError {
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it ends early; the file was probably cut short")]
    Truncated,
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("{}", super::TOO_SLOW)]
    TooSlow,
}

/// More scans than any encoder writes; each costs a pass over the picture.
const MAX_SCANS: usize = 200;

/// A JPEG file whose headers have been read.
pub(super) struct Jpeg<'a> {
    pub(super) frame: Frame,
    pub(super) model: Model,
    /// The EXIF block, a TIFF structure.
    pub(super) exif: Option<&'a [u8]>,
    /// The ICC profile, put together from its chunks.
    pub(super) icc: Option<Vec<u8>>,
    segments: Vec<Segment<'a>>,
}

impl<'a> Jpeg<'a> {
    /// Reads the headers of a whole file; nothing is decoded yet.
    pub(super) fn open(file: &'a [u8]) -> Result<Self, JpegError> {
        let segments = segments::split(file)?;
        let frame = frame::read(&segments)?;
        let model = frame::model(&segments, &frame);
        Ok(Self {
            model,
            exif: segments::exif(&segments),
            icc: segments::icc(&segments),
            frame,
            segments,
        })
    }

    /// Decodes what `want` asks for: one plane a component.
    ///
    /// `deadline` bounds the work, whatever the file says.
    pub(super) fn decode(&self, want: &Want, deadline: Deadline) -> Result<Vec<Plane>, JpegError> {
        let mut planes: Vec<Plane> = self
            .frame
            .components
            .iter()
            .map(|component| Plane::new(&self.frame, component, want))
            .collect();
        let scans = self
            .segments
            .iter()
            .filter(|segment| segment.marker == segments::SOS)
            .map(|segment| frame::read_scan(segment, &self.frame))
            .collect::<Result<Vec<_>, _>>()?;
        if scans.len() > MAX_SCANS {
            return Err(JpegError::Damaged("it has too many scans"));
        }
        if self.frame.progressive {
            self.decode_progressive(&scans, &mut planes, deadline)?;
        } else {
            self.decode_sequential(&scans, &mut planes, deadline)?;
        }
        if planes.iter().any(|plane| !plane.seen) {
            return Err(JpegError::Truncated);
        }
        Ok(planes)
    }

    /// Bytes that [`Jpeg::decode`] takes for `want`, about.
    pub(super) fn memory(&self, want: &Want) -> u64 {
        let frame = &self.frame;
        let of_plane = |component| {
            let samples = plane::samples(frame, component, want);
            if frame.progressive {
                // The coefficients, two bytes each, and which are zero, a bit each.
                samples * 3 + frame::blocks(component) * 8
            } else {
                samples
            }
        };
        frame.components.iter().map(of_plane).sum()
    }

    fn decode_sequential(
        &self,
        scans: &[Scan],
        planes: &mut [Plane],
        deadline: Deadline,
    ) -> Result<(), JpegError> {
        let mut tables = Tables::default();
        let mut scans = scans.iter();
        for segment in &self.segments {
            tables.read(segment)?;
            if segment.marker == segments::SOS
                && let Some(scan) = scans.next()
            {
                let data = segment.data;
                sequential::scan(&self.frame, scan, data, &mut tables, planes, deadline)?;
            }
        }
        Ok(())
    }

    fn decode_progressive(
        &self,
        scans: &[Scan],
        planes: &mut [Plane],
        deadline: Deadline,
    ) -> Result<(), JpegError> {
        let mut tables = Tables::default();
        let mut store = None;
        let mut left = scans.iter();
        for segment in &self.segments {
            tables.read(segment)?;
            if segment.marker == segments::SOS
                && let Some(scan) = left.next()
            {
                store
                    .get_or_insert_with(|| Store::new(&self.frame, planes, scans, &tables))
                    .scan(&self.frame, scan, segment.data, &tables, planes, deadline)?;
            }
        }
        match store {
            Some(store) => store.transform(&self.frame, &tables, planes),
            None => Err(JpegError::Truncated),
        }
    }
}
