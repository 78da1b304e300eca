//! A picture's thumbnail: by default 200×300 pixels, filled and centre-cropped, upright, JPEG.
//!
//! ```text
//!                  ┌─▶ from_jpeg    decoded as far as it shows, planes scaled ─┐
//! bytes ─recognise─┼─▶ from_pixels  decoded whole by `image`, scaled ──────────┼─▶ sRGB, upright ─▶ encode
//!                  └─▶ from_helper  decoded by C libraries elsewhere, scaled ──┘
//! ```
//!
//! Every limit is checked against what the file claims before a pixel of it is decoded. Decoders in
//! this process are Rust, with `unsafe` at most around SIMD: one that fails panics, and that costs one
//! thumbnail and nothing else. Those that are not work in a process of their own ([`Helper`]).

mod clock;
mod color;
mod encode;
#[cfg(any(feature = "webp", feature = "heif"))]
mod from_helper;
mod from_jpeg;
mod from_pixels;
#[cfg_attr(not(any(feature = "webp", feature = "heif")), allow(dead_code))]
mod helper;
mod jpeg;
mod layout;
mod options;
mod png_exif;
mod raw;
mod recognise;
mod resample;
mod tiff_palette;
#[cfg_attr(not(any(feature = "webp", feature = "heif")), allow(dead_code))]
pub(crate) mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, Rgb, RgbImage, imageops};

pub use helper::Helper;
pub use options::{Fit, Format, Limits, Options, SpecError};

use clock::Deadline;
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

/// The folders at the remote that these thumbnails go to: `thumbnail` for the first, and for each
/// other one of its own. Below it lies the picture's path, its name whole, so neither two pictures
/// nor two sizes share a key.
pub fn folders(wanted: &[Options]) -> impl Iterator<Item = String> {
    wanted
        .iter()
        .enumerate()
        .map(|(number, options)| match number {
            0 => "thumbnail".to_owned(),
            _ => format!("thumbnail-{}", options.label()),
        })
}

/// Whether the content is a picture that thumbnails are made of. `head` is the file's first bytes;
/// 64 are enough. The name does not count.
pub fn is_picture(head: &[u8]) -> bool {
    recognise::kind(head).is_some()
}

/// What a picture is made into, and within which bounds.
struct Order<'a> {
    wanted: &'a [Options],
    limits: &'a Limits,
    deadline: Deadline,
}

/// Makes the thumbnails of `picture`, a whole file in memory, one for each of `wanted`. Never panics;
/// `limits` bound its memory and time. It takes tens of milliseconds of one core and more, so it
/// belongs on a worker. Without a helper some formats are not to be had, and WebP takes longer.
///
/// # Errors
///
/// The content is no picture, is damaged, or is larger than the limits allow.
pub fn make_all(
    picture: &[u8],
    wanted: &[Options],
    limits: &Limits,
    helper: Option<&mut Helper>,
) -> Result<Vec<Thumbnail>, ThumbnailError> {
    let order = Order {
        wanted,
        limits,
        deadline: Deadline::after(limits.max_time),
    };
    // Decoders are fed with other people's files. Nothing that a panic could leave half-done
    // outlives the call (a helper that is in the middle of something is dropped), hence
    // AssertUnwindSafe.
    catch_unwind(AssertUnwindSafe(|| make_unguarded(picture, &order, helper))).unwrap_or_else(
        |_| {
            Err(ThumbnailError(
                "The picture made its decoder panic; the file is probably damaged.".into(),
            ))
        },
    )
}

/// One thumbnail, within the usual limits, by this process alone.
///
/// # Errors
///
/// As those of [`make_all`].
pub fn make(picture: &[u8], options: &Options) -> Result<Thumbnail, ThumbnailError> {
    let made = make_all(
        picture,
        std::slice::from_ref(options),
        &Limits::default(),
        None,
    )?;
    made.into_iter()
        .next()
        .ok_or_else(|| ThumbnailError("No thumbnail was made.".into()))
}

fn make_unguarded(
    picture: &[u8],
    order: &Order<'_>,
    helper: Option<&mut Helper>,
) -> Result<Vec<Thumbnail>, ThumbnailError> {
    let kind = recognise::kind(picture).ok_or_else(|| {
        ThumbnailError("The file is not a picture in a format that thumbnails are made of.".into())
    })?;
    if order.wanted.iter().any(|o| o.width == 0 || o.height == 0) {
        return Err(ThumbnailError(
            "A thumbnail's sides are 1 pixel at least.".into(),
        ));
    }
    let scaled = scale(picture, kind, order, helper)?;
    let made = order.wanted.iter().zip(scaled).map(|(options, scaled)| {
        let picture = layout::upright(scaled.from, scaled.orientation);
        let rgb = finish(scaled, options);
        Ok(Thumbnail {
            bytes: encode::encode(&rgb, options)?,
            format: options.format,
            width: rgb.width(),
            height: rgb.height(),
            picture,
        })
    });
    made.collect()
}

fn scale(
    picture: &[u8],
    kind: Kind,
    order: &Order<'_>,
    helper: Option<&mut Helper>,
) -> Result<Vec<Scaled>, ThumbnailError> {
    match (kind, raw::previews(picture, kind), helper) {
        (Kind::Jpeg, ..) => from_jpeg::scale(picture, None, order),
        (_, Some(previews), _) => scale_preview(&previews, kind, order),
        #[cfg(feature = "heif")]
        (Kind::Heif, None, Some(helper)) => from_helper::heif(picture, order, helper),
        (Kind::Heif, None, _) => Err(ThumbnailError(HEIF_MISSING.into())),
        #[cfg(feature = "webp")]
        (Kind::WebP, None, Some(helper)) => match from_helper::webp(picture, order, helper)? {
            Some(scaled) => Ok(scaled),
            None => from_pixels::scale(picture, kind, order),
        },
        _ => from_pixels::scale(picture, kind, order),
    }
}

const HEIF_MISSING: &str =
    "HEIC and AVIF pictures are not decoded by this build; build it with --features heif.";
const TOO_SLOW: &str = "decoding it took longer than the limit allows";

/// The largest preview of a camera file that can be decoded.
fn scale_preview(
    previews: &Previews<'_>,
    kind: Kind,
    order: &Order<'_>,
) -> Result<Vec<Scaled>, ThumbnailError> {
    let name = match kind {
        Kind::Raf | Kind::Cr3 => kind.name(),
        _ => "camera",
    };
    let mut why = ThumbnailError(format!("The {name} file holds no JPEG preview."));
    for jpeg in &previews.jpegs {
        match from_jpeg::scale(jpeg, previews.orientation, order) {
            Ok(scaled) => return Ok(scaled),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Formats that thumbnails are made of in this build, as people call them.
pub fn read_formats() -> Vec<&'static str> {
    let mut formats = vec![
        "JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "CR2", "CR3", "NEF", "ARW", "DNG", "RAF",
        "ORF", "RW2", "PEF",
    ];
    if cfg!(feature = "heif") {
        formats.extend(["HEIC", "AVIF"]);
    }
    formats
}

/// Formats that thumbnails are written in by this build, as in a specification.
pub fn written_formats() -> impl Iterator<Item = &'static str> {
    Format::ALL
        .into_iter()
        .filter(|format| format.is_built_in())
        .map(Format::name)
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
    let why = without_braces(&why.to_string()).replace('"', "");
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = why.trim_end_matches('.');
    ThumbnailError(format!("The {name} picture cannot be decoded: {why}."))
}

/// Libraries show some of what they stumble over as Rust has it, damaged bytes and all:
/// `ChunkType { type: … }`.
fn without_braces(text: &str) -> String {
    let mut depth = 0_usize;
    let outside = text.chars().filter(|char| {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => return depth == 0 && (char.is_whitespace() || !char.is_control()),
        }
        false
    });
    outside.collect()
}

/// What the header claims, against the limits: a few bytes can claim gigabytes.
fn check_size(
    name: &str,
    width: u32,
    height: u32,
    bytes: u64,
    limits: &Limits,
) -> Result<(), ThumbnailError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(ThumbnailError(format!("The {name} picture has no pixels.")));
    }
    if pixels > limits.max_pixels {
        return Err(ThumbnailError(format!(
            "The {name} picture claims {width}×{height} pixels, more than the limit of {} pixels.",
            limits.max_pixels
        )));
    }
    if bytes > limits.max_memory {
        return Err(ThumbnailError(format!(
            "The {name} picture of {width}×{height} pixels needs {bytes} bytes of memory, \
             more than the limit of {} bytes.",
            limits.max_memory
        )));
    }
    Ok(())
}
