//! C libraries decode in a process of their own: what it gives, what it may not, and what happens
//! when it dies.

#[path = "support/quarters.rs"]
mod quarters;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use image::codecs::webp::WebPEncoder;
use image::{ImageEncoder, ImageFormat, RgbImage};
use outboxfs::derive::thumbnail::{Helper, Limits, Options, ThumbnailError, make_all};
use quarters::{assert_quarters, quarters};

fn helper() -> Helper {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_outboxfs"));
    Helper::new(program, &Limits::default())
}

fn pixels(picture: &[u8], helper: &mut Helper) -> Result<RgbImage, ThumbnailError> {
    let wanted = [Options::default()];
    let made = make_all(picture, &wanted, &Limits::default(), Some(helper))?;
    let jpeg = image::load_from_memory_with_format(&made[0].bytes, ImageFormat::Jpeg);
    Ok(jpeg.unwrap().into_rgb8())
}

fn webp(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    picture.write_with_encoder(encoder).unwrap();
    bytes
}

/// A program that does what `commands` say instead of decoding.
fn impostor(folder: &Path, commands: &str) -> Helper {
    let program = folder.join("impostor");
    fs::write(&program, format!("#!/bin/sh\n{commands}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Helper::new(program, &Limits::default())
}

#[test]
#[cfg(feature = "webp")]
fn webp_is_decoded_by_libwebp() {
    let mut helper = helper();
    // One process after another picture, of any size.
    for (width, height) in [(640, 480), (3000, 2000), (8, 12), (640, 480)] {
        let picture = webp(&quarters(width, height));
        assert_quarters(&pixels(&picture, &mut helper).unwrap());
    }
    let wanted = [Options::default()];
    let made = make_all(
        &webp(&quarters(3000, 2000)),
        &wanted,
        &Limits::default(),
        Some(&mut helper),
    );
    assert_eq!(made.unwrap()[0].picture, (3000, 2000));
}

#[test]
#[cfg(feature = "webp")]
fn a_webp_that_was_turned_comes_out_upright() {
    // A TIFF block with nothing in it but the orientation: a quarter turn.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let held = image::imageops::rotate270(&quarters(640, 480));
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    held.write_with_encoder(encoder).unwrap();
    assert_quarters(&pixels(&bytes, &mut helper()).unwrap());
}

#[test]
#[cfg(feature = "webp")]
fn a_webp_that_was_cut_short_is_an_error_and_the_next_one_is_decoded() {
    let mut helper = helper();
    let whole = webp(&quarters(640, 480));
    let error = pixels(&whole[..whole.len() / 2], &mut helper).unwrap_err();
    assert!(error.0.starts_with("The WebP picture"), "{error}");
    assert_quarters(&pixels(&whole, &mut helper).unwrap());
}

#[test]
#[cfg(feature = "webp")]
fn a_decoder_that_crashes_costs_its_picture_only() {
    let folder = tempfile::tempdir().unwrap();
    let picture = webp(&quarters(64, 48));
    for (commands, why) in [
        ("kill -SEGV $$", "crashed (signal 11)"),
        ("kill -XCPU $$", "longer than the limit"),
        ("kill -ALRM $$", "longer than the limit"),
        (
            "head -c 1000 /dev/zero | tr '\\0' '\\377'",
            "without an answer",
        ),
        ("exit 3", "without an answer"),
    ] {
        let mut helper = impostor(folder.path(), commands);
        for _ in 0..2 {
            let error = pixels(&picture, &mut helper).unwrap_err().0;
            assert!(error.contains(why), "{commands}: {error}");
            assert!(error.ends_with('.') && !error.contains('\n'), "{error}");
        }
    }
}

#[test]
fn a_program_that_is_not_there_is_said() {
    #[cfg(feature = "webp")]
    {
        let mut helper = Helper::new("/nowhere/outboxfs".into(), &Limits::default());
        let error = pixels(&webp(&quarters(64, 48)), &mut helper).unwrap_err();
        assert!(error.0.contains("cannot be started"), "{error}");
    }
}

#[test]
#[cfg(feature = "webp")]
fn the_process_has_no_rights_and_no_descriptors() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    let mut child = Command::new(env!("CARGO_BIN_EXE_outboxfs"))
        .args(["decode", "1000000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    // What is no WebP, in the words of `wire`: library, size, limits, length.
    for number in [1u64, 1, 1, 100, 10, 4] {
        to.write_all(&number.to_le_bytes()).unwrap();
    }
    to.write_all(b"none").unwrap();
    // Its answer means that it is ready, and so confined.
    let mut answer = [0; 8];
    let mut from = child.stdout.take().unwrap();
    from.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0; 8]);
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(fs::read_dir(process.join("fd")).unwrap().count(), 3);
    drop(to);
    assert!(child.wait().unwrap().success());
}

#[test]
#[cfg(feature = "webp")]
fn the_process_has_no_environment() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let commands = format!("tr '\\0' '\\n' </proc/$$/environ >{}", told.display());
    let commands = format!("PATH=/usr/bin:/bin\n{commands}\nexit 3");
    let mut helper = impostor(folder.path(), &commands);
    pixels(&webp(&quarters(64, 48)), &mut helper).unwrap_err();
    assert!(std::env::vars_os().count() > 0, "there is one to hide");
    // But where libraries are, and how memory is handed out.
    let told = fs::read_to_string(told).unwrap();
    let names: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    let may = ["LD_LIBRARY_PATH", "MALLOC_ARENA_MAX"];
    assert!(names.iter().all(|name| may.contains(name)), "{names:?}");
}

#[cfg(feature = "heif")]
fn heif(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/heif").join(name)).unwrap()
}

#[test]
#[cfg(feature = "heif")]
fn heic_comes_out_upright() {
    let mut helper = helper();
    for orientation in [1, 3, 6, 8] {
        let picture = heif(&format!("held{orientation}.heic"));
        assert_quarters(&pixels(&picture, &mut helper).unwrap());
    }
}

#[test]
#[cfg(feature = "heif")]
fn avif_is_decoded_and_lies_on_white() {
    let mut helper = helper();
    assert_quarters(&pixels(&heif("quarters.avif"), &mut helper).unwrap());
    let clear = pixels(&heif("clear.avif"), &mut helper).unwrap();
    assert!(clear.get_pixel(50, 75).0.iter().all(|value| *value > 250));
}

#[test]
#[cfg(feature = "heif")]
fn damaged_heif_is_an_error_and_the_next_one_is_decoded() {
    let mut helper = helper();
    let mut random = fastrand::Rng::with_seed(7);
    for name in ["held1.heic", "quarters.avif"] {
        let whole = heif(name);
        let half = pixels(&whole[..whole.len() / 2], &mut helper).unwrap_err();
        assert!(half.0.starts_with("The HEIF picture"), "{half}");
        for _ in 0..40 {
            let mut bytes = whole.clone();
            let at = random.usize(12..bytes.len());
            bytes[at] = random.u8(..);
            let _ = pixels(&bytes, &mut helper);
        }
        assert_quarters(&pixels(&whole, &mut helper).unwrap());
    }
}

#[test]
#[cfg(feature = "heif")]
fn heif_keeps_to_the_limits() {
    let limits = Limits {
        max_pixels: 1000,
        ..Limits::default()
    };
    let mut helper = Helper::new(env!("CARGO_BIN_EXE_outboxfs").into(), &limits);
    let made = make_all(
        &heif("held1.heic"),
        &[Options::default()],
        &limits,
        Some(&mut helper),
    );
    let error = made.unwrap_err().0;
    assert!(
        error.contains("more than the limit of 1000 pixels"),
        "{error}"
    );
}
