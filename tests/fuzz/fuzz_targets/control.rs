//! Any bytes as a line for `.upload/control`, and as a request to the daemon's socket: a command about what is
//! below the directory, or one sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outboxfs::control::Request;
use outboxfs::daemon::command::Command;
use outboxfs::path::RelPath;

fuzz_target!(|data: &[u8]| {
    let folder = RelPath::parse(b"a/folder").expect("it is a path");
    for directory in [&RelPath::root(), &folder] {
        match Command::parse(directory, data) {
            Ok(Command::Retry(path) | Command::Flush(path)) => {
                assert!(path.as_bytes().starts_with(directory.as_bytes()));
                assert!(path.components().all(|name| name != b".." && name != b"."));
            }
            Ok(Command::Pause | Command::Resume) => assert!(directory.is_root()),
            Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control), "{why}"),
        }
    }
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let text = serde_json::to_vec(&request).expect("it is JSON");
        let again: Request = serde_json::from_slice(&text).expect("what was written is read");
        assert_eq!(again, request);
    }
});
