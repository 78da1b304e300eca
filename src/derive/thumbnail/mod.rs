//! A picture's thumbnail: by default 200×300 pixels, filled and centre-cropped, upright, JPEG.
//!
//! ```text
//!                  ┌─▶ from_jpeg    decoded by `zune-jpeg` ─┐
//! bytes ─recognise─┤                                        ├─▶ scaled, sRGB, upright ─▶ encode
//!                  └─▶ from_pixels  decoded by `image` ─────┘
//! ```
//!
//! Every limit is checked against what the file claims before a pixel of it is decoded. All decoders
//! are Rust, with `unsafe` at most around SIMD: one that fails panics, and that costs one thumbnail and
//! nothing else.

mod color;
mod encode;
mod from_jpeg;
mod from_pixels;
mod layout;
mod options;
mod raw;
mod recognise;
mod resample;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, Rgb, RgbImage, imageops};

pub use options::{Fit, Format, Options, SpecError};

use from_pixels::Scaled;
use raw::Previews;
use recognise::Kind;

/// A made thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The file, in the format that was asked for.
    pub bytes: Vec<u8>,
    pub format: Format,
    /// Pixels; less than asked for only with [`Fit::Inside`].
    pub width: u32,
    pub height: u32,
    /// Width and height in pixels of the picture that it was made of, upright; of a camera file, those
    /// of the preview that was shown.
    pub picture: (u32, u32),
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

/// Makes the thumbnail of `picture`, a whole file in memory. Never panics; `options` bound
/// its memory, and by the number of pixels its time. It takes tenths of a second of one core, so it
/// belongs on a worker.
///
/// # Errors
///
/// The content is no picture, is damaged, or is larger than the limits allow.
pub fn make(picture: &[u8], options: &Options) -> Result<Thumbnail, ThumbnailError> {
    // Decoders are fed with other people's files. Nothing that a panic could leave half-done
    // outlives the call, hence AssertUnwindSafe.
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
    if options.width == 0 || options.height == 0 {
        return Err(ThumbnailError(
            "A thumbnail's sides are 1 pixel at least.".into(),
        ));
    }
    let scaled = match (kind, raw::previews(picture, kind)) {
        (Kind::Jpeg, _) => from_jpeg::scale(picture, None, options)?,
        (_, Some(previews)) => scale_preview(&previews, kind, options)?,
        (Kind::Heif, None) => return Err(ThumbnailError(HEIF_MISSING.into())),
        _ => from_pixels::scale(picture, kind, options)?,
    };
    let picture = layout::upright(scaled.from, scaled.orientation);
    let rgb = finish(scaled, options);
    Ok(Thumbnail {
        bytes: encode::encode(&rgb, options)?,
        format: options.format,
        width: rgb.width(),
        height: rgb.height(),
        picture,
    })
}

const HEIF_MISSING: &str = "HEIC and AVIF pictures are not decoded by this build.";

/// The largest preview of a camera file that can be decoded.
fn scale_preview(
    previews: &Previews<'_>,
    kind: Kind,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    let name = match kind {
        Kind::Raf | Kind::Cr3 => kind.name(),
        _ => "camera",
    };
    let mut why = ThumbnailError(format!("The {name} file holds no JPEG preview."));
    for jpeg in &previews.jpegs {
        match from_jpeg::scale(jpeg, previews.orientation, options) {
            Ok(scaled) => return Ok(scaled),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Formats that thumbnails are made of in this build, as people call them.
pub fn formats() -> &'static [&'static str] {
    &[
        "JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "CR2", "CR3", "NEF", "ARW", "DNG", "RAF",
        "ORF", "RW2", "PEF",
    ]
}

/// Turns the picture upright and, where it has to fill a box that it does not cover, puts it on the
/// background.
fn finish(scaled: Scaled, options: &Options) -> RgbImage {
    let mut upright = DynamicImage::ImageRgb8(scaled.rgb);
    upright.apply_orientation(scaled.orientation);
    let rgb = upright.into_rgb8();
    let (width, height) = (options.width, options.height);
    if options.fit != Fit::Contain || rgb.dimensions() == (width, height) {
        return rgb;
    }
    let mut canvas = RgbImage::from_pixel(width, height, Rgb(options.background));
    let x = i64::from((width - rgb.width()) / 2);
    let y = i64::from((height - rgb.height()) / 2);
    imageops::replace(&mut canvas, &rgb, x, y);
    canvas
}

/// One line, one full stop, whatever the library says.
fn cannot_decode(name: &str, why: impl std::fmt::Display) -> ThumbnailError {
    let why = why.to_string().replace('"', "");
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = why.trim_end_matches('.');
    ThumbnailError(format!("The {name} picture cannot be decoded: {why}."))
}

/// What the header claims, against the limits: a few bytes can claim gigabytes.
fn check_size(
    name: &str,
    width: u32,
    height: u32,
    bytes: u64,
    options: &Options,
) -> Result<(), ThumbnailError> {
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
