//! Writes rows into a sink as delivery does, or takes names of folders apart:
//!
//! ```text
//! cargo run --release --example bench-rows -- write URL ROWS BATCH VERSION
//! cargo run --release --example bench-rows -- names ROWS
//! ```
//!
//! Prints the seconds that it took; making the rows does not count.

use std::hint::black_box;
use std::time::{Duration, Instant};

use outboxfs::remote::Environment;
use outboxfs::rows::{
    self, Credentials, FileRef, FolderPattern, FolderRow, Options, RowSink, TestStatus,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let took = match next("what to do")?.as_str() {
        "write" => {
            let options = Options {
                credentials: Credentials::find(&Environment::process()),
                ..Options::default()
            };
            let sink = rows::open(&[next("the URL")?], &options)?;
            let count = next("how many rows")?.parse()?;
            let batch = next("how many at a time")?.parse()?;
            write(sink.as_ref(), count, batch, next("the version")?.parse()?).await?
        }
        "names" => names(next("how many rows")?.parse()?)?,
        other => return Err(format!("'{other}' is neither write nor names").into()),
    };
    println!("{}", took.as_secs_f64());
    Ok(())
}

async fn write(sink: &dyn RowSink, count: usize, batch: usize, version: i64) -> Result<Duration> {
    sink.probe().await?;
    let mut took = Duration::ZERO;
    for start in (0..count).step_by(batch) {
        let end = count.min(start + batch);
        let rows: Vec<FolderRow> = (start..end).map(|number| row(number, version)).collect();
        let began = Instant::now();
        sink.upsert(&rows).await?;
        took += began.elapsed();
    }
    Ok(took)
}

fn names(count: usize) -> Result<Duration> {
    let pattern = FolderPattern::parse("(?P<sku>[^_]+)_(?P<colour>.+)")?;
    let names: Vec<String> = (0..count)
        .map(|number| format!("SKU{number:06}_dark-green"))
        .collect();
    let began = Instant::now();
    for name in &names {
        black_box(pattern.cells(name));
    }
    Ok(began.elapsed())
}

/// A folder with a picture and a small `stats.json`.
fn row(number: usize, version: i64) -> FolderRow {
    let folder = format!("day{}/S{number:06}", number % 30);
    let url = |artifact: &str| format!("https://pictures.example/{artifact}/{folder}/a.jpg");
    // 2026-11-21 00:00:00 UTC.
    let delivered_at = 1_795_219_200_000 + number as i64;
    FolderRow {
        name: format!("S{number:06}"),
        test_status: Some(TestStatus::Pass),
        stats: Some(format!(
            r#"{{"serial":"S{number:06}","status":"pass","volts":3.30,"version":{version}}}"#
        )),
        stats_error: None,
        pictures: vec![FileRef {
            name: "a.jpg".into(),
            url: url("original"),
            thumbnail_url: Some(url("thumbnail")),
            thumbnail_error: None,
            bytes: 1_234_567,
            width: Some(6000),
            height: Some(4000),
            hash: blake3::hash(folder.as_bytes()).to_hex().to_string(),
            delivered_at,
            object_id: None,
            object_version: None,
            etag: None,
        }],
        other_files: Vec::new(),
        files: 2,
        bytes: 1_234_627,
        hash: blake3::hash(&number.to_le_bytes()).to_hex().to_string(),
        host: "rig-1".into(),
        mount_id: "5b0f3c6e9a1d4f27".into(),
        version,
        first_delivered_at: delivered_at,
        last_delivered_at: delivered_at + 60_000,
        outboxfs_version: env!("CARGO_PKG_VERSION").into(),
        folder,
    }
}
