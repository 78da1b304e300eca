//! All formats but JPEG to scaled pixels: decoded whole by `image`, then scaled.

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage};

use super::clock::Timed;
use super::color::{Channels, to_srgb};
use super::layout::Layout;
use super::options::Options;
use super::recognise::Kind;
use super::resample::{Part, U8, U8x3, U8x4, U16, lanczos, lanczos16};
use super::tiff_palette::Palette;
use super::{Order, ThumbnailError, cannot_decode, check_size, png_exif};

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

/// What was read of a picture before its pixels.
pub(super) struct Header {
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
    pub(super) icc: Option<Vec<u8>>,
}

/// Decodes `picture`, a file of format `kind`, and scales it to all that is wanted.
pub(super) fn scale(
    picture: &[u8],
    kind: Kind,
    order: &Order<'_>,
) -> Result<Vec<Scaled>, ThumbnailError> {
    let palette = match kind {
        Kind::Tiff => Palette::find(picture),
        _ => None,
    };
    let greys = palette.as_ref().map(|palette| palette.as_greys(picture));
    let (header, decoder) = open(greys.as_deref().unwrap_or(picture), kind, order)?;
    let pixels = DynamicImage::from_decoder(decoder).map_err(|why| failed(kind, why))?;
    let mut pixels = narrow(pixels);
    if let Some(palette) = palette.filter(|_| pixels.channels == Channels::Grey) {
        pixels = palette.color(&pixels);
    }
    let scaled = order
        .wanted
        .iter()
        .map(|options| scale_pixels(&pixels, &header, options));
    scaled.collect()
}

/// The header of a picture, within the limits.
#[cfg(feature = "webp")]
pub(super) fn header(
    picture: &[u8],
    kind: Kind,
    order: &Order<'_>,
) -> Result<Header, ThumbnailError> {
    Ok(open(picture, kind, order)?.0)
}

fn open<'a>(
    picture: &'a [u8],
    kind: Kind,
    order: &Order<'_>,
) -> Result<(Header, Box<dyn ImageDecoder + 'a>), ThumbnailError> {
    let mut decoder =
        decoder(Timed::new(picture, order.deadline), kind).map_err(|why| failed(kind, why))?;
    let size = decoder.dimensions();
    let bytes = decoder.total_bytes();
    check_size(kind.name(), size.0, size.1, bytes, order.limits)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(order.limits.max_memory);
    decoder
        .set_limits(limits)
        .map_err(|why| failed(kind, why))?;
    // A damaged EXIF block or profile is no reason to refuse the pixels.
    let mut orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if kind == Kind::Png && orientation == Orientation::NoTransforms {
        orientation = png_exif::orientation(picture).unwrap_or(orientation);
    }
    let header = Header {
        size,
        orientation,
        icc: decoder.icc_profile().unwrap_or_default(),
    };
    Ok((header, decoder))
}

fn failed(kind: Kind, why: ImageError) -> ThumbnailError {
    cannot_decode(kind.name(), why)
}

fn decoder(bytes: Timed<'_>, kind: Kind) -> Result<Box<dyn ImageDecoder + '_>, ImageError> {
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
    header: &Header,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    let Pixels {
        samples,
        channels,
        size,
    } = pixels;
    // The decoder may have scaled it already.
    let layout = Layout::new(size.0, size.1, header.orientation, options);
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
        rgb: to_srgb(
            &scaled,
            *channels,
            target,
            header.icc.as_deref(),
            options.background,
        )?,
        orientation: header.orientation,
        from: header.size,
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
pub(super) fn scale_exactly(
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
