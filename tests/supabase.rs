//! Supabase Storage by its own interface, as far as a double can stand for it: requests as the official
//! clients make them, what goes wrong, and files through a mount.

#[path = "supabase/clients.rs"]
mod clients;
#[path = "support/double.rs"]
mod double;
#[path = "support/faults.rs"]
mod faults;
#[path = "supabase/line.rs"]
mod line;
#[path = "supabase/mounted.rs"]
mod mounted;
#[path = "supabase/refused.rs"]
mod refused;
#[path = "support/rig.rs"]
mod rig;
#[path = "supabase/s3.rs"]
mod s3;
#[path = "support/supabase.rs"]
mod supabase;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::io::Write;
use std::sync::Arc;

use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Body, Environment, Key, Put, Remote, RemoteError, open_with};
use url::Url;

const MIB: usize = 1 << 20;

fn key(path: &str) -> Key {
    Key::new(
        Artifact::Original,
        &RelPath::parse(path.as_bytes()).unwrap(),
    )
}

fn put(path: &str, content: &[u8]) -> Put {
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

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

async fn open(url: &str, environment: &Environment) -> Result<Arc<dyn Remote>, RemoteError> {
    open_with(&Url::parse(url).unwrap(), environment).await
}
