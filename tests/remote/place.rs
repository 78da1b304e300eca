//! The places that objects are stored in, and the means to look into them by another way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, Weak};

use outboxfs::path::RelPath;
use outboxfs::remote::{
    Artifact, Body, Capabilities, Environment, Key, Put, Remote, RemoteError, open_with,
};
use tempfile::TempDir;
use url::Url;

use super::{cloudinary, rails, s3, supabase};

pub enum Server {
    Directory(TempDir),
    InProcess(s3::Server),
    SeaweedFs(Arc<s3::Server>),
    Cloudinary(cloudinary::Service),
    Supabase(supabase::Service),
    /// Records with files.
    Archive(rails::Account),
    /// Files alone; those of a test have its mark in their metadata.
    Stock {
        server: Arc<rails::Server>,
        mark: String,
    },
}

/// A remote that starts empty, and the means to look into it.
pub struct Place {
    pub remote: Arc<dyn Remote>,
    pub server: Server,
    /// In the bucket; unique to a test.
    pub prefix: String,
}

pub struct Stored {
    pub bytes: Vec<u8>,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
}

impl Place {
    pub async fn directory() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_file_path(dir.path()).unwrap();
        let remote = open_with(&url, &Environment::process()).await.unwrap();
        Self {
            remote,
            server: Server::Directory(dir),
            prefix: String::new(),
        }
    }

    pub async fn s3_in_process() -> Self {
        let server = s3::Server::in_process();
        let remote = open_s3(&server, "p", "").await;
        Self {
            remote,
            server: Server::InProcess(server),
            prefix: "p/".to_owned(),
        }
    }

    pub async fn s3_on_seaweedfs() -> Option<Self> {
        let server = shared_seaweedfs()?;
        // The server is shared, the bucket too; each test has a prefix of one length.
        let prefix = format!("{:08x}/p", fastrand::u32(..));
        let remote = open_s3(&server, &prefix, "").await;
        Some(Self {
            remote,
            server: Server::SeaweedFs(server),
            prefix: prefix + "/",
        })
    }

    pub async fn cloudinary() -> Self {
        let service = cloudinary::Service::start();
        let url = Url::parse(&service.url("p", "")).unwrap();
        Self {
            remote: open_with(&url, &service.environment()).await.unwrap(),
            server: Server::Cloudinary(service),
            prefix: String::new(),
        }
    }

    pub async fn supabase() -> Self {
        let service = supabase::Service::start();
        let url = Url::parse(&service.url("p", "")).unwrap();
        Self {
            remote: open_with(&url, &service.environment()).await.unwrap(),
            server: Server::Supabase(service),
            prefix: String::new(),
        }
    }

    pub async fn rails_archive() -> Option<Self> {
        let account = rails::Account::new(&rails::Behaviour::default())?;
        let url = Url::parse(&account.url(rails::FIELDS)).unwrap();
        let remote = open_with(&url, &account.environment()).await.unwrap();
        Some(Self {
            remote,
            server: Server::Archive(account),
            prefix: String::new(),
        })
    }

    pub async fn rails_stock() -> Option<Self> {
        let account = rails::Account::new(&rails::Behaviour::default())?;
        let server = account.server.clone();
        let mark = format!("{:016x}", fastrand::u64(..));
        let mut url = format!(
            "rails+{}?upload_field=blob.metadata.mark:{mark}",
            server.endpoint
        );
        for field in ["filename", "content_type", "byte_size", "checksum"] {
            url += &format!("&upload_field=blob.{field}:{{{field}}}");
        }
        for field in ["key", "blake3", "mtime"] {
            url += &format!("&upload_field=blob.metadata.{field}:{{{field}}}");
        }
        let environment = Environment::process().with("OUTBOXFS_RAILS_TOKEN", &account.token());
        let url = Url::parse(&url).unwrap();
        let remote = open_with(&url, &environment).await.unwrap();
        Some(Self {
            remote,
            server: Server::Stock { server, mark },
            prefix: String::new(),
        })
    }

    fn s3(&self) -> Option<&s3::Server> {
        match &self.server {
            Server::Directory(_) | Server::Cloudinary(_) | Server::Supabase(_) => None,
            Server::InProcess(server) => Some(server),
            Server::SeaweedFs(server) => Some(server),
            Server::Archive(_) | Server::Stock { .. } => None,
        }
    }

    /// What the remote says of itself: who cannot do what a case is about passes it.
    pub fn can(&self) -> Capabilities {
        self.remote.capabilities()
    }

    pub async fn read(&self, key: &str) -> Option<Stored> {
        match &self.server {
            Server::Directory(dir) => read_file(&dir.path().join(key)),
            Server::Supabase(service) => {
                let object = service.objects("p").remove(key)?;
                Some(Stored {
                    bytes: object.bytes.to_vec(),
                    content_type: object.content_type,
                    metadata: object.metadata,
                })
            }
            Server::Cloudinary(service) => {
                let asset = service.objects("p").remove(key)?;
                Some(Stored {
                    bytes: asset.bytes.to_vec(),
                    // It goes by the name.
                    content_type: mime_guess::from_path(key)
                        .first_or_octet_stream()
                        .to_string(),
                    metadata: asset.context,
                })
            }
            Server::Archive(account) => {
                let song = account.song(key.strip_prefix("original/")?)?;
                Some(Stored {
                    bytes: account.bytes(&song),
                    content_type: song.content_type,
                    metadata: texts(&song.metadata),
                })
            }
            Server::Stock { server, mark } => {
                let mut blobs = server.blobs("mark", mark);
                blobs.retain(|blob| blob.metadata["key"] == key);
                let blob = blobs.pop()?;
                Some(Stored {
                    bytes: std::fs::read(server.file(&blob.key)).ok()?,
                    content_type: blob.content_type,
                    metadata: texts(&blob.metadata),
                })
            }
            _ => self.read_object(&format!("{}{key}", self.prefix)).await,
        }
    }

    async fn read_object(&self, object: &str) -> Option<Stored> {
        let get = self
            .s3()?
            .client()
            .get_object()
            .bucket(s3::BUCKET)
            .key(object);
        let answer = get.send().await.ok()?;
        Some(Stored {
            content_type: answer.content_type().unwrap_or_default().to_owned(),
            metadata: answer
                .metadata()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            bytes: answer.body.collect().await.unwrap().to_vec(),
        })
    }

    /// The keys of all that is there, sorted.
    pub async fn names(&self) -> Vec<String> {
        let mut names = match &self.server {
            Server::Directory(dir) => files_below(dir.path()),
            Server::Supabase(service) => service.objects("p").into_keys().collect(),
            Server::Cloudinary(service) => service.objects("p").into_keys().collect(),
            Server::Archive(account) => {
                let paths = account.counts().into_keys();
                paths.map(|path| format!("original/{path}")).collect()
            }
            Server::Stock { server, mark } => {
                let mut blobs = server.blobs("mark", mark);
                // What was announced and never sent has no file.
                blobs.retain(|blob| server.file(&blob.key).exists());
                let keys = blobs.iter().map(|blob| blob.metadata["key"].as_str());
                keys.map(|key| key.unwrap().to_owned()).collect()
            }
            _ => self.list().await,
        };
        names.sort();
        names
    }

    async fn list(&self) -> Vec<String> {
        let client = self.s3().unwrap().client();
        let list = client
            .list_objects_v2()
            .bucket(s3::BUCKET)
            .prefix(&self.prefix);
        let answer = list.send().await.unwrap();
        let names = answer.contents().iter().filter_map(|object| object.key());
        names
            .map(|name| name[self.prefix.len()..].to_owned())
            .collect()
    }

    /// Asserts that this is all there is, and that no upload was left unfinished (which may take
    /// a moment after a put was given up).
    pub async fn assert_only(&self, names: &[&str]) {
        assert_eq!(self.names().await, names);
        if let Server::Supabase(service) = &self.server {
            for attempt in 0.. {
                let unfinished = service.state.lock().unfinished();
                if unfinished == 0 {
                    break;
                }
                assert!(attempt < 300, "{unfinished} left unfinished");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        if let Server::SeaweedFs(server) = &self.server {
            for attempt in 0.. {
                let list = server.client().list_multipart_uploads().bucket(s3::BUCKET);
                let answer = list.prefix(&self.prefix).send().await.unwrap();
                if answer.uploads().is_empty() {
                    break;
                }
                assert!(attempt < 300, "left unfinished: {:?}", answer.uploads());
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

pub async fn open_s3(server: &s3::Server, prefix: &str, options: &str) -> Arc<dyn Remote> {
    let url = Url::parse(&(server.url(prefix) + options)).unwrap();
    open_with(&url, &server.environment()).await.unwrap()
}

/// One SeaweedFS for the tests that run at a time; the last one to end ends it.
pub fn shared_seaweedfs() -> Option<Arc<s3::Server>> {
    static SHARED: Mutex<Weak<s3::Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(s3::Server::seaweedfs()?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// Every S3 server that can be had here.
pub async fn servers() -> Vec<Arc<s3::Server>> {
    let in_process = Arc::new(s3::Server::in_process());
    std::iter::once(in_process)
        .chain(shared_seaweedfs())
        .collect()
}

/// The error of both a probe and a put, which must agree.
pub async fn refused(url: &str, environment: &Environment) -> RemoteError {
    let remote = open_with(&Url::parse(url).unwrap(), environment)
        .await
        .unwrap();
    let probed = remote.probe().await.unwrap_err();
    let put = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(probed.kind, put.kind, "{probed} / {put}");
    put
}

pub fn key(path: &[u8]) -> Key {
    Key::new(Artifact::Original, &RelPath::parse(path).unwrap())
}

pub fn put(path: &str, content: &[u8]) -> Put {
    put_at(key(path.as_bytes()), content)
}

pub fn put_at(key: Key, content: &[u8]) -> Put {
    Put {
        key,
        body: Body::Bytes(content.to_vec().into()),
        content_type: "application/octet-stream".to_owned(),
        hash: blake3::hash(content),
        decoded: None,
        metadata: Vec::new(),
    }
}

pub fn put_file(path: &str, content: &[u8]) -> Put {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Put {
        body: Body::File {
            file: Arc::new(file),
            len: content.len() as u64,
        },
        ..put(path, content)
    }
}

/// Bytes in which every part differs from every other.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn read_file(path: &std::path::Path) -> Option<Stored> {
    let file = File::open(path).ok()?;
    let attribute = |name: &str| {
        let mut value = vec![0; 1024];
        let len = rustix::fs::fgetxattr(&file, name, &mut value[..]).ok()?;
        value.truncate(len);
        String::from_utf8(value).ok()
    };
    let metadata = ["blake3", "mtime"].into_iter().filter_map(|name| {
        let value = attribute(&format!("user.outboxfs.{name}"))?;
        Some((name.to_owned(), value))
    });
    Some(Stored {
        content_type: attribute("user.outboxfs.content-type").unwrap_or_default(),
        metadata: metadata.collect(),
        bytes: std::fs::read(path).ok()?,
    })
}

fn texts(metadata: &serde_json::Value) -> BTreeMap<String, String> {
    let members = metadata.as_object().unwrap().iter();
    let text = |(name, value): (&String, &serde_json::Value)| {
        Some((name.clone(), value.as_str()?.to_owned()))
    };
    members.filter_map(text).collect()
}

/// All files, temporary ones too, relative to `root`.
fn files_below(root: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap();
                names.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    names
}
