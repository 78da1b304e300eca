//! What is made of pictures, as it arrives at the remote: sizes, keys, metadata, and what becomes of
//! thumbnails when their picture changes.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use rig::{Rig, eventually};
use tree::{contents, make_picture};
use world::{World, assert_says};

const SIZES: [&str; 4] = [
    "--thumbnail",
    "64x48",
    "--thumbnail",
    "32x32,fit=contain,format=png,background=0000ff",
];
const FURTHER: &str = "thumbnail-32x32-contain-png";

fn format_and_size(path: &Path) -> (image::ImageFormat, (u32, u32)) {
    let reader = image::ImageReader::open(path).unwrap();
    let reader = reader.with_guessed_format().unwrap();
    (reader.format().unwrap(), reader.into_dimensions().unwrap())
}

fn metadata(path: &Path, name: &str) -> Option<String> {
    let mut value = vec![0; 200];
    let name = format!("user.outboxfs.{name}");
    let length = rustix::fs::getxattr(path, name.as_str(), &mut value).ok()?;
    value.truncate(length);
    Some(String::from_utf8(value).unwrap())
}

/// The folders in which there is a thumbnail of `name`.
fn thumbnails_of(rig: &Rig, name: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(rig.remote())
        .unwrap()
        .map(|folder| folder.unwrap().path())
        .filter(|folder| folder.join(name).exists())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|folder| folder.starts_with("thumbnail"))
        .collect();
    found.sort();
    found
}

fn at(rig: &Rig, name: &str) -> PathBuf {
    rig.pictures().join(name)
}

#[test]
fn each_size_has_a_folder_of_its_own() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&SIZES);
    make_picture(&at(&rig, "a.png"), 640, 480);
    make_picture(&at(&rig, "a.jpg"), 640, 480);
    rig.delivered_all();
    for name in ["a.png", "a.jpg"] {
        let main = rig.remote().join("thumbnail").join(name);
        assert_eq!(format_and_size(&main), (image::ImageFormat::Jpeg, (64, 48)));
        let further = rig.remote().join(FURTHER).join(name);
        assert_eq!(
            format_and_size(&further),
            (image::ImageFormat::Png, (32, 32))
        );
        let corner = image::ImageReader::open(&further).unwrap();
        let corner = corner.with_guessed_format().unwrap().decode().unwrap();
        assert_eq!(corner.into_rgb8().get_pixel(0, 0).0, [0, 0, 255]);

        let original = blake3::hash(&fs::read(at(&rig, name)).unwrap());
        for (thumbnail, width, height) in [(&main, "64", "48"), (&further, "32", "32")] {
            let says = |name| metadata(thumbnail, name);
            assert_eq!(says("width").as_deref(), Some(width));
            assert_eq!(says("height").as_deref(), Some(height));
            assert_eq!(says("original-blake3"), Some(original.to_hex().to_string()));
        }
    }
    let url = rig.row("SELECT json_extract(pictures, '$[0].thumbnail_url') FROM device_test");
    assert!(url.ends_with("/thumbnail/a.jpg"), "{url}");
    rig.unmount();
}

#[test]
fn without_thumbnails_pictures_are_still_pictures() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--no-thumbnails"]);
    make_picture(&at(&rig, "a.png"), 64, 48);
    rig.delivered_all();
    assert!(!rig.remote().join("thumbnail").exists());
    let first = |what| {
        rig.row(&format!(
            "SELECT json_extract(pictures, '$[0].{what}') FROM device_test"
        ))
    };
    assert_eq!(
        (first("name"), first("thumbnail_url")),
        ("a.png".into(), "NULL".into())
    );
    rig.unmount();
}

#[test]
fn a_picture_that_becomes_something_else_leaves_no_thumbnail() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&SIZES);
    for name in ["text.png", "broken.png", "changed.png", "moved.png"] {
        make_picture(&at(&rig, name), 64, 48);
    }
    rig.delivered_all();
    assert_eq!(thumbnails_of(&rig, "text.png"), ["thumbnail", FURTHER]);
    let before = fs::read(rig.remote().join("thumbnail/changed.png")).unwrap();

    fs::write(at(&rig, "text.png"), "no picture any more").unwrap();
    let whole = fs::read(at(&rig, "broken.png")).unwrap();
    fs::write(at(&rig, "broken.png"), &whole[..whole.len() / 2]).unwrap();
    make_picture(&at(&rig, "changed.png"), 480, 640);
    fs::rename(at(&rig, "moved.png"), at(&rig, "elsewhere.png")).unwrap();
    fs::write(at(&rig, "moved.png"), "no picture either").unwrap();
    rig.delivered_all();
    for name in ["text.png", "broken.png", "moved.png"] {
        assert_eq!(thumbnails_of(&rig, name), [""; 0], "{name}");
    }
    for name in ["changed.png", "elsewhere.png"] {
        assert_eq!(thumbnails_of(&rig, name), ["thumbnail", FURTHER], "{name}");
    }
    let after = fs::read(rig.remote().join("thumbnail/changed.png")).unwrap();
    assert_ne!(before, after);
    rig.unmount();
}

#[test]
fn a_thumbnail_that_failed_is_tried_again_when_the_picture_changes_and_not_before() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    make_picture(&at(&rig, "whole.png"), 64, 48);
    let whole = fs::read(at(&rig, "whole.png")).unwrap();
    fs::write(at(&rig, "a.png"), &whole[..whole.len() / 2]).unwrap();
    rig.delivered_all();
    let failures = || {
        let log = rig.journal().parent().unwrap().join("daemon.log");
        let log = fs::read_to_string(log).unwrap();
        log.matches("no thumbnail").count()
    };
    assert_eq!(failures(), 1);
    // Neither a retry nor another mount nor new times of the same content.
    assert_eq!(rig.run(&["retry", "pictures"]).status.code(), Some(0));
    rig.unmount();
    rig.mount();
    fs::write(at(&rig, "a.png"), &whole[..whole.len() / 2]).unwrap();
    rig.delivered_all();
    assert_eq!(failures(), 1);
    assert!(rig.upload("failed").contains("a.png\tthumbnail"));

    fs::write(at(&rig, "a.png"), &whole).unwrap();
    rig.delivered_all();
    assert_eq!(thumbnails_of(&rig, "a.png"), ["thumbnail"]);
    assert_eq!(rig.upload("failed"), "");
    rig.unmount();
}

#[test]
fn renamed_pictures_take_all_their_thumbnails_along() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&[&SIZES[..], &["--sync-deletes"]].concat());
    make_picture(&at(&rig, "a.png"), 64, 48);
    rig.delivered_all();
    fs::create_dir(at(&rig, "sub")).unwrap();
    fs::rename(at(&rig, "a.png"), at(&rig, "sub/b.png")).unwrap();
    rig.delivered_all();
    assert_eq!(thumbnails_of(&rig, "sub/b.png"), ["thumbnail", FURTHER]);
    eventually("the old ones are deleted", || {
        thumbnails_of(&rig, "a.png").is_empty()
    });
    rig.unmount();
}

#[test]
fn thumbnails_of_sizes_that_were_given_up_are_deleted_with_their_picture() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&SIZES);
    make_picture(&at(&rig, "gone.png"), 64, 48);
    make_picture(&at(&rig, "changed.png"), 64, 48);
    rig.unmount();
    rig.mount_with(&["--sync-deletes"]);
    make_picture(&at(&rig, "later.png"), 64, 48);
    make_picture(&at(&rig, "changed.png"), 48, 64);
    fs::remove_file(at(&rig, "gone.png")).unwrap();
    rig.delivered_all();
    eventually("all of it is deleted", || {
        thumbnails_of(&rig, "gone.png").is_empty()
    });
    assert_eq!(thumbnails_of(&rig, "later.png"), ["thumbnail"]);
    assert_eq!(thumbnails_of(&rig, "changed.png"), ["thumbnail"]);
    rig.unmount();
}

#[test]
fn a_push_makes_the_same_thumbnails_as_a_mount() {
    let Some(rig) = Rig::new() else { return };
    make_picture(&at(&rig, "a.png"), 64, 48);
    rig.mount_with(&SIZES);
    eventually("the scan has found it", || {
        !thumbnails_of(&rig, "a.png").is_empty()
    });
    rig.unmount();
    let pushed = World::new();
    make_picture(&pushed.path("pictures/a.png"), 64, 48);
    let remote = format!("file://{}", pushed.path("remote").display());
    let mut push = pushed.outboxfs();
    push.args(["push", "pictures", "--remote", &remote])
        .args(SIZES);
    let output = push.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for folder in ["thumbnail", FURTHER] {
        assert_eq!(
            contents(&pushed.path("remote").join(folder)),
            contents(&rig.remote().join(folder))
        );
    }
}

#[test]
fn limits_are_settings() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--max-pixels", "1000"]);
    make_picture(&at(&rig, "a.png"), 64, 48);
    rig.delivered_all();
    let failed = rig.upload("failed");
    assert!(
        failed.contains("more than the limit of 1000 pixels"),
        "{failed}"
    );
    rig.unmount();
}

#[test]
fn thumbnails_that_cannot_be_are_refused() {
    let world = World::new();
    let push = |more: &[&str]| world.refusal(&[&["push", "pictures"], more].concat());
    assert_says(
        &push(&["--thumbnail", "64"]),
        &["--thumbnail", "is not a size"],
    );
    let twice = push(&["--thumbnail", "64x64", "--thumbnail", "64x64,quality=3"]);
    assert_says(&twice, &["64x64 is given twice", "same key"]);
    assert_says(&push(&["--max-pixels", "0"]), &["--max-pixels", "from 1"]);
}
