//! All formats but JPEG to scaled pixels: decoded whole by `image`, then scaled.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, create_srgb_mapper};
use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage};

use super::color::{Channels, to_srgb};
use super::layout::Layout;
use super::options::Options;
use super::recognise::Kind;
use super::resample::{Part, lanczos, view};
use super::{ThumbnailError, check_size};

/// A picture in its final size, and what makes it upright.
pub(super) struct Scaled {
    pub(super) rgb: RgbImage,
    pub(super) orientation: Orientation,
}

/// Decodes and scales `picture`, a file of format `kind`.
pub(super) fn scale(
    picture: &[u8],
    kind: Kind,
    options: &Options,
) -> Result<Scaled, ThumbnailError> {
    let sentence = |why: ImageError| sentence(kind, &why);
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
    let rgb = scale_pixels(pixels, icc.as_deref(), orientation, options)?;
    Ok(Scaled { rgb, orientation })
}

fn open<'a>(picture: &'a [u8], kind: Kind) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let bytes = Cursor::new(picture);
    Ok(match kind {
        Kind::Png => Box::new(PngDecoder::new(bytes)?),
        Kind::WebP => Box::new(WebPDecoder::new(bytes)?),
        Kind::Gif => Box::new(GifDecoder::new(bytes)?),
        Kind::Bmp => Box::new(BmpDecoder::new(bytes)?),
        Kind::Tiff => Box::new(TiffDecoder::new(bytes)?),
        Kind::Jpeg => unreachable!("JPEG has a decoder of its own"),
    })
}

/// Scales decoded pixels and makes sRGB of them.
pub(super) fn scale_pixels(
    pixels: DynamicImage,
    icc: Option<&[u8]>,
    orientation: Orientation,
    options: &Options,
) -> Result<RgbImage, ThumbnailError> {
    let size = (pixels.width(), pixels.height());
    let layout = Layout::new(size.0, size.1, orientation, options);
    let part = (layout.x, layout.y, layout.part_width, layout.part_height);
    let target = (layout.width, layout.height);
    let (pixels, pixel_type, channels) = prepare(pixels, options.linear);
    let image = view(pixels.as_bytes(), size, pixel_type)?;
    let scaled = if options.linear {
        scale_linear(&image, part, target)?
    } else {
        eight_bits(lanczos(&image, part, target)?)
    };
    to_srgb(&scaled, channels, target, icc, options.background)
}

/// Pixels in one of the layouts that can be scaled, which are nearly all there are.
fn prepare(pixels: DynamicImage, linear: bool) -> (DynamicImage, PixelType, Channels) {
    use DynamicImage::{
        ImageLuma8, ImageLuma16, ImageLumaA8, ImageLumaA16, ImageRgb8, ImageRgb16, ImageRgba8,
        ImageRgba16,
    };
    let alpha = pixels.color().has_alpha();
    let color = pixels.color().has_color();
    match pixels {
        ImageLuma8(_) => (pixels, PixelType::U8, Channels::Grey),
        ImageLumaA8(_) => (pixels, PixelType::U8x2, Channels::GreyAlpha),
        ImageRgb8(_) => (pixels, PixelType::U8x3, Channels::Rgb),
        ImageRgba8(_) => (pixels, PixelType::U8x4, Channels::Rgba),
        // The tables for light are made for eight bits.
        ImageLuma16(_) if !linear => (pixels, PixelType::U16, Channels::Grey),
        ImageLumaA16(_) if !linear => (pixels, PixelType::U16x2, Channels::GreyAlpha),
        ImageRgb16(_) if !linear => (pixels, PixelType::U16x3, Channels::Rgb),
        ImageRgba16(_) if !linear => (pixels, PixelType::U16x4, Channels::Rgba),
        _ if alpha && color => (pixels.into_rgba8().into(), PixelType::U8x4, Channels::Rgba),
        _ if color => (pixels.into_rgb8().into(), PixelType::U8x3, Channels::Rgb),
        _ if alpha => (
            pixels.into_luma_alpha8().into(),
            PixelType::U8x2,
            Channels::GreyAlpha,
        ),
        _ => (pixels.into_luma8().into(), PixelType::U8, Channels::Grey),
    }
}

/// The high bytes of sixteen-bit pixels, rounded; eight-bit ones as they are.
fn eight_bits(image: Image<'_>) -> Vec<u8> {
    match image.pixel_type() {
        PixelType::U16 | PixelType::U16x2 | PixelType::U16x3 | PixelType::U16x4 => image
            .buffer()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| ((u32::from(u16::from_ne_bytes(*bytes)) + 128) / 257) as u8)
            .collect(),
        _ => image.into_vec(),
    }
}

/// Scales light: eight-bit sRGB becomes sixteen-bit linear light and comes back.
pub(super) fn scale_linear(
    image: &ImageRef<'_>,
    part: Part,
    size: (u32, u32),
) -> Result<Vec<u8>, ThumbnailError> {
    let failed = |why| ThumbnailError(format!("The picture cannot be scaled: {why}."));
    let wide = match image.pixel_type() {
        PixelType::U8 => PixelType::U16,
        PixelType::U8x2 => PixelType::U16x2,
        PixelType::U8x3 => PixelType::U16x3,
        _ => PixelType::U16x4,
    };
    let mapper = create_srgb_mapper();
    let mut light = Image::new(image.width(), image.height(), wide);
    mapper
        .forward_map(image, &mut light)
        .map_err(|why| failed(why.to_string()))?;
    let light = view(light.buffer(), (image.width(), image.height()), wide)?;
    let scaled = lanczos(&light, part, size)?;
    let mut back = Image::new(size.0, size.1, image.pixel_type());
    mapper
        .backward_map(&scaled, &mut back)
        .map_err(|why| failed(why.to_string()))?;
    Ok(back.into_vec())
}

fn sentence(kind: Kind, why: &ImageError) -> ThumbnailError {
    let why = why.to_string();
    // One line, one full stop, whatever the library says.
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = why.trim_end_matches('.');
    ThumbnailError(format!(
        "The {} picture cannot be decoded: {why}.",
        kind.name()
    ))
}
