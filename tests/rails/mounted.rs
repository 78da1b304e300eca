//! A mount that delivers to the application, as people have it.

use std::fs;
use std::path::Path;

use super::rails::{Account, Behaviour, FIELDS};
use super::rig::{Rig, eventually};
use super::world::{assert_says, error_line};

/// A mount of an account's archive.
fn rig() -> Option<(Rig, Account)> {
    let mut rig = Rig::new()?;
    let account = Account::new(&Behaviour::default())?;
    rig.world.variables.extend(account.variables());
    Some((rig, account))
}

/// An MP3 file of a few frames of silence, with a title and an artist.
pub fn mp3(title: &str, artist: &str) -> Vec<u8> {
    let frame = |id: &[u8; 4], text: &str| {
        let length = text.len() as u32 + 1;
        [&id[..], &length.to_be_bytes(), &[0, 0, 0], text.as_bytes()].concat()
    };
    let frames = [frame(b"TIT2", title), frame(b"TPE1", artist)].concat();
    let size = [(frames.len() >> 7) as u8, (frames.len() & 0x7f) as u8];
    let mut file = [&b"ID3\x03\x00\x00\x00\x00"[..], &size, &frames].concat();
    for _ in 0..3 {
        file.extend([0xff, 0xfb, 0x90, 0xc4]);
        file.extend([0; 413]);
    }
    file
}

/// Songs to deliver; more by `OUTBOXFS_TEST_FILES`.
fn file_count() -> usize {
    let count = std::env::var("OUTBOXFS_TEST_FILES").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(150)
}

fn write_songs(root: &Path, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let folder = root.join(format!("album {}", number / 20));
        fs::create_dir_all(&folder).unwrap();
        let song = mp3(&format!("Song {number}"), "The Band");
        fs::write(folder.join(format!("{number}.mp3")), song).unwrap();
    }
}

#[test]
fn a_killed_mount_makes_one_record_of_each_file() {
    let Some((rig, account)) = rig() else { return };
    let count = file_count();
    let url = account.url(FIELDS);
    rig.mount_to(&url, &["--workers", "10"]);
    write_songs(&rig.pictures(), 0..count / 2);
    for kills in 1..4 {
        // In the middle of it.
        let patience = std::time::Instant::now();
        while account.songs().len() < count * kills / 8 {
            assert!(patience.elapsed().as_secs() < 300, "nothing arrives");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        rig.kill();
        rig.mount_to(&url, &["--workers", "10"]);
    }
    write_songs(&rig.pictures(), count / 2..count);
    rig.unmount();
    let counts = account.counts();
    assert_eq!(counts.len(), count);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    for song in account.songs() {
        let number = song.filename.trim_end_matches(".mp3");
        assert_eq!(song.title, format!("Song {number}"));
        assert_eq!(song.metadata["artist"], "The Band");
        assert_eq!(account.bytes(&song), mp3(&song.title, "The Band"));
    }
}

#[test]
fn rows_tell_the_urls_that_the_application_made() {
    let Some((rig, account)) = rig() else { return };
    let rows = rig.world.path("rows.db");
    let sink = format!("sqlite:{}", rows.display());
    rig.mount_to(&account.url(FIELDS), &["--rows", &sink]);
    assert_eq!(rig.snapshot().unwrap().workers, 5);
    let folder = rig.pictures().join("unit");
    fs::create_dir(&folder).unwrap();
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(4, 4)
        .write_to(&mut picture, image::ImageFormat::Png)
        .unwrap();
    fs::write(folder.join("cover.png"), picture.into_inner()).unwrap();
    rig.unmount();
    let song = account.song("unit/cover.png").unwrap();
    let rows = rusqlite::Connection::open(rows).unwrap();
    let pictures: String = rows
        .query_row("SELECT pictures FROM device_test", [], |row| row.get(0))
        .unwrap();
    let url = format!("{}/songs/{}", account.server.endpoint, song.id);
    assert!(pictures.contains(&url), "{pictures}");
    // Thumbnails are not for archives of songs.
    assert_eq!(account.songs().len(), 1);
}

/// Records have no paths: a song that is moved is the song that it was. One that is changed is another.
#[test]
fn what_is_renamed_is_not_delivered_again() {
    let Some((rig, account)) = rig() else { return };
    rig.mount_to(&account.url(FIELDS), &[]);
    write_songs(&rig.pictures(), 0..3);
    rig.delivered_all();
    let before = account.songs();
    let moved = rig.pictures().join("moved.mp3");
    fs::rename(rig.pictures().join("album 0/0.mp3"), &moved).unwrap();
    fs::rename(rig.pictures().join("album 0"), rig.pictures().join("album")).unwrap();
    rig.unmount();
    assert_eq!(account.songs(), before);
    rig.mount_to(&account.url(FIELDS), &[]);
    fs::write(&moved, mp3("Song 0, remastered", "The Band")).unwrap();
    rig.unmount();
    assert_eq!(account.songs().len(), 4);
}

/// What is wrong with all files is no file's fault.
#[test]
fn files_wait_for_an_account_that_lost_its_right() {
    let Some((rig, account)) = rig() else { return };
    rig.mount_to(&account.url(FIELDS), &[]);
    write_songs(&rig.pictures(), 0..1);
    rig.delivered_all();
    account.may_upload(false);
    write_songs(&rig.pictures(), 1..2);
    eventually("the mount says what is wrong", || {
        let error = rig.snapshot().and_then(|now| now.remote_error);
        error.is_some_and(|error| error.contains("not allowed to upload"))
    });
    write_songs(&rig.pictures(), 2..4);
    account.may_upload(true);
    rig.delivered_all();
    assert_eq!(account.songs().len(), 4);
    rig.unmount();
    // Nobody reads what the reader of tags has to say of each file.
    let log = fs::read_to_string(rig.journal().with_file_name("daemon.log")).unwrap();
    assert!(log.contains("delivered") && !log.contains("lofty"), "{log}");
}

#[test]
fn a_push_tells_what_it_would_do_and_what_is_refused() {
    let Some((rig, account)) = rig() else { return };
    write_songs(&rig.pictures(), 0..3);
    let url = account.url("");
    let output = rig.run(&["push", "pictures", "--remote", &url, "--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("album 0/1.mp3"), "{said}");
    assert_eq!(account.events("login"), 0);
    let output = rig.run(&["check", "--remote", &url]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(account.events("create"), 0, "it could not be taken back");
    let output = rig.run(&["push", "pictures", "--remote", &url, "--sync-deletes"]);
    assert_says(
        &error_line(&output, 2),
        &["--sync-deletes", "cannot delete"],
    );
    fs::write(rig.pictures().join("a.woff2"), "letters").unwrap();
    let output = rig.run(&["push", "pictures", "--remote", &url]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not accepted"), "{said}");
    assert_eq!(account.songs().len(), 3, "the others have arrived");
    // What was delivered is not delivered again.
    rig.run(&["push", "pictures", "--remote", &url]);
    assert_eq!(account.songs().len(), 3);
}
