//! Any answer of a service that says it is one: success, or an error in one sentence without secrets.
#![no_main]

#[path = "../../support/objects.rs"]
mod objects;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outboxfs::remote::{Environment, Remote, open_with};
use tokio::runtime::Runtime;

const SECRET: &str = "hunter2";
const STATUSES: [u16; 16] = [
    200, 201, 204, 206, 301, 307, 400, 401, 403, 404, 409, 412, 416, 422, 429, 500,
];

/// What is answered to everybody.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Services {
    runtime: Runtime,
    remotes: Vec<Arc<dyn Remote>>,
}

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    // As in every program with a `main` of Rust's: who hangs up early is no reason to die.
    // SAFETY: nothing else in this process cares for this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // What is asked is of no interest, as long as it has been asked.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let _ = stream.read(&mut vec![0; 64 << 10]);
            let answer = ANSWER.lock().expect("nobody panics with it").clone();
            let _ = stream.write_all(&answer);
        }
    });
    let environment = Environment::process()
        .with("AWS_ACCESS_KEY_ID", "nobody")
        .with("AWS_SECRET_ACCESS_KEY", SECRET)
        .with("CLOUDINARY_URL", &format!("cloudinary://1:{SECRET}@cloud"))
        .with("SUPABASE_KEY", SECRET)
        .with("OUTBOXFS_RAILS_TOKEN", SECRET);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let plain = endpoint.strip_prefix("http").expect("it begins so");
    let remotes = [
        format!("s3://bucket/?endpoint={endpoint}&region=x"),
        format!("cloudinary://cloud/folder?endpoint={endpoint}"),
        format!("supabase://project/bucket?endpoint={endpoint}"),
        format!("rails+http{plain}"),
    ]
    .map(|url| {
        let url = url.parse().expect("it is a URL");
        runtime
            .block_on(open_with(&url, &environment))
            .expect("it is opened")
    });
    Services {
        runtime,
        remotes: remotes.into(),
    }
});

async fn ask(remote: &dyn Remote) {
    let key = objects::key("a");
    let said = [
        remote.put(objects::put("a", b"content")).await.err(),
        remote.head(&key).await.err(),
        remote.get(&key, &mut Vec::new()).await.err(),
        remote.delete(&key).await.err(),
    ];
    for error in said.into_iter().flatten() {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains(SECRET), "{text}");
    }
}

fuzz_target!(|answer: (u8, &str, &[u8])| {
    let (which, headers, body) = answer;
    let status = STATUSES[which as usize % STATUSES.len()];
    let headers = headers.replace('\n', "\r\n");
    let head = format!(
        "HTTP/1.1 {status} So\r\n{headers}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    *ANSWER.lock().expect("nobody panics with it") = [head.as_bytes(), body].concat();
    let services = &*SERVICES;
    let remote = &services.remotes[which as usize / STATUSES.len() % services.remotes.len()];
    services.runtime.block_on(ask(remote.as_ref()));
});
