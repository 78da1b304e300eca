//! A picture that shows which way up it is.
#![allow(dead_code)] // each test file uses a part of it

use image::{Rgb, RgbImage};

pub const RED: [u8; 3] = [220, 30, 30];
pub const GREEN: [u8; 3] = [30, 200, 30];
const BLUE: [u8; 3] = [30, 30, 220];
const YELLOW: [u8; 3] = [220, 220, 30];

/// Four quarters: red and green above, blue and yellow below.
pub fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => YELLOW,
        })
    })
}

#[track_caller]
pub fn assert_near(pixels: &RgbImage, x: u32, y: u32, want: [u8; 3]) {
    let got = pixels.get_pixel(x, y).0;
    let off = got.iter().zip(want).map(|(a, b)| a.abs_diff(b)).max();
    assert!(off <= Some(16), "at {x},{y}: {got:?}, not {want:?}");
}

/// Of its thumbnail.
#[track_caller]
pub fn assert_quarters(pixels: &RgbImage) {
    assert_eq!(pixels.dimensions(), (200, 300));
    assert_near(pixels, 50, 75, RED);
    assert_near(pixels, 150, 75, GREEN);
    assert_near(pixels, 50, 225, BLUE);
    assert_near(pixels, 150, 225, YELLOW);
}
