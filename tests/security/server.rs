//! A service that answers without end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::rig::PATIENCE;
use crate::world::World;

/// What we read of an answer at most (8 MiB), and what the kernel's buffers hold besides, bytes.
const BOUND: usize = 32 << 20;
/// Longer answers than this need not be tried.
const LONG: usize = 96 << 20;

/// Answers every request with a status and blanks.
struct Endless {
    port: u16,
    /// The most bytes that went into one answer.
    most: Arc<AtomicUsize>,
}

impl Endless {
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let most = Arc::<AtomicUsize>::default();
        let its_most = most.clone();
        // Both end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let most = its_most.clone();
                std::thread::spawn(move || {
                    most.fetch_max(answer(stream, status), Ordering::SeqCst)
                });
            }
        });
        Self { port, most }
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Returns how many bytes it could send.
fn answer(stream: TcpStream, status: &str) -> usize {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    if stream.write_all(head.as_bytes()).is_err() {
        return 0;
    }
    let mut sent = 0;
    while sent < LONG && stream.write_all(chunk.as_bytes()).is_ok() {
        sent += 0x10000;
    }
    sent
}

/// Pushes until something was answered; returns the most that was read of an answer.
fn most_read(status: &'static str, arguments: &[&str]) -> usize {
    let server = Endless::start(status);
    let world = World::new();
    fs::write(world.path("pictures/stats.json"), "{\"a\": 1}").unwrap();
    let remote = world.path("remote").display().to_string();
    let arguments = arguments
        .iter()
        .map(|argument| argument.replace("PORT", &server.port.to_string()))
        .map(|argument| argument.replace("REMOTE", &remote));
    let mut push = world
        .outboxfs()
        .args(["push", "pictures", "--max-retries", "0"])
        .args(arguments)
        .envs([
            ("AWS_ACCESS_KEY_ID", "ours"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("SUPABASE_KEY", "hush"),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while server.most() == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    push.kill().unwrap();
    push.wait().unwrap();
    server.most()
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let s3 = "s3://bucket/p?region=r&endpoint=http://127.0.0.1:PORT";
    let supabase = "supabase://project/bucket?endpoint=http://127.0.0.1:PORT";
    let rows = "postgrest+http://127.0.0.1:PORT/rest/v1/t";
    for arguments in [
        &["--remote", s3][..],
        &["--remote", supabase],
        &["--remote", "file://REMOTE", "--rows", rows],
    ] {
        for status in ["200 OK", "403 Forbidden"] {
            let most = most_read(status, arguments);
            assert!(most > 0, "{arguments:?} {status}: nothing was asked");
            assert!(most < BOUND, "{arguments:?} {status}: {most} bytes");
        }
    }
}
