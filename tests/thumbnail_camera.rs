//! Camera files show the preview that the camera put into them, upright.

use image::{ImageFormat, Rgb, RgbImage};
use jpeg_encoder::{ColorType, Encoder};
use outboxfs::derive::thumbnail::{Options, is_picture, make};

const RED: Rgb<u8> = Rgb([220, 30, 30]);
const BLUE: Rgb<u8> = Rgb([30, 30, 220]);

/// Red on the left, blue on the right.
fn preview(width: u16, height: u16) -> Vec<u8> {
    let pixels = RgbImage::from_fn(width.into(), height.into(), |x, _| {
        if x < u32::from(width) / 2 { RED } else { BLUE }
    });
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, 90)
        .encode(&pixels, width, height, ColorType::Rgb)
        .unwrap();
    jpeg
}

/// A directory entry of one 32-bit number.
fn entry(tag: u16, number: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&tag.to_le_bytes());
    bytes[2..4].copy_from_slice(&4u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn directory(entries: &[[u8; 12]], next: u32) -> Vec<u8> {
    let mut bytes = (entries.len() as u16).to_le_bytes().to_vec();
    bytes.extend(entries.concat());
    bytes.extend(next.to_le_bytes());
    bytes
}

/// Two directories: the first says that the camera was held upright (6, a quarter turn), the second,
/// below it, holds pixels packed the camera's way. `place` says where the preview is.
fn tiff_like(magic: &[u8; 4], jpeg: &[u8], place: impl Fn(u32, u32) -> Vec<[u8; 12]>) -> Vec<u8> {
    const PIXELS: u32 = 200;
    const PREVIEW: u32 = 300;
    let mut entries = vec![entry(0x0112, 6), entry(0x014a, PIXELS)];
    entries.extend(place(PREVIEW, jpeg.len() as u32));
    let mut file = magic.to_vec();
    file.extend(16u32.to_le_bytes());
    file.resize(16, 0);
    file.extend(directory(&entries, 0));
    file.resize(PIXELS as usize, 0);
    // A colour filter array, which no ordinary TIFF has.
    file.extend(directory(&[entry(0x0106, 32803), entry(0x0103, 34713)], 0));
    file.resize(PREVIEW as usize, 0);
    file.extend(jpeg);
    file
}

fn by_interchange(at: u32, length: u32) -> Vec<[u8; 12]> {
    vec![entry(0x0201, at), entry(0x0202, length)]
}

fn by_strip(at: u32, length: u32) -> Vec<[u8; 12]> {
    vec![entry(0x0103, 6), entry(0x0111, at), entry(0x0117, length)]
}

fn nowhere(_: u32, _: u32) -> Vec<[u8; 12]> {
    Vec::new()
}

fn made(file: &[u8]) -> RgbImage {
    assert!(is_picture(&file[..64]));
    let made = make(file, &Options::default()).unwrap();
    image::load_from_memory_with_format(&made.bytes, ImageFormat::Jpeg)
        .unwrap()
        .into_rgb8()
}

#[track_caller]
fn assert_near(pixels: &RgbImage, x: u32, y: u32, want: Rgb<u8>) {
    let got = pixels.get_pixel(x, y);
    let off = got.0.iter().zip(want.0).map(|(a, b)| a.abs_diff(b)).max();
    assert!(off <= Some(16), "at {x},{y}: {got:?}, not {want:?}");
}

/// The left, turned a quarter clockwise, is above.
#[track_caller]
fn assert_turned(file: &[u8]) {
    let pixels = made(file);
    assert_near(&pixels, 100, 50, RED);
    assert_near(&pixels, 100, 250, BLUE);
}

#[test]
fn tiff_like_camera_files_show_their_preview_upright() {
    let jpeg = preview(480, 320);
    // NEF, ARW, DNG and PEF look like TIFF; the others say what they are.
    for magic in [b"II\x2a\0", b"IIRO", b"IIRS", b"IIU\0"] {
        assert_turned(&tiff_like(magic, &jpeg, by_interchange));
    }
    let mut cr2 = tiff_like(b"II\x2a\0", &jpeg, by_strip);
    cr2[8..10].copy_from_slice(b"CR");
    assert_turned(&cr2);
}

#[test]
fn the_largest_preview_is_shown() {
    let small = preview(16, 12);
    let green = RgbImage::from_pixel(300, 450, Rgb([30, 200, 30]));
    let mut large = Vec::new();
    Encoder::new(&mut large, 95)
        .encode(&green, 300, 450, ColorType::Rgb)
        .unwrap();
    let mut file = tiff_like(b"II\x2a\0", &small, nowhere);
    file.extend(&large);
    assert_near(&made(&file), 100, 50, Rgb([30, 200, 30]));
}

#[test]
fn a_preview_that_the_directories_do_not_tell_of_is_found() {
    assert_turned(&tiff_like(b"IIRO", &preview(480, 320), nowhere));
}

#[test]
fn fujifilm_files_show_their_preview() {
    let jpeg = preview(480, 320);
    let mut file = b"FUJIFILMCCD-RAW 0201".to_vec();
    file.resize(84, 0);
    file.extend(148u32.to_be_bytes());
    file.extend((jpeg.len() as u32).to_be_bytes());
    file.resize(148, 0);
    file.extend(&jpeg);
    file.extend([0; 500]);
    let pixels = made(&file);
    assert_near(&pixels, 50, 150, RED);
    assert_near(&pixels, 150, 150, BLUE);
}

#[test]
fn canon_cr3_files_show_their_preview_upright() {
    fn wrap(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(body);
        bytes
    }
    let mut tiff = b"II\x2a\0\x08\0\0\0".to_vec();
    tiff.extend(directory(&[entry(0x0112, 6)], 0));
    let mut notes = vec![7; 16];
    notes.extend(wrap(b"CMT1", &tiff));
    let mut file = wrap(b"ftyp", b"crx \0\0\0\x01crx isom");
    file.extend(wrap(b"moov", &wrap(b"uuid", &notes)));
    file.extend(wrap(b"mdat", &preview(480, 320)));
    assert_turned(&file);
}

#[test]
fn a_camera_file_without_a_preview_says_so() {
    let file = tiff_like(b"II\x2a\0", b"", nowhere);
    let sentence = make(&file, &Options::default()).unwrap_err().to_string();
    assert_eq!(sentence, "The camera file holds no JPEG preview.");
}

#[test]
fn directories_that_point_in_circles_end() {
    let mut file = b"IIRO\x08\0\0\0".to_vec();
    file.extend(directory(&[entry(0x014a, 8), entry(0x8769, 8)], 8));
    file.resize(100, 0);
    assert!(make(&file, &Options::default()).is_err());
}

#[test]
fn a_heic_picture_is_recognised_and_its_absence_from_the_build_said() {
    let file = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    assert!(is_picture(file));
    let sentence = make(file, &Options::default()).unwrap_err().to_string();
    assert!(sentence.contains("HEIC"), "{sentence}");
}
