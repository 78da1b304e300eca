//! Pages of the tutorial that need nothing but this machine; those for Rails and Cloudinary are with their services.

#[path = "support/page.rs"]
mod page;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::Path;

use page::Page;
use rig::Rig;
use tree::{contents, make_picture};

/// A place where nobody's settings hold but the program's own.
fn place() -> Option<(Rig, s3::Server)> {
    let mut rig = Rig::new()?;
    rig.world.variables.clear();
    Some((rig, s3::Server::in_process()))
}

fn keys(page: Page) -> Page {
    page.with(
        "AWS_ACCESS_KEY_ID=…",
        &format!("AWS_ACCESS_KEY_ID={}", s3::ACCESS_KEY),
    )
    .with(
        "AWS_SECRET_ACCESS_KEY=…",
        &format!("AWS_SECRET_ACCESS_KEY={}", s3::SECRET_KEY),
    )
}

#[test]
fn a_camera() {
    let Some((mut rig, server)) = place() else {
        return;
    };
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY),
        // The page looks at what waits, before it is sent.
        ("OUTBOXFS_SETTLE", "1500"),
    ] {
        rig.world.variables.push((name, value.to_owned()));
    }
    let card = rig.world.path("card/DCIM");
    fs::create_dir_all(&card).unwrap();
    fs::rename(rig.pictures(), rig.world.path("Pictures")).unwrap();
    make_picture(&card.join("DSC_0001.JPG"), 900, 600);
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/thumbnail/camera.nef");
    fs::copy(raw, card.join("DSC_0001.NEF")).unwrap();
    Page::read("camera")
        .with(
            "s3://bucket/pictures?endpoint=https://s3.example.org&region=eu-1",
            &server.url("pictures"),
        )
        .with("/media/card", &rig.world.path("card").display().to_string())
        .with(
            "/home/ann",
            rig.world
                .path("")
                .display()
                .to_string()
                .trim_end_matches('/'),
        )
        .follow(&rig.world);
    for key in [
        "original/2026-11-21/DSC_0001.NEF",
        "original/2026-11-21/DSC_0001.JPG",
        "thumbnail/2026-11-21/DSC_0001.NEF",
        "thumbnail-1280x1280-inside/2026-11-21/DSC_0001.NEF",
    ] {
        assert!(server.has(&format!("pictures/{key}")), "{key}");
    }
}

#[test]
fn a_test_rig() {
    let Some((rig, _)) = place() else { return };
    fs::create_dir_all(rig.world.path("srv/nas")).unwrap();
    fs::rename(rig.pictures(), rig.world.path("srv/rig")).unwrap();
    make_picture(&rig.world.path("picture.jpg"), 600, 400);
    let srv = rig.world.path("srv").display().to_string();
    Page::read("test-rig")
        .without("postgres://")
        .with("/srv", &srv)
        .with(
            "/var/lib/outboxfs",
            &rig.world.path("state/outboxfs").display().to_string(),
        )
        .before("cat ", "cat srv/rig/.upload/wait")
        .before("sqlite3 ", "cat srv/rig/.upload/wait")
        .follow(&rig.world);
    let delivered = contents(&rig.world.path("srv/nas/original"));
    assert_eq!(delivered.len(), 6);
}

#[test]
fn captioned_picture_sets() {
    let Some((rig, server)) = place() else {
        return;
    };
    for number in 0..8 {
        let folder = rig.world.path(["sets/cats", "sets/dogs"][number % 2]);
        fs::create_dir_all(&folder).unwrap();
        make_picture(
            &folder.join(format!("{number:04}.jpg")),
            200 + number as u32,
            100,
        );
        fs::write(
            folder.join(format!("{number:04}.txt")),
            format!("number {number}"),
        )
        .unwrap();
    }
    let edit = "rm sets/dogs/0001.*; printf changed >sets/cats/0002.txt";
    let dry_run = "outboxfs push sets --remote 's3://training/sets?region=eu-central-1' \\\n    \
                   --compress '*.txt' --no-thumbnails --sync-deletes --dry-run";
    let remote = server.url("sets");
    let real = |step: &str| step.replace("s3://training/sets?region=eu-central-1", &remote);
    keys(Page::read("picture-sets"))
        .with("s3://training/sets?region=eu-central-1", &remote)
        .with("s3://training/sets", &format!("s3://{}/sets", s3::BUCKET))
        .before(&real(dry_run), edit)
        .before("outboxfs verify", "cat sets/.upload/wait")
        .before(
            "(cd sets",
            "outboxfs unmount sets; touch -d '1 hour ago' stamp",
        )
        .follow(&rig.world);
    assert!(!server.has("sets/original/dogs/0001.jpg"));
    assert!(server.has("sets/original/cats/0002.txt"));
}
