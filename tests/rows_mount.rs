//! What a rig writes into a mount is told by its rows, in every kind of sink, and of nothing else:
//! after kill -9, with a sink that is away, and when folders change.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/postgres.rs"]
mod server;
#[path = "rows/service.rs"]
mod service;
#[path = "rows/sinks.rs"]
mod sinks;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant};

use rig::Rig;
use serde_json::{Value, json};
use sinks::{Csv, Fixture, JsonLines, Postgres, Postgrest, Sqlite};

/// A mount, and the secrets of all sinks.
fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    rig.world.variables.extend([
        ("PGPASSWORD", server::PASSWORD.to_owned()),
        ("SUPABASE_KEY", "service-key".to_owned()),
        // A sink that comes back is found soon.
        ("OUTBOXFS_RETRY_DELAY", "50ms".to_owned()),
        ("OUTBOXFS_MAX_RETRY_DELAY", "1s".to_owned()),
    ]);
    Some(rig)
}

/// So many folders take a busy machine more than the usual patience.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within five minutes: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a rig leaves of a unit: a picture and what was measured.
fn test_unit(root: &Path, number: usize) -> io::Result<()> {
    let folder = root.join(format!("day{}/S-{number:04}", number % 7));
    fs::create_dir_all(&folder)?;
    let colour = [number as u8, (number >> 8) as u8, 0];
    let mut picture = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(4, 4, image::Rgb(colour))
        .write_to(&mut picture, image::ImageFormat::Png)
        .map_err(io::Error::other)?;
    fs::write(folder.join("front.png"), picture.into_inner())?;
    let stats = json!({ "serial": number, "status": outcome(number), "volts": 3.25 });
    fs::write(folder.join("stats.json"), stats.to_string())
}

fn outcome(number: usize) -> &'static str {
    match number % 5 {
        0 => "fail",
        _ => "pass",
    }
}

/// There is one row for each folder of the remote that a row tells of, and it says what is there.
async fn rows_equal_objects(rig: &Rig, fixture: &impl Fixture, units: usize) {
    let rows = fixture.rows().await;
    let originals = rig.remote().join("original");
    let named: BTreeSet<PathBuf> = rows.iter().map(|row| text(row, "folder").into()).collect();
    assert_eq!(rows.len(), named.len(), "a folder has two rows");
    let mut there = BTreeSet::new();
    for file in tree::contents(&originals).into_keys() {
        there.insert(Path::new(&file).parent().unwrap().to_owned());
    }
    assert_eq!(there.len(), units);
    assert_eq!(named, there);
    for row in rows {
        let folder = originals.join(text(&row, "folder"));
        let stats = fs::read(folder.join("stats.json")).unwrap();
        let picture = fs::read(folder.join("front.png")).unwrap();
        let stats_there: Value = serde_json::from_slice(&stats).unwrap();
        assert_eq!(row["stats"], stats_there, "{row}");
        assert_eq!(row["test_status"], stats_there["status"], "{row}");
        assert_eq!(row["files"], 2, "{row}");
        assert_eq!(row["bytes"], stats.len() + picture.len(), "{row}");
        let [shown] = &row["pictures"].as_array().unwrap()[..] else {
            panic!("{row}")
        };
        assert_eq!(object(shown, "url"), folder.join("front.png"));
        assert!(object(shown, "thumbnail_url").exists(), "{row}");
        let hash = blake3::hash(&picture).to_hex();
        assert_eq!(shown["hash"], hash.as_str(), "{row}");
    }
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {row}"))
}

/// The file that a URL of a row names.
fn object(picture: &Value, name: &str) -> PathBuf {
    let url: url::Url = text(picture, name).parse().unwrap();
    url.to_file_path().unwrap()
}

/// Folders to write; more by `OUTBOXFS_TEST_FILES`.
fn units() -> usize {
    let count = std::env::var("OUTBOXFS_TEST_FILES").ok();
    count.map_or(300, |count| count.parse().unwrap())
}

/// Folders are written, and in their midst the daemon is killed.
async fn a_killed_daemon_leaves_no_row_out(fixture: Option<impl Fixture>) {
    let units = units();
    let (Some(rig), Some(fixture)) = (rig(), fixture) else {
        return;
    };
    let mount = || rig.mount_with(&["--rows", &fixture.url()]);
    mount();
    // Held for writing while nothing is mounted: what is written then goes past the mount.
    let mounted = Arc::new(RwLock::new(()));
    let (root, its_mounted) = (rig.pictures(), mounted.clone());
    let written = Arc::new(AtomicUsize::new(0));
    let its_written = written.clone();
    let (go_on, told) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for number in 0..units {
            if number == units / 2 {
                // Delivery makes way for a burst, and would be killed before its first row.
                told.recv().unwrap();
            }
            while {
                let _mounted = its_mounted.read().unwrap();
                test_unit(&root, number).is_err()
            } {
                std::thread::sleep(Duration::from_millis(5));
            }
            its_written.store(number + 1, Relaxed);
        }
    });
    eventually("much is delivered", || {
        rig.snapshot().is_some_and(|now| now.delivered_files >= 100)
    });
    go_on.send(()).unwrap();
    eventually("the rig writes on", || {
        written.load(Relaxed) > units / 2 + 10
    });
    rig.kill();
    {
        let _unmounted = mounted.write().unwrap();
        mount();
    }
    writer.join().unwrap();
    rig.unmount();
    rows_equal_objects(&rig, &fixture, units).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_row_out_of_sqlite() {
    a_killed_daemon_leaves_no_row_out(Sqlite::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_row_out_of_postgres() {
    a_killed_daemon_leaves_no_row_out(Postgres::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_row_out_of_postgrest() {
    a_killed_daemon_leaves_no_row_out(Postgrest::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_row_out_of_csv() {
    a_killed_daemon_leaves_no_row_out(Csv::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_row_out_of_json_lines() {
    a_killed_daemon_leaves_no_row_out(JsonLines::new().await).await;
}

/// Lets connections through to `server`, from now on.
async fn forward(from: SocketAddr, server: u16) {
    let listener = tokio::net::TcpListener::bind(from).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(("127.0.0.1", server)).await?;
                tokio::io::copy_bidirectional(&mut here, &mut there).await
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_away_delays_its_own_rows_only() {
    const UNITS: usize = 100;
    let Some(rig) = rig() else { return };
    let (Some(postgres), Some(postgrest)) = (Postgres::new().await, Postgrest::new().await) else {
        return;
    };
    let (sqlite, csv) = (Sqlite::new().await.unwrap(), Csv::new().await.unwrap());
    let lines = JsonLines::new().await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = port.local_addr().unwrap();
    drop(port);
    let server = format!(":{}/", postgres.database.port());
    let postgres_url = postgres
        .url()
        .replace(&server, &format!(":{}/", away.port()));
    let urls = [
        sqlite.url(),
        postgres_url,
        postgrest.url(),
        csv.url(),
        lines.url(),
    ];
    let sinks: Vec<&str> = urls.iter().flat_map(|url| ["--rows", url]).collect();
    rig.mount_with(&sinks);
    for number in 0..UNITS {
        test_unit(&rig.pictures(), number).unwrap();
    }
    eventually("the objects are there", || {
        rig.snapshot()
            .is_some_and(|now| now.delivered_files == 2 * UNITS as u64)
    });
    for there in 1.. {
        let short = [
            sqlite.rows().await.len() < UNITS,
            postgrest.rows().await.len() < UNITS,
            csv.rows().await.len() < UNITS,
            // Its last line may be half written.
            fs::read_to_string(lines.path()).unwrap().lines().count() < UNITS,
        ];
        if short == [false; 4] {
            break;
        }
        assert!(there < 6000, "{short:?} are short of rows");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = rig.snapshot().unwrap();
    assert!(
        !now.safe_to_unplug && now.queued_rows == UNITS as u64,
        "{now:?}"
    );
    let error = now.rows_error.unwrap();
    assert!(
        error.contains("postgres://") && error.contains("cannot be reached"),
        "{error}"
    );

    forward(away, postgres.database.port()).await;
    rig.unmount();
    rows_equal_objects(&rig, &sqlite, UNITS).await;
    rows_equal_objects(&rig, &postgres, UNITS).await;
    rows_equal_objects(&rig, &postgrest, UNITS).await;
    rows_equal_objects(&rig, &csv, UNITS).await;
    rows_equal_objects(&rig, &lines, UNITS).await;
    // What was brought again for the sake of one was not written again to the others. (A folder that
    // was quiet for longer than the settle time between its two files has two versions.)
    let mut versions: Vec<_> = lines
        .lines()
        .iter()
        .map(|line| (line["folder"].to_string(), line["version"].to_string()))
        .collect();
    let written = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_between_object_and_row_writes_the_row_when_it_is_back() {
    let Some(rig) = rig() else { return };
    let disk = rig.world.path("disk");
    let rows = format!("sqlite:{}/rows.db", disk.display());
    rig.mount_with(&["--rows", &rows]);
    test_unit(&rig.pictures(), 1).unwrap();
    eventually("the row waits for its sink", || {
        rig.snapshot()
            .is_some_and(|now| now.delivered_files == 2 && now.rows_error.is_some())
    });
    rig.kill();
    fs::create_dir(&disk).unwrap();
    rig.mount_with(&["--rows", &rows]);
    rig.unmount();
    let written = rusqlite::Connection::open(disk.join("rows.db")).unwrap();
    let row = "SELECT folder || ' ' || test_status || ' ' || picture_count FROM device_test";
    let row: String = written.query_row(row, [], |row| row.get(0)).unwrap();
    assert_eq!(row, "day1/S-0001 pass 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mounts_share_a_table() {
    let (Some(one), Some(two)) = (rig(), rig()) else {
        return;
    };
    let Some(postgres) = Postgres::new().await else {
        return;
    };
    for (rig, units) in [(&one, 1..20), (&two, 10..30)] {
        rig.mount_with(&["--rows", &postgres.url()]);
        for number in units {
            test_unit(&rig.pictures(), number).unwrap();
        }
    }
    one.unmount();
    two.unmount();
    let rows = postgres.rows().await;
    let mounts: BTreeSet<&str> = rows.iter().map(|row| text(row, "mount_id")).collect();
    assert_eq!((rows.len(), mounts.len()), (39, 2));
    for row in &rows {
        assert!(object(&row["pictures"][0], "url").exists(), "{row}");
    }
}

#[test]
fn the_row_follows_its_folder() {
    let Some(rig) = rig() else { return };
    rig.mount();
    let folder = rig.pictures().join("day1/S-0001");
    test_unit(&rig.pictures(), 1).unwrap();
    let row = |what: &str, expected: &str| {
        let said = "SELECT coalesce((SELECT picture_count || ' ' || files || ' ' || coalesce(test_status, 'null') || ' ' \
                    || coalesce(stats ->> 'serial', 'null') || ' ' || coalesce(stats_error, 'null') \
                    FROM device_test WHERE folder = 'day1/S-0001'), 'no row')";
        eventually(what, || rig.row(said) == expected);
    };
    row("it is there", "1 2 pass 1 null");
    fs::copy(folder.join("front.png"), folder.join("late.png")).unwrap();
    row("a late picture is added", "2 3 pass 1 null");
    fs::write(folder.join("log.txt"), "other files count").unwrap();
    row("a late file is added", "2 4 pass 1 null");
    fs::remove_file(folder.join("late.png")).unwrap();
    row("a deleted picture goes", "1 3 pass 1 null");
    let replaced = folder.join("stats.json.new");
    fs::write(&replaced, r#"{"serial":2,"passed":false}"#).unwrap();
    fs::rename(&replaced, folder.join("stats.json")).unwrap();
    row("statistics are replaced", "1 3 fail 2 null");
    fs::write(folder.join("stats.json"), "").unwrap();
    let empty = "1 3 unknown null stats.json is empty";
    row("statistics become invalid", empty);
    fs::remove_file(folder.join("stats.json")).unwrap();
    row("statistics are removed", "1 2 null null null");
    fs::write(folder.join("stats.json"), r#"{"serial":3,"ok":true}"#).unwrap();
    row("statistics come back", "1 3 pass 3 null");
    rig.unmount();
}

#[test]
fn a_renamed_folder_has_a_row_under_its_new_name() {
    let Some(rig) = rig() else { return };
    for (flags, left) in [
        // Its old objects stay, and so does the row that tells of them.
        (&[][..], "day1/S-0001 day1/renamed"),
        (&["--sync-deletes"], "day1/renamed"),
    ] {
        rig.mount_with(flags);
        test_unit(&rig.pictures(), 1).unwrap();
        rig.delivered_all();
        let folder = rig.pictures().join("day1");
        fs::rename(folder.join("S-0001"), folder.join("renamed")).unwrap();
        rig.delivered_all();
        let folders =
            "SELECT group_concat(folder, ' ') FROM (SELECT folder FROM device_test ORDER BY 1)";
        eventually("the rows follow", || rig.row(folders) == left);
        let renamed = "FROM device_test WHERE folder = 'day1/renamed'";
        assert_eq!(rig.row(&format!("SELECT test_status {renamed}")), "pass");
        let url = rig.row(&format!("SELECT pictures ->> '$[0].url' {renamed}"));
        assert!(url.ends_with("/original/day1/renamed/front.png"), "{url}");
        fs::remove_dir_all(folder).unwrap();
        rig.unmount();
        fs::remove_file(rig.remote().join("rows.db")).unwrap();
    }
}

#[test]
fn statistics_may_have_another_name_and_other_words() {
    let Some(rig) = rig() else { return };
    let rules = [
        "--stats-file=result.json",
        "--status-fields=verdict,$.summary.exit",
        "--pass-words=gut,0",
        "--fail-words=schlecht,1",
    ];
    rig.mount_with(&rules);
    for (folder, name, content) in [
        ("a", "result.json", r#"{"verdict":"Gut"}"#),
        ("b", "result.json", r#"{"summary":{"exit":1}}"#),
        ("c", "result.json", r#"{"status":"pass"}"#),
        ("d", "result.json", "["),
        ("e", "stats.json", r#"{"verdict":"gut"}"#),
    ] {
        let folder = rig.pictures().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }
    rig.unmount();
    let said = "SELECT group_concat(folder || ' ' || test_status, ', ') FROM (SELECT * FROM device_test ORDER BY folder)";
    assert_eq!(rig.row(said), "a pass, b fail, c unknown, d unknown");
    let error = rig.row("SELECT stats_error FROM device_test WHERE folder = 'd'");
    assert!(
        error.starts_with("result.json is not valid JSON"),
        "{error}"
    );
}
