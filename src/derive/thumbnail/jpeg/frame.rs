//! What the headers say: the picture's geometry, its scans, its tables.

use super::JpegError;
use super::bits::Huffman;
use super::segments::{APP14, Segment};

/// One colour plane as the file stores it.
#[derive(Debug, Clone)]
pub(in super::super) struct Component {
    id: u8,
    /// Samples per unit of the coarsest component, 1 to 4.
    pub(super) h: u32,
    pub(super) v: u32,
    /// Which quantisation table.
    pub(super) quantiser: usize,
    /// Blocks that hold the component's samples, padding for interleaving not counted.
    pub(super) blocks_wide: u32,
    pub(super) blocks_high: u32,
}

/// The picture as a whole.
#[derive(Debug, Clone)]
pub(in super::super) struct Frame {
    pub(in super::super) width: u32,
    pub(in super::super) height: u32,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    pub(super) h_max: u32,
    pub(super) v_max: u32,
    /// Minimum coded units: the blocks of all components that lie on one spot.
    pub(super) mcus_wide: u32,
    pub(super) mcus_high: u32,
}

/// What the planes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Model {
    Grey,
    YCbCr,
    Rgb,
    /// As Adobe writes it, 255 for no ink.
    Cmyk {
        inverted: bool,
    },
    Ycck {
        inverted: bool,
    },
}

/// One pass over some of the coefficients.
pub(super) struct Scan {
    /// Index of the component, DC table, AC table.
    pub(super) parts: Vec<Part>,
    /// First and last coefficient, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits that an earlier scan left off, and that this one leaves off.
    pub(super) high: u8,
    pub(super) low: u8,
}

pub(super) struct Part {
    pub(super) component: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// All blocks of a component.
pub(super) fn blocks(component: &Component) -> u64 {
    u64::from(component.blocks_wide) * u64::from(component.blocks_high)
}

/// Finds and reads the frame header.
pub(super) fn read(segments: &[Segment<'_>]) -> Result<Frame, JpegError> {
    let mut frames = segments
        .iter()
        .filter(|s| matches!(s.marker, 0xc0..=0xcf) && !matches!(s.marker, 0xc4 | 0xc8 | 0xcc));
    let header = frames
        .next()
        .ok_or(JpegError::Damaged("it has no frame header"))?;
    if frames.next().is_some() {
        return Err(JpegError::Damaged("it has more than one frame header"));
    }
    let progressive = match header.marker {
        0xc0 | 0xc1 => false,
        0xc2 => true,
        0xc3 => return Err(JpegError::Unsupported("lossless JPEG")),
        0xc9..=0xcf => return Err(JpegError::Unsupported("arithmetic coding")),
        _ => return Err(JpegError::Unsupported("hierarchical JPEG")),
    };
    let [precision, y1, y0, x1, x0, count, specs @ ..] = header.body else {
        return Err(JpegError::Damaged("its frame header is too short"));
    };
    if *precision != 8 {
        return Err(JpegError::Unsupported("a depth other than 8 bits"));
    }
    let width = u32::from(u16::from_be_bytes([*x1, *x0]));
    let height = u32::from(u16::from_be_bytes([*y1, *y0]));
    if width == 0 || height == 0 {
        return Err(JpegError::Unsupported("a picture without a size"));
    }
    let specs = specs.as_chunks::<3>().0;
    if !matches!(count, 1 | 3 | 4) || specs.len() < usize::from(*count) {
        return Err(JpegError::Damaged("its number of colours is wrong"));
    }
    let specs = &specs[..usize::from(*count)];
    geometry(width, height, progressive, specs)
}

fn geometry(
    width: u32,
    height: u32,
    progressive: bool,
    specs: &[[u8; 3]],
) -> Result<Frame, JpegError> {
    let sampling = |spec: &[u8; 3]| (u32::from(spec[1] >> 4), u32::from(spec[1] & 15));
    if specs
        .iter()
        .any(|spec| !matches!(sampling(spec), (1..=4, 1..=4)) || spec[2] > 3)
    {
        return Err(JpegError::Damaged("its sampling factors are wrong"));
    }
    let h_max = specs.iter().map(|spec| sampling(spec).0).max().unwrap_or(1);
    let v_max = specs.iter().map(|spec| sampling(spec).1).max().unwrap_or(1);
    let components = specs
        .iter()
        .map(|spec| {
            let (h, v) = sampling(spec);
            Component {
                id: spec[0],
                h,
                v,
                quantiser: usize::from(spec[2]),
                blocks_wide: (width * h).div_ceil(8 * h_max),
                blocks_high: (height * v).div_ceil(8 * v_max),
            }
        })
        .collect();
    Ok(Frame {
        width,
        height,
        progressive,
        components,
        h_max,
        v_max,
        mcus_wide: width.div_ceil(8 * h_max),
        mcus_high: height.div_ceil(8 * v_max),
    })
}

/// What the planes mean; Adobe's marker decides, else the component's names, as in libjpeg.
pub(super) fn model(segments: &[Segment<'_>], frame: &Frame) -> Model {
    let adobe = segments
        .iter()
        .filter(|segment| segment.marker == APP14)
        .find_map(|segment| segment.body.strip_prefix(b"Adobe"))
        .and_then(|body| body.get(6).copied());
    let jfif = segments
        .iter()
        .any(|segment| segment.marker == 0xe0 && segment.body.starts_with(b"JFIF\0"));
    let inverted = adobe.is_some();
    match (frame.components.len(), adobe) {
        (1, _) => Model::Grey,
        (3, _) if jfif => Model::YCbCr,
        (3, Some(0)) => Model::Rgb,
        (3, None) if frame.components.iter().map(|c| c.id).eq(*b"RGB") => Model::Rgb,
        (3, _) => Model::YCbCr,
        (_, Some(2)) => Model::Ycck { inverted },
        _ => Model::Cmyk { inverted },
    }
}

/// Reads a scan header.
pub(super) fn read_scan(segment: &Segment<'_>, frame: &Frame) -> Result<Scan, JpegError> {
    const WRONG: JpegError = JpegError::Damaged("a scan header is wrong");
    let (count, rest) = segment.body.split_first().ok_or(WRONG)?;
    let (specs, rest) = rest
        .split_at_checked(2 * usize::from(*count))
        .ok_or(WRONG)?;
    let [first, last, approximation, ..] = rest else {
        return Err(WRONG);
    };
    let mut parts: Vec<Part> = Vec::new();
    for [id, tables] in specs.as_chunks::<2>().0 {
        let component = frame
            .components
            .iter()
            .position(|component| component.id == *id)
            .filter(|index| parts.iter().all(|part| part.component != *index))
            .ok_or(WRONG)?;
        let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        if dc > 3 || ac > 3 {
            return Err(WRONG);
        }
        parts.push(Part { component, dc, ac });
    }
    let scan = if frame.progressive {
        Scan {
            parts,
            first: usize::from(*first),
            last: usize::from(*last),
            high: approximation >> 4,
            low: approximation & 15,
        }
    } else {
        Scan {
            parts,
            first: 0,
            last: 63,
            high: 0,
            low: 0,
        }
    };
    let band = match scan.first {
        0 => scan.last == 0 || !frame.progressive,
        first => scan.last >= first && scan.last < 64 && scan.parts.len() == 1,
    };
    if scan.parts.is_empty() || !band || scan.low > 13 || scan.high > 13 {
        return Err(WRONG);
    }
    Ok(scan)
}

/// The tables that hold at some point of the file; a later one replaces an earlier one.
#[derive(Default)]
pub(super) struct Tables {
    /// In zigzag order.
    pub(super) quantisers: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// MCUs between restart markers, 0 for none.
    pub(super) restart: u32,
}

impl Tables {
    /// Takes in a segment that defines tables; others are passed over.
    pub(super) fn read(&mut self, segment: &Segment<'_>) -> Result<(), JpegError> {
        match segment.marker {
            0xc4 => self.read_huffman(segment.body),
            0xdb => self.read_quantisers(segment.body),
            0xdd => match segment.body {
                [high, low, ..] => {
                    self.restart = u32::from(u16::from_be_bytes([*high, *low]));
                    Ok(())
                }
                _ => Err(JpegError::Damaged("its restart interval is wrong")),
            },
            _ => Ok(()),
        }
    }

    fn read_huffman(&mut self, mut body: &[u8]) -> Result<(), JpegError> {
        const WRONG: JpegError = JpegError::Damaged("a Huffman table is wrong");
        while let Some((class, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(WRONG)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or(WRONG)?;
            let table = Huffman::new(counts, symbols).ok_or(WRONG)?;
            let slots = match class >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(WRONG),
            };
            *slots.get_mut(usize::from(class & 15)).ok_or(WRONG)? = Some(table);
            body = rest;
        }
        Ok(())
    }

    fn read_quantisers(&mut self, mut body: &[u8]) -> Result<(), JpegError> {
        const WRONG: JpegError = JpegError::Damaged("a quantisation table is wrong");
        while let Some((spec, rest)) = body.split_first() {
            let slot = self
                .quantisers
                .get_mut(usize::from(spec & 15))
                .ok_or(WRONG)?;
            let mut table = [0; 64];
            if spec >> 4 == 0 {
                let (steps, rest) = rest.split_first_chunk::<64>().ok_or(WRONG)?;
                table = steps.map(u16::from);
                body = rest;
            } else {
                let (steps, rest) = rest.split_first_chunk::<128>().ok_or(WRONG)?;
                for (to, from) in table.iter_mut().zip(steps.as_chunks::<2>().0) {
                    *to = u16::from_be_bytes(*from);
                }
                body = rest;
            }
            *slot = Some(table);
        }
        Ok(())
    }

    /// The quantisation table of a component.
    pub(super) fn quantiser(&self, component: &Component) -> Result<&[u16; 64], JpegError> {
        self.quantisers[component.quantiser]
            .as_ref()
            .ok_or(JpegError::Damaged("a quantisation table is missing"))
    }
}

impl Scan {
    /// Units of the scan, across and down: MCUs when components are interleaved, else blocks.
    pub(super) fn units(&self, frame: &Frame) -> (u32, u32) {
        match self.parts.as_slice() {
            [only] => {
                let component = &frame.components[only.component];
                (component.blocks_wide, component.blocks_high)
            }
            _ => (frame.mcus_wide, frame.mcus_high),
        }
    }

    /// Blocks of a component in a unit, across and down.
    pub(super) fn blocks_in_unit(&self, component: &Component) -> (u32, u32) {
        if self.parts.len() == 1 {
            (1, 1)
        } else {
            (component.h, component.v)
        }
    }
}
