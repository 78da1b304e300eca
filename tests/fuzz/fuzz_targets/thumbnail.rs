//! Any bytes: a thumbnail of the size asked for, or one sentence, in bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outboxfs::derive::thumbnail::{Limits, Options, is_picture, make_all};

fuzz_target!(|data: &[u8]| {
    let size = |width, height, linear| Options {
        width,
        height,
        linear,
        ..Options::default()
    };
    let limits = Limits {
        max_pixels: 1_000_000,
        max_memory: 64 << 20,
        ..Limits::default()
    };
    match make_all(
        data,
        &[size(20, 30, false), size(64, 8, true)],
        &limits,
        None,
    ) {
        Ok(made) => {
            assert!(is_picture(data));
            let sizes: Vec<_> = made.iter().map(|made| (made.width, made.height)).collect();
            assert_eq!(sizes, [(20, 30), (64, 8)]);
        }
        Err(why) => assert!(why.0.ends_with('.') && !why.0.contains('\n'), "{why}"),
    }
});
