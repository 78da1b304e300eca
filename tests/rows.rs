//! What every row sink does: one set of behaviours, run against each of them, and what is told
//! when a sink cannot be used.

mod support {
    pub mod sinks;
}

use std::sync::Arc;

use outboxfs::rows::{self, FolderRow, PictureRef, RowSink, TestStatus};
use serde_json::{Value, json};
use support::sinks::{Fixture, Sqlite};

/// 2026-11-21 00:00:00 UTC in milliseconds.
const DAY: i64 = 1_795_219_200_000;

fn row(folder: &str, version: i64) -> FolderRow {
    let url = |artifact: &str| format!("https://pictures.example/{artifact}/{folder}/a.jpg");
    FolderRow {
        folder: folder.into(),
        name: folder.rsplit('/').next().unwrap().into(),
        test_status: Some(TestStatus::Pass),
        stats: Some(r#"{"status":"pass","volts":3.30}"#.into()),
        stats_error: None,
        pictures: vec![PictureRef {
            name: "a.jpg".into(),
            url: url("original"),
            thumbnail_url: Some(url("thumbnail")),
            thumbnail_error: None,
            bytes: 1000,
            width: Some(640),
            height: Some(480),
            hash: blake3::hash(b"a").to_hex().to_string(),
        }],
        files: 2,
        bytes: 1040,
        hash: blake3::hash(folder.as_bytes()).to_hex().to_string(),
        host: "rig-1".into(),
        mount_id: "m1".into(),
        version,
        first_delivered_at: DAY + 1_001,
        last_delivered_at: DAY + 61_002,
        outboxfs_version: "0.1.0".into(),
    }
}

fn sink(fixture: &impl Fixture) -> Arc<dyn RowSink> {
    rows::open(&fixture.url()).expect("the URL is right")
}

async fn ready(fixture: &impl Fixture) -> Arc<dyn RowSink> {
    let sink = sink(fixture);
    sink.probe().await.expect("the sink can be used");
    sink
}

/// `folder` and `version` of each row that a reader finds.
async fn versions(fixture: &impl Fixture) -> Vec<(String, i64)> {
    let rows = fixture.rows().await;
    rows.iter()
        .map(|row| {
            let folder = row["folder"].as_str().unwrap().to_owned();
            (folder, row["version"].as_i64().unwrap())
        })
        .collect()
}

async fn a_row_arrives_whole(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    sink.upsert(&[row("day1/S1", 3)]).await.unwrap();
    assert_eq!(
        fixture.rows().await,
        [json!({
            "mount_id": "m1",
            "folder": "day1/S1",
            "name": "S1",
            "host": "rig-1",
            "test_status": "pass",
            "stats": {"status": "pass", "volts": 3.30},
            "stats_error": null,
            "pictures": [{
                "name": "a.jpg",
                "url": "https://pictures.example/original/day1/S1/a.jpg",
                "thumbnail_url": "https://pictures.example/thumbnail/day1/S1/a.jpg",
                "thumbnail_error": null,
                "bytes": 1000,
                "width": 640,
                "height": 480,
                "hash": blake3::hash(b"a").to_hex().as_str(),
            }],
            "picture_count": 1,
            "files": 2,
            "bytes": 1040,
            "hash": blake3::hash(b"day1/S1").to_hex().as_str(),
            "version": 3,
            "first_delivered_at": "2026-11-21T00:00:01.001Z",
            "last_delivered_at": "2026-11-21T00:01:01.002Z",
            "outboxfs_version": "0.1.0",
        })]
    );
}

async fn a_folder_without_stats_has_nulls(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let mut plain = row("plain", 1);
    (plain.test_status, plain.stats) = (None, None);
    let mut invalid = row("zinvalid", 1);
    (invalid.test_status, invalid.stats) = (Some(TestStatus::Unknown), None);
    invalid.stats_error = Some("stats.json is empty".into());
    invalid.pictures.clear();
    sink.upsert(&[plain, invalid]).await.unwrap();
    let rows = fixture.rows().await;
    assert_eq!(rows[0]["test_status"], Value::Null);
    assert_eq!(rows[0]["stats"], Value::Null);
    assert_eq!(rows[1]["test_status"], "unknown");
    assert_eq!(rows[1]["stats_error"], "stats.json is empty");
    assert_eq!(rows[1]["pictures"], json!([]));
}

async fn writing_again_changes_nothing(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1), row("b", 1)]).await.unwrap();
    let first = fixture.rows().await;
    sink.upsert(&[row("a", 1), row("b", 1)]).await.unwrap();
    assert_eq!(fixture.rows().await, first);
    sink.upsert(&[]).await.unwrap();
    assert_eq!(fixture.rows().await, first);
}

async fn an_older_version_never_replaces_a_newer(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let mut newer = row("a", 5);
    newer.test_status = Some(TestStatus::Fail);
    newer.stats = Some(r#"{"status":"fail"}"#.into());
    newer.pictures.clear();
    sink.upsert(&[row("a", 4), row("b", 1)]).await.unwrap();
    sink.upsert(&[newer]).await.unwrap();
    let after = fixture.rows().await;
    assert_eq!(after[0]["test_status"], "fail");
    assert_eq!(after[0]["picture_count"], 0);

    sink.upsert(&[row("a", 4), row("b", 2)]).await.unwrap();
    assert_eq!(fixture.rows().await[0], after[0]);
    assert_eq!(versions(&fixture).await, [("a".into(), 5), ("b".into(), 2)]);
}

async fn the_newest_of_a_batch_stays(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let batch = [row("a", 1), row("a", 3), row("b", 1), row("a", 2)];
    sink.upsert(&batch).await.unwrap();
    assert_eq!(versions(&fixture).await, [("a".into(), 3), ("b".into(), 1)]);
}

async fn mounts_do_not_touch_each_other(fixture: impl Fixture) {
    let (one, two) = (ready(&fixture).await, ready(&fixture).await);
    let mut other = row("a", 1);
    other.mount_id = "m2".into();
    one.upsert(&[row("a", 7)]).await.unwrap();
    two.upsert(&[other]).await.unwrap();
    let rows = fixture.rows().await;
    assert_eq!(
        (&rows[0]["mount_id"], &rows[0]["version"]),
        (&json!("m1"), &json!(7))
    );
    assert_eq!(
        (&rows[1]["mount_id"], &rows[1]["version"]),
        (&json!("m2"), &json!(1))
    );
}

async fn two_writers_at_once_lose_nothing(fixture: impl Fixture) {
    let (one, two) = (ready(&fixture).await, ready(&fixture).await);
    let write = |sink: Arc<dyn RowSink>, offset: i64| async move {
        for round in 0..20 {
            let rows: Vec<_> = (0..10)
                .map(|n| row(&format!("f{n}"), 2 * round + offset))
                .collect();
            sink.upsert(&rows).await.unwrap();
        }
    };
    let one = tokio::spawn(write(one, 0));
    let two = tokio::spawn(write(two, 1));
    one.await.unwrap();
    two.await.unwrap();
    let expected: Vec<_> = (0..10).map(|n| (format!("f{n}"), 39)).collect();
    assert_eq!(versions(&fixture).await, expected);
}

async fn a_batch_is_written_whole_or_not_at_all(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let mut impossible = row("b", 1);
    impossible.last_delivered_at = i64::MAX;
    let error = sink.upsert(&[row("a", 1), impossible]).await.unwrap_err();
    assert!(error.permanent, "{error}");
    assert_eq!(fixture.rows().await, [] as [Value; 0]);
    sink.upsert(&[row("a", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("a".into(), 1)]);
}

async fn odd_text_arrives_as_it_is(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let name = "O'Neil \"x\", $1; DROP TABLE device_test; -- \\ % Zürich 日本 📷 {a,b} NULL";
    let mut odd = row(name, 1);
    odd.stats = Some(json!({ name: name, "lines": "a\r\nb\tc" }).to_string());
    odd.stats_error = Some("line one\nline two, \"quoted\"".into());
    odd.host = String::new();
    sink.upsert(&[odd]).await.unwrap();
    let rows = fixture.rows().await;
    assert_eq!(rows[0]["folder"], name);
    assert_eq!(
        rows[0]["stats"],
        json!({ name: name, "lines": "a\r\nb\tc" })
    );
    assert_eq!(rows[0]["stats_error"], "line one\nline two, \"quoted\"");
    assert_eq!(rows[0]["host"], "");
}

async fn a_large_batch_arrives(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let rows: Vec<_> = (0..5000).map(|n| row(&format!("f{n:04}"), 1)).collect();
    sink.upsert(&rows).await.unwrap();
    let expected: Vec<_> = (0..5000).map(|n| (format!("f{n:04}"), 1)).collect();
    assert_eq!(versions(&fixture).await, expected);
}

async fn a_restart_finds_its_rows(fixture: impl Fixture) {
    ready(&fixture).await.upsert(&[row("a", 4)]).await.unwrap();
    let again = ready(&fixture).await;
    again.upsert(&[row("a", 3), row("b", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("a".into(), 4), ("b".into(), 1)]);
}

macro_rules! conformance {
    ($sink:ident, $fixture:ty, $($behaviour:ident),+ $(,)?) => {
        mod $sink {
            use super::*;
            $(
                #[tokio::test]
                async fn $behaviour() {
                    super::$behaviour(<$fixture>::new().await).await;
                }
            )+
        }
    };
    ($($sink:ident: $fixture:ty),+ $(,)?) => {
        $(conformance!(
            $sink, $fixture,
            a_row_arrives_whole,
            a_folder_without_stats_has_nulls,
            writing_again_changes_nothing,
            an_older_version_never_replaces_a_newer,
            the_newest_of_a_batch_stays,
            mounts_do_not_touch_each_other,
            two_writers_at_once_lose_nothing,
            a_batch_is_written_whole_or_not_at_all,
            odd_text_arrives_as_it_is,
            a_large_batch_arrives,
            a_restart_finds_its_rows,
        );)+
    };
}

conformance!(sqlite: Sqlite);

#[test]
fn a_url_that_names_no_sink_is_refused_with_what_would_do() {
    for (url, why) in [
        ("rows.db", "known: sqlite:/path"),
        ("sqlite:rows.db", "absolute"),
        ("sqlite://host/rows.db", "absolute"),
        ("sqlite:/srv/", "must name a file"),
        ("sqlite:/srv/rows.db?tabel=x", "tabel=x"),
    ] {
        let Err(error) = rows::open(url) else {
            panic!("{url} was taken")
        };
        assert!(error.permanent && error.message.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_table_of_another_shape_is_left_alone_and_named() {
    let fixture = Sqlite::new().await;
    fixture.execute("CREATE TABLE device_test (mount_id TEXT, folder TEXT, hash TEXT)");
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(error.permanent);
    assert!(error.message.contains("no column name, host"), "{error}");

    let fixture = Sqlite::new().await;
    let columns =
        include_str!("../src/rows/sqlite.sql").replace("PRIMARY KEY (mount_id, folder)", "x TEXT");
    fixture.execute(&columns);
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.message.contains("no unique key (mount_id, folder)"),
        "{error}"
    );
}

#[tokio::test]
async fn another_table_and_columns_of_ones_own_are_fine() {
    let fixture = Sqlite::new().await;
    let sink = rows::open(&format!("{}?table=my%20\"rigs\"", fixture.url())).unwrap();
    sink.probe().await.unwrap();
    fixture.execute("ALTER TABLE \"my \"\"rigs\"\"\" ADD COLUMN note TEXT");
    sink.upsert(&[row("a", 1)]).await.unwrap();
    fixture.execute("UPDATE \"my \"\"rigs\"\"\" SET note = 'mine'");
    sink.upsert(&[row("a", 2)]).await.unwrap();
    let kept = "SELECT count(*) FROM \"my \"\"rigs\"\"\" WHERE note = 'mine' AND version = 2";
    assert_eq!(fixture.number(kept), 1);
}

#[tokio::test]
async fn a_database_that_was_taken_away_is_made_again() {
    let fixture = Sqlite::new().await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    fixture.remove_files();
    sink.upsert(&[row("b", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("b".into(), 1)]);
}

#[tokio::test]
async fn what_is_no_database_is_not_touched() {
    let fixture = Sqlite::new().await;
    std::fs::write(fixture.path(), "a letter to my aunt, long enough to be one").unwrap();
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("not a database"),
        "{error}"
    );
    let content = std::fs::read_to_string(fixture.path()).unwrap();
    assert!(content.starts_with("a letter"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_worth_another_try() {
    let fixture = Sqlite::new().await;
    let folder = fixture.path().parent().unwrap().join("disk");
    let sink = rows::open(&format!("sqlite:{}/rows.db", folder.display())).unwrap();
    let error = sink.probe().await.unwrap_err();
    assert!(
        !error.permanent && error.message.contains("there is no folder"),
        "{error}"
    );
    std::fs::create_dir(&folder).unwrap();
    sink.upsert(&[row("a", 1)]).await.unwrap();
}
