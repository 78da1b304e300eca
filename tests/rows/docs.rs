//! What docs/rows.md shows is what comes out.

use std::collections::HashMap;

use outboxfs::derive::stats::{self, StatsRules};
use outboxfs::derive::thumbnail::ThumbnailState;
use outboxfs::path::RelPath;
use outboxfs::remote::{Key, Proof};
use outboxfs::rows::folder::{DeliveredFile, FolderFiles, StatsFile, build};

use super::*;

const DOCS: &str = include_str!("../../docs/rows.md");

/// Folder, its `stats.json`, its pictures, and the hours after which they were delivered.
const FOLDERS: [(&str, &str, &[&str], i64); 6] = [
    (
        "20/S-1001",
        r#"{"serial":"S-1001","status":"FAIL","power":{"voltage":3.1}}"#,
        &["front.jpg", "back.jpg"],
        -20,
    ),
    (
        "20/S-1002",
        r#"{"serial":"S-1002","status":"pass","power":{"voltage":3.31}}"#,
        &["front.jpg"],
        -19,
    ),
    (
        "21/S-1001-b",
        r#"{"serial":"S-1001","status":"pass","power":{"voltage":3.3}}"#,
        &["front.jpg"],
        1,
    ),
    (
        "21/S-1003",
        r#"{"serial":"S-1003","passed":false,"power":{"voltage":2.95}}"#,
        &["front.jpg"],
        2,
    ),
    ("21/S-1004", "", &["front.jpg"], 3),
    ("21/S-1005", r#"{"serial":"S-1005","result":"nok"}"#, &[], 4),
];

fn folder_row((folder, stats, pictures, hours): (&str, &str, &[&str], i64)) -> FolderRow {
    let file = |name: &str| DeliveredFile {
        name: name.into(),
        size: 1000,
        hash: blake3::hash(name.as_bytes()),
        picture: name.ends_with(".jpg"),
        dimensions: None,
        thumbnail: ThumbnailState::None,
        delivered_at: DAY + hours * 3_600_000,
        proof: Proof::default(),
    };
    let files: Vec<_> = pictures
        .iter()
        .chain(&["stats.json"])
        .map(|name| file(name))
        .collect();
    let row = build(&FolderFiles {
        folder: &RelPath::parse(folder.as_bytes()).unwrap(),
        version: 1,
        files: &files,
        stats: StatsFile::Content(stats.as_bytes()),
        stats_rules: &StatsRules::default(),
        host: "rig-1",
        mount_id: "m1",
        url: &|artifact, path, _| Some(format!("https://lab.example/{}", Key::new(artifact, path))),
    });
    row.unwrap()
}

async fn write(fixture: &impl Fixture) {
    let options = Options {
        columns: vec![PromotedColumn::parse("voltage", "$.power.voltage number").unwrap()],
        ..fixture.options()
    };
    let urls = [fixture.url(), format!("{}?per=picture", fixture.url())];
    let sink = rows::open(&urls, &options).unwrap();
    sink.upsert(&FOLDERS.map(folder_row)).await.unwrap();
}

/// The queries of the documentation, each with the answer that it shows.
fn examples() -> Vec<(&'static str, &'static str)> {
    let blocks = DOCS.split("```sql\n").skip(1);
    let example = |block: &'static str| {
        let (query, rest) = block.split_once("\n```").unwrap();
        let (_, answer) = rest.split_once("```text\n").unwrap();
        (query, answer.split_once("```").unwrap().0)
    };
    let examples: Vec<_> = blocks.map(example).collect();
    assert_eq!(examples.len(), 4);
    examples
}

/// A table as the documentation shows it.
fn shown(table: &[Vec<String>]) -> String {
    let mut widths: HashMap<usize, usize> = HashMap::new();
    for (at, cell) in table.iter().flat_map(|row| row.iter().enumerate()) {
        let width = widths.entry(at).or_default();
        *width = cell.len().max(*width);
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| format!("{cell:0$}", widths[&at]))
            .collect();
        format!("{}\n", cells.join(" | ").trim_end())
    };
    table.iter().map(line).collect()
}

#[tokio::test]
async fn the_answers_are_sqlites() {
    let fixture = Sqlite::new().await.unwrap();
    write(&fixture).await;
    let database = rusqlite::Connection::open(fixture.path()).unwrap();
    for (query, answer) in examples() {
        let mut query = database.prepare(query).unwrap();
        let mut table = vec![query.column_names().map(str::to_owned).collect::<Vec<_>>()];
        let width = table[0].len();
        let cell = |value: rusqlite::types::Value| match value {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Real(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let rows = query.query_map([], |row| {
            (0..width).map(|at| Ok(cell(row.get(at)?))).collect()
        });
        table.extend(rows.unwrap().map(Result::unwrap));
        assert_eq!(shown(&table), answer);
    }
}

#[tokio::test]
async fn the_answers_are_postgresqls() {
    let Some(fixture) = Postgres::new().await else {
        return;
    };
    write(&fixture).await;
    let client = fixture.database.client().await;
    client.batch_execute("SET timezone = 'UTC'").await.unwrap();
    for (query, answer) in examples() {
        let mut table = Vec::new();
        for message in client.simple_query(query).await.unwrap() {
            match message {
                tokio_postgres::SimpleQueryMessage::RowDescription(columns) => {
                    table.push(
                        columns
                            .iter()
                            .map(|column| column.name().to_owned())
                            .collect(),
                    );
                }
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    table.push(
                        (0..row.len())
                            .map(|at| row.get(at).unwrap().to_owned())
                            .collect(),
                    );
                }
                _ => {}
            }
        }
        assert_eq!(shown(&table), answer);
    }
}

#[test]
fn what_is_wrong_with_stats_is_said_as_shown() {
    let table = DOCS
        .split("| `stats.json` | `stats_error` |\n| --- | --- |\n")
        .nth(1)
        .unwrap();
    let lines = table.lines().take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for line in lines {
        let (stats, error) = line.trim_matches('|').split_once(" | ").unwrap();
        let stats = stats.trim().trim_matches('`');
        let said = stats::parse(stats.as_bytes(), &StatsRules::default()).unwrap_err();
        assert_eq!(said, error.trim(), "{stats}");
        count += 1;
    }
    assert_eq!(count, 6);
}
