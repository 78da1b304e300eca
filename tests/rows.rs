//! What every row sink does: one set of behaviours, run against each of them, and what is told
//! when a sink cannot be used.

#[path = "rows/csv.rs"]
mod csv_files;
#[path = "rows/docs.rs"]
mod docs;
#[path = "rows/follow.rs"]
mod follow;
#[path = "rows/json_lines.rs"]
mod json_lines_files;
#[path = "rows/per_file.rs"]
mod per_file;
#[path = "rows/postgres.rs"]
mod postgres_servers;
#[path = "rows/postgrest.rs"]
mod postgrest_services;
#[path = "support/postgres.rs"]
mod server;
#[path = "rows/service.rs"]
mod service;
#[path = "rows/several.rs"]
mod several;
#[path = "rows/sinks.rs"]
mod sinks;
#[path = "rows/sqlite.rs"]
mod sqlite_files;

use std::sync::Arc;

use outboxfs::rows::{
    self, FileRef, FolderPattern, FolderRow, Options, PromotedColumn, Removed, RowSink, TestStatus,
};
use serde_json::{Value, json};
use sinks::{Csv, Fixture, JsonLines, Postgres, Postgrest, Sqlite};

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
        pictures: vec![FileRef {
            name: "a.jpg".into(),
            url: url("original"),
            thumbnail_url: Some(url("thumbnail")),
            thumbnail_error: None,
            bytes: 1000,
            width: Some(640),
            height: Some(480),
            hash: blake3::hash(b"a").to_hex().to_string(),
            delivered_at: DAY + 1_001,
            object_id: None,
            object_version: None,
            etag: None,
        }],
        other_files: Vec::new(),
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
    rows::open(&[fixture.url()], &fixture.options()).expect("the URL is right")
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
                "delivered_at": DAY + 1_001,
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

async fn a_removed_folder_is_gone_unless_it_came_back(fixture: impl Fixture) {
    let sink = ready(&fixture).await;
    let removed = |folder: &str, version| Removed {
        mount_id: "m1".into(),
        folder: folder.into(),
        version,
    };
    let mut other = row("a", 1);
    other.mount_id = "m2".into();
    let rows = [row("a", 1), row("b", 5), row("c", 1), other];
    sink.upsert(&rows).await.unwrap();
    let gone = [removed("a", 2), removed("b", 4), removed("never", 1)];
    sink.remove(&gone).await.unwrap();
    sink.remove(&gone).await.unwrap();
    let left = [("b".into(), 5), ("c".into(), 1), ("a".into(), 1)];
    assert_eq!(versions(&fixture).await, left);
    sink.upsert(&[row("a", 3)]).await.unwrap();
    assert_eq!(versions(&fixture).await[0], ("a".into(), 3));
}

async fn members_of_stats_are_columns_of_their_own(fixture: impl Fixture) {
    let options = Options {
        columns: vec![
            PromotedColumn::parse("Volts", "$.volts number").unwrap(),
            PromotedColumn::parse("serial \"no\"", "$.unit.serial").unwrap(),
            PromotedColumn::parse("ok", "$.ok boolean").unwrap(),
        ],
        folder_pattern: Some(FolderPattern::parse("(?P<sku>[^_]+)_(?P<colour>.+)").unwrap()),
        ..fixture.options()
    };
    // What is there already stays, and gets the columns.
    ready(&fixture)
        .await
        .upsert(&[row("old", 1)])
        .await
        .unwrap();
    fixture
        .add_columns(&[
            "\"Volts\" numeric",
            "\"serial \"\"no\"\"\" text",
            "ok boolean",
            "sku text",
            "colour text",
            "folder_error text",
        ])
        .await;
    let sink = rows::open(&[fixture.url()], &options).unwrap();
    sink.probe().await.unwrap();
    let mut with = row("A1_dark red", 1);
    with.stats = Some(r#"{"volts":3.25,"ok":true,"unit":{"serial":"S;1\"\n"}}"#.into());
    let mut without = row("B2", 1);
    without.stats = Some(r#"{"volts":"much"}"#.into());
    sink.upsert(&[with, without]).await.unwrap();
    let rows = fixture.rows().await;
    let cells = |row: &Value| {
        ["Volts", "serial \"no\"", "ok", "sku", "colour"].map(|name| plain(&row[name]))
    };
    assert_eq!(
        cells(&rows[0]),
        ["3.25", "S;1\"\n", "true", "A1", "dark red"]
    );
    assert_eq!(rows[0]["folder_error"], Value::Null);
    assert_eq!(cells(&rows[1]), ["", "", "", "", ""]);
    let complaint = rows[1]["stats_error"].as_str().unwrap();
    assert!(
        complaint.contains("\"much\" at $.volts is not a number"),
        "{complaint}"
    );
    let mismatch = rows[1]["folder_error"].as_str().unwrap();
    assert!(mismatch.contains("'B2' does not match"), "{mismatch}");
    assert_eq!(cells(&rows[2]), ["", "", "", "", ""]);
}

/// A cell however the sink types it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Number(number) if number.as_i64() == Some(1) => "true".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every behaviour for every sink.
macro_rules! conformance {
    ($($sink:ident: $fixture:ty),+; $behaviours:tt) => {
        $(conformance!(@ $sink, $fixture, $behaviours);)+
    };
    (@ $sink:ident, $fixture:ty, [$($behaviour:ident),+ $(,)?]) => {
        mod $sink {
            use super::*;
            $(
                #[tokio::test]
                async fn $behaviour() {
                    // Where a service is not installed there is nothing to test.
                    if let Some(fixture) = <$fixture>::new().await {
                        super::$behaviour(fixture).await;
                    }
                }
            )+
        }
    };
}

conformance!(
    sqlite: Sqlite,
    postgres: Postgres,
    postgrest: Postgrest,
    csv: Csv,
    json_lines: JsonLines;
    [
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
        a_removed_folder_is_gone_unless_it_came_back,
        members_of_stats_are_columns_of_their_own,
    ]
);

// After the macro that it uses.
#[path = "rows/tables.rs"]
mod tables;

#[test]
fn a_url_that_names_no_sink_is_refused_with_what_would_do() {
    for (url, why) in [
        ("rows.db", "sqlite:/path"),
        ("mysql://host/db", "scheme is not known"),
        ("sqlite:rows.db", "absolute"),
        ("sqlite://host/rows.db", "absolute"),
        ("sqlite:/srv/", "must name a file"),
        ("sqlite:/srv/rows.db?tabel=x", "'tabel' means nothing"),
        ("csv:/srv/rows.csv?table=x", "'table' means nothing"),
        ("jsonl:/srv/rows.jsonl?per=day", "per=day"),
        ("postgres:///db", "no host"),
        ("postgres://host/db", "no user"),
        ("postgres://user@host:port/db", "port"),
        ("postgres://user@host/db?sslmode=prefer", "unprotected"),
        (
            "postgres://user@host/db?sslrootcert=/nowhere.crt",
            "/nowhere.crt",
        ),
        ("postgrest+https://host/", "no table"),
        ("postgrest+https://user:pw@host/rest/v1/t", "do not belong"),
    ] {
        let Err(error) = rows::open(&[url], &Options::default()) else {
            panic!("{url} was taken")
        };
        assert!(error.permanent && error.message.contains(why), "{error}");
        assert!(!error.message.contains("pw@"), "{error}");
    }
}
