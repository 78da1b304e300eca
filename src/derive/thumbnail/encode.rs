//! The thumbnail as a file: baseline JPEG with halved colour unless something else is asked for,
//! and no metadata, as the pixels are upright sRGB and need none.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::ThumbnailError;
use super::options::{Format, Options};

/// Encodes `rgb` as `options` ask.
pub(super) fn encode(rgb: &RgbImage, options: &Options) -> Result<Vec<u8>, ThumbnailError> {
    let format = options.format;
    let failed = |why: String| {
        let name = format.name();
        ThumbnailError(format!("The thumbnail cannot be written as {name}: {why}."))
    };
    match format {
        Format::Jpeg => jpeg(rgb, options).map_err(failed),
        Format::Png => png(rgb).map_err(failed),
        Format::WebP => webp(rgb, options).map_err(failed),
        Format::Avif => avif(rgb, options).map_err(failed),
    }
}

fn jpeg(rgb: &RgbImage, options: &Options) -> Result<Vec<u8>, String> {
    let side = |side: u32| {
        u16::try_from(side).map_err(|_| format!("a side of {side} pixels is more than 65535"))
    };
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, options.quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_progressive(options.progressive);
    encoder
        .encode(rgb, side(rgb.width())?, side(rgb.height())?, ColorType::Rgb)
        .map_err(|why| why.to_string())?;
    Ok(file)
}

fn png(rgb: &RgbImage) -> Result<Vec<u8>, String> {
    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive)
        .write_image(rgb, rgb.width(), rgb.height(), ExtendedColorType::Rgb8)
        .map_err(|why| why.to_string())?;
    Ok(file)
}

#[cfg(feature = "webp")]
fn webp(rgb: &RgbImage, options: &Options) -> Result<Vec<u8>, String> {
    let side = |side: u32| i32::try_from(side).map_err(|why| why.to_string());
    let (width, height) = (side(rgb.width())?, side(rgb.height())?);
    let quality = f32::from(options.quality);
    let mut written = std::ptr::null_mut();
    // SAFETY: the pixels are `height` rows of 3 × `width` bytes; libwebp allocates what it writes,
    // and says how much that is, nothing where it fails.
    unsafe {
        let pixels = rgb.as_ptr();
        let length =
            libwebp_sys::WebPEncodeRGB(pixels, width, height, 3 * width, quality, &mut written);
        if length == 0 || written.is_null() {
            return Err("libwebp refuses it".into());
        }
        let file = std::slice::from_raw_parts(written, length).to_vec();
        libwebp_sys::WebPFree(written.cast());
        Ok(file)
    }
}

#[cfg(not(feature = "webp"))]
fn webp(_rgb: &RgbImage, _options: &Options) -> Result<Vec<u8>, String> {
    Err("this build lacks it; build with --features webp".into())
}

#[cfg(feature = "avif")]
fn avif(rgb: &RgbImage, options: &Options) -> Result<Vec<u8>, String> {
    // Speed 8 of 10 writes a thumbnail in tens of milliseconds.
    let mut file = Vec::new();
    image::codecs::avif::AvifEncoder::new_with_speed_quality(&mut file, 8, options.quality)
        .write_image(rgb, rgb.width(), rgb.height(), ExtendedColorType::Rgb8)
        .map_err(|why| why.to_string())?;
    Ok(file)
}

#[cfg(not(feature = "avif"))]
fn avif(_rgb: &RgbImage, _options: &Options) -> Result<Vec<u8>, String> {
    Err("this build lacks it; build with --features avif".into())
}
