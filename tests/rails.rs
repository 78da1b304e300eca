//! A real Rails application as the remote: records are made once whatever breaks, tokens are renewed, and
//! what it refuses is told in its words.

#[path = "support/faults.rs"]
mod faults;
#[path = "rails/login.rs"]
mod login;
#[path = "rails/mounted.rs"]
mod mounted;
#[path = "support/objects.rs"]
mod objects;
#[path = "rails/once.rs"]
mod once;
#[path = "support/page.rs"]
mod page;
#[path = "support/rails.rs"]
mod rails;
#[path = "rails/refused.rs"]
mod refused;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "rails/stored.rs"]
mod stored;
#[path = "rails/tutorial.rs"]
mod tutorial;
#[path = "support/world.rs"]
mod world;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use faults::{Fault, Proxy};
use hyper::Request;
use hyper::body::Incoming;
use outboxfs::remote::{
    Environment, Put, Remote, RemoteError, StoredPart, Unfinished, UploadNotes, open_with,
};
use rails::{Account, FIELDS};
use url::Url;

/// Over something that stands before the application, as delivery opens it.
async fn open(account: &Account, endpoint: &str, options: &str) -> Arc<dyn Remote> {
    let url = account.url_at(endpoint, &format!("{FIELDS}{options}"));
    open_at(&url, &account.environment()).await
}

async fn open_at(url: &str, environment: &Environment) -> Arc<dyn Remote> {
    let url = Url::parse(url).unwrap();
    open_with(&url, environment).await.unwrap()
}

fn put(path: &str, content: &[u8]) -> Put {
    Put {
        content_type: "audio/mpeg".to_owned(),
        ..objects::put(path, content)
    }
}

/// What a daemon would keep in its journal of a file.
#[derive(Default)]
struct Noted(Mutex<Vec<Unfinished>>);

impl Noted {
    /// What the next attempt is given.
    fn unfinished(&self) -> Option<Unfinished> {
        self.0.lock().unwrap().last().cloned()
    }

    async fn attempt(&self, remote: &dyn Remote, put: &Put) -> Result<(), RemoteError> {
        let unfinished = self.unfinished();
        let done = remote.put_resumable(put.clone(), unfinished.as_ref(), self);
        done.await.map(drop)
    }

    /// Tries again as delivery does, until the file has arrived.
    async fn deliver(&self, remote: &dyn Remote, put: &Put) {
        for _ in 0..50 {
            match self.attempt(remote, put).await {
                Ok(()) => return,
                Err(error) => assert!(error.may_pass(), "{error}"),
            }
        }
        panic!("{} did not arrive in 50 tries", put.key);
    }
}

#[async_trait]
impl UploadNotes for Noted {
    async fn began(&self, name: String) -> Result<(), RemoteError> {
        let parts = Vec::new();
        self.0.lock().unwrap().push(Unfinished { name, parts });
        Ok(())
    }

    fn stored(&self, part: StoredPart) {
        let mut noted = self.0.lock().unwrap();
        noted.last_mut().unwrap().parts.push(part);
    }

    async fn completed(&self) {}

    async fn given_up(&self) {
        self.0.lock().unwrap().pop();
    }
}

/// Counts requests, and breaks those that `plan` says: by what they are for, and how many of them there
/// were before.
fn watched(
    server: &str,
    plan: impl Fn(Wish, usize) -> Option<Fault> + Send + Sync + 'static,
) -> (Proxy, Arc<Mutex<Vec<Wish>>>) {
    let wishes = Arc::new(Mutex::new(Vec::new()));
    let seen = wishes.clone();
    let plan = move |request: &Request<Incoming>| {
        let wish = Wish::of(request);
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|other| **other == wish).count();
        seen.push(wish);
        plan(wish, before)
    };
    (Proxy::start(server, Box::new(plan)), wishes)
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Login,
    Announce,
    Bytes,
    Create,
    Find,
}

impl Wish {
    fn of(request: &Request<Incoming>) -> Self {
        let path = request.uri().path();
        match path.rsplit_once('/').map_or(path, |(_, last)| last) {
            "login" => Self::Login,
            "direct_upload" | "direct_uploads" => Self::Announce,
            "create_from_blob" => Self::Create,
            "by_blob" => Self::Find,
            _ => Self::Bytes,
        }
    }
}

fn count(wishes: &Mutex<Vec<Wish>>, wish: Wish) -> usize {
    let wishes = wishes.lock().unwrap();
    wishes.iter().filter(|other| **other == wish).count()
}
