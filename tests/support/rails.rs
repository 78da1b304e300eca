//! A real Rails application to deliver to, tests/rails/archive.rb, behind puma as a child of the test; it
//! ends with its value. Tests share it and have accounts of their own.
#![allow(dead_code)] // each test binary uses its part

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::{Duration, Instant};

use outboxfs::remote::Environment;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

pub const PASSWORD: &str = "correct horse";

/// A running application.
pub struct Server {
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    dir: TempDir,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How the archive behaves towards somebody.
pub struct Account {
    pub server: Arc<Server>,
    pub email: String,
    id: i64,
}

pub struct Behaviour {
    pub may_upload: bool,
    /// `unique`, `key`, `lookup`, `no` or `silent`.
    pub once: &'static str,
    pub token_seconds: i64,
    pub url_seconds: i64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            may_upload: true,
            once: "unique",
            token_seconds: 3600,
            url_seconds: 300,
        }
    }
}

/// A record and the file that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Song {
    pub id: i64,
    pub title: String,
    pub filename: String,
    pub metadata: Value,
    pub content_type: String,
    pub key: String,
}

/// A file that Active Storage knows.
pub struct Blob {
    pub key: String,
    pub metadata: Value,
    pub content_type: String,
}

impl Server {
    /// One for the tests that run at a time; the last one to end ends it. `None` where Rails is not
    /// installed; then `OUTBOXFS_TEST_RAILS=1` makes it a failure, so that CI skips nothing.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start(&[])?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One with further variables, as archive.rb names them.
    pub fn start(variables: &[(&str, &str)]) -> Option<Self> {
        let found = Command::new("puma").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let required = std::env::var_os("OUTBOXFS_TEST_RAILS").is_some_and(|v| v == "1");
            assert!(!required, "puma is not on the path: apt install puma");
            eprintln!("skipped: Rails is not here (apt install ruby-rails puma ruby-sqlite3)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (stop, stopped) = mpsc::channel();
        let (started, ready) = mpsc::channel();
        let root = dir.path().to_owned();
        let mut command = puma(&root);
        command.envs(variables.iter().copied());
        // The child dies with the thread that spawned it, also when this process is killed.
        let thread = std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            started.send(wait_until_ready(&mut child, &root)).unwrap();
            let _ = stopped.recv();
            let _ = child.kill();
            let _ = child.wait();
        });
        let endpoint = ready.recv().unwrap();
        let mut server = Self {
            endpoint: String::new(),
            dir,
            stop: Some(stop),
            thread: Some(thread),
        };
        server.endpoint =
            endpoint.unwrap_or_else(|| panic!("puma did not start:\n{}", server.log()));
        Some(server)
    }

    pub fn account(self: &Arc<Self>, behaviour: &Behaviour) -> Account {
        let email = format!("{:016x}@example.org", fastrand::u64(..));
        let database = self.database();
        database
            .execute(
                "INSERT INTO users (email, password, may_upload, once, token_seconds, url_seconds)
                 VALUES (?, ?, ?, ?, ?, ?)",
                rusqlite::params![
                    email,
                    PASSWORD,
                    behaviour.may_upload,
                    behaviour.once,
                    behaviour.token_seconds,
                    behaviour.url_seconds
                ],
            )
            .unwrap();
        Account {
            server: self.clone(),
            email,
            id: database.last_insert_rowid(),
        }
    }

    fn database(&self) -> Connection {
        let database = Connection::open(self.dir.path().join("archive.db")).unwrap();
        database.busy_timeout(Duration::from_secs(60)).unwrap();
        database
    }

    /// Where Active Storage's disk service keeps what it calls `key`.
    pub fn file(&self, key: &str) -> PathBuf {
        let folder = self.dir.path().join("storage");
        folder.join(&key[..2]).join(&key[2..4]).join(key)
    }

    /// What the application has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("puma.log")).unwrap_or_default()
    }

    /// Blobs whose metadata has this value, oldest first: stock uploads have no record.
    pub fn blobs(&self, name: &str, value: &str) -> Vec<Blob> {
        let database = self.database();
        let mut query = database
            .prepare("SELECT key, metadata, content_type FROM active_storage_blobs ORDER BY id")
            .unwrap();
        let blobs = query.query_map([], |row| {
            let metadata: Option<String> = row.get(1)?;
            let metadata = metadata.and_then(|text| serde_json::from_str(&text).ok());
            Ok(Blob {
                key: row.get(0)?,
                metadata: metadata.unwrap_or_default(),
                content_type: row.get(2)?,
            })
        });
        let mut blobs: Vec<Blob> = blobs.unwrap().map(Result::unwrap).collect();
        blobs.retain(|blob| blob.metadata.get(name).and_then(Value::as_str) == Some(value));
        blobs
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let end: Vec<&str> = log.lines().rev().take(40).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            eprintln!("the application's log ends:\n{}", end.join("\n"));
        }
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn puma(root: &Path) -> Command {
    let log = std::fs::File::create(root.join("puma.log")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rails");
    let mut command = Command::new("puma");
    command
        .args(["--environment", "production", "--threads", "16:16"])
        .args(["--bind", "tcp://127.0.0.1:0", "config.ru"])
        .current_dir(folder)
        .env("ARCHIVE_DIR", root)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    // SAFETY: a system call only, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let signal = rustix::process::Signal::KILL;
            Ok(rustix::process::set_parent_process_death_signal(Some(
                signal,
            ))?)
        });
    }
    command
}

/// The endpoint, which puma says when it listens there.
fn wait_until_ready(child: &mut Child, root: &Path) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        let log = std::fs::read_to_string(root.join("puma.log")).unwrap_or_default();
        let mut lines = log.lines();
        if let Some(line) = lines.find_map(|line| line.split_once("Listening on "))
            && log.contains("Use Ctrl-C to stop")
        {
            return Some(line.1.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

impl Account {
    /// Of the shared server.
    pub fn new(behaviour: &Behaviour) -> Option<Self> {
        Some(Server::shared()?.account(behaviour))
    }

    pub fn environment(&self) -> Environment {
        Environment::process()
            .with("OUTBOXFS_RAILS_EMAIL", &self.email)
            .with("OUTBOXFS_RAILS_PASSWORD", PASSWORD)
    }

    /// The same for a program.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OUTBOXFS_RAILS_EMAIL", self.email.clone()),
            ("OUTBOXFS_RAILS_PASSWORD", PASSWORD.to_owned()),
        ]
    }

    /// What `--remote` takes, over the server or something that stands before it.
    pub fn url_at(&self, endpoint: &str, options: &str) -> String {
        format!("rails+{endpoint}?api=archive{options}")
    }

    pub fn url(&self, options: &str) -> String {
        self.url_at(&self.server.endpoint, options)
    }

    /// All records, oldest first.
    pub fn songs(&self) -> Vec<Song> {
        let database = self.server.database();
        let mut query = database
            .prepare(
                "SELECT songs.id, title, songs.filename, songs.metadata, content_type, blobs.key
                 FROM songs
                 JOIN active_storage_attachments AS attachments
                     ON attachments.record_type = 'Song' AND attachments.record_id = songs.id
                 JOIN active_storage_blobs AS blobs ON blobs.id = attachments.blob_id
                 WHERE user_id = ? ORDER BY songs.id",
            )
            .unwrap();
        let songs = query.query_map([self.id], |row| {
            let metadata: String = row.get(3)?;
            Ok(Song {
                id: row.get(0)?,
                title: row.get(1)?,
                filename: row.get(2)?,
                metadata: serde_json::from_str(&metadata).unwrap(),
                content_type: row.get(4)?,
                key: row.get(5)?,
            })
        });
        songs.unwrap().map(Result::unwrap).collect()
    }

    /// The bytes of a record's file.
    pub fn bytes(&self, song: &Song) -> Vec<u8> {
        std::fs::read(self.server.file(&song.key)).unwrap()
    }

    /// How often something was asked: `login`, `unauthorized`, `direct_upload`, `create`, `lookup`.
    pub fn events(&self, name: &str) -> i64 {
        let count = self.server.database().query_row(
            "SELECT count(*) FROM events WHERE user_id = ? AND name = ?",
            rusqlite::params![self.id, name],
            |row| row.get(0),
        );
        count.unwrap()
    }

    /// Makes all tokens that are out now worthless.
    pub fn revoke(&self) {
        self.update("UPDATE tokens SET revoked = 1 WHERE user_id = ?");
    }

    /// Gives or takes the right to upload.
    pub fn may_upload(&self, may: bool) {
        let may = i32::from(may);
        self.update(&format!("UPDATE users SET may_upload = {may} WHERE id = ?"));
    }

    fn update(&self, sql: &str) {
        self.server.database().execute(sql, [self.id]).unwrap();
    }

    /// A token, for those who bring their own.
    pub fn token(&self) -> String {
        let secret = format!("{:032x}", fastrand::u128(..));
        self.server
            .database()
            .execute(
                "INSERT INTO tokens (user_id, secret, expires_at, revoked)
                 VALUES (?, ?, datetime('now', '+1 hour'), 0)",
                rusqlite::params![self.id, secret],
            )
            .unwrap();
        secret
    }

    /// Removes the blobs of this content, as applications do with those that nobody claims.
    pub fn forget_blobs(&self, put: &outboxfs::remote::Put) {
        let sum = self.server.database().execute(
            "DELETE FROM active_storage_blobs WHERE filename = ? AND byte_size = ?",
            rusqlite::params![put.key.as_str().rsplit('/').next(), put.body.len() as i64],
        );
        assert_eq!(sum.unwrap(), 1);
    }

    /// The record that was made of the file at this path, by what the tests have stored with it.
    pub fn song(&self, path: &str) -> Option<Song> {
        let mut songs = self.songs();
        songs.retain(|song| song.metadata.get("path").and_then(Value::as_str) == Some(path));
        songs.pop()
    }

    /// How many records each path has.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for song in self.songs() {
            let path = song.metadata["path"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            *counts.entry(path).or_insert(0) += 1;
        }
        counts
    }
}

/// Options for the remote's URL: the record is told what a test looks for, beside the usual.
pub const FIELDS: &str = "&record_field=blob_signed_id:{signed_id}&record_field=filename:{filename}\
     &record_field=metadata.title:{title}&record_field=metadata.artist:{artist}\
     &record_field=metadata.album:{album}&record_field=metadata.track:{track}\
     &record_field=metadata.year:{year}&record_field=metadata.duration:{duration}\
     &record_field=metadata.path:{path}&record_field=metadata.blake3:{blake3}\
     &record_field=metadata.mtime:{mtime}";
