//! The tutorial's music archive, step by step.

use std::fs;

use crate::mounted::mp3;
use crate::page::Page;
use crate::rails::{Account, Behaviour, PASSWORD};
use crate::rig::Rig;

#[test]
fn a_music_archive() {
    let Some(mut rig) = Rig::new() else { return };
    let Some(account) = Account::new(&Behaviour::default()) else {
        return;
    };
    rig.world.variables.clear();
    let world = &rig.world;
    fs::rename(rig.pictures(), world.path("music")).unwrap();
    fs::create_dir_all(world.path("music/new")).unwrap();
    fs::create_dir_all(world.path("cd")).unwrap();
    for number in 0..4 {
        let song = mp3(&format!("Song {number}"), "The Band");
        fs::write(world.path(&format!("music/{number}.mp3")), song).unwrap();
        let further = mp3(&format!("Track {number}"), "The Band");
        fs::write(world.path(&format!("cd/{number}.flac")), further).unwrap();
    }
    fs::write(
        world.path("music/Miles Davis - So What.mp3"),
        "without tags",
    )
    .unwrap();
    fs::write(world.path("music/disc.cue"), "FILE").unwrap();
    Page::read("music-archive")
        .with("archivist@example.org", &account.email)
        .with(
            "OUTBOXFS_RAILS_PASSWORD=…",
            &format!("OUTBOXFS_RAILS_PASSWORD='{PASSWORD}'"),
        )
        .with(
            "rails+https://archive.example?api=archive",
            &account.url(""),
        )
        .with("/media/cd", &world.path("cd").display().to_string())
        .follow(world);
    let output = rig.run(&["unmount", "music"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let songs = account.songs();
    let mut titles: Vec<&str> = songs.iter().map(|song| song.title.as_str()).collect();
    titles.sort_unstable();
    let wanted = ["So What", "Song 0", "Song 1", "Song 2", "Song 3"];
    assert_eq!(titles[..5], wanted);
    assert_eq!(songs.len(), 9, "each once, and no cue sheet: {titles:?}");
}
