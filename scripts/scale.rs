//! Takes files of a journal for delivered, without delivering them, until so many are left:
//!
//! ```text
//! cargo run --release --example scale-journal -- JOURNAL DIRECTORY LEFT
//! ```
//!
//! Prints the median time of a claim of 32 files shortly before the end, microseconds.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outboxfs::derive::thumbnail::ThumbnailState;
use outboxfs::journal::{
    BatchLimits, Delivered, FileClaim, FileOutcome, FileStat, Journal, Kind, Lane, Options,
    Settlement,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Files claimed at a time, as a lane does, and settled at a time, as the settler does.
const CLAIM: usize = 32;
const GROUP: usize = 1024;
/// Claims that are timed: the last ones.
const TIMED: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let path = PathBuf::from(next("the journal")?);
    let directory = PathBuf::from(next("the directory")?).canonicalize()?;
    let left: u64 = next("how many to leave")?.to_string_lossy().parse()?;
    let metadata = directory.metadata()?;
    let journal = Journal::open(Options {
        path,
        directory: directory.clone(),
        device: metadata.dev(),
        inode: metadata.ino(),
        settle: Duration::ZERO,
        has_rows: false,
        sync_deletes: false,
        priority: outboxfs::glob::Globs::default(),
        batches: BatchLimits::default(),
        thumbnails: Vec::new(),
        remote: None,
    })?;
    let mut queued = journal.view()?.totals()?.queued_files;
    let mut took = Vec::new();
    while queued > left {
        let mut group = Vec::with_capacity(GROUP);
        while group.len() < GROUP && queued > left {
            let began = Instant::now();
            let claims = journal.claim_files(Lane::Small, CLAIM).await?.claims;
            took.push(began.elapsed().as_micros());
            queued -= claims.len() as u64;
            for claim in claims {
                group.push(delivered(&directory, claim)?);
            }
        }
        journal.settle_files(group).await?;
    }
    let mut last: Vec<_> = took.into_iter().rev().take(TIMED).collect();
    last.sort_unstable();
    println!("{}", last[last.len() / 2]);
    Ok(())
}

fn delivered(directory: &std::path::Path, claim: FileClaim) -> Result<Settlement> {
    let file = directory.join(claim.path.as_path());
    let metadata = file.metadata()?;
    // As scripts/bench-rows names them; the tree of scripts/scale makes no rows.
    let kind = match claim.path.name() {
        b"stats.json" => Kind::Stats,
        b"front.jpg" => Kind::Picture,
        _ => Kind::Other,
    };
    let (hash, thumbnail) = match kind {
        Kind::Stats => (blake3::hash(&std::fs::read(&file)?), ThumbnailState::None),
        Kind::Picture => (
            blake3::hash(claim.path.as_bytes()),
            ThumbnailState::Delivered,
        ),
        Kind::Other => (blake3::hash(claim.path.as_bytes()), ThumbnailState::None),
    };
    Ok(Settlement {
        id: claim.id,
        version: claim.version,
        path: claim.path,
        outcome: FileOutcome::Delivered(Delivered {
            stat: FileStat {
                size: metadata.size(),
                mtime_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
                inode: metadata.ino(),
                links: 1,
            },
            hash,
            kind,
            dimensions: None,
            // As S3 gives them.
            proof: outboxfs::remote::Proof::of_etag(Some(hash.to_hex()[..32].to_owned())),
            thumbnail,
        }),
    })
}
