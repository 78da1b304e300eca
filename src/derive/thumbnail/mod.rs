//! A picture's thumbnail: 200×300 pixels, filled and centre-cropped, upright, JPEG.
//!
//! ```text
//! bytes ──recognise──▶ kind ──decode──▶ pixels, orientation ──fit──▶ upright RGB ──▶ JPEG
//! ```
//!
//! Every limit is checked against what the file claims before a pixel of it is decoded, and a
//! decoder that panics all the same costs that one thumbnail and nothing else.

mod decode;
mod fit;
mod recognise;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// What a thumbnail should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Pixels.
    pub width: u32,
    pub height: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Pictures with more pixels than this are refused before they are decoded.
    pub max_pixels: u64,
    /// Pictures that need more memory than this to be decoded are refused, bytes.
    pub max_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            width: 200,
            height: 300,
            quality: 85,
            max_pixels: 200_000_000,
            max_memory: 1 << 30,
        }
    }
}

/// A made thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    pub jpeg: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

/// What became of a file's thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThumbnailState {
    /// None was to be made.
    None,
    Delivered,
    /// Why there is none, one sentence; not tried again until the content changes.
    Failed(String),
}

/// Why there is no thumbnail, one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ThumbnailError(pub String);

/// Whether the content is a picture that thumbnails are made of. `head` is the file's first bytes;
/// 64 are enough. The name does not count.
pub fn is_picture(head: &[u8]) -> bool {
    recognise::kind(head).is_some()
}

/// Makes the thumbnail of `picture`, a whole file in memory. Never panics; memory is bounded by
/// `options.max_memory` and `options.max_pixels`.
///
/// # Errors
///
/// The content is no picture, is damaged, or is larger than the limits allow.
pub fn make(picture: &[u8], options: &Options) -> Result<Thumbnail, ThumbnailError> {
    // Decoders are other people's code, fed with other people's files. Nothing that a panic could
    // leave half-done outlives the call, hence AssertUnwindSafe.
    catch_unwind(AssertUnwindSafe(|| make_unguarded(picture, options))).unwrap_or_else(|_| {
        Err(ThumbnailError(
            "The picture made its decoder panic; the file is probably damaged.".into(),
        ))
    })
}

fn make_unguarded(picture: &[u8], options: &Options) -> Result<Thumbnail, ThumbnailError> {
    let kind = recognise::kind(picture).ok_or_else(|| {
        ThumbnailError("The file is not a picture in a format that thumbnails are made of.".into())
    })?;
    let (width, height) = (side(options.width)?, side(options.height)?);
    let decoded = decode::decode(picture, kind, options)?;
    let rgb = fit::cover(decoded, width, height);
    let jpeg = encode(&rgb, width, height, options.quality)
        .map_err(|why| ThumbnailError(format!("The thumbnail could not be encoded: {why}.")))?;
    Ok(Thumbnail {
        jpeg,
        width: options.width,
        height: options.height,
    })
}

/// Baseline, 4:2:0, no metadata: the pixels are upright and need none.
fn encode(
    rgb: &RgbImage,
    width: u16,
    height: u16,
    quality: u8,
) -> Result<Vec<u8>, jpeg_encoder::EncodingError> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(rgb, width, height, ColorType::Rgb)?;
    Ok(jpeg)
}

/// A thumbnail's side, 1 to 65535 pixels, the most that JPEG can say.
fn side(pixels: u32) -> Result<u16, ThumbnailError> {
    u16::try_from(pixels)
        .ok()
        .filter(|side| *side > 0)
        .ok_or_else(|| {
            ThumbnailError(format!(
                "A thumbnail's sides are 1 to 65535 pixels, not {pixels}."
            ))
        })
}
