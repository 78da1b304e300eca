//! Files that are sent gzip-encoded: smaller at the remote, and known again by everything that looks.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::io::Read;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use flate2::read::GzDecoder;
use world::{World, assert_says, error_line};

/// A directory and a server that is pushed to.
struct Pushed {
    world: World,
    server: s3::Server,
    runtime: tokio::runtime::Runtime,
}

struct Object {
    head: GetObjectOutput,
    bytes: Vec<u8>,
}

impl Object {
    fn metadata(&self, name: &str) -> &str {
        &self.head.metadata().unwrap()[name]
    }

    fn decoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(&self.bytes[..])
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }
}

impl Pushed {
    fn new() -> Self {
        let server = s3::Server::in_process();
        let mut world = World::new();
        let remote = format!("s3://{}/p?endpoint={}", s3::BUCKET, server.endpoint);
        world.variables = vec![
            ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
            ("OUTBOXFS_REMOTE", remote),
            ("OUTBOXFS_COMPRESS", "*.txt".to_owned()),
        ];
        Self {
            world,
            server,
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.world.path("pictures").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs a command that succeeds; returns its output.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.world.outboxfs().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn object(&self, name: &str) -> Object {
        let get = self.server.client().get_object().bucket(s3::BUCKET);
        self.runtime.block_on(async {
            let get = get.key(format!("p/original/{name}"));
            let mut head = get.send().await.unwrap();
            let body = std::mem::take(&mut head.body);
            let bytes = body.collect().await.unwrap().to_vec();
            Object { head, bytes }
        })
    }
}

fn text(lines: usize) -> Vec<u8> {
    (0..lines)
        .map(|line| format!("line {line} of a text that is easily said shorter\n"))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn what_matches_and_shrinks_is_encoded() {
    let pushed = Pushed::new();
    let mut noise = vec![0; 5000];
    fastrand::fill(&mut noise);
    let (short, large) = (text(100), text(200_000));
    for (name, content) in [
        ("short.txt", &short),
        ("in/large.txt", &large),
        ("noise.txt", &noise),
        ("text.csv", &short),
    ] {
        pushed.write(name, content);
    }
    pushed.run(&["push", "pictures"]);
    for (name, content) in [("short.txt", &short), ("in/large.txt", &large)] {
        let object = pushed.object(name);
        assert_eq!(object.head.content_encoding(), Some("gzip"), "{name}");
        let media_type = object.head.content_type().unwrap();
        assert!(media_type.starts_with("text/plain"), "{name}: {media_type}");
        assert!(object.bytes.len() < content.len() / 2, "{name}");
        assert!(object.decoded() == **content, "{name}");
        let hash = blake3::hash(content).to_hex();
        assert_eq!(object.metadata("blake3"), hash.as_str(), "{name}");
        assert_eq!(object.metadata("original-size"), content.len().to_string());
    }
    for (name, content) in [("noise.txt", &noise), ("text.csv", &short)] {
        let object = pushed.object(name);
        assert_eq!(object.head.content_encoding(), None, "{name}");
        assert!(object.bytes == **content, "{name}");
    }
}

#[test]
fn what_is_encoded_is_verified_copied_and_not_sent_twice() {
    let pushed = Pushed::new();
    let (short, large) = (text(100), text(200_000));
    pushed.write("short.txt", &short);
    pushed.write("large.txt", &large);
    pushed.run(&["push", "pictures"]);
    for full in [
        &["verify", "pictures"][..],
        &["verify", "pictures", "--full"],
    ] {
        pushed.run(full);
    }
    // A copy at the remote is encoded too.
    pushed.write("copied.txt", &large);
    pushed.run(&["push", "pictures"]);
    let copied = pushed.object("copied.txt");
    assert_eq!(copied.head.content_encoding(), Some("gzip"));
    assert!(copied.decoded() == large);
    pushed.run(&["verify", "pictures", "--full"]);
    // Somebody who knows nothing of the first push finds it there.
    let sent = pushed.run(&[
        "push",
        "pictures",
        "--json",
        "--journal",
        "other/journal.db",
    ]);
    assert!(!sent.contains("\"uploaded\""), "{sent}");
    assert!(sent.contains("short.txt"), "{sent}");
}

#[test]
fn a_directory_cannot_say_how_its_files_are_encoded() {
    let world = World::new();
    let remote = format!("file://{}", world.path("remote").display());
    let arguments = ["push", "pictures", "--remote", &remote, "--compress", "*"];
    let output = world.outboxfs().args(arguments).output().unwrap();
    assert_says(&error_line(&output, 2), &["--compress", "S3"]);
}
