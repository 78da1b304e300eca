//! From a file's bytes to its pixels, within limits.

use std::io::Cursor;

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, tiff::TiffDecoder,
    webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::recognise::Kind;
use super::{Options, ThumbnailError};

/// Pixels as they lie in the file, and what makes them upright.
pub(super) struct Decoded {
    pub(super) pixels: DynamicImage,
    pub(super) orientation: Orientation,
}

/// Decodes `picture`, a file of format `kind`.
pub(super) fn decode(
    picture: &[u8],
    kind: Kind,
    options: &Options,
) -> Result<Decoded, ThumbnailError> {
    let mut decoder = open(picture, kind).map_err(|why| sentence(kind, &why))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes(), kind, options)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_memory);
    decoder
        .set_limits(limits)
        .map_err(|why| sentence(kind, &why))?;
    // A damaged EXIF block is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let pixels = DynamicImage::from_decoder(decoder).map_err(|why| sentence(kind, &why))?;
    Ok(Decoded {
        pixels,
        orientation,
    })
}

fn open<'a>(picture: &'a [u8], kind: Kind) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let bytes = Cursor::new(picture);
    Ok(match kind {
        Kind::Jpeg => Box::new(JpegDecoder::new(bytes)?),
        Kind::Png => Box::new(PngDecoder::new(bytes)?),
        Kind::WebP => Box::new(WebPDecoder::new(bytes)?),
        Kind::Gif => Box::new(GifDecoder::new(bytes)?),
        Kind::Bmp => Box::new(BmpDecoder::new(bytes)?),
        Kind::Tiff => Box::new(TiffDecoder::new(bytes)?),
    })
}

/// What the header claims, against the limits: a few bytes can claim gigabytes.
fn check_size(
    width: u32,
    height: u32,
    bytes: u64,
    kind: Kind,
    options: &Options,
) -> Result<(), ThumbnailError> {
    let name = kind.name();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(ThumbnailError(format!("The {name} picture has no pixels.")));
    }
    if pixels > options.max_pixels {
        return Err(ThumbnailError(format!(
            "The {name} picture claims {width}×{height} pixels, more than the limit of {} pixels.",
            options.max_pixels
        )));
    }
    if bytes > options.max_memory {
        return Err(ThumbnailError(format!(
            "The {name} picture of {width}×{height} pixels needs {bytes} bytes of memory, \
             more than the limit of {} bytes.",
            options.max_memory
        )));
    }
    Ok(())
}

fn sentence(kind: Kind, why: &ImageError) -> ThumbnailError {
    let why = why.to_string();
    ThumbnailError(format!(
        "The {} picture cannot be decoded: {}.",
        kind.name(),
        // One line, one full stop, whatever the library says.
        why.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .trim_end_matches('.')
    ))
}
