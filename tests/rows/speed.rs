//! How fast rows are written; measured on request:
//! `cargo test --release --test rows speed -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use super::*;

const ROWS: usize = 100_000;
/// As many as delivery brings at a time.
const BATCH: usize = 1000;

async fn measure(name: &str, fixture: &impl Fixture) {
    let sink = ready(fixture).await;
    let rows: Vec<_> = (0..ROWS)
        .map(|n| row(&format!("day{}/S{n:06}", n % 30), 1))
        .collect();
    for round in ["new", "again"] {
        let start = Instant::now();
        for batch in rows.chunks(BATCH) {
            sink.upsert(batch).await.unwrap();
        }
        let rate = ROWS as f64 / start.elapsed().as_secs_f64();
        println!("{name}, {round}: {rate:.0} rows/s");
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_postgres() {
    if let Some(fixture) = Postgres::new().await {
        measure("postgres", &fixture).await;
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_sqlite() {
    measure("sqlite", &Sqlite::new().await.unwrap()).await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_json_lines() {
    measure("json lines", &JsonLines::new().await.unwrap()).await;
}

/// 100,000 rows are there, and a hundred batches of 50 rows change.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_csv() {
    let fixture = Csv::new().await.unwrap();
    let sink = rows::open(
        &[format!("{}?per=picture", fixture.url())],
        &Options::default(),
    )
    .unwrap();
    let all: Vec<_> = (0..ROWS).map(|n| row(&format!("S{n:06}"), 1)).collect();
    let start = Instant::now();
    sink.upsert(&all).await.unwrap();
    println!(
        "csv, {ROWS} new rows in one batch: {:.2} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    for batch in all.chunks(50).take(20) {
        let newer: Vec<_> = batch.iter().map(|old| row(&old.folder, 2)).collect();
        sink.upsert(&newer).await.unwrap();
    }
    let each = start.elapsed().as_secs_f64() / 20.0;
    println!("csv, a batch into a file of {ROWS} rows: {each:.2} s");
}

#[test]
#[ignore = "a measurement"]
fn speed_of_folder_names() {
    let pattern = FolderPattern::parse("(?P<sku>[^_]+)_(?P<colour>.+)").unwrap();
    let names: Vec<String> = (0..ROWS).map(|n| format!("SKU{n:06}_dark-green")).collect();
    let start = Instant::now();
    let mut groups = 0;
    for _ in 0..10 {
        groups += names
            .iter()
            .map(|name| pattern.cells(name).len())
            .sum::<usize>();
    }
    assert_eq!(groups, 30 * ROWS);
    let rate = 10.0 * ROWS as f64 / start.elapsed().as_secs_f64();
    println!("folder names: {rate:.0} a second");
}
