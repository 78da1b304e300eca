//! Delivering without a mount: `outboxfs push`, and what belongs to it.

#[path = "push/arrive.rs"]
mod arrive;
#[path = "push/bad_input.rs"]
mod bad_input;
#[path = "push/bad_line.rs"]
mod bad_line;
#[path = "support/faults.rs"]
mod faults;
#[path = "push/listed.rs"]
mod listed;
#[path = "push/mounted.rs"]
mod mounted;
#[path = "support/objects.rs"]
mod objects;
#[path = "push/plan.rs"]
mod plan;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "push/schema.rs"]
mod schema;
#[path = "push/select.rs"]
mod select;
#[path = "push/status.rs"]
mod status;
#[path = "support/tree.rs"]
mod tree;
#[path = "push/verify.rs"]
mod verify;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Environment, Key, Put, Remote, open_with};
use serde_json::Value;
use tree::contents;
use world::World;

/// A world with a directory remote, or an S3 bucket, and a tree to push.
struct Push {
    world: World,
    remote: String,
}

impl Push {
    fn to_directory() -> Self {
        let world = World::new();
        let remote = format!("file://{}", world.path("remote").display());
        Self { world, remote }
    }

    fn to_s3(server: &s3::Server) -> Self {
        let mut push = Self::to_directory();
        push.world.variables = vec![
            ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
        ];
        push.remote = server.url("p");
        push
    }

    fn command(&self, path: &str, more: &[&str]) -> Command {
        let mut command = self.world.outboxfs();
        command
            .args(["push", path, "--remote", &self.remote])
            .args(more);
        command
    }

    fn run(&self, path: &str, more: &[&str]) -> Output {
        self.command(path, more).output().unwrap()
    }

    /// Expects that everything is delivered; returns the summary.
    #[track_caller]
    fn push(&self, path: &str, more: &[&str]) -> String {
        let output = self.run(path, more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Expects that all is as it was delivered; returns what is said.
    #[track_caller]
    fn run_verify(&self, more: &[&str]) -> String {
        let output = self.verify("pictures", more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn verify(&self, path: &str, more: &[&str]) -> Output {
        let mut command = self.world.outboxfs();
        command
            .args(["verify", path, "--remote", &self.remote])
            .args(more);
        command.output().unwrap()
    }

    #[track_caller]
    fn events(&self, path: &str, more: &[&str], code: i32) -> Vec<Value> {
        let output = self.run(path, &[&["--json"], more].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        events(&output.stdout)
    }

    fn tree(&self) -> PathBuf {
        self.world.path("pictures")
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn objects(&self) -> Vec<String> {
        let original = self.world.path("remote/original");
        match original.exists() {
            true => contents(&original).into_keys().collect(),
            false => Vec::new(),
        }
    }

    #[track_caller]
    fn assert_arrived(&self) {
        assert_eq!(
            contents(&self.world.path("remote/original")),
            contents(&self.tree())
        );
    }
}

fn events(stdout: &[u8]) -> Vec<Value> {
    let lines = stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The paths of events of one kind, with one of their members.
fn of_kind<'a>(events: &'a [Value], kind: &str, member: &str) -> BTreeMap<&'a str, String> {
    let of_kind = events.iter().filter(|event| event["event"] == kind);
    of_kind
        .map(|event| {
            let value = match &event[member] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (event["path"].as_str().unwrap(), value)
        })
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

impl Push {
    fn open_remote(&self) -> std::sync::Arc<dyn Remote> {
        let environment = Environment::process()
            .with("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
            .with("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY);
        let url = self.remote.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(open_with(&url, &environment)).unwrap()
    }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(Artifact::Original, &path(text))
}

fn put(name: &str, content: &str) -> Put {
    Put {
        content_type: "text/plain".to_owned(),
        ..objects::put(name, content.as_bytes())
    }
}
