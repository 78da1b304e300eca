//! Pictures through a mount to Cloudinary.

use std::fs;

use super::cloudinary::Service;
use super::rig::{Rig, eventually};
use super::tree::make_picture;

const PICTURES: usize = 500;

fn rig(service: &Service) -> Option<Rig> {
    let mut rig = Rig::new()?;
    let variable = ("CLOUDINARY_URL", super::cloudinary::credentials());
    rig.world.variables.push(variable);
    service.state.lock().looks = true;
    Some(rig)
}

/// A small picture; each of another content.
fn picture(rig: &Rig) -> impl Fn(usize) -> Vec<u8> {
    let path = rig.world.path("picture.jpg");
    make_picture(&path, 64, 48);
    let bytes = fs::read(&path).unwrap();
    move |number| {
        let mut bytes = bytes.clone();
        // Beyond the end, where no reader of pictures looks.
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes
    }
}

/// The rows of a CSV file without quoted commas, by column name.
fn rows(path: &std::path::Path) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

#[test]
fn five_hundred_pictures_over_a_kill_end_with_one_record_each() {
    let service = Service::start();
    let Some(rig) = rig(&service) else { return };
    let picture = picture(&rig);
    let catalogue = rig.world.path("catalogue.csv");
    let rows_url = format!("csv:{}?per=picture", catalogue.display());
    let url = service.url("rig", "");
    let mount = || rig.mount_to(&url, &["--rows", &rows_url, "--max-retry-delay", "1s"]);
    mount();
    for number in 0..PICTURES {
        let folder = rig.pictures().join(format!("day {}", number % 10));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("ü{number}.jpg")), picture(number)).unwrap();
    }
    eventually("some have arrived", || {
        service.state.lock().assets.len() > PICTURES / 4
    });
    rig.kill();
    let at_kill = service.state.lock().assets.len();
    assert!(at_kill < PICTURES, "nothing was left to be killed in");
    rig.take_away();
    mount();
    rig.delivered_all();
    rig.unmount();

    let there = service.objects("rig");
    assert_eq!(there.len(), PICTURES);
    for number in 0..PICTURES {
        let key = format!("original/day {}/ü{number}.jpg", number % 10);
        assert!(there[&key].bytes == picture(number), "{key}");
    }
    let state = service.state.lock();
    assert!(state.created.values().all(|times| *times == 1));
    drop(state);

    let rows = rows(&catalogue);
    assert_eq!(rows.len(), PICTURES);
    for row in rows {
        let key = format!("original/{}/{}", row["folder"], row["file"]);
        let version = there[&key].version.to_string();
        let id = format!("rig/{}/{}", row["folder"], row["file"]);
        assert_eq!((&row["object_id"], &row["object_version"]), (&id, &version));
        assert!(
            row["url"].contains(&format!("/image/upload/v{version}/rig/day%20")),
            "{row:?}"
        );
        let thumbnail = format!("/image/upload/c_fill,w_200,h_300,q_85/v{version}/");
        assert!(row["thumbnail_url"].contains(&thumbnail), "{row:?}");
        assert_eq!(
            (row["width"].as_str(), row["height"].as_str()),
            ("64", "48")
        );
        assert_eq!(row["etag"].len(), 32);
    }
}

#[test]
fn with_sync_deletes_a_rename_renames_and_a_deletion_destroys() {
    let service = Service::start();
    let Some(rig) = rig(&service) else { return };
    let picture = picture(&rig);
    rig.mount_to(&service.url("", ""), &["--sync-deletes"]);
    let pictures = rig.pictures();
    for name in ["a.jpg", "b.jpg"] {
        fs::write(pictures.join(name), picture(name.len())).unwrap();
    }
    fs::write(pictures.join("c.jpg"), picture(99)).unwrap();
    rig.delivered_all();
    let version = service.objects("")["original/a.jpg"].version;
    let url = format!("https://res.cloudinary.com/rig-cloud/image/upload/v{version}/a.jpg.jpg");
    let thumbnail = url.replace("/upload/", "/upload/c_fill,w_200,h_300,q_85/");
    let file = fs::File::open(pictures.join("a.jpg")).unwrap();
    for (name, expected) in [("url", &url), ("thumbnail_url", &thumbnail)] {
        let mut value = [0; 256];
        let name = format!("user.upload.{name}");
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).unwrap();
        assert_eq!(&value[..length], expected.as_bytes());
    }
    let recent = rig.upload("recent");
    assert!(recent.contains(&format!("a.jpg\t{url}\n")), "{recent}");
    // What was never delivered has none; and nobody copies one along.
    let mut names = [0; 256];
    assert_eq!(rustix::fs::flistxattr(&file, &mut names[..]).unwrap(), 0);
    drop(file);
    service.requests();
    fs::rename(pictures.join("a.jpg"), pictures.join("renamed & moved.jpg")).unwrap();
    fs::remove_file(pictures.join("c.jpg")).unwrap();
    eventually("both are done", || {
        let there = service.objects("").into_keys().collect::<Vec<_>>();
        there == ["original/b.jpg", "original/renamed & moved.jpg"]
    });
    rig.delivered_all();
    let asked: Vec<String> = service
        .requests()
        .into_iter()
        .map(|came| came.path)
        .collect();
    assert!(
        asked.iter().any(|path| path.ends_with("/image/rename")),
        "{asked:?}"
    );
    assert!(
        !asked.iter().any(|path| path.ends_with("/upload")),
        "{asked:?}"
    );
    let verified = rig.run(&["verify", "pictures", "--remote", &service.url("", "")]);
    assert!(verified.status.success(), "{verified:?}");
    let full = rig.run(&[
        "verify",
        "pictures",
        "--full",
        "--remote",
        &service.url("", ""),
    ]);
    assert!(full.status.success(), "{full:?}");
    rig.unmount();
}

/// What is stored is known without the journal, by the checksum beside it.
#[test]
fn a_push_with_a_new_journal_sends_nothing_again() {
    let service = Service::start();
    let Some(rig) = rig(&service) else { return };
    let picture = picture(&rig);
    for number in 0..20 {
        fs::write(
            rig.pictures().join(format!("{number}.jpg")),
            picture(number),
        )
        .unwrap();
    }
    let url = service.url("x", "");
    let push = |journal: &str| {
        let journal = rig.world.path(journal);
        let journal = journal.to_str().unwrap();
        let arguments = ["push", "pictures", "--remote", &url, "--journal", journal];
        let output = rig.run(&arguments);
        assert!(output.status.success(), "{output:?}");
    };
    push("one/journal.db");
    service.requests();
    push("two/journal.db");
    let mut asked = service.requests();
    asked.retain(|came| came.method == "POST" && came.path.ends_with("/upload"));
    assert!(asked.is_empty(), "{asked:?}");
}
