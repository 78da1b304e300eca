//! Any bytes as a path: what is taken stays below the directory, and its key and its text lead back to it.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/remote/escaped.rs"]
mod escaped;
use libfuzzer_sys::fuzz_target;
use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Key, path_text};

fuzz_target!(|data: &[u8]| {
    if let Some(path) = RelPath::parse(data) {
        assert!(
            path.components().all(|name| !name.is_empty()
                && name != b"."
                && name != b".."
                && !name.contains(&0))
        );
        let text = path_text(&path);
        assert_eq!(RelPath::from_text(&text).as_ref(), Some(&path));
        assert_eq!(
            Key::new(Artifact::Original, &path).as_str(),
            format!("original/{text}")
        );
        assert!(!text.bytes().any(|byte| byte.is_ascii_control()) && !text.contains('\\'));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        // Whatever a remote lists is a path below the directory, or none.
        if let Some(path) = RelPath::from_text(text) {
            assert_eq!(RelPath::parse(path.as_bytes()).as_ref(), Some(&path));
        }
        let name = escaped::escape(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == ' ');
        assert_eq!(escaped::unescape(&name).as_deref(), Some(text));
    }
});
