//! Any bytes: a thumbnail of the size asked for, or one sentence, in bounded memory.
#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../../src/derive/thumbnail/mod.rs"]
mod thumbnail;

use libfuzzer_sys::fuzz_target;
use thumbnail::{Options, is_picture, make};

fuzz_target!(|data: &[u8]| {
    let options = Options {
        width: 20,
        height: 30,
        max_pixels: 1_000_000,
        max_memory: 64 << 20,
        ..Options::default()
    };
    match make(data, &options) {
        Ok(made) => {
            assert!(is_picture(data));
            assert_eq!((made.width, made.height), (20, 30));
        }
        Err(why) => assert!(why.0.ends_with('.') && !why.0.contains('\n'), "{why}"),
    }
});
