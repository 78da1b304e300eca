//! What is there already: listed, looked at, read, copied, deleted.

use std::io::Write;

use outboxfs::remote::{Copies, Copy, Decoded, Described, Listed};

use super::MIB;
use super::place::{Place, Server, key, noise, put, put_file};

pub async fn what_is_there_is_listed(place: &Place) {
    if !place.can().lists {
        return;
    }
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

pub async fn what_is_there_can_be_asked_for(place: &Place) {
    if !place.can().reads {
        return;
    }
    let put = put("a/b", b"content");
    let proof = place.remote.put(put.clone()).await.unwrap();
    let info = place.remote.head(&put.key).await.unwrap().unwrap();
    assert_eq!((info.size, info.blake3), (7, Some(put.hash)));
    if proof.etag.is_some() {
        assert_eq!(info.etag, proof.etag);
    }
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

pub async fn what_is_there_can_be_read(place: &Place) {
    if !place.can().reads {
        return;
    }
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

pub async fn what_is_encoded_is_read_as_it_was(place: &Place) {
    if !place.can().encodings {
        return;
    }
    let content = b"again ".repeat(1000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&content).unwrap();
    let encoded = encoder.finish().unwrap();
    let mut put = put("text", &encoded);
    put.decoded = Some(Decoded {
        hash: blake3::hash(&content),
        size: content.len() as u64,
    });
    place.remote.put(put.clone()).await.unwrap();
    let info = place.remote.head(&put.key).await.unwrap().unwrap();
    assert_eq!(info.size, encoded.len() as u64);
    assert_eq!(info.content_size(), content.len() as u64);
    assert_eq!(info.blake3, Some(blake3::hash(&content)));
    let mut read = Vec::new();
    let size = place.remote.get(&put.key, &mut read).await.unwrap();
    assert_eq!(size, Some(content.len() as u64));
    assert!(read == content);
    let stored = place.read("original/text").await.unwrap();
    assert!(stored.bytes == encoded);
    // What is gzip in itself is not decoded.
    put.decoded = None;
    place.remote.put(put.clone()).await.unwrap();
    let size = place.remote.get(&put.key, &mut Vec::new()).await.unwrap();
    assert_eq!(size, Some(encoded.len() as u64));
}

pub async fn what_is_deleted_is_gone(place: &Place) {
    if !place.can().deletes {
        return;
    }
    for path in ["a", "b"] {
        place.remote.put(put(path, b"x")).await.unwrap();
    }
    for _ in 0..2 {
        place.remote.delete(&key(b"a")).await.unwrap();
    }
    place.assert_only(&["original/b"]).await;
}

pub async fn many_are_deleted_at_once(place: &Place) {
    if !place.can().deletes {
        return;
    }
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
        moves: false,
    }
}

pub async fn what_is_there_is_copied(place: &Place) {
    if place.can().copies != Copies::Always {
        return;
    }
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

/// And described anew. Where it was it may be gone.
pub async fn what_is_not_wanted_any_more_is_moved(place: &Place) {
    if matches!(place.can().copies, Copies::Never | Copies::Needless) {
        return;
    }
    place
        .remote
        .put(put("a/b &.jpg", b"content"))
        .await
        .unwrap();
    let mut copy = copy("a/b &.jpg", "c/d.jpg", b"content");
    copy.moves = true;
    copy.described = Some(Described {
        content_type: "image/jpeg".to_owned(),
        hash: blake3::hash(b"content"),
        metadata: vec![("mtime", "7.5".to_owned())],
    });
    assert!(place.remote.copy(&copy).await.unwrap().is_some());
    let stored = place.read("original/c/d.jpg").await.unwrap();
    assert_eq!(stored.bytes, b"content");
    assert_eq!(stored.metadata["mtime"], "7.5");
    place.remote.delete(&copy.from).await.unwrap();
    place.assert_only(&["original/c/d.jpg"]).await;
    // Twice: the answer to the first was lost, and there is nothing to copy any more.
    assert_eq!(place.remote.copy(&copy).await.unwrap(), None);
}

pub async fn a_copy_can_be_described_anew(place: &Place) {
    if place.can().copies != Copies::Always {
        return;
    }
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
pub async fn a_large_object_is_copied(place: &Place) {
    if place.can().copies != Copies::Always {
        return;
    }
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

pub async fn what_is_not_there_or_other_is_not_copied(place: &Place) {
    if place.can().copies != Copies::Always {
        return;
    }
    place.remote.put(put("a", b"content")).await.unwrap();
    for copy in [
        copy("none", "b", b"content"),
        copy("a", "b", b"other content"),
    ] {
        assert_eq!(place.remote.copy(&copy).await.unwrap(), None);
    }
    place.assert_only(&["original/a"]).await;
}
