//! Any bytes as a CSV file: text that is written back byte by byte, and into which a row comes once; or a
//! reason, and the file is as it was.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/rows/csv/dialect.rs"]
mod dialect;
#[path = "../../support/row.rs"]
mod row;

use std::fs;
use std::sync::LazyLock;

use dialect::Dialect;
use libfuzzer_sys::fuzz_target;
use outboxfs::rows::{self, RowError};
use tempfile::TempDir;
use tokio::runtime::Runtime;

static PLACE: LazyLock<(TempDir, Runtime)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    (folder.expect("a folder"), runtime.expect("a runtime"))
});

fn upsert() -> Result<(), RowError> {
    let (folder, runtime) = &*PLACE;
    let url = format!("csv:{}", folder.path().join("rows.csv").display());
    runtime.block_on(async {
        let sink = rows::open(&[url], &Default::default())?;
        sink.upsert(&[row::of_folder("a")]).await
    })
}

fuzz_target!(|data: &[u8]| {
    match Dialect::read(data) {
        Ok((dialect, text)) => {
            assert!(!text.contains('\0'));
            assert_eq!(dialect.encode(text.into_owned()).as_deref(), Ok(data));
        }
        Err(why) => assert!(!why.is_empty() && !why.contains('\n')),
    }
    let file = PLACE.0.path().join("rows.csv");
    fs::write(&file, data).expect("there is room");
    match upsert() {
        Ok(()) => {
            let once = fs::read(&file).expect("it is there");
            upsert().expect("what was written once is read");
            assert_eq!(fs::read(&file).expect("it is there"), once);
        }
        Err(why) => {
            assert!(
                !why.message.is_empty() && !why.message.contains('\n'),
                "{why}"
            );
            assert_eq!(fs::read(&file).expect("it is there"), data);
        }
    }
});
