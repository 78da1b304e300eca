//! A row for each picture or file of a folder.

use super::sinks::table_rows;
use super::*;

fn file(folder: &str, name: &str) -> FileRef {
    let mut file = row(folder, 1).pictures.remove(0);
    file.url = file.url.replace("a.jpg", name);
    file.name = name.into();
    file
}

/// A folder with these pictures and a `stats.json`.
fn folder(folder: &str, version: i64, pictures: &[&str]) -> FolderRow {
    let mut row = row(folder, version);
    row.pictures = pictures.iter().map(|name| file(folder, name)).collect();
    let mut stats = file(folder, "stats.json");
    (stats.thumbnail_url, stats.width, stats.height) = (None, None, None);
    row.other_files = vec![stats];
    row
}

/// Writes what happens to two folders, and says which files are left at last.
async fn story(url: String, options: &Options) {
    let sink = rows::open(&[url], options).unwrap();
    sink.probe().await.unwrap();
    let first = [
        folder("a", 1, &["1.jpg", "2.jpg"]),
        folder("b", 1, &["1.jpg"]),
    ];
    sink.upsert(&first).await.unwrap();
    sink.upsert(&[folder("a", 3, &["2.jpg", "3.jpg"])])
        .await
        .unwrap();
    // Late, and older than what is there.
    sink.upsert(&[folder("a", 2, &["1.jpg", "2.jpg", "4.jpg"])])
        .await
        .unwrap();
    sink.upsert(&[folder("c", 1, &["x.jpg"]), folder("d", 1, &["x.jpg"])])
        .await
        .unwrap();
    sink.upsert(&[folder("c", 2, &[])]).await.unwrap();
    let gone = Removed {
        mount_id: "m1".into(),
        folder: "d".into(),
        version: 2,
    };
    sink.remove(&[gone]).await.unwrap();
}

const PICTURES: [&str; 3] = ["a/2.jpg@3", "a/3.jpg@3", "b/1.jpg@1"];
const FILES: [&str; 6] = [
    "a/2.jpg@3",
    "a/3.jpg@3",
    "a/stats.json@3",
    "b/1.jpg@1",
    "b/stats.json@1",
    "c/stats.json@2",
];

fn names(rows: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let name = |row: &Value| {
        format!(
            "{}/{}@{}",
            text(&row["folder"]),
            text(&row["file"]),
            text(&row["version"])
        )
    };
    let mut names: Vec<String> = rows.iter().map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn sqlite() {
    let fixture = Sqlite::new().await.unwrap();
    for (per, table, expected) in [
        ("picture", "device_picture", &PICTURES[..]),
        ("file", "device_file", &FILES),
    ] {
        story(format!("{}?per={per}", fixture.url()), &Options::default()).await;
        assert_eq!(names(&fixture.table(table)), expected);
    }
    let picture = &fixture.table("device_picture")[0];
    assert_eq!(picture["url"], "https://pictures.example/original/a/2.jpg");
    assert_eq!(picture["folder_name"], "a");
    assert_eq!(
        (&picture["width"], &picture["bytes"]),
        (&json!(640), &json!(1000))
    );
    assert_eq!(picture["delivered_at"], "2026-11-21T00:00:01.001Z");
    assert_eq!(fixture.table("device_file")[2]["width"], Value::Null);
}

#[tokio::test]
async fn postgres() {
    let Some(fixture) = Postgres::new().await else {
        return;
    };
    for (per, table, expected) in [
        ("picture", "device_picture", &PICTURES[..]),
        ("file", "device_file", &FILES),
    ] {
        story(format!("{}?per={per}", fixture.url()), &fixture.options()).await;
        assert_eq!(names(&table_rows(&fixture.database, table).await), expected);
    }
}

#[tokio::test]
async fn postgrest() {
    let Some(fixture) = Postgrest::new().await else {
        return;
    };
    let schema = include_str!("../../src/rows/schema/postgres_file.sql");
    fixture.service.database.execute(schema).await;
    let url = fixture.url().replace("device_test", "device_file") + "?per=file";
    story(url, &fixture.options()).await;
    assert_eq!(
        names(&table_rows(&fixture.service.database, "device_file").await),
        FILES
    );
}

#[tokio::test]
async fn csv() {
    let fixture = Csv::new().await.unwrap();
    story(
        format!("{}?per=picture", fixture.url()),
        &Options::default(),
    )
    .await;
    let rows: Vec<Value> = fixture
        .records()
        .iter()
        .map(|record| json!(record))
        .collect();
    assert_eq!(names(&rows), PICTURES);
}

#[tokio::test]
async fn json_lines() {
    let fixture = JsonLines::new().await.unwrap();
    story(
        format!("{}?per=picture", fixture.url()),
        &Options::default(),
    )
    .await;
    // Of a folder the lines with its highest version count.
    let lines = fixture.lines();
    let newest = |line: &&Value| {
        let same = lines
            .iter()
            .filter(|other| other["folder"] == line["folder"]);
        same.map(|other| other["version"].as_i64()).max() == Some(line["version"].as_i64())
    };
    let counts: Vec<Value> = lines.iter().filter(newest).cloned().collect();
    let left: Vec<Value> = counts
        .into_iter()
        .filter(|line| line["removed"] != true)
        .collect();
    assert_eq!(names(&left), PICTURES);
}
