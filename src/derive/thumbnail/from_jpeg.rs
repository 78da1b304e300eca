//! JPEG to scaled pixels: each component is decoded no finer than needed and scaled by itself, and
//! colours are put together on the few pixels that are left.

use image::RgbImage;
use image::metadata::Orientation;

use super::color::{Channels, from_ycbcr, to_srgb};
use super::from_pixels::{self, Scaled};
use super::jpeg::{Jpeg, JpegError, Model, Plane, Want};
use super::layout::Layout;
use super::options::Options;
use super::resample::{U8, lanczos};
use super::{Order, ThumbnailError, check_size};

/// Decodes and scales a JPEG, for each thumbnail by itself: smaller ones need less of it.
/// `orientation` overrides the file's own, for previews in camera files.
pub(super) fn scale(
    picture: &[u8],
    orientation: Option<Orientation>,
    order: &Order<'_>,
) -> Result<Vec<Scaled>, ThumbnailError> {
    let jpeg = Jpeg::open(picture).map_err(sentence)?;
    let (width, height) = (jpeg.frame.width, jpeg.frame.height);
    check_size("JPEG", width, height, 0, order.limits)?;
    let orientation = orientation
        .or_else(|| jpeg.exif.and_then(Orientation::from_exif_chunk))
        .unwrap_or(Orientation::NoTransforms);
    let scaled = order
        .wanted
        .iter()
        .map(|options| scale_once(&jpeg, orientation, options, order));
    scaled.collect()
}

fn scale_once(
    jpeg: &Jpeg<'_>,
    orientation: Orientation,
    options: &Options,
    order: &Order<'_>,
) -> Result<Scaled, ThumbnailError> {
    let (width, height) = (jpeg.frame.width, jpeg.frame.height);
    let layout = Layout::new(width, height, orientation, options);
    let want = Want {
        x: layout.x,
        y: layout.y,
        width: layout.part_width,
        height: layout.part_height,
        scale: if options.linear { 1.0 } else { layout.scale() },
    };
    check_size("JPEG", width, height, jpeg.memory(&want), order.limits)?;
    let planes = jpeg.decode(&want, order.deadline).map_err(sentence)?;
    let target = (layout.width, layout.height);
    let rgb = if options.linear {
        // Light can only be averaged where all colours of a pixel are known: at full size.
        let size = (
            layout.part_width.ceil() as u32,
            layout.part_height.ceil() as u32,
        );
        let full = join(jpeg, &planes, &want, size, options)?;
        let part = (0.0, 0.0, f64::from(size.0), f64::from(size.1));
        let scaled = from_pixels::scale_exactly(&full, Channels::Rgb, size, part, target, true)?;
        RgbImage::from_raw(target.0, target.1, scaled)
            .ok_or_else(|| ThumbnailError("The picture's pixels do not fill its size.".into()))?
    } else {
        join(jpeg, &planes, &want, target, options)?
    };
    Ok(Scaled {
        rgb,
        orientation,
        from: (width, height),
    })
}

/// Scales all planes to `size` and makes sRGB of them.
fn join(
    jpeg: &Jpeg<'_>,
    planes: &[Plane],
    want: &Want,
    size: (u32, u32),
    options: &Options,
) -> Result<RgbImage, ThumbnailError> {
    let scaled = planes
        .iter()
        .map(|plane| {
            let grid = &plane.grid;
            lanczos::<U8>(
                &plane.samples,
                (grid.width, grid.height),
                grid.part(want),
                size,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (pixels, channels) = interleave(&scaled, jpeg.model);
    to_srgb(
        &pixels,
        channels,
        size,
        jpeg.icc.as_deref(),
        options.background,
    )
}

fn interleave(planes: &[Vec<u8>], model: Model) -> (Vec<u8>, Channels) {
    let ink = |value: u8, inverted: bool| if inverted { 255 - value } else { value };
    match (planes, model) {
        ([a, b, c], Model::Rgb) => {
            let pixels = a.iter().zip(b).zip(c).flat_map(|((a, b), c)| [*a, *b, *c]);
            (pixels.collect(), Channels::Rgb)
        }
        ([a, b, c], _) => {
            let pixels = a.iter().zip(b).zip(c);
            let rgb = pixels.flat_map(|((y, cb), cr)| from_ycbcr(*y, *cb, *cr));
            (rgb.collect(), Channels::Rgb)
        }
        ([a, b, c, d], Model::Ycck { inverted }) => {
            let pixels = a.iter().zip(b).zip(c).zip(d);
            // Red, green and blue are what the inks leave of white; Adobe stores all four inverted.
            let cmyk = pixels.flat_map(|(((y, cb), cr), k)| {
                let inks = from_ycbcr(*y, *cb, *cr).map(|color| ink(color, !inverted));
                [inks[0], inks[1], inks[2], ink(*k, inverted)]
            });
            (cmyk.collect(), Channels::Cmyk)
        }
        ([a, b, c, d], model) => {
            let inverted = model == Model::Cmyk { inverted: true };
            let pixels = a.iter().zip(b).zip(c).zip(d);
            let cmyk = pixels
                .flat_map(|(((c, m), y), k)| [*c, *m, *y, *k].map(|value| ink(value, inverted)));
            (cmyk.collect(), Channels::Cmyk)
        }
        (planes, _) => (planes.first().cloned().unwrap_or_default(), Channels::Grey),
    }
}

fn sentence(why: JpegError) -> ThumbnailError {
    ThumbnailError(format!("The JPEG picture cannot be decoded: {why}."))
}
