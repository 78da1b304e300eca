//! One conformance suite for all remotes: each case of [`suite`] runs against every one of them.
//! What a remote stores is read back by another way than the one that wrote it.

#[path = "support/s3.rs"]
mod s3;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, Weak};

use outboxfs::path::RelPath;
use outboxfs::remote::{
    Artifact, Body, Copy, Described, Environment, Key, Listed, Put, Remote, RemoteError,
    RemoteErrorKind, open_with,
};
use tempfile::TempDir;
use url::Url;

const MIB: usize = 1 << 20;

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod directory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::directory().await).await;
            })*
        }
        mod s3_in_process {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::s3_in_process().await).await;
            })*
        }
        mod s3_on_seaweedfs {
            $(#[tokio::test]
            async fn $case() {
                if let Some(place) = super::Place::s3_on_seaweedfs().await {
                    super::$case(&place).await;
                }
            })*
        }
    };
}

suite![
    an_object_arrives_with_its_type_and_metadata,
    a_second_put_replaces_the_first,
    an_empty_file_arrives,
    a_large_file_arrives_with_its_type_and_metadata,
    files_on_part_boundaries_arrive,
    odd_names_arrive_as_they_are,
    long_names_arrive,
    other_bytes_than_promised_store_nothing,
    a_file_that_shrinks_meanwhile_stores_nothing,
    a_file_that_grows_meanwhile_arrives_as_it_was,
    a_put_given_up_half_way_stores_nothing,
    many_at_once_all_arrive,
    a_probe_leaves_nothing_behind,
    what_is_there_is_listed,
    what_is_there_can_be_asked_for,
    what_is_there_can_be_read,
    what_is_deleted_is_gone,
    many_are_deleted_at_once,
    what_is_there_is_copied,
    a_copy_can_be_described_anew,
    a_large_object_is_copied,
    what_is_not_there_or_other_is_not_copied,
    urls_lead_to_the_object,
];

async fn an_object_arrives_with_its_type_and_metadata(place: &Place) {
    let mut put = put("a/b.jpg", b"not really a picture");
    put.content_type = "image/jpeg".to_owned();
    put.metadata = vec![("mtime", "1700000000.123456789".to_owned())];
    place.remote.put(put.clone()).await.unwrap();
    let stored = place.read("original/a/b.jpg").await.unwrap();
    assert_eq!(stored.bytes, b"not really a picture");
    assert_eq!(stored.content_type, "image/jpeg");
    assert_eq!(stored.metadata["blake3"], put.hash.to_hex().as_str());
    assert_eq!(stored.metadata["mtime"], "1700000000.123456789");
}

async fn what_is_there_is_listed(place: &Place) {
    for path in ["a/b", "a/c/d", "ab", "e"] {
        place.remote.put(put(path, path.as_bytes())).await.unwrap();
    }
    for (prefix, keys) in [
        ("original/", &["a/b", "a/c/d", "ab", "e"][..]),
        ("original/a/", &["a/b", "a/c/d"]),
        ("original/a/c/", &["a/c/d"]),
        ("thumbnail/", &[]),
        ("original/none/", &[]),
    ] {
        let mut listed = Vec::new();
        let each = &mut |object: Listed| listed.push((object.key, object.size));
        place.remote.list(prefix, each).await.unwrap();
        listed.sort();
        let keys = keys
            .iter()
            .map(|key| (format!("original/{key}"), key.len() as u64));
        assert_eq!(listed, keys.collect::<Vec<_>>(), "{prefix}");
    }
}

async fn what_is_there_can_be_asked_for(place: &Place) {
    let put = put("a/b", b"content");
    let proof = place.remote.put(put.clone()).await.unwrap();
    let info = place.remote.head(&put.key).await.unwrap().unwrap();
    assert_eq!((info.size, info.blake3), (7, Some(put.hash)));
    assert_eq!(info.etag, proof.etag);
    // s3s-fs answers 500 where a folder of its own is asked for as an object.
    let missing = match &place.server {
        Server::InProcess(_) => vec!["a/c"],
        _ => vec!["a/c", "a", "a/b/c"],
    };
    for missing in missing {
        let head = place.remote.head(&key(missing.as_bytes())).await;
        assert_eq!(head.unwrap(), None, "{missing}");
    }
}

async fn what_is_there_can_be_read(place: &Place) {
    let content = noise(3 * MIB + 7);
    let put = put_file("film", &content);
    place.remote.put(put.clone()).await.unwrap();
    let mut hasher = blake3::Hasher::new();
    let size = place.remote.get(&put.key, &mut hasher).await.unwrap();
    assert_eq!(size, Some(content.len() as u64));
    assert_eq!(hasher.finalize(), put.hash);
    let missing = place.remote.get(&key(b"none"), &mut Vec::new()).await;
    assert_eq!(missing.unwrap(), None);
}

async fn what_is_deleted_is_gone(place: &Place) {
    for path in ["a", "b"] {
        place.remote.put(put(path, b"x")).await.unwrap();
    }
    for _ in 0..2 {
        place.remote.delete(&key(b"a")).await.unwrap();
    }
    place.assert_only(&["original/b"]).await;
}

async fn many_are_deleted_at_once(place: &Place) {
    let count = 40;
    let kept = put("in/kept", b"x");
    place.remote.put(kept).await.unwrap();
    let mut keys = vec![key(b"never there"), key(b"nor/there")];
    for i in 0..count {
        let put = put(&format!("in/{}/<&{i}>", i % 3), b"x");
        keys.push(put.key.clone());
        place.remote.put(put).await.unwrap();
    }
    for _ in 0..2 {
        let answers = place.remote.delete_all(&keys).await;
        assert_eq!(answers.len(), keys.len());
        for (answer, key) in answers.into_iter().zip(&keys) {
            answer.unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }
    place.assert_only(&["original/in/kept"]).await;
    if let Server::Directory(dir) = &place.server {
        let folders = std::fs::read_dir(dir.path().join("original/in")).unwrap();
        assert_eq!(folders.count(), 1, "empty folders are left");
    }
}

fn copy(from: &str, to: &str, content: &[u8]) -> Copy {
    Copy {
        from: key(from.as_bytes()),
        to: key(to.as_bytes()),
        expected: ("blake3", blake3::hash(content).to_hex().to_string()),
        described: None,
    }
}

async fn what_is_there_is_copied(place: &Place) {
    let mut first = put("a/b ä+%.jpg", b"content");
    first.content_type = "image/jpeg".to_owned();
    first.metadata = vec![("mtime", "1700000000.5".to_owned())];
    place.remote.put(first).await.unwrap();
    for to in ["c/d", "a/e"] {
        // Twice: a copy whose answer was lost is made again.
        for _ in 0..2 {
            let copy = copy("a/b ä+%.jpg", to, b"content");
            let proof = place.remote.copy(&copy).await.unwrap().expect("copied");
            let info = place.remote.head(&copy.to).await.unwrap().unwrap();
            assert_eq!(info.etag, proof.etag);
            assert_eq!(info.blake3, Some(blake3::hash(b"content")));
        }
        let stored = place.read(&format!("original/{to}")).await.unwrap();
        assert_eq!(stored.bytes, b"content");
        assert_eq!(stored.content_type, "image/jpeg");
        assert_eq!(stored.metadata["mtime"], "1700000000.5");
    }
}

async fn a_copy_can_be_described_anew(place: &Place) {
    place.remote.put(put("a.tmp", b"content")).await.unwrap();
    let mut copy = copy("a.tmp", "a.jpg", b"content");
    copy.described = Some(Described {
        content_type: "image/jpeg".to_owned(),
        hash: blake3::hash(b"content"),
        metadata: vec![("mtime", "7.5".to_owned())],
    });
    assert!(place.remote.copy(&copy).await.unwrap().is_some());
    let stored = place.read("original/a.jpg").await.unwrap();
    assert_eq!(stored.bytes, b"content");
    assert_eq!(stored.content_type, "image/jpeg");
    assert_eq!(stored.metadata["mtime"], "7.5");
    assert_eq!(
        stored.metadata["blake3"],
        blake3::hash(b"content").to_hex().as_str()
    );
}

/// So large that S3 copies it in parts.
async fn a_large_object_is_copied(place: &Place) {
    let content = noise(70 * MIB + 3);
    place.remote.put(put_file("film", &content)).await.unwrap();
    let copy = copy("film", "copied", &content);
    let proof = place.remote.copy(&copy).await.unwrap().expect("copied");
    let info = place.remote.head(&copy.to).await.unwrap().unwrap();
    assert_eq!(info.etag, proof.etag);
    assert!(place.read("original/copied").await.unwrap().bytes == content);
    place
        .assert_only(&["original/copied", "original/film"])
        .await;
}

async fn what_is_not_there_or_other_is_not_copied(place: &Place) {
    place.remote.put(put("a", b"content")).await.unwrap();
    for copy in [
        copy("none", "b", b"content"),
        copy("a", "b", b"other content"),
    ] {
        assert_eq!(place.remote.copy(&copy).await.unwrap(), None);
    }
    place.assert_only(&["original/a"]).await;
}

async fn a_second_put_replaces_the_first(place: &Place) {
    for content in [&b"first, and longer"[..], b"second"] {
        place.remote.put(put("a", content)).await.unwrap();
        assert_eq!(place.read("original/a").await.unwrap().bytes, content);
    }
    assert_eq!(place.names().await, ["original/a"]);
}

async fn an_empty_file_arrives(place: &Place) {
    place.remote.put(put("bytes", b"")).await.unwrap();
    place.remote.put(put_file("file", b"")).await.unwrap();
    for name in ["original/bytes", "original/file"] {
        assert_eq!(place.read(name).await.unwrap().bytes, b"");
    }
}

async fn a_large_file_arrives_with_its_type_and_metadata(place: &Place) {
    let content = noise(17 * MIB + 12_345);
    let mut put = put_file("film.mp4", &content);
    put.content_type = "video/mp4".to_owned();
    place.remote.put(put.clone()).await.unwrap();
    let stored = place.read("original/film.mp4").await.unwrap();
    assert!(stored.bytes == content);
    assert_eq!(stored.content_type, "video/mp4");
    assert_eq!(stored.metadata["blake3"], put.hash.to_hex().as_str());
}

async fn files_on_part_boundaries_arrive(place: &Place) {
    for len in [16 * MIB, 16 * MIB + 1, 24 * MIB] {
        let content = noise(len);
        place.remote.put(put_file("x", &content)).await.unwrap();
        assert!(
            place.read("original/x").await.unwrap().bytes == content,
            "{len}"
        );
    }
}

async fn odd_names_arrive_as_they_are(place: &Place) {
    let names: [&[u8]; 12] = [
        "Zürich/smörgås 日本.jpg".as_bytes(),
        b" leading and trailing ",
        b"a+b",
        b"100%",
        b"100%25",
        b"a&b=c;d",
        b"what?",
        b"#1",
        b"new\nline",
        b"not utf-8 \xff",
        b"back\\slash",
        b"~'\"()*!,:@$[]{}|<>^`",
    ];
    let mut expected = Vec::new();
    for name in names {
        let put = put_at(key(name), name);
        expected.push(put.key.as_str().to_owned());
        place.remote.put(put).await.unwrap();
    }
    for (key, content) in expected.iter().zip(names) {
        assert_eq!(place.read(key).await.unwrap().bytes, content, "{key}");
    }
    expected.sort();
    assert_eq!(place.names().await, expected);
}

async fn long_names_arrive(place: &Place) {
    // S3 ends at 1,024 bytes, prefix included; a component on most file systems at 255.
    let component = "n".repeat(200);
    let path = match place.server {
        Server::InProcess(_) => component[..100].to_owned(),
        _ => [component.as_str(); 4].join("/") + "/" + &component[..180],
    };
    place.remote.put(put(&path, b"deep")).await.unwrap();
    let key = format!("original/{path}");
    assert_eq!(place.read(&key).await.unwrap().bytes, b"deep");
}

async fn other_bytes_than_promised_store_nothing(place: &Place) {
    let kept = put("a", b"what was there before");
    place.remote.put(kept).await.unwrap();
    let large = noise(20 * MIB);
    for mut wrong in [put("a", b"x"), put_file("a", b"x"), put_file("a", &large)] {
        wrong.hash = blake3::hash(b"something else");
        let error = place.remote.put(wrong).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::ContentChanged, "{error}");
    }
    let stored = place.read("original/a").await.unwrap();
    assert_eq!(stored.bytes, b"what was there before");
    place.assert_only(&["original/a"]).await;
}

async fn a_file_that_shrinks_meanwhile_stores_nothing(place: &Place) {
    for len in [100, 20 * MIB] {
        let put = put_file("a", &noise(len));
        let Body::File { file, .. } = &put.body else {
            unreachable!()
        };
        file.set_len(len as u64 - 1).unwrap();
        let error = place.remote.put(put).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::ContentChanged, "{error}");
    }
    place.assert_only(&[]).await;
}

async fn a_file_that_grows_meanwhile_arrives_as_it_was(place: &Place) {
    for len in [100, 20 * MIB] {
        let content = noise(len);
        let put = put_file("a", &content);
        let Body::File { file, .. } = &put.body else {
            unreachable!()
        };
        file.write_all_at(b"more", len as u64).unwrap();
        place.remote.put(put).await.unwrap();
        assert!(place.read("original/a").await.unwrap().bytes == content);
    }
}

async fn a_put_given_up_half_way_stores_nothing(place: &Place) {
    let put = put_file("a", &noise(40 * MIB));
    // Long enough to have begun, too short to be done.
    let limit = std::time::Duration::from_millis(20);
    let done = tokio::time::timeout(limit, place.remote.put(put)).await;
    if done.is_ok() || matches!(place.server, Server::Directory(_)) {
        // A directory's writes run to their end once begun; whole is as good as absent.
        return;
    }
    place.assert_only(&[]).await;
}

async fn many_at_once_all_arrive(place: &Place) {
    let puts = (0..64).map(|i| {
        let remote = place.remote.clone();
        let content = vec![i as u8; 1 + i * 1000];
        tokio::spawn(async move { remote.put(put(&format!("{}/{i}", i % 7), &content)).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    for i in 0..64 {
        let stored = place
            .read(&format!("original/{}/{i}", i % 7))
            .await
            .unwrap();
        assert_eq!(stored.bytes, vec![i as u8; 1 + i * 1000]);
    }
}

async fn a_probe_leaves_nothing_behind(place: &Place) {
    place.remote.probe().await.unwrap();
    place.assert_only(&[]).await;
}

async fn urls_lead_to_the_object(place: &Place) {
    let put = put("ä b/100%+?#.jpg", b"found");
    place.remote.put(put.clone()).await.unwrap();
    let url = Url::parse(&place.remote.url(&put.key).unwrap()).unwrap();
    let path = percent_encoding::percent_decode_str(url.path());
    let path = path.decode_utf8().unwrap();
    match &place.server {
        Server::Directory(_) => assert_eq!(std::fs::read(path.as_ref()).unwrap(), b"found"),
        _ => assert_eq!(path, format!("/{}/{}{}", s3::BUCKET, place.prefix, put.key)),
    }
}

// What only S3 can get wrong.

#[tokio::test]
async fn a_missing_bucket_is_named_and_permanent() {
    for server in servers().await {
        let url = format!("s3://misnamed?endpoint={}", server.endpoint);
        let error = refused(&url, &server.environment()).await;
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(
            error.message.contains("create the bucket 'misnamed'"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn wrong_credentials_are_permanent_and_not_repeated() {
    for server in servers().await {
        let wrong = [
            ("no-such-key", s3::SECRET_KEY),
            (s3::ACCESS_KEY, "wrong-secret"),
        ];
        for (access, secret) in wrong {
            let environment = Environment::process()
                .with("AWS_ACCESS_KEY_ID", access)
                .with("AWS_SECRET_ACCESS_KEY", secret);
            let error = refused(&server.url("p"), &environment).await;
            assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
            assert!(error.message.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
            assert!(!error.message.contains(secret), "{error}");
        }
    }
}

#[tokio::test]
async fn a_profile_that_does_not_exist_is_permanent() {
    let url = "s3://b?endpoint=http://127.0.0.1:9&profile=no-such-profile-here";
    let error = refused(url, &Environment::process()).await;
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("no-such-profile-here"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let hosts = [
        format!("127.0.0.1:{port}"),
        "no-such-host.invalid".to_owned(),
    ];
    for host in hosts {
        let url = format!("s3://b?endpoint=http://{host}");
        let environment = Environment::process()
            .with("AWS_ACCESS_KEY_ID", "a")
            .with("AWS_SECRET_ACCESS_KEY", "b");
        let error = refused(&url, &environment).await;
        assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
        assert!(error.message.contains(&host), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_holds_the_probe_up_for_seconds_only() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://b?endpoint=http://{}", deaf.local_addr().unwrap());
    let environment = Environment::process()
        .with("AWS_ACCESS_KEY_ID", "a")
        .with("AWS_SECRET_ACCESS_KEY", "b");
    let started = std::time::Instant::now();
    let remote = open_with(&Url::parse(&url).unwrap(), &environment)
        .await
        .unwrap();
    let error = remote.probe().await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(started.elapsed().as_secs() < 12);
}

#[tokio::test]
async fn services_without_newer_checksums_get_content_md5() {
    for server in servers().await {
        let remote = open_s3(&server, "md5", "&provider=ceph").await;
        let large = noise(17 * MIB);
        remote.put(put("small", b"content")).await.unwrap();
        remote.put(put_file("large", &large)).await.unwrap();
        for (name, content) in [("small", &b"content"[..]), ("large", &large)] {
            let get = server.client().get_object().bucket(s3::BUCKET);
            let stored = get
                .key(format!("md5/original/{name}"))
                .send()
                .await
                .unwrap();
            assert_eq!(stored.checksum_crc32_c(), None);
            let bytes = stored.body.collect().await.unwrap().to_vec();
            assert!(bytes == content, "{name}");
        }
    }
}

#[tokio::test]
async fn options_of_the_url_go_with_each_object() {
    let Some(server) = shared_seaweedfs() else {
        return;
    };
    let options = "&cache_control=max-age%3D60&tag=who:camera%201&tag=year:2024&acl=public-read";
    let remote = open_s3(&server, "options", options).await;
    remote.put(put("small", b"x")).await.unwrap();
    remote
        .put(put_file("large", &noise(17 * MIB)))
        .await
        .unwrap();
    for name in ["small", "large"] {
        let key = format!("options/original/{name}");
        let head = server.client().head_object().bucket(s3::BUCKET).key(&key);
        let head = head.send().await.unwrap();
        assert_eq!(head.cache_control(), Some("max-age=60"), "{name}");
        let tags = server.client().get_object_tagging().bucket(s3::BUCKET);
        let tags = tags.key(&key).send().await.unwrap();
        let mut tags: Vec<_> = tags
            .tag_set()
            .iter()
            .map(|t| (t.key(), t.value()))
            .collect();
        tags.sort_unstable();
        assert_eq!(tags, [("who", "camera 1"), ("year", "2024")], "{name}");
    }
}

// What only a directory can get wrong.

#[tokio::test]
async fn a_name_too_long_for_the_disk_is_permanent() {
    let place = Place::directory().await;
    // 100 bytes on the source's disk, 300 in the key.
    let error = place
        .remote
        .put(put_at(key(&[0xff; 100]), b"x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent);
    assert!(error.message.contains("255 bytes"), "{error}");
    place.assert_only(&[]).await;
}

#[tokio::test]
async fn a_file_that_became_a_folder_is_said_and_nothing_is_lost() {
    let place = Place::directory().await;
    for (first, second) in [("a", "a/b/c"), ("d/e", "d")] {
        place.remote.put(put(first, b"kept")).await.unwrap();
        let error = place.remote.put(put(second, b"new")).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("move or remove it"), "{error}");
        let kept = place.read(&format!("original/{first}")).await.unwrap();
        assert_eq!(kept.bytes, b"kept");
    }
    place.assert_only(&["original/a", "original/d/e"]).await;
}

#[tokio::test]
async fn a_directory_that_vanished_is_waited_for_and_not_recreated() {
    let place = Place::directory().await;
    let Server::Directory(dir) = &place.server else {
        unreachable!()
    };
    std::fs::remove_dir_all(dir.path()).unwrap();
    let error = place.remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(!dir.path().exists());
    place.remote.probe().await.unwrap();
    assert!(dir.path().is_dir());
}

// The places.

enum Server {
    Directory(TempDir),
    InProcess(s3::Server),
    SeaweedFs(Arc<s3::Server>),
}

/// A remote that starts empty, and the means to look into it.
struct Place {
    remote: Arc<dyn Remote>,
    server: Server,
    /// In the bucket; unique to a test.
    prefix: String,
}

struct Stored {
    bytes: Vec<u8>,
    content_type: String,
    metadata: BTreeMap<String, String>,
}

impl Place {
    async fn directory() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_file_path(dir.path()).unwrap();
        let remote = open_with(&url, &Environment::process()).await.unwrap();
        Self {
            remote,
            server: Server::Directory(dir),
            prefix: String::new(),
        }
    }

    async fn s3_in_process() -> Self {
        let server = s3::Server::in_process();
        let remote = open_s3(&server, "p", "").await;
        Self {
            remote,
            server: Server::InProcess(server),
            prefix: "p/".to_owned(),
        }
    }

    async fn s3_on_seaweedfs() -> Option<Self> {
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

    fn s3(&self) -> Option<&s3::Server> {
        match &self.server {
            Server::Directory(_) => None,
            Server::InProcess(server) => Some(server),
            Server::SeaweedFs(server) => Some(server),
        }
    }

    async fn read(&self, key: &str) -> Option<Stored> {
        match &self.server {
            Server::Directory(dir) => read_file(&dir.path().join(key)),
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
    async fn names(&self) -> Vec<String> {
        let mut names = match &self.server {
            Server::Directory(dir) => files_below(dir.path()),
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
    async fn assert_only(&self, names: &[&str]) {
        assert_eq!(self.names().await, names);
        if let Server::SeaweedFs(server) = &self.server {
            for attempt in 0.. {
                let list = server.client().list_multipart_uploads().bucket(s3::BUCKET);
                let answer = list.prefix(&self.prefix).send().await.unwrap();
                if answer.uploads().is_empty() {
                    break;
                }
                assert!(attempt < 50, "left unfinished: {:?}", answer.uploads());
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open_s3(server: &s3::Server, prefix: &str, options: &str) -> Arc<dyn Remote> {
    let url = Url::parse(&(server.url(prefix) + options)).unwrap();
    open_with(&url, &server.environment()).await.unwrap()
}

/// One SeaweedFS for the tests that run at a time; the last one to end ends it.
fn shared_seaweedfs() -> Option<Arc<s3::Server>> {
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
async fn servers() -> Vec<Arc<s3::Server>> {
    let in_process = Arc::new(s3::Server::in_process());
    std::iter::once(in_process)
        .chain(shared_seaweedfs())
        .collect()
}

/// The error of both a probe and a put, which must agree.
async fn refused(url: &str, environment: &Environment) -> RemoteError {
    let remote = open_with(&Url::parse(url).unwrap(), environment)
        .await
        .unwrap();
    let probed = remote.probe().await.unwrap_err();
    let put = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(probed.kind, put.kind, "{probed} / {put}");
    put
}

fn key(path: &[u8]) -> Key {
    Key::new(Artifact::Original, &RelPath::parse(path).unwrap())
}

fn put(path: &str, content: &[u8]) -> Put {
    put_at(key(path.as_bytes()), content)
}

fn put_at(key: Key, content: &[u8]) -> Put {
    Put {
        key,
        body: Body::Bytes(content.to_vec().into()),
        content_type: "application/octet-stream".to_owned(),
        hash: blake3::hash(content),
        metadata: Vec::new(),
    }
}

fn put_file(path: &str, content: &[u8]) -> Put {
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
fn noise(len: usize) -> Vec<u8> {
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
