//! What C libraries decode, in the process that they work in, to scaled pixels.

#[cfg(feature = "heif")]
use image::metadata::Orientation;

use super::color::Channels;
use super::from_pixels::{Header, Pixels, Scaled, scale_pixels};
use super::helper::Helper;
use super::recognise::Kind;
use super::wire::{Decoded, Library, Request};
use super::{Order, ThumbnailError};

/// How much larger than the thumbnail libwebp leaves a picture: below this its simple filter, and not
/// Lanczos, would decide how the thumbnail looks.
#[cfg(feature = "webp")]
const HEADROOM: f64 = 2.0;

/// WebP by libwebp; `None` where it does not know how: animations.
#[cfg(feature = "webp")]
pub(super) fn webp(
    picture: &[u8],
    order: &Order<'_>,
    helper: &mut Helper,
) -> Result<Option<Vec<Scaled>>, ThumbnailError> {
    use super::from_pixels;
    use super::layout::Layout;

    // `VP8X` and its flags (RFC 9649, 2.7).
    let animated =
        picture.get(12..16) == Some(b"VP8X") && picture.get(20).is_some_and(|f| f & 2 != 0);
    if animated {
        return Ok(None);
    }
    let header = from_pixels::header(picture, Kind::WebP, order)?;
    let (width, height) = header.size;
    let scale = order
        .wanted
        .iter()
        .map(|options| match options.linear {
            true => 1.0,
            false => Layout::new(width, height, header.orientation, options).scale() * HEADROOM,
        })
        .fold(0.0, f64::max)
        .min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).ceil() as u32).clamp(1, side);
    let size = (scaled(width), scaled(height));
    let decoded = helper.decode(Kind::WebP, &request(Library::WebP, size, picture, order))?;
    scale_decoded(decoded, header, order).map(Some)
}

/// HEIC and AVIF by libheif, which turns them upright itself.
#[cfg(feature = "heif")]
pub(super) fn heif(
    picture: &[u8],
    order: &Order<'_>,
    helper: &mut Helper,
) -> Result<Vec<Scaled>, ThumbnailError> {
    let mut decoded = helper.decode(Kind::Heif, &request(Library::Heif, (0, 0), picture, order))?;
    let icc = Some(std::mem::take(&mut decoded.icc)).filter(|icc| !icc.is_empty());
    let header = Header {
        size: decoded.size,
        orientation: Orientation::NoTransforms,
        icc,
    };
    scale_decoded(decoded, header, order)
}

fn request<'a>(
    library: Library,
    size: (u32, u32),
    picture: &'a [u8],
    order: &Order<'_>,
) -> Request<'a> {
    Request {
        decoder: library,
        size,
        max_pixels: order.limits.max_pixels,
        max_seconds: order.limits.max_time.as_secs(),
        picture,
    }
}

fn scale_decoded(
    decoded: Decoded,
    header: Header,
    order: &Order<'_>,
) -> Result<Vec<Scaled>, ThumbnailError> {
    let pixels = Pixels {
        channels: match decoded.has_alpha {
            true => Channels::Rgba,
            false => Channels::Rgb,
        },
        size: decoded.size,
        samples: decoded.samples,
    };
    let scaled = order
        .wanted
        .iter()
        .map(|options| scale_pixels(&pixels, &header, options));
    scaled.collect()
}
