//! Thumbnails of the pictures that cameras, editors and vandals make.

#[path = "support/quarters.rs"]
mod quarters;

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{
    DynamicImage, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage, Rgba,
    RgbaImage,
};
use outboxfs::derive::thumbnail::{Limits, Options, is_picture, make, make_all};
use quarters::{GREEN, RED, assert_near, assert_quarters, quarters};

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn thumbnail(bytes: &[u8]) -> RgbImage {
    assert!(is_picture(&bytes[..bytes.len().min(64)]));
    let made = make(bytes, &Options::default()).unwrap();
    let pixels = image::load_from_memory_with_format(&made.bytes, ImageFormat::Jpeg)
        .unwrap()
        .into_rgb8();
    assert_eq!(pixels.dimensions(), (made.width, made.height));
    pixels
}

fn refusal(bytes: &[u8]) -> String {
    let sentence = make(bytes, &Options::default()).unwrap_err().to_string();
    assert!(
        sentence.ends_with('.') && !sentence.contains('\n'),
        "{sentence}"
    );
    sentence
}

/// A TIFF block with nothing in it but the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

/// The picture as a camera stores it that was held so that `orientation` makes it upright.
fn as_held(upright: &RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        1 => upright.clone(),
        2 => flip_horizontal(upright),
        3 => rotate180(upright),
        4 => flip_vertical(upright),
        5 => flip_horizontal(&rotate90(upright)),
        6 => rotate270(upright),
        7 => flip_horizontal(&rotate270(upright)),
        8 => rotate90(upright),
        _ => unreachable!(),
    }
}

#[test]
fn every_format_is_filled_and_centre_cropped() {
    let picture = DynamicImage::from(quarters(640, 480));
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        assert_quarters(&thumbnail(&encode(&picture, format)));
    }
}

/// `store` writes a picture and its EXIF block in a format.
fn assert_upright(store: impl Fn(&RgbImage, Vec<u8>) -> Vec<u8>) {
    for orientation in 1..=8 {
        let held = as_held(&quarters(640, 480), orientation);
        let bytes = store(&held, exif(orientation));
        assert_quarters(&thumbnail(&bytes));
        let made = make(&bytes, &Options::default()).unwrap();
        assert_eq!(made.picture, (640, 480));
    }
}

#[test]
fn all_eight_orientations_of_a_jpeg_come_out_upright() {
    assert_upright(|held, exif| {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.encode_image(held).unwrap();
        bytes
    });
}

#[test]
fn all_eight_orientations_of_a_png_come_out_upright() {
    assert_upright(|held, exif| {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif).unwrap();
        held.write_with_encoder(encoder).unwrap();
        bytes
    });
}

#[test]
fn all_eight_orientations_of_a_webp_come_out_upright() {
    assert_upright(|held, exif| {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
        encoder.set_exif_metadata(exif).unwrap();
        held.write_with_encoder(encoder).unwrap();
        bytes
    });
}

#[test]
fn a_picture_smaller_than_its_thumbnail_is_scaled_up_to_fill_it() {
    let tiny = DynamicImage::from(quarters(8, 12));
    assert_quarters(&thumbnail(&encode(&tiny, ImageFormat::Png)));
    let dot = DynamicImage::from(RgbImage::from_pixel(1, 1, Rgb(GREEN)));
    let pixels = thumbnail(&encode(&dot, ImageFormat::Png));
    assert_near(&pixels, 0, 0, GREEN);
    assert_near(&pixels, 199, 299, GREEN);
}

#[test]
fn a_long_thin_picture_shows_its_middle() {
    let line = RgbImage::from_fn(3001, 2, |x, _| Rgb(if x == 1500 { GREEN } else { RED }));
    let pixels = thumbnail(&encode(&DynamicImage::from(line), ImageFormat::Png));
    assert_near(&pixels, 100, 150, GREEN);
}

#[test]
fn transparency_lies_on_white() {
    let clear = RgbaImage::from_fn(40, 60, |_, y| {
        Rgba([220, 30, 30, if y < 30 { 0 } else { 255 }])
    });
    let pixels = thumbnail(&encode(&DynamicImage::from(clear), ImageFormat::Png));
    assert_near(&pixels, 100, 50, [255, 255, 255]);
    assert_near(&pixels, 100, 250, RED);
}

#[test]
fn grey_and_sixteen_bit_pictures_keep_their_shades() {
    let grey = GrayImage::from_pixel(40, 60, Luma([100]));
    let pixels = thumbnail(&encode(&DynamicImage::from(grey.clone()), ImageFormat::Png));
    assert_near(&pixels, 100, 150, [100, 100, 100]);
    let pixels = thumbnail(&encode(&DynamicImage::from(grey), ImageFormat::Jpeg));
    assert_near(&pixels, 100, 150, [100, 100, 100]);

    let deep = ImageBuffer::from_pixel(40, 60, Rgb([100u16 * 257, 200 * 257, 50 * 257]));
    let deep = DynamicImage::ImageRgb16(deep);
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        assert_near(&thumbnail(&encode(&deep, format)), 100, 150, [100, 200, 50]);
    }
}

#[test]
fn a_palette_with_a_transparent_entry_is_understood() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 3);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette([220, 30, 30, 30, 30, 220].as_slice());
    encoder.set_trns([255, 0].as_slice());
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0, 0, 0, 0, 1, 1]).unwrap();
    writer.finish().unwrap();
    let pixels = thumbnail(&bytes);
    assert_near(&pixels, 100, 20, RED);
    assert_near(&pixels, 100, 290, [255, 255, 255]);
}

#[test]
fn the_first_frame_of_an_animation_counts() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for color in [GREEN, RED] {
            let [r, g, b] = color;
            let frame = RgbaImage::from_pixel(20, 30, Rgba([r, g, b, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    assert_near(&thumbnail(&bytes), 100, 150, GREEN);
}

#[test]
fn the_thumbnail_is_a_jpeg_with_halved_colour_and_no_metadata() {
    let picture = DynamicImage::from(quarters(640, 480));
    let made = make(&encode(&picture, ImageFormat::Png), &Options::default()).unwrap();
    let jpeg = made.bytes;
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    // Three components; the first sampled 2×2, the others 1×1.
    assert_eq!(jpeg[frame + 9], 3);
    assert_eq!(
        (jpeg[frame + 11], jpeg[frame + 14], jpeg[frame + 17]),
        (0x22, 0x11, 0x11)
    );
    assert!(!jpeg.windows(4).any(|four| four == b"Exif"));
}

#[test]
fn a_file_that_is_no_picture_is_told_apart() {
    for bytes in [
        b"".as_slice(),
        b"BM25 is a ranking",
        b"plain text",
        b"%PDF-1.7\n",
        b"GIF",
    ] {
        assert!(!is_picture(bytes));
        assert!(refusal(bytes).contains("not a picture"));
    }
}

#[test]
fn a_truncated_picture_is_an_error() {
    let picture = DynamicImage::from(quarters(640, 480));
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let bytes = encode(&picture, format);
        let sentence = refusal(&bytes[..bytes.len() / 2]);
        assert!(sentence.contains("cannot be decoded"), "{sentence}");
    }
}

#[test]
fn a_png_that_begins_with_noise_is_refused_in_words() {
    let mut png = encode(&DynamicImage::from(quarters(16, 16)), ImageFormat::Png);
    png[12..16].copy_from_slice(&[0xf4, 0xa8, 0x81, 0xe1]);
    let sentence = refusal(&png);
    assert!(sentence.contains("cannot be decoded"), "{sentence}");
    assert!(!sentence.contains(['{', '}']), "{sentence}");
    assert!(sentence.is_ascii(), "{sentence}");
}

#[test]
fn a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded() {
    let mut jpeg = encode(&DynamicImage::from(quarters(16, 16)), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let sentence = refusal(&jpeg);
    assert!(sentence.contains("65535×65535 pixels"), "{sentence}");

    let mut bmp = encode(&DynamicImage::from(quarters(16, 16)), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    refusal(&bmp);
}

#[test]
fn a_picture_that_needs_too_much_memory_is_refused() {
    let limits = Limits {
        max_memory: 100_000,
        ..Limits::default()
    };
    let bytes = encode(&DynamicImage::from(quarters(640, 480)), ImageFormat::Png);
    let made = make_all(&bytes, &[Options::default()], &limits, None);
    let sentence = made.unwrap_err().to_string();
    assert!(sentence.contains("memory"), "{sentence}");
}

#[test]
fn a_picture_that_takes_too_long_is_given_up() {
    let limits = Limits {
        max_time: std::time::Duration::ZERO,
        ..Limits::default()
    };
    // Noise, so that there is something to read.
    let mut random = fastrand::Rng::with_seed(7);
    let noise = RgbImage::from_fn(700, 700, |_, _| {
        Rgb([random.u8(..), random.u8(..), random.u8(..)])
    });
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp] {
        let bytes = encode(&DynamicImage::from(noise.clone()), format);
        let made = make_all(&bytes, &[Options::default()], &limits, None);
        let sentence = made.unwrap_err().to_string();
        assert!(sentence.contains("longer than the limit"), "{sentence}");
    }
}

#[test]
fn several_sizes_are_made_of_one_picture() {
    let wanted: Vec<Options> = ["64x48", "10x10,format=png", "300x200,fit=inside,linear"]
        .map(|spec| spec.parse().unwrap())
        .into();
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let bytes = encode(&DynamicImage::from(quarters(640, 480)), format);
        let made = make_all(&bytes, &wanted, &Limits::default(), None).unwrap();
        let sizes: Vec<_> = made.iter().map(|made| (made.width, made.height)).collect();
        assert_eq!(sizes, [(64, 48), (10, 10), (267, 200)]);
        // Each is what it is when it is the only one.
        for (options, made) in wanted.iter().zip(&made) {
            assert_eq!(make(&bytes, options).unwrap().bytes, made.bytes);
        }
    }
}

/// Every cut and many single-byte changes of a small file: an answer or a sentence, never a panic.
#[test]
fn damage_anywhere_never_panics() {
    let picture = DynamicImage::from(quarters(24, 16));
    // Small, so that the time goes into decoding.
    let options = Options {
        width: 8,
        height: 8,
        ..Options::default()
    };
    let limits = Limits {
        max_pixels: 100_000,
        ..Limits::default()
    };
    let make = |bytes: &[u8]| make_all(bytes, std::slice::from_ref(&options), &limits, None);
    let mut random = fastrand::Rng::with_seed(7);
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let whole = encode(&picture, format);
        for _ in 0..60 {
            let mut bytes = whole.clone();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            let _ = make(&bytes);
            let _ = make(&whole[..at]);
        }
    }
}

#[test]
fn the_size_and_quality_asked_for_are_honoured() {
    let bytes = encode(&DynamicImage::from(quarters(300, 300)), ImageFormat::Jpeg);
    let size = |quality| {
        let options = Options {
            width: 64,
            height: 48,
            quality,
            ..Options::default()
        };
        let made = make(&bytes, &options).unwrap();
        assert_eq!((made.width, made.height), (64, 48));
        made.bytes.len()
    };
    assert!(size(95) > size(20));
}

#[test]
#[cfg(feature = "webp")]
fn a_build_with_webp_writes_it() {
    let options: Options = "60x40,format=webp,quality=70".parse().unwrap();
    let png = encode(&DynamicImage::from(quarters(90, 60)), ImageFormat::Png);
    let made = make(&png, &options).unwrap();
    let pixels = image::load_from_memory_with_format(&made.bytes, ImageFormat::WebP);
    assert_eq!(pixels.unwrap().into_rgb8().dimensions(), (60, 40));
}

#[test]
#[cfg(feature = "avif")]
fn a_build_with_avif_writes_it() {
    let options: Options = "60x40,format=avif,quality=70".parse().unwrap();
    let png = encode(&DynamicImage::from(quarters(90, 60)), ImageFormat::Png);
    let made = make(&png, &options).unwrap();
    assert_eq!(&made.bytes[4..12], b"ftypavif");
}
