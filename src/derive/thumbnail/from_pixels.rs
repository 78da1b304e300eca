//! All formats but JPEG to scaled pixels: decoded whole by `image`, then scaled.

use std::io::Cursor;

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage};

use super::color::{Channels, to_srgb};
use super::layout::Layout;
use super::options::Options;
use super::recognise::Kind;
use super::resample::{Part, U8, U8x3, U8x4, U16, lanczos, lanczos16};
use super::{ThumbnailError, cannot_decode, check_size};

/// A picture in its final size, and what makes it upright.
pub(super) struct Scaled {
    pub(super) rgb: RgbImage,
    pub(super) orientation: Orientation,
    /// Width and height of the picture as it lies in the file.
    pub(super) from: (u32, u32),
}

/// A decoded picture.
pub(super) struct Pixels {
    pub(super) samples: Vec<u8>,
    pub(super) channels: Channels,
    pub(super) size: (u32, u32),
}

/// Decodes and scales `picture`, a file of format `kind`.
pub(super) fn scale(
    picture: &[u8],
    kind: Kind,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    let sentence = |why: ImageError| cannot_decode(kind.name(), why);
    let mut decoder = open(picture, kind).map_err(sentence)?;
    let (width, height) = decoder.dimensions();
    check_size(kind.name(), width, height, decoder.total_bytes(), options)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_memory);
    decoder.set_limits(limits).map_err(sentence)?;
    // A damaged EXIF block or profile is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let icc = decoder.icc_profile().unwrap_or_default();
    let pixels = DynamicImage::from_decoder(decoder).map_err(sentence)?;
    scale_pixels(&narrow(pixels), icc.as_deref(), orientation, options)
}

fn open<'a>(picture: &'a [u8], kind: Kind) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let bytes = Cursor::new(picture);
    Ok(match kind {
        Kind::Png => Box::new(PngDecoder::new(bytes)?),
        Kind::WebP => Box::new(WebPDecoder::new(bytes)?),
        Kind::Gif => Box::new(GifDecoder::new(bytes)?),
        Kind::Bmp => Box::new(BmpDecoder::new(bytes)?),
        Kind::Tiff => Box::new(TiffDecoder::new(bytes)?),
        Kind::Jpeg | Kind::CameraTiff | Kind::Raf | Kind::Cr3 | Kind::Heif => {
            unreachable!("these have decoders of their own")
        }
    })
}

/// Eight bits are enough to scale: averaging many pixels hides that they were rounded.
fn narrow(pixels: DynamicImage) -> Pixels {
    let size = (pixels.width(), pixels.height());
    let color = pixels.color();
    let (samples, channels) = if color.has_alpha() {
        (pixels.into_rgba8().into_raw(), Channels::Rgba)
    } else if color.has_color() {
        (pixels.into_rgb8().into_raw(), Channels::Rgb)
    } else {
        (pixels.into_luma8().into_raw(), Channels::Grey)
    };
    Pixels {
        samples,
        channels,
        size,
    }
}

/// Scales decoded pixels and makes sRGB of them.
pub(super) fn scale_pixels(
    pixels: &Pixels,
    icc: Option<&[u8]>,
    orientation: Orientation,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    let Pixels {
        samples,
        channels,
        size,
    } = pixels;
    let layout = Layout::new(size.0, size.1, orientation, options);
    let part = (layout.x, layout.y, layout.part_width, layout.part_height);
    let target = (layout.width, layout.height);
    let scaled = match channels {
        _ if options.linear => scale_exactly(samples, *channels, *size, part, target, true)?,
        Channels::Rgba => scale_exactly(samples, *channels, *size, part, target, false)?,
        Channels::Grey => lanczos::<U8>(samples, *size, part, target)?,
        Channels::Rgb => lanczos::<U8x3>(samples, *size, part, target)?,
        Channels::Cmyk => lanczos::<U8x4>(samples, *size, part, target)?,
    };
    Ok(Scaled {
        rgb: to_srgb(&scaled, *channels, target, icc, options.background)?,
        orientation,
        from: *size,
    })
}

fn interleave(planes: &[Vec<u8>]) -> Vec<u8> {
    let samples = planes.first().map_or(0, Vec::len);
    (0..samples)
        .flat_map(|at| planes.iter().map(move |plane| plane[at]))
        .collect()
}

/// Scales with sixteen bits a sample. Transparent pixels count by their opacity, as otherwise their
/// unseen colours would bleed into what is seen; and where `linear`, light is averaged and not the
/// numbers that stand for it.
fn scale_exactly(
    pixels: &[u8],
    channels: Channels,
    size: (u32, u32),
    part: Part,
    target: (u32, u32),
    linear: bool,
) -> Result<Vec<u8>, ThumbnailError> {
    let alpha = channels == Channels::Rgba;
    let colors = channels.count() - usize::from(alpha);
    let light: [u16; 256] = std::array::from_fn(|value| to_light(value as u8, linear));
    let count = channels.count();
    let scale = |sample: &dyn Fn(&[u8]) -> u16| {
        let plane: Vec<U16> = pixels
            .chunks_exact(count)
            .map(|pixel| U16::new(sample(pixel)))
            .collect();
        lanczos16(&plane, size, part, target)
    };
    let opacity = match alpha {
        true => Some(scale(&|pixel| u16::from(pixel[3]) * 257)?),
        false => None,
    };
    let mut planes = Vec::new();
    for channel in 0..colors {
        let plane = if alpha {
            scale(&|pixel| {
                (u32::from(light[usize::from(pixel[channel])]) * u32::from(pixel[3]) / 255) as u16
            })?
        } else {
            scale(&|pixel| light[usize::from(pixel[channel])])?
        };
        let whole = |at: usize| opacity.as_ref().map_or(u16::MAX, |opacity| opacity[at]);
        let plane = plane.iter().enumerate().map(|(at, sample)| {
            from_light(f32::from(*sample) / f32::from(whole(at).max(1)), linear)
        });
        planes.push(plane.collect());
    }
    if let Some(opacity) = opacity {
        planes.push(opacity.iter().map(|sample| (sample / 257) as u8).collect());
    }
    Ok(interleave(&planes))
}

/// A number's light (IEC 61966-2-1), or the number itself, with sixteen bits.
fn to_light(value: u8, linear: bool) -> u16 {
    if !linear {
        return u16::from(value) * 257;
    }
    let value = f32::from(value) / 255.0;
    let light = if value <= 0.040_45 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    };
    (light * 65535.0 + 0.5) as u16
}

/// The way back, from 0 to 1; the cast saturates.
fn from_light(light: f32, linear: bool) -> u8 {
    let value = if !linear {
        light
    } else if light <= 0.003_130_8 {
        light * 12.92
    } else {
        1.055 * light.powf(1.0 / 2.4) - 0.055
    };
    (value * 255.0 + 0.5) as u8
}
