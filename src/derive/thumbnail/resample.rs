//! Lanczos by SIMD.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::InnerPixel;
pub(super) use fast_image_resize::pixels::{U8, U8x3, U8x4, U16};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::ThumbnailError;

/// Part of an image: left, top, width, height, in its pixels; fractions are meant.
pub(super) type Part = (f64, f64, f64, f64);

/// Scales `part` of a picture with pixels of kind `P`, one byte a sample, to `target`. Samples beside
/// the part count where the filter reaches them.
pub(super) fn lanczos<P: PixelTrait + InnerPixel<Component = u8>>(
    samples: &[u8],
    (width, height): (u32, u32),
    part: Part,
    target: (u32, u32),
) -> Result<Vec<u8>, ThumbnailError> {
    let picture = TypedImageRef::<P>::from_buffer(width, height, samples).map_err(failed)?;
    let scaled = resize(&picture, part, target)?;
    Ok(P::components(scaled.pixels()).to_vec())
}

/// The same for one plane of sixteen bits.
pub(super) fn lanczos16(
    samples: &[U16],
    (width, height): (u32, u32),
    part: Part,
    target: (u32, u32),
) -> Result<Vec<u16>, ThumbnailError> {
    let plane = TypedImageRef::new(width, height, samples).map_err(failed)?;
    let scaled = resize(&plane, part, target)?;
    Ok(scaled.pixels().iter().map(|sample| sample.0).collect())
}

fn resize<P: PixelTrait + InnerPixel>(
    plane: &TypedImageRef<'_, P>,
    (left, top, width, height): Part,
    target: (u32, u32),
) -> Result<TypedImage<'static, P>, ThumbnailError> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        // Alpha is dealt with before; the fourth channel here is ink.
        .use_alpha(false)
        .crop(left, top, width, height);
    let mut scaled = TypedImage::new(target.0, target.1);
    Resizer::new()
        .resize_typed(plane, &mut scaled, &options)
        .map_err(failed)?;
    Ok(scaled)
}

fn failed(why: impl std::fmt::Display) -> ThumbnailError {
    ThumbnailError(format!("The picture cannot be scaled: {why}."))
}
