//! From a file's colours to sRGB.

use image::RgbImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::ThumbnailError;

/// Pixels of eight bits a channel, as the file means them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    Rgb,
    Rgba,
    /// 255 is all of the ink.
    Cmyk,
}

impl Channels {
    pub(super) fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// Converts pixels to sRGB by their profile, where they have one that fits them, and lays
/// transparent ones on `background`.
pub(super) fn to_srgb(
    pixels: &[u8],
    channels: Channels,
    (width, height): (u32, u32),
    icc: Option<&[u8]>,
    background: [u8; 3],
) -> Result<RgbImage, ThumbnailError> {
    let colors = icc
        .and_then(|icc| by_profile(pixels, channels, icc))
        .unwrap_or_else(|| without_profile(pixels, channels));
    let rgb = match channels {
        Channels::Rgba => flatten(colors, pixels.iter().skip(3).step_by(4), background),
        _ => colors,
    };
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| ThumbnailError("The picture's pixels do not fill its size.".into()))
}

/// Red, green and blue by the ICC profile; `None` where it is damaged or for other colours, as then
/// the numbers alone are the better guess.
fn by_profile(pixels: &[u8], channels: Channels, icc: &[u8]) -> Option<Vec<u8>> {
    let profile = ColorProfile::new_from_slice(icc).ok()?;
    let (layout, space) = match channels {
        Channels::Grey => (Layout::Gray, DataColorSpace::Gray),
        Channels::Rgb | Channels::Rgba => (Layout::Rgb, DataColorSpace::Rgb),
        Channels::Cmyk => (Layout::Rgba, DataColorSpace::Cmyk),
    };
    if profile.color_space != space {
        return None;
    }
    let opaque: Vec<u8> = match channels {
        Channels::Rgba => colors_of_rgba(pixels),
        _ => pixels.to_vec(),
    };
    let mut rgb = vec![0; pixels.len() / channels.count() * 3];
    profile
        .create_transform_8bit(
            layout,
            &ColorProfile::new_srgb(),
            Layout::Rgb,
            TransformOptions::default(),
        )
        .ok()?
        .transform(&opaque, &mut rgb)
        .ok()?;
    Some(rgb)
}

fn without_profile(pixels: &[u8], channels: Channels) -> Vec<u8> {
    match channels {
        Channels::Grey => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        Channels::Rgb => pixels.to_vec(),
        Channels::Rgba => colors_of_rgba(pixels),
        Channels::Cmyk => {
            let through = |ink: u8, black: u8| mix(255 - ink, 255 - black);
            pixels
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|[c, m, y, k]| [through(*c, *k), through(*m, *k), through(*y, *k)])
                .collect()
        }
    }
}

fn colors_of_rgba(pixels: &[u8]) -> Vec<u8> {
    pixels
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|[r, g, b, _]| [*r, *g, *b])
        .collect()
}

fn flatten<'a>(
    mut rgb: Vec<u8>,
    alphas: impl Iterator<Item = &'a u8>,
    background: [u8; 3],
) -> Vec<u8> {
    for (color, alpha) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(alphas) {
        for (channel, behind) in color.iter_mut().zip(background) {
            *channel = mix(*channel, *alpha).saturating_add(mix(behind, 255 - alpha));
        }
    }
    rgb
}

/// The product of two parts of 255.
fn mix(a: u8, b: u8) -> u8 {
    // At most 255 × 255 + 127, so the quotient fits.
    ((u32::from(a) * u32::from(b) + 127) / 255) as u8
}

/// Red, green and blue from brightness and colour differences (ITU-T T.871).
pub(super) fn from_ycbcr(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    // The casts saturate at 0 and 255.
    [
        (y + 1.402 * cr + 0.5) as u8,
        (y - 0.344_136 * cb - 0.714_136 * cr + 0.5) as u8,
        (y + 1.772 * cb + 0.5) as u8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_pixels_show_the_background_exactly() {
        let rgba = [10, 20, 30, 255, 10, 20, 30, 0];
        let rgb = to_srgb(&rgba, Channels::Rgba, (2, 1), None, [250, 251, 255]).unwrap();
        assert_eq!(rgb.into_raw(), [10, 20, 30, 250, 251, 255]);
    }

    #[test]
    fn a_profile_for_other_colours_is_passed_over() {
        let profile = ColorProfile::new_srgb().encode().unwrap();
        let grey = to_srgb(&[77], Channels::Grey, (1, 1), Some(&profile), [0; 3]).unwrap();
        assert_eq!(grey.into_raw(), [77; 3]);
    }

    #[test]
    fn a_wide_gamut_is_converted() {
        let profile = ColorProfile::new_display_p3().encode().unwrap();
        let rgb = to_srgb(
            &[200, 100, 100],
            Channels::Rgb,
            (1, 1),
            Some(&profile),
            [0; 3],
        )
        .unwrap();
        let [red, green, _] = rgb.get_pixel(0, 0).0;
        assert!(red > 205 && green < 100, "{red} {green}");
    }
}
