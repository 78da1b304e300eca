//! The file as a list of marker segments.

use super::JpegError;

pub(super) const SOS: u8 = 0xda;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
pub(super) const APP14: u8 = 0xee;

/// A marker with what belongs to it.
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    /// What the length field covers, without itself.
    pub(super) body: &'a [u8],
    /// After a scan header: the coded data up to the next marker that is no restart.
    pub(super) data: &'a [u8],
}

/// Splits a file at its markers, up to the first end of image; previews that cameras append are not
/// looked at. A file without an end has lost it on the way, unless all that was to come was the
/// end: then its last scan decides.
pub(super) fn split(file: &[u8]) -> Result<Vec<Segment<'_>>, JpegError> {
    let mut segments = Vec::new();
    let mut rest = file.get(2..).ok_or(JpegError::Truncated)?;
    while let Some((marker, after)) = next_marker(rest) {
        match marker {
            EOI => return Ok(segments),
            SOI | 0x01 | 0xd0..=0xd7 => {
                rest = after;
                continue;
            }
            _ => {}
        }
        let length = match after {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(JpegError::Truncated),
        };
        if length < 2 {
            return Err(JpegError::Damaged(
                "a segment is shorter than its own length",
            ));
        }
        let body = after.get(2..length).ok_or(JpegError::Truncated)?;
        let after = &after[length..];
        let data = if marker == SOS {
            &after[..coded_length(after)]
        } else {
            &[]
        };
        segments.push(Segment { marker, body, data });
        rest = &after[data.len()..];
    }
    // Sequential files tell by themselves whether their data is complete; in a progressive one the
    // scans that are missing cannot be told from scans that never were.
    let sequential = segments.iter().any(|s| matches!(s.marker, 0xc0 | 0xc1));
    if sequential {
        Ok(segments)
    } else {
        Err(JpegError::Truncated)
    }
}

/// The next marker and what follows it; garbage before it is skipped, as all decoders do.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let at = memchr::memchr(0xff, rest)?;
        rest = &rest[at + 1..];
        match rest.first()? {
            0 | 0xff => {}
            marker => return Some((*marker, &rest[1..])),
        }
    }
}

/// Length of the coded data at the start of `bytes`: up to the first marker that is neither a
/// stuffed byte nor a restart.
fn coded_length(bytes: &[u8]) -> usize {
    memchr::memchr_iter(0xff, bytes)
        .find(|at| {
            bytes
                .get(at + 1)
                .is_some_and(|next| !matches!(next, 0 | 0xd0..=0xd7 | 0xff))
        })
        .unwrap_or(bytes.len())
}

pub(super) fn exif<'a>(segments: &[Segment<'a>]) -> Option<&'a [u8]> {
    segments
        .iter()
        .filter(|segment| segment.marker == APP1)
        .find_map(|segment| segment.body.strip_prefix(b"Exif\0\0"))
}

/// The profile, or nothing when chunks are missing (ICC.1:2022, annex B.4).
pub(super) fn icc(segments: &[Segment<'_>]) -> Option<Vec<u8>> {
    let mut chunks: Vec<(u8, u8, &[u8])> = segments
        .iter()
        .filter(|segment| segment.marker == APP2)
        .filter_map(
            |segment| match segment.body.strip_prefix(b"ICC_PROFILE\0") {
                Some([number, count, chunk @ ..]) => Some((*number, *count, chunk)),
                _ => None,
            },
        )
        .collect();
    chunks.sort_by_key(|(number, ..)| *number);
    let complete = !chunks.is_empty()
        && chunks.iter().zip(1u8..).all(|((number, count, _), want)| {
            *number == want && usize::from(*count) == chunks.len()
        });
    complete.then(|| {
        chunks
            .iter()
            .flat_map(|(.., chunk)| *chunk)
            .copied()
            .collect()
    })
}
