//! Any bytes as a `stats.json`: JSON that every database takes, or one sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outboxfs::derive::stats::{StatsRules, parse};
use outboxfs::rows::JsonPath;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let rules = StatsRules::default();
    match parse(data, &rules) {
        Ok(stats) => {
            // Not `Value`: it has no place for numbers beyond double precision, which are kept.
            let json: &RawValue = serde_json::from_str(&stats.json).expect("it is JSON");
            assert!(json.get().starts_with('{'));
            let again =
                parse(stats.json.as_bytes(), &rules).expect("what was read once is read again");
            assert_eq!(again, stats);
        }
        Err(why) => assert!(
            why.starts_with("stats.json") && !why.contains('\n'),
            "{why}"
        ),
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = JsonPath::parse(text);
    }
});
