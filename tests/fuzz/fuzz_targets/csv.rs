//! Any bytes as a CSV file: text that is written back byte by byte, or a reason.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/rows/csv/dialect.rs"]
mod dialect;

use dialect::Dialect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match Dialect::read(data) {
    Ok((dialect, text)) => {
        assert!(!text.contains('\0'));
        assert_eq!(dialect.encode(text.into_owned()).as_deref(), Ok(data));
    }
    Err(why) => assert!(!why.is_empty() && !why.contains('\n')),
});
