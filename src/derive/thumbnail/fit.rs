//! From decoded pixels to an upright picture of exactly the size that was asked for.

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::decode::Decoded;

/// What lies behind transparent pixels.
const BACKGROUND: u8 = 255;

/// Scales the picture until it covers `width`×`height`, cut evenly at the longer side, upright.
pub(super) fn cover(decoded: Decoded, width: u16, height: u16) -> RgbImage {
    let (width, height) = (u32::from(width), u32::from(height));
    let Decoded {
        pixels,
        orientation,
    } = decoded;
    // Turning is done last, on the few pixels that are left, so the box is turned first.
    let (width, height) = if swaps_sides(orientation) {
        (height, width)
    } else {
        (width, height)
    };
    let (x, y, crop_width, crop_height) = centre(pixels.width(), pixels.height(), width, height);
    let cropped = imageops::crop_imm(&flat(pixels), x, y, crop_width, crop_height).to_image();
    let scaled = imageops::resize(&cropped, width, height, FilterType::Lanczos3);
    let mut upright = DynamicImage::ImageRgb8(scaled);
    upright.apply_orientation(orientation);
    upright.into_rgb8()
}

fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// The largest centred part of `width`×`height` with the proportions of the box: x, y, width,
/// height. At least one pixel each way.
fn centre(width: u32, height: u32, box_width: u32, box_height: u32) -> (u32, u32, u32, u32) {
    let wide = u64::from(width) * u64::from(box_height);
    let high = u64::from(height) * u64::from(box_width);
    let part =
        |whole: u64, by: u32| u32::try_from((whole / u64::from(by)).max(1)).unwrap_or(u32::MAX);
    if wide > high {
        let part = part(high, box_height).min(width);
        ((width - part) / 2, 0, part, height)
    } else {
        let part = part(wide, box_width).min(height);
        (0, (height - part) / 2, width, part)
    }
}

/// Eight bits a channel, without transparency.
fn flat(pixels: DynamicImage) -> RgbImage {
    if !pixels.color().has_alpha() {
        return pixels.into_rgb8();
    }
    let rgba = pixels.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, alpha] = from.0;
        to.0 = [r, g, b].map(|channel| over(channel, alpha));
    }
    rgb
}

fn over(channel: u8, alpha: u8) -> u8 {
    let alpha = u32::from(alpha);
    let mixed = u32::from(channel) * alpha + u32::from(BACKGROUND) * (255 - alpha);
    // At most 255 × 255, so the quotient fits.
    ((mixed + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_picture_loses_its_sides_evenly() {
        assert_eq!(centre(600, 300, 200, 300), (200, 0, 200, 300));
    }

    #[test]
    fn a_high_picture_loses_top_and_bottom_evenly() {
        assert_eq!(centre(200, 500, 200, 300), (0, 100, 200, 300));
    }

    #[test]
    fn a_line_of_pixels_keeps_at_least_one() {
        assert_eq!(centre(1, 10_000, 200, 300), (0, 4999, 1, 1));
        assert_eq!(centre(10_000, 1, 200, 300), (4999, 0, 1, 1));
    }
}
