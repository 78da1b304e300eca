//! Of several frames or pages the first one counts, however many follow; and TIFF as it is held.

use image::codecs::webp::WebPEncoder;
use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
use image::{ImageFormat, Rgb, RgbImage};
use outboxfs::derive::thumbnail::{Options, is_picture, make};

const RED: [u8; 3] = [220, 30, 30];
const GREEN: [u8; 3] = [30, 200, 30];

fn thumbnail(file: &[u8]) -> RgbImage {
    assert!(is_picture(&file[..64]));
    let made = make(file, &Options::default()).unwrap();
    let jpeg = image::load_from_memory_with_format(&made.bytes, ImageFormat::Jpeg);
    jpeg.unwrap().into_rgb8()
}

#[track_caller]
fn assert_near(pixels: &RgbImage, x: u32, y: u32, want: [u8; 3]) {
    let got = pixels.get_pixel(x, y).0;
    let off = got.iter().zip(want).map(|(a, b)| a.abs_diff(b)).max();
    assert!(off <= Some(16), "at {x},{y}: {got:?}, not {want:?}");
}

/// Uncompressed pages, each with its orientation.
fn tiff(pages: &[(&RgbImage, u16)]) -> Vec<u8> {
    let mut file = b"II*\0".to_vec();
    let mut link = file.len();
    file.extend([0; 4]);
    for (page, orientation) in pages {
        let pixels = file.len() as u32;
        file.extend(page.as_raw());
        let bits = file.len() as u32;
        file.extend([8, 0, 8, 0, 8, 0]);
        file.resize(file.len().next_multiple_of(2), 0);
        let directory = file.len() as u32;
        file[link..link + 4].copy_from_slice(&directory.to_le_bytes());
        let entries: [(u16, u16, u32, u32); 10] = [
            (256, 4, 1, page.width()),
            (257, 4, 1, page.height()),
            (258, 3, 3, bits),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (273, 4, 1, pixels),
            (274, 3, 1, u32::from(*orientation)),
            (277, 3, 1, 3),
            (278, 4, 1, page.height()),
            (279, 4, 1, page.as_raw().len() as u32),
        ];
        file.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        link = file.len();
        file.extend([0; 4]);
    }
    file
}

/// One page of one row, which a palette colours; `bits` a pixel, numbers big-endian.
fn palette_tiff(bits: u16, pixels: &[u8], width: u32, colors: &[[u8; 3]]) -> Vec<u8> {
    let mut file = b"MM\0*\0\0\0\0".to_vec();
    let map = file.len() as u32;
    let count = 1usize << bits;
    for channel in 0..3 {
        for index in 0..count {
            let color = colors.get(index).unwrap_or(&[0; 3]);
            file.extend([color[channel]; 2]);
        }
    }
    let data = file.len() as u32;
    file.extend(pixels);
    file.resize(file.len().next_multiple_of(2), 0);
    let directory = file.len() as u32;
    file[4..8].copy_from_slice(&directory.to_be_bytes());
    let short = |value: u32| value << 16;
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, 4, 1, width),
        (257, 4, 1, 1),
        (258, 3, 1, short(bits.into())),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(3)),
        (273, 4, 1, data),
        (278, 4, 1, 1),
        (279, 4, 1, pixels.len() as u32),
        (320, 3, 3 * count as u32, map),
    ];
    file.extend((entries.len() as u16).to_be_bytes());
    for (tag, kind, count, value) in entries {
        file.extend(tag.to_be_bytes());
        file.extend(kind.to_be_bytes());
        file.extend(count.to_be_bytes());
        file.extend(value.to_be_bytes());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn a_tiff_with_a_palette_has_its_colours() {
    let eight = palette_tiff(8, &[2, 2, 1, 1], 4, &[[0; 3], RED, GREEN]);
    let one = palette_tiff(1, &[0b1100_0000], 4, &[RED, GREEN]);
    let options: Options = "40x10".parse().unwrap();
    for file in [eight, one] {
        let made = make(&file, &options).unwrap();
        let jpeg = image::load_from_memory_with_format(&made.bytes, ImageFormat::Jpeg);
        let pixels = jpeg.unwrap().into_rgb8();
        assert_near(&pixels, 3, 5, GREEN);
        assert_near(&pixels, 36, 5, RED);
    }
}

/// Red above, green below.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |_, y| {
        Rgb(if y < height / 2 { RED } else { GREEN })
    })
}

#[test]
fn all_eight_orientations_of_a_tiff_come_out_upright() {
    let upright = halves(60, 90);
    let held = [
        upright.clone(),
        flip_horizontal(&upright),
        rotate180(&upright),
        flip_vertical(&upright),
        flip_horizontal(&rotate90(&upright)),
        rotate270(&upright),
        flip_horizontal(&rotate270(&upright)),
        rotate90(&upright),
    ];
    for (held, orientation) in held.iter().zip(1..) {
        let pixels = thumbnail(&tiff(&[(held, orientation)]));
        assert_near(&pixels, 100, 50, RED);
        assert_near(&pixels, 100, 250, GREEN);
    }
}

#[test]
fn the_first_page_of_a_tiff_counts() {
    let (first, second) = (halves(60, 90), RgbImage::from_pixel(9, 9, Rgb([0; 3])));
    let mut pages = vec![(&first, 1)];
    pages.extend([(&second, 1); 500]);
    let pixels = thumbnail(&tiff(&pages));
    assert_near(&pixels, 100, 50, RED);
    assert_near(&pixels, 100, 250, GREEN);
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

/// Frames of 20×30 pixels (RFC 9649, 2.7.1).
fn animated_webp(colors: &[[u8; 3]]) -> Vec<u8> {
    let size = [19, 0, 0, 29, 0, 0];
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[&[2, 0, 0, 0], &size[..]].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for color in colors {
        let mut still = Vec::new();
        RgbImage::from_pixel(20, 30, Rgb(*color))
            .write_with_encoder(WebPEncoder::new_lossless(&mut still))
            .unwrap();
        let frame = [&[0; 6], &size[..], &[40, 0, 0, 0], &still[12..]].concat();
        body.extend(chunk(b"ANMF", &frame));
    }
    chunk(b"RIFF", &body)
}

#[test]
fn the_first_frame_of_a_webp_counts() {
    let pixels = thumbnail(&animated_webp(&[GREEN, RED, RED]));
    assert_near(&pixels, 100, 150, GREEN);
}

#[test]
fn an_endless_gif_takes_no_longer_than_its_first_frame() {
    let mut file = b"GIF89a\x14\0\x1e\0\x80\0\0".to_vec();
    file.extend([GREEN, RED].concat());
    let frame = |index: u8| {
        let mut bytes = vec![0x2c, 0, 0, 0, 0, 20, 0, 30, 0, 0, 2];
        // Without compression: a clear code before each pixel, three bits each.
        let codes = (0..600).flat_map(|_| [4, index]).chain([5]);
        let bits: Vec<bool> = codes
            .flat_map(|code| (0..3).map(move |bit| code >> bit & 1 == 1))
            .collect();
        let coded: Vec<u8> = bits
            .chunks(8)
            .map(|bits| {
                bits.iter()
                    .rev()
                    .fold(0, |byte, bit| byte << 1 | u8::from(*bit))
            })
            .collect();
        for block in coded.chunks(255) {
            bytes.push(block.len() as u8);
            bytes.extend(block);
        }
        bytes.push(0);
        bytes
    };
    file.extend(frame(0));
    let again = frame(1);
    for _ in 0..20_000 {
        file.extend(&again);
    }
    let begun = std::time::Instant::now();
    assert_near(&thumbnail(&file), 100, 150, GREEN);
    // All of them would take seconds.
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
}
