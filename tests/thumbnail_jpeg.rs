//! JPEG in all the ways that it is written, and cut short.

use std::time::{Duration, Instant};

use image::imageops::{self, FilterType};
use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use outboxfs::derive::thumbnail::{Fit, Format, Options, make};

/// Slopes, waves and an edge, in colour.
fn scene(width: u16, height: u16) -> RgbImage {
    RgbImage::from_fn(width.into(), height.into(), |x, y| {
        let (u, v) = (x as f32 / f32::from(width), y as f32 / f32::from(height));
        let wave = ((u * 37.0).sin() * (v * 23.0).cos() * 60.0) as i32;
        let edge = if u + v > 1.1 { 50 } else { 0 };
        let level = |slope: f32| ((slope * 150.0) as i32 + wave + edge + 40).clamp(0, 255) as u8;
        image::Rgb([level(u), level(v), level(1.0 - u)])
    })
}

fn encode(scene: &RgbImage, set: impl Fn(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    set(&mut encoder);
    let (width, height) = (scene.width() as u16, scene.height() as u16);
    encoder
        .encode(scene, width, height, ColorType::Rgb)
        .unwrap();
    bytes
}

fn pixels(jpeg: &[u8], width: u32, height: u32) -> RgbImage {
    let options = Options {
        width,
        height,
        format: Format::Png,
        ..Options::default()
    };
    let made = make(jpeg, &options).unwrap();
    image::load_from_memory_with_format(&made.bytes, ImageFormat::Png)
        .unwrap()
        .into_rgb8()
}

/// Peak signal to noise, decibels.
fn likeness(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let squares = a
        .iter()
        .zip(b.iter())
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    let mean = squares.sum::<f64>() / a.len() as f64;
    10.0 * (255.0f64.powi(2) / mean.max(1e-9)).log10()
}

/// The scene itself, scaled without any JPEG in between; proportions as the box's.
#[track_caller]
fn assert_like(jpeg: &[u8], scene: &RgbImage, width: u32, height: u32, decibels: f64) {
    let want = imageops::resize(scene, width, height, FilterType::Lanczos3);
    let got = likeness(&pixels(jpeg, width, height), &want);
    assert!(got > decibels, "{width}×{height}: {got:.1} dB");
}

#[test]
fn every_scale_looks_like_the_picture() {
    let scene = scene(640, 480);
    let baseline = encode(&scene, |encoder| {
        encoder.set_sampling_factor(SamplingFactor::F_2_2)
    });
    let progressive = encode(&scene, |encoder| encoder.set_progressive(true));
    for jpeg in [baseline, progressive] {
        for (width, height) in [
            (32, 24),
            (64, 48),
            (120, 90),
            (320, 240),
            (640, 480),
            (800, 600),
        ] {
            assert_like(&jpeg, &scene, width, height, 34.0);
        }
    }
}

#[test]
fn every_sampling_looks_like_the_picture() {
    // Sides that fill neither blocks nor units.
    let scene = scene(333, 222);
    for factor in [
        SamplingFactor::F_1_1,
        SamplingFactor::F_2_1,
        SamplingFactor::F_1_2,
        SamplingFactor::F_2_2,
        SamplingFactor::F_4_1,
    ] {
        for progressive in [false, true] {
            let jpeg = encode(&scene, |encoder| {
                encoder.set_sampling_factor(factor);
                encoder.set_progressive(progressive);
            });
            assert_like(&jpeg, &scene, 111, 74, 32.0);
            assert_like(&jpeg, &scene, 333, 222, 32.0);
        }
    }
}

#[test]
fn restart_markers_change_nothing() {
    let scene = scene(320, 240);
    for progressive in [false, true] {
        let jpeg = encode(&scene, |encoder| {
            encoder.set_restart_interval(7);
            encoder.set_progressive(progressive);
        });
        assert_like(&jpeg, &scene, 80, 60, 34.0);
        assert_like(&jpeg, &scene, 320, 240, 34.0);
    }
}

#[test]
fn tables_made_for_the_picture_are_read() {
    let scene = scene(320, 240);
    let jpeg = encode(&scene, |encoder| encoder.set_optimized_huffman_tables(true));
    assert_like(&jpeg, &scene, 80, 60, 34.0);
}

#[test]
fn coarse_progressive_files_are_refined() {
    let scene = scene(640, 480);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 30);
    encoder.set_progressive(true);
    encoder.set_progressive_scans(8);
    encoder.encode(&scene, 640, 480, ColorType::Rgb).unwrap();
    assert_like(&bytes, &scene, 80, 60, 30.0);
}

#[test]
fn grey_and_printers_colours_are_understood() {
    let scene = scene(320, 240);
    let grey = image::DynamicImage::from(scene.clone()).into_luma8();
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, 95)
        .encode(&grey, 320, 240, ColorType::Luma)
        .unwrap();
    assert_like(
        &bytes,
        &image::DynamicImage::from(grey).into_rgb8(),
        80,
        60,
        34.0,
    );

    // All of the ink that red, green and blue leave over, and no black.
    let inks: Vec<u8> = scene
        .pixels()
        .flat_map(|pixel| [255 - pixel[0], 255 - pixel[1], 255 - pixel[2], 0])
        .collect();
    for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes, 95)
            .encode(&inks, 320, 240, kind)
            .unwrap();
        assert_like(&bytes, &scene, 80, 60, 32.0);
    }
}

#[test]
fn a_profile_is_converted_to_srgb() {
    let red = RgbImage::from_pixel(32, 48, image::Rgb([200, 100, 100]));
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let jpeg = encode(&red, |encoder| encoder.add_icc_profile(&profile).unwrap());
    let [r, g, _] = pixels(&jpeg, 20, 30).get_pixel(10, 15).0;
    assert!(r > 205 && g < 99, "{r} {g}");
}

#[test]
fn light_is_averaged_where_that_is_asked_for() {
    let checks = RgbImage::from_fn(160, 160, |x, y| image::Rgb([((x + y) % 2 * 255) as u8; 3]));
    let jpeg = encode(&checks, |_| {});
    let middle = |linear| {
        let options = Options {
            width: 20,
            height: 20,
            format: Format::Png,
            linear,
            ..Options::default()
        };
        let made = make(&jpeg, &options).unwrap();
        let pixels = image::load_from_memory(&made.bytes).unwrap().into_rgb8();
        i32::from(pixels.get_pixel(10, 10)[0])
    };
    // Half the light of white is 188 of 255 in sRGB.
    assert!((middle(true) - 188).abs() < 4, "{}", middle(true));
    assert!((middle(false) - 128).abs() < 4, "{}", middle(false));
}

#[test]
fn a_jpeg_that_was_cut_short_is_an_error_at_any_length() {
    let scene = scene(320, 240);
    for progressive in [false, true] {
        let whole = encode(&scene, |encoder| encoder.set_progressive(progressive));
        for part in [3, 10, 50, 80, 99] {
            let sentence = make(&whole[..whole.len() * part / 100], &Options::default())
                .unwrap_err()
                .to_string();
            assert!(sentence.starts_with("The JPEG picture"), "{sentence}");
        }
    }
}

#[test]
fn what_follows_the_end_of_a_jpeg_does_not_count() {
    let scene = scene(64, 96);
    let mut jpeg = encode(&scene, |_| {});
    jpeg.extend_from_slice(&[0xff, 0xc0, 0, 3, 1]);
    assert_like(&jpeg, &scene, 64, 96, 34.0);
}

#[test]
fn a_jpeg_of_thousands_of_scans_is_given_up_at_once() {
    let whole = encode(&scene(320, 240), |encoder| encoder.set_progressive(true));
    let scan = whole
        .windows(2)
        .rposition(|two| two == [0xff, 0xda])
        .unwrap();
    let mut endless = whole[..scan].to_vec();
    for _ in 0..5000 {
        endless.extend_from_slice(&whole[scan..whole.len() - 2]);
    }
    endless.extend_from_slice(&[0xff, 0xd9]);
    let begun = Instant::now();
    let sentence = make(&endless, &Options::default()).unwrap_err().to_string();
    assert!(sentence.contains("scans"), "{sentence}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn contain_shows_all_on_the_background_and_inside_all_without() {
    let red = RgbImage::from_pixel(400, 200, image::Rgb([220, 30, 30]));
    let jpeg = encode(&red, |_| {});
    let made = |fit| {
        let options = Options {
            fit,
            format: Format::Png,
            background: [0, 0, 255],
            ..Options::default()
        };
        let made = make(&jpeg, &options).unwrap();
        image::load_from_memory(&made.bytes).unwrap().into_rgb8()
    };
    let contained = made(Fit::Contain);
    assert_eq!(contained.dimensions(), (200, 300));
    assert_eq!(contained.get_pixel(100, 20).0, [0, 0, 255]);
    assert!(contained.get_pixel(100, 150)[0] > 200);
    assert_eq!(made(Fit::Inside).dimensions(), (200, 100));
}
