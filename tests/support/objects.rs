//! Objects for a remote, and storing them as delivery does: again until they are there.
#![allow(dead_code)] // each test file uses a part of it

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outboxfs::path::RelPath;
use outboxfs::remote::{
    Artifact, Body, Environment, Key, Put, Remote, RemoteError, StoredPart, Unfinished,
    UploadNotes, open_with,
};
use url::Url;

pub const MIB: usize = 1 << 20;

pub fn key(path: &str) -> Key {
    let path = RelPath::parse(path.as_bytes()).unwrap();
    Key::new(Artifact::Original, &path)
}

/// From memory if it is small, else from a file.
pub fn put(path: &str, content: &[u8]) -> Put {
    let body = match content.len() > MIB {
        true => {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            let len = content.len() as u64;
            Body::File {
                file: Arc::new(file),
                len,
            }
        }
        false => Body::Bytes(content.to_vec().into()),
    };
    Put {
        key: key(path),
        body,
        content_type: "image/jpeg".to_owned(),
        hash: blake3::hash(content),
        decoded: None,
        metadata: vec![("mtime", "1700000000.5".to_owned())],
    }
}

/// The same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub async fn open(url: &str, environment: &Environment) -> Result<Arc<dyn Remote>, RemoteError> {
    open_with(&Url::parse(url).unwrap(), environment).await
}

/// Stores `puts(0)`, `puts(1)` and so on, several at a time, each until it is there.
pub async fn store_all(remote: &Arc<dyn Remote>, count: usize, puts: fn(usize) -> Put) {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..16).map(|_| {
        let (remote, next) = (remote.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    i if i < count => store(&*remote, puts(i)).await,
                    _ => return,
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

async fn store(remote: &dyn Remote, put: Put) {
    for _ in 0..50 {
        match remote.put(put.clone()).await {
            Ok(_) => return,
            Err(error) => assert!(error.may_pass(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(10..50))).await;
    }
    panic!("{} did not arrive in 50 tries", put.key);
}

/// What a daemon would keep in its journal of an upload in parts.
#[derive(Default)]
pub struct Noted {
    pub began: AtomicUsize,
    unfinished: Mutex<Unfinished>,
    ends: Mutex<Vec<&'static str>>,
}

impl Noted {
    pub fn unfinished(&self) -> Unfinished {
        self.unfinished.lock().unwrap().clone()
    }

    pub fn said(&self) -> Vec<&'static str> {
        self.ends.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl UploadNotes for Noted {
    async fn began(&self, name: String) -> Result<(), RemoteError> {
        self.began.fetch_add(1, Ordering::Relaxed);
        self.unfinished.lock().unwrap().name = name;
        Ok(())
    }

    fn stored(&self, part: StoredPart) {
        self.unfinished.lock().unwrap().parts.push(part);
    }

    async fn completed(&self) {
        self.ends.lock().unwrap().push("completed");
    }

    async fn given_up(&self) {
        self.ends.lock().unwrap().push("given up");
    }
}
