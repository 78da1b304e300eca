//! Lanczos by SIMD.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::ThumbnailError;

/// Part of an image: left, top, width, height, in its pixels; fractions are meant.
pub(super) type Part = (f64, f64, f64, f64);

/// Scales `part` of `image` to `width`×`height`. Pixels beside the part count where the filter
/// reaches them, and transparent ones count by their opacity.
pub(super) fn lanczos(
    image: &ImageRef<'_>,
    part: Part,
    (width, height): (u32, u32),
) -> Result<Image<'static>, ThumbnailError> {
    let (left, top, across, down) = part;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(left, top, across, down);
    let mut scaled = Image::new(width, height, image.pixel_type());
    Resizer::new()
        .resize(image, &mut scaled, &options)
        .map_err(|why| ThumbnailError(format!("The picture cannot be scaled: {why}.")))?;
    Ok(scaled)
}

/// An image over bytes that are there already.
pub(super) fn view(
    bytes: &[u8],
    (width, height): (u32, u32),
    pixels: PixelType,
) -> Result<ImageRef<'_>, ThumbnailError> {
    ImageRef::new(width, height, bytes, pixels)
        .map_err(|why| ThumbnailError(format!("The picture's pixels do not fit its size: {why}.")))
}
