//! Camera files: the JPEG previews that cameras put into them, and how the camera was held.
//!
//! Most are TIFF structures with numbers of their own; Fujifilm and Canon's CR3 have containers. What
//! is where is described by the DNG specification 1.7, by ExifTool's tag tables and by
//! <https://github.com/lclevy/canon_cr3>.

use image::metadata::Orientation;
use memchr::memmem;

use super::recognise::Kind;

/// What was found in a camera file.
#[derive(Default)]
pub(super) struct Previews<'a> {
    /// Files that begin like JPEG, the longest first.
    pub(super) jpegs: Vec<&'a [u8]>,
    pub(super) orientation: Option<Orientation>,
    /// Whether something says that this is no ordinary TIFF.
    is_raw: bool,
}

/// More directories than any camera writes; a file may point in circles.
const MAX_DIRECTORIES: usize = 64;
/// Beginnings of pictures that are looked at where a file's structure tells of none.
const MAX_GUESSES: usize = 32;

const SUB_DIRECTORIES: u16 = 0x014a;
const EXIF_DIRECTORY: u16 = 0x8769;

/// The previews of a file of format `kind`; `None` when it is no camera file.
pub(super) fn previews(file: &[u8], kind: Kind) -> Option<Previews<'_>> {
    let mut found = match kind {
        Kind::Tiff => Tiff::read(file).filter(|found| found.is_raw)?,
        Kind::CameraTiff => Tiff::read(file).unwrap_or_default(),
        Kind::Raf => raf(file),
        Kind::Cr3 => cr3(file),
        _ => return None,
    };
    found
        .jpegs
        .retain(|jpeg| jpeg.starts_with(&[0xff, 0xd8, 0xff]));
    if found.jpegs.is_empty() {
        found.jpegs = guesses(file);
    }
    found
        .jpegs
        .sort_by_key(|jpeg| std::cmp::Reverse(jpeg.len()));
    Some(found)
}

/// What looks like JPEG anywhere, each up to the next: makers hide previews in their own notes.
fn guesses(file: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = memmem::find_iter(file, &[0xff, 0xd8, 0xff])
        .take(MAX_GUESSES)
        .collect();
    starts.push(file.len());
    starts
        .windows(2)
        .map(|pair| &file[pair[0]..pair[1]])
        .collect()
}

/// Fujifilm: a header with the place of one full preview, whose EXIF block is the file's.
fn raf(file: &[u8]) -> Previews<'_> {
    let number = |at: usize| {
        let bytes = file.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes) as usize)
    };
    let jpeg = number(84)
        .zip(number(88))
        .and_then(|(start, length)| file.get(start..start.checked_add(length)?));
    Previews {
        jpegs: jpeg.into_iter().collect(),
        ..Previews::default()
    }
}

/// Canon CR3: boxes as in MP4. The first picture in `mdat` is the full preview, `PRVW` a smaller one;
/// `CMT1` is the first TIFF directory.
fn cr3(file: &[u8]) -> Previews<'_> {
    const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];
    let mut found = Previews::default();
    for (name, body) in boxes(file) {
        match name {
            b"mdat" => found.jpegs.push(body),
            b"uuid" => {
                let start = memmem::find(&body[..body.len().min(128)], &JPEG);
                found.jpegs.extend(start.map(|start| &body[start..]));
            }
            b"moov" => {
                found.orientation = boxes(body)
                    .filter(|(name, _)| *name == b"uuid")
                    .filter_map(|(_, body)| body.get(16..))
                    .flat_map(boxes)
                    .find(|(name, _)| *name == b"CMT1")
                    .and_then(|(_, tiff)| Tiff::read(tiff)?.orientation);
            }
            _ => {}
        }
    }
    found
}

/// The boxes of an ISO base media file (ISO/IEC 14496-12, 4.2), up to the first damaged one.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_first_chunk::<4>()?;
        let (header, size) = match u32::from_be_bytes(*size) {
            0 => (8, bytes.len()),
            1 => (
                16,
                usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?,
            ),
            size => (8, size as usize),
        };
        let body = bytes.get(header..size)?;
        bytes = &bytes[size..];
        Some((name, body))
    })
}

/// A number of 1, 2 or 4 bytes in a TIFF structure.
pub(super) fn number(file: &[u8], little_endian: bool, at: usize, size: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(size)?)?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if little_endian {
        bytes.iter().rev().fold(0, add)
    } else {
        bytes.iter().fold(0, add)
    })
}

/// Reads directories of a TIFF structure.
struct Tiff<'a> {
    file: &'a [u8],
    little_endian: bool,
    found: Previews<'a>,
    /// Directories still to be read.
    waiting: Vec<usize>,
}

/// What a directory says that counts here.
#[derive(Default)]
struct Directory {
    compression: u64,
    strip: (Option<u64>, Option<u64>),
    jpeg: (Option<u64>, Option<u64>),
}

impl<'a> Tiff<'a> {
    fn read(file: &'a [u8]) -> Option<Previews<'a>> {
        let mut tiff = Self {
            file,
            little_endian: file.starts_with(b"II"),
            found: Previews::default(),
            waiting: Vec::new(),
        };
        let mut at = tiff.number(4, 4)? as usize;
        let mut seen = Vec::new();
        while seen.len() < MAX_DIRECTORIES {
            if at != 0 && !seen.contains(&at) {
                seen.push(at);
                let next = tiff.directory(at);
                tiff.waiting.extend(next.filter(|next| *next != 0));
            }
            match tiff.waiting.pop() {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(tiff.found)
    }

    fn number(&self, at: usize, size: usize) -> Option<u64> {
        number(self.file, self.little_endian, at, size)
    }

    /// Reads the directory at `at`; returns where the next one is.
    fn directory(&mut self, at: usize) -> Option<usize> {
        let entries = self.number(at, 2)? as usize;
        let mut directory = Directory::default();
        for entry in (0..entries).map(|entry| at + 2 + 12 * entry) {
            self.entry(entry, &mut directory)?;
        }
        let strips = [6, 7]
            .contains(&directory.compression)
            .then_some(directory.strip);
        for (start, length) in strips.into_iter().chain([directory.jpeg]) {
            if let (Some(start), Some(length)) = (start, length) {
                self.add(start as usize, length as usize);
            }
        }
        self.number(at + 2 + 12 * entries, 4)
            .map(|next| next as usize)
    }

    fn entry(&mut self, at: usize, directory: &mut Directory) -> Option<()> {
        let tag = self.number(at, 2)? as u16;
        let kind = self.number(at + 2, 2)?;
        let count = self.number(at + 4, 4)? as usize;
        let size = match kind {
            3 => 2,
            4 | 13 => 4,
            _ => 1,
        };
        // Values of up to four bytes stand in the entry itself.
        let values = if count.saturating_mul(size) <= 4 {
            at + 8
        } else {
            self.number(at + 8, 4)? as usize
        };
        let first = self.number(values, size);
        let only = first.filter(|_| count == 1);
        match tag {
            0x0103 => directory.compression = first.unwrap_or(0),
            0x0106 => self.found.is_raw |= matches!(first, Some(32803 | 34892)),
            0x0111 => directory.strip.0 = only,
            0x0117 => directory.strip.1 = only,
            0x0201 => directory.jpeg.0 = only,
            0x0202 => directory.jpeg.1 = only,
            0x0112 if self.found.orientation.is_none() => {
                let number = first.and_then(|number| u8::try_from(number).ok());
                self.found.orientation = number.and_then(Orientation::from_exif);
            }
            // Panasonic's whole preview.
            0x002e => self.add(values, count),
            // The version of DNG.
            0xc612 => self.found.is_raw = true,
            SUB_DIRECTORIES | EXIF_DIRECTORY => {
                let places =
                    (0..count.min(MAX_DIRECTORIES)).map(|n| self.number(values + 4 * n, 4));
                let places: Vec<usize> = places.flatten().map(|place| place as usize).collect();
                self.waiting.extend(places);
            }
            _ => {}
        }
        // How Nikon, Sony, Pentax and Samsung say that pixels are packed their way.
        self.found.is_raw |= tag == 0x0103 && matches!(first, Some(34713 | 32767 | 65535 | 32770));
        Some(())
    }

    fn add(&mut self, start: usize, length: usize) {
        let end = start.checked_add(length);
        self.found
            .jpegs
            .extend(end.and_then(|end| self.file.get(start..end)));
    }
}
