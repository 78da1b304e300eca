//! Other limits while a mount is in use: `outboxfs reload`.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::time::Instant;

use rig::{PATIENCE, Rig, eventually};
use world::assert_says;

/// What the configuration file has beside the mount.
fn configure(rig: &Rig, settings: &str) {
    let remote = rig.remote();
    let text = format!(
        "{settings}\n[mounts.rig]\ndirectory = 'pictures'\nremote = 'file://{}'\n",
        remote.display()
    );
    fs::write(rig.world.path("o.toml"), text).unwrap();
}

fn mounted(settings: &str) -> Option<Rig> {
    let mut rig = Rig::new()?;
    let config = rig.world.path("o.toml").display().to_string();
    rig.world.variables.push(("OUTBOXFS_CONFIG", config));
    configure(&rig, settings);
    let output = rig.run(&["mount", "rig"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    Some(rig)
}

/// What it says, with that exit code.
#[track_caller]
fn reload(rig: &Rig, code: i32) -> String {
    reload_as(rig, "rig", code)
}

#[track_caller]
fn reload_as(rig: &Rig, which: &str, code: i32) -> String {
    let output = rig.run(&["reload", which]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn what_is_on_its_way_goes_faster_when_the_limit_is_gone() {
    let Some(rig) = mounted("bwlimit = '20K'\nworkers = 1") else {
        return;
    };
    let began = Instant::now();
    for name in 0..3 {
        fs::write(
            rig.pictures().join(format!("{name}")),
            vec![name; 1_000_000],
        )
        .unwrap();
    }
    eventually("the first is on its way", || {
        !rig.snapshot().unwrap().uploading.is_empty()
    });
    assert_eq!(rig.snapshot().unwrap().workers, 1);
    configure(&rig, "workers = 3\nmax-retries = 5");
    let said = reload(&rig, 0);
    assert_says(&said, &["workers       3\n", "bwlimit       -\n"]);
    assert_says(&said, &["from the next mount on: max-retries\n"]);
    assert_eq!(rig.snapshot().unwrap().workers, 3);
    rig.delivered_all();
    assert!(began.elapsed() < PATIENCE, "at 20 kB/s it takes 150 s");
    assert_eq!(rig.delivered("2"), vec![2; 1_000_000]);

    // And slower again, with fewer workers.
    configure(&rig, "bwlimit = '20K'\ntps-limit = 7\nsequential = true");
    let said = reload(&rig, 0);
    assert_says(&said, &["workers       8\n", "20.00 kB/s", "7/s"]);
    assert_says(&said, &["from the next mount on: sequential\n"]);
    fs::write(rig.pictures().join("slow"), vec![3; 100_000]).unwrap();
    let began = Instant::now();
    rig.delivered_all();
    assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
    rig.unmount();
}

#[test]
fn who_waits_for_the_upload_hours_goes_on_when_they_change() {
    let now = jiff::Zoned::now();
    let hour = |after: i64| {
        let time = now.checked_add(jiff::Span::new().hours(after)).unwrap();
        time.strftime("%H:%M").to_string()
    };
    let closed = format!("upload-hours = '{}-{}'", hour(2), hour(3));
    let Some(rig) = mounted(&closed) else { return };
    fs::write(rig.pictures().join("waits"), "a while").unwrap();
    eventually("it waits", || rig.snapshot().unwrap().waits_for.is_some());
    configure(&rig, "");
    let began = Instant::now();
    reload(&rig, 0);
    rig.delivered_all();
    // Not at the next look at the clock.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    rig.unmount();
}

#[test]
fn a_mistake_is_told_and_changes_nothing() {
    let Some(rig) = mounted("workers = 2") else {
        return;
    };
    for (settings, why) in [
        ("workers = 0", "o.toml:1: workers: "),
        ("\nworker = 3", "o.toml:2: unknown field"),
        ("workers = ", "o.toml:1: "),
    ] {
        configure(&rig, settings);
        // By its name this command reads the file, by its path the daemon alone does.
        for which in ["rig", "pictures"] {
            assert_says(&reload_as(&rig, which, 2), &[why]);
        }
    }
    fs::remove_file(rig.world.path("o.toml")).unwrap();
    assert_says(&reload_as(&rig, "pictures", 2), &["o.toml", "No such file"]);
    configure(&rig, "workers = 2");
    assert_eq!(rig.snapshot().unwrap().workers, 2);
    fs::write(rig.pictures().join("a"), "delivered").unwrap();
    rig.delivered_all();
    rig.unmount();
    assert_says(&reload(&rig, 2), &["is not mounted"]);
}

#[test]
fn what_a_mount_was_given_wins_over_the_file() {
    let Some(rig) = mounted("") else { return };
    rig.unmount();
    let output = rig.run(&["mount", "rig", "--workers", "4"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    configure(&rig, "workers = 2\nbwlimit = '3M'");
    assert_says(&reload(&rig, 0), &["workers       4\n", "3.00 MB/s"]);
    assert_eq!(rig.snapshot().unwrap().workers, 4);
    rig.unmount();
}

/// By mistake, or because it is to be delivered too: the daemon reads it through its own mount.
#[test]
fn the_file_may_lie_in_the_mounted_directory() {
    let Some(rig) = Rig::new() else { return };
    let file = rig.pictures().join("o.toml");
    fs::write(&file, "workers = 2\n").unwrap();
    let config = file.display().to_string();
    rig.mount_with(&["--config", &config]);
    fs::write(&file, "workers = 5\n").unwrap();
    for _ in 0..20 {
        assert_says(&reload_as(&rig, "pictures", 0), &["workers       5\n"]);
    }
    rig.delivered_all();
    assert_eq!(rig.delivered("o.toml"), b"workers = 5\n");
    rig.unmount();
}
