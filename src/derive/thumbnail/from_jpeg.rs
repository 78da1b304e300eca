//! JPEG to scaled pixels: decoded whole by `zune-jpeg`, then scaled.
//!
//! `image` decodes JPEG by the same library, but fills what a damaged file lacks with grey and makes
//! printers' colours RGB without their profile. Half a picture is no thumbnail, so it is asked itself.

use image::metadata::Orientation;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::{ImageInfo, JpegDecoder};

use super::color::{Channels, from_ycbcr};
use super::from_pixels::{Pixels, Scaled, scale_pixels};
use super::options::Options;
use super::{ThumbnailError, cannot_decode, check_size};

/// More scans than any encoder writes; each costs a pass over the picture.
const MAX_SCANS: usize = 200;

/// Decodes and scales a JPEG. `orientation` overrides the file's own, for previews in camera files.
pub(super) fn scale(
    picture: &[u8],
    orientation: Option<Orientation>,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    // Bytes between headers harm nobody, so strictness begins with the pixels.
    let lenient = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(MAX_SCANS)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(picture), lenient);
    decoder.decode_headers().map_err(|why| sentence(&why))?;
    let (Some(info), Some(space)) = (decoder.info(), decoder.input_colorspace()) else {
        return Err(cannot_decode("JPEG", "it has no header"));
    };
    let (channels, wanted) = match space {
        ColorSpace::Luma => (Channels::Grey, space),
        ColorSpace::CMYK | ColorSpace::YCCK => (Channels::Cmyk, space),
        ColorSpace::RGB | ColorSpace::YCbCr => (Channels::Rgb, ColorSpace::RGB),
        _ => return Err(cannot_decode("JPEG", "its number of colours is wrong")),
    };
    let size = (u32::from(info.width), u32::from(info.height));
    check_size("JPEG", size.0, size.1, memory(&info, channels), options)?;
    decoder.set_options(
        lenient
            .set_strict_mode(true)
            .jpeg_set_out_colorspace(wanted),
    );
    let mut samples = decoder.decode().map_err(|why| sentence(&why))?;
    match space {
        ColorSpace::CMYK => samples.iter_mut().for_each(|ink| *ink = 255 - *ink),
        ColorSpace::YCCK => inks_of_ycck(&mut samples),
        _ => {}
    }
    let orientation = orientation
        .or_else(|| Orientation::from_exif_chunk(info.exif_data.as_deref()?))
        .unwrap_or(Orientation::NoTransforms);
    let icc = decoder.icc_profile();
    let pixels = Pixels {
        samples,
        channels,
        size,
    };
    scale_pixels(&pixels, icc.as_deref(), orientation, options)
}

/// Bytes that decoding and scaling take, about: the picture, and beside it all of its coefficients
/// while a progressive one is decoded, or one plane while it is scaled.
fn memory(info: &ImageInfo, channels: Channels) -> u64 {
    let samples = u64::from(info.width) * u64::from(info.height) * channels.count() as u64;
    match info.sof.is_sequential_dct() {
        true => samples * 2,
        false => samples * 3,
    }
}

/// Ink is stored inverted, as Adobe does and so everybody: red, green and blue are what is left of
/// white where cyan, magenta and yellow are inverted, which makes them the ink itself.
fn inks_of_ycck(samples: &mut [u8]) {
    for pixel in samples.as_chunks_mut::<4>().0 {
        let [y, cb, cr, k] = *pixel;
        let [cyan, magenta, yellow] = from_ycbcr(y, cb, cr);
        *pixel = [cyan, magenta, yellow, 255 - k];
    }
}

fn sentence(why: &DecodeErrors) -> ThumbnailError {
    match why {
        // The file is in memory: reading fails only at its end.
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => {
            cannot_decode("JPEG", "it ends early; the file was probably cut short")
        }
        why => cannot_decode("JPEG", why),
    }
}
