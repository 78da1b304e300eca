//! What has to hold for whatever is put in: names, contents, files that programs and people have made,
//! and what comes over the line. Nothing panics, nothing hangs, what is refused is refused in a sentence.

#[path = "support/journal.rs"]
mod journal;
#[path = "support/objects.rs"]
mod objects;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/row.rs"]
mod row;
#[path = "support/world.rs"]
mod world;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use outboxfs::config::ConfigFile;
use outboxfs::derive::stats::{self, StatsRules};
use outboxfs::filter::Ignores;
use outboxfs::glob::Globs;
use outboxfs::journal::{Change, Entry, FileStat, Journal, JournalError, View};
use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Environment, Key, open_with, path_text};
use outboxfs::rows::{self, FolderPattern, FolderRow};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rig::Rig;
use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

/// Names as the kernel allows them, more of those that mean something to somebody.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"ab%\\2FfCc0. ~\n\t\"'\x7f".to_vec()),
        1 => 1..=255_u8,
    ];
    vec(byte, 1..12).prop_filter("it is a name", |name| {
        !name.contains(&b'/') && name != b"." && name != b".."
    })
}

fn path() -> impl Strategy<Value = RelPath> {
    vec(name(), 1..4).prop_map(|names| RelPath::parse(&names.join(&b'/')).unwrap())
}

/// Text that is nearly what it should be: pieces of the right kind, and anything.
fn nearly(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(pieces).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn is_a_sentence(text: &str) -> bool {
    !text.is_empty() && !text.contains('\n')
}

proptest! {
    #[test]
    fn every_path_has_a_key_of_its_own_that_reads_back(paths in vec(path(), 2..40)) {
        let mut keys = HashMap::new();
        for path in &paths {
            let text = path_text(path);
            prop_assert_eq!(RelPath::from_text(&text), Some(path.clone()), "{}", text);
            prop_assert!(!text.chars().any(|c| c.is_ascii_control() || c == '\\'));
            for artifact in [Artifact::Original, Artifact::Thumbnail] {
                let key = Key::new(artifact, path);
                let taken = keys.insert(key.as_str().to_owned(), (artifact, path.clone()));
                prop_assert!(taken.is_none_or(|other| other == (artifact, path.clone())));
            }
        }
    }

    #[test]
    fn a_path_is_what_its_components_say(bytes in vec(any::<u8>(), 0..40)) {
        if let Some(path) = RelPath::parse(&bytes) {
            prop_assert_eq!(RelPath::parse(path.as_bytes()).unwrap(), path.clone());
            let mut again = RelPath::root();
            for name in path.components() {
                prop_assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'));
                again = again.join(name);
            }
            prop_assert_eq!(&again, &path);
            prop_assert!(path.is_within(&RelPath::root()));
        }
    }

    #[test]
    fn statistics_are_read_or_refused_in_a_sentence(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..80),
            nearly(&["{", "}", "[", "]", ":", ",", "\"status\"", "\"passed\"", "\"fail\"", "true", "null",
                "-1e999", "0.10", "NaN", "\"\\ud800\"", " ", "\"a\":{", "[[["]).prop_map(String::into_bytes),
        ],
    ) {
        match stats::parse(&bytes, &StatsRules::default()) {
            Ok(stats) => {
                // What is kept is JSON; not a `Value`, which has no place for all of its numbers.
                serde_json::from_str::<IgnoredAny>(&stats.json).unwrap();
                let again = stats::parse(stats.json.as_bytes(), &StatsRules::default()).unwrap();
                prop_assert_eq!(again, stats);
            }
            Err(why) => prop_assert!(is_a_sentence(&why), "{}", why),
        }
    }

    #[test]
    fn a_configuration_is_read_or_refused_in_a_sentence(
        text in nearly(&["workers", "settle", "remote", "rows", "thumbnail", "priority", " = ", "\n", "3", "0",
            "-1", "\"500ms\"", "\"file:///x\"", "\"s3://b/p?endpoint=https://x\"", "[", "]", "\"*.jpg\"", ",",
            "\"22:00-06:00\"", "true", "\"200x300\"", "bwlimit", "\"10M\"", "#", "'", "1e400"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outboxfs.toml");
        fs::write(&file, text).unwrap();
        if let Err(why) = ConfigFile::read(&file).and_then(|file| file.settings(None)) {
            prop_assert!(is_a_sentence(&why.to_string()), "{}", why);
        }
    }

    #[test]
    fn rules_and_patterns_match_or_are_refused(text in nearly(&["*", "**", "/", "!", "[a", "-", "z]", "{", "}", "\\",
        "?", "#", "(?P<sku>", "[^_]+", ")", "_", ".jpg", "\n"]), path in path()) {
        match Globs::new(std::slice::from_ref(&text)) {
            Ok(globs) => { globs.matches(&path); }
            Err(why) => prop_assert!(!why.is_empty()),
        }
        if let Ok(pattern) = FolderPattern::parse(&text) {
            pattern.cells(&path_text(&path));
        }
        Ignores::default().with(&RelPath::root(), text.as_bytes()).ignores(&path, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// People's own columns and rows stay as they are, ours are there, and once more changes nothing.
    #[test]
    fn a_csv_file_takes_rows_and_keeps_what_was_in_it(
        own in vec(("[a-z\"',; é\n]{0,8}", "[a-z0-9]{0,5}"), 0..6),
        folders in vec("[a-zA-Z0-9 ,;\"'ü%=+@-]{1,10}", 1..5),
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut before = String::from("name,note\n");
        for (name, note) in &own {
            before += &format!("{},{}\n", quoted(name), quoted(note));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        fs::write(&file, &before).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rows: Vec<FolderRow> = folders.iter().map(|name| row::of_folder(name)).collect();
        runtime.block_on(async {
            let sink = rows::open(&[format!("csv:{}", file.display())], &Default::default()).unwrap();
            sink.upsert(&rows).await.unwrap();
        });
        let once = fs::read(&file).unwrap();
        let read = |bytes: &[u8]| -> Vec<csv::StringRecord> {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
            reader.records().map(Result::unwrap).collect()
        };
        let records = read(&once);
        for ((name, note), record) in own.iter().zip(&records[1..]) {
            prop_assert_eq!((&record[0], &record[1]), (name.as_str(), note.as_str()));
        }
        let column = records[0].iter().position(|column| column == "folder").unwrap();
        let mut there: Vec<&str> = records[1 + own.len()..].iter().map(|record| &record[column]).collect();
        let mut wanted: Vec<&str> = folders.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        there.sort_unstable();
        prop_assert_eq!(there, wanted);
        runtime.block_on(async {
            let sink = rows::open(&[format!("csv:{}", file.display())], &Default::default()).unwrap();
            sink.upsert(&rows).await.unwrap();
        });
        prop_assert_eq!(fs::read(&file).unwrap(), once);
    }

    /// Any bytes as a CSV file: rows come in, or a sentence says why not, and the file is as it was.
    #[test]
    fn no_csv_file_is_harmed(content in prop_oneof![
        vec(any::<u8>(), 0..60),
        nearly(&["\"", ",", ";", "\t", "\r\n", "\n", "folder", "mount_id", "a", "\u{feff}", "é"])
            .prop_map(String::into_bytes),
    ]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        fs::write(&file, &content).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let written = runtime.block_on(async {
            let sink = rows::open(&[format!("csv:{}", file.display())], &Default::default()).unwrap();
            sink.upsert(&[row::of_folder("a")]).await
        });
        if let Err(why) = written {
            prop_assert!(is_a_sentence(&why.to_string()), "{}", why);
            prop_assert_eq!(fs::read(&file).unwrap(), content);
        }
    }

    /// A journal with any of its bytes changed, or cut off: it is opened, or refused, or kept aside.
    #[test]
    fn a_broken_journal_is_no_end_of_everything(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let mut bytes = journal_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&file, bytes).unwrap();
        if let Ok(view) = View::open(&file) {
            let _ = (view.totals(), view.meta(), view.failures(10), view.batches(5));
        }
        match Journal::open(journal::options(&file)) {
            Ok(journal) => {
                let _ = journal.retry(&RelPath::root());
                let _ = journal.view().and_then(|view| view.totals());
            }
            Err(JournalError::Sqlite(why)) => prop_assert!(!why.is_empty()),
            Err(why) => prop_assert!(is_a_sentence(&why.to_string()), "{}", why),
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any answer of a server that says it speaks S3: success, or an error in a sentence, in the end.
    #[test]
    fn an_s3_service_may_say_anything(
        status in prop_oneof![Just(200_u16), Just(204), Just(206), Just(301), Just(400), Just(403), Just(404),
            Just(409), Just(412), Just(416), Just(429), Just(500), Just(503), Just(999)],
        headers in nearly(&["ETag: \"x\"\r\n", "x-amz-meta-blake3: 00\r\n", "Content-Type: application/xml\r\n",
            "x-amz-checksum-crc32c: AAAA\r\n", "Retry-After: 0\r\n", "x-amz-meta-mtime: -1.5e9\r\n",
            "Date: yesterday\r\n", "x-amz-bucket-region: mars\r\n", "Content-Encoding: gzip\r\n",
            "x-amz-meta-original-size: -7\r\n"]),
        body in nearly(&["<?xml version=\"1.0\"?>", "<ListBucketResult>", "</ListBucketResult>", "<Contents>",
            "</Contents>", "<Key>", "</Key>", "original/a", "<Size>", "-1", "</Size>", "<Error>", "</Error>", "<Code>",
            "SlowDown", "NoSuchKey", "</Code>", "<IsTruncated>true</IsTruncated>", "<NextContinuationToken>",
            "&#0;", "<![CDATA["]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let endpoint = answers(format!(
                "HTTP/1.1 {status} So\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ));
            let url: Url = format!("s3://bucket/?endpoint={endpoint}&region=x").parse().unwrap();
            let environment = Environment::process()
                .with("AWS_ACCESS_KEY_ID", "nobody")
                .with("AWS_SECRET_ACCESS_KEY", "hunter2");
            let remote = open_with(&url, &environment).await.unwrap();
            let key = objects::key("a");
            let within = Duration::from_secs(60);
            let all = async {
                let mut said = Vec::new();
                said.extend(remote.put(objects::put("a", b"content")).await.err());
                said.extend(remote.head(&key).await.err());
                said.extend(remote.get(&key, &mut Vec::new()).await.err());
                said.extend(remote.delete(&key).await.err());
                said
            };
            let said = tokio::time::timeout(within, all).await.expect("an answer in the end");
            for error in said {
                assert!(is_a_sentence(&error.to_string()), "{error}");
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        });
    }
}

/// Whatever is written to `.upload/control` and to the daemon's socket: an answer, and the daemon goes on.
#[test]
fn anything_may_be_asked_of_a_daemon() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir(rig.pictures().join("folder")).unwrap();
    let socket = rig.journal().with_file_name("journal.sock");
    let asked = nearly(&[
        "{\"do\":\"",
        "scan",
        "retry",
        "accept",
        "restore",
        "pause",
        "let_go",
        "status",
        "\",\"path\":\"",
        "folder",
        "../..",
        "%2F",
        "%00",
        "\",\"paused\":true",
        "\"}",
        "[[[[",
        "flush",
        "resume",
        " ",
        "/etc/passwd",
        "\\u0000",
    ]);
    let mut runner = TestRunner::default();
    for _ in 0..300 {
        let line = asked
            .new_tree(&mut runner)
            .unwrap()
            .current()
            .replace('\n', " ");
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(rig::PATIENCE)).unwrap();
        // It may hang up on what is too long.
        let _ = stream.write_all(format!("{line}\n").as_bytes());
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str::<IgnoredAny>(&answer).unwrap_or_else(|_| panic!("{line}: {answer}"));
        for folder in ["", "folder"] {
            let control = rig.pictures().join(folder).join(".upload/control");
            if let Err(error) = fs::write(control, &line) {
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{line}: {error}");
            }
        }
    }
    fs::write(rig.pictures().join(".upload/control"), "resume").unwrap();
    fs::write(rig.pictures().join("after"), "all that").unwrap();
    rig.delivered_all();
    assert_eq!(rig.delivered("after"), b"all that");
    rig.unmount();
}

/// A journal with something of everything in it.
fn journal_bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.db");
        let journal = Journal::open(journal::options(&file)).unwrap();
        for number in 0..40 {
            let stat = FileStat {
                size: number,
                mtime_ns: 1,
                inode: number,
                links: 1,
            };
            let path = RelPath::parse(format!("a/{}/{number}.jpg", number % 3).as_bytes()).unwrap();
            journal
                .record_and_wait(Change::Written { path, stat })
                .unwrap();
        }
        let [from, to] = ["a/1", "b"].map(|path| RelPath::parse(path.as_bytes()).unwrap());
        let entry = Entry::Folder;
        journal
            .record_and_wait(Change::Renamed { from, to, entry })
            .unwrap();
        drop(journal);
        fs::read(&file).unwrap()
    })
}

/// A server that says this to everybody, for as long as the runtime runs.
fn answers(answer: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                // What is asked is of no interest, as long as it has been asked.
                let _ = socket.read(&mut vec![0; 64 << 10]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
                while socket
                    .read(&mut vec![0; 4096])
                    .await
                    .is_ok_and(|read| read > 0)
                {}
            });
        }
    });
    endpoint
}
