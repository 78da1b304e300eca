//! Storing objects: what arrives, and what does not.

use outboxfs::path::RelPath;
use outboxfs::remote::{Artifact, Body, RemoteErrorKind};
use std::os::unix::fs::FileExt;
use url::Url;

use super::place::{Place, Server, key, noise, put, put_at, put_file};
use super::{MIB, cloudinary, s3, supabase};

pub async fn an_object_arrives_with_its_type_and_metadata(place: &Place) {
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

pub async fn a_second_put_replaces_the_first(place: &Place) {
    if !place.can().overwrites {
        return;
    }
    for content in [&b"first, and longer"[..], b"second"] {
        place.remote.put(put("a", content)).await.unwrap();
        assert_eq!(place.read("original/a").await.unwrap().bytes, content);
    }
    assert_eq!(place.names().await, ["original/a"]);
}

pub async fn an_empty_file_arrives(place: &Place) {
    if !place.can().empty_files {
        let error = place.remote.put(put("bytes", b"")).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        return;
    }
    place.remote.put(put("bytes", b"")).await.unwrap();
    place.remote.put(put_file("file", b"")).await.unwrap();
    for name in ["original/bytes", "original/file"] {
        assert_eq!(place.read(name).await.unwrap().bytes, b"");
    }
}

pub async fn a_large_file_arrives_with_its_type_and_metadata(place: &Place) {
    let content = noise(17 * MIB + 12_345);
    let mut put = put_file("film.mp4", &content);
    put.content_type = "video/mp4".to_owned();
    place.remote.put(put.clone()).await.unwrap();
    let stored = place.read("original/film.mp4").await.unwrap();
    assert!(stored.bytes == content);
    assert_eq!(stored.content_type, "video/mp4");
    assert_eq!(stored.metadata["blake3"], put.hash.to_hex().as_str());
}

pub async fn files_on_part_boundaries_arrive(place: &Place) {
    for len in [16 * MIB, 16 * MIB + 1, 24 * MIB] {
        let content = noise(len);
        place.remote.put(put_file("x", &content)).await.unwrap();
        assert!(
            place.read("original/x").await.unwrap().bytes == content,
            "{len}"
        );
    }
}

pub async fn odd_names_arrive_as_they_are(place: &Place) {
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

pub async fn long_names_arrive(place: &Place) {
    // S3 ends at 1,024 bytes, prefix included; a component on most file systems at 255.
    let component = "n".repeat(200);
    let path = match place.server {
        Server::InProcess(_) => component[..100].to_owned(),
        Server::Cloudinary(_) => component.clone() + "/" + &component[..52],
        _ => [component.as_str(); 4].join("/") + "/" + &component[..180],
    };
    place.remote.put(put(&path, b"deep")).await.unwrap();
    let key = format!("original/{path}");
    assert_eq!(place.read(&key).await.unwrap().bytes, b"deep");
}

pub async fn other_bytes_than_promised_store_nothing(place: &Place) {
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

pub async fn a_file_that_shrinks_meanwhile_stores_nothing(place: &Place) {
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

pub async fn a_file_that_grows_meanwhile_arrives_as_it_was(place: &Place) {
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

pub async fn a_put_given_up_half_way_stores_nothing(place: &Place) {
    let put = put_file("a", &noise(40 * MIB));
    // Long enough to have begun, too short to be done.
    let limit = std::time::Duration::from_millis(20);
    let done = tokio::time::timeout(limit, place.remote.put(put)).await;
    if done.is_ok() || matches!(place.server, Server::Directory(_) | Server::Stock { .. }) {
        // What has begun to be written there runs to its end; whole is as good as absent.
        return;
    }
    place.assert_only(&[]).await;
}

pub async fn many_at_once_all_arrive(place: &Place) {
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

pub async fn a_probe_leaves_nothing_behind(place: &Place) {
    place.remote.probe().await.unwrap();
    place.assert_only(&[]).await;
}

pub async fn urls_lead_to_the_object(place: &Place) {
    let path = "ä b/100%+?#.jpg";
    let proof = place.remote.put(put(path, b"found")).await.unwrap();
    let key = key(path.as_bytes());
    let path = RelPath::parse(path.as_bytes()).unwrap();
    let url = proof.url(&*place.remote, Artifact::Original, &path);
    let url = Url::parse(&url.unwrap()).unwrap();
    let path = percent_encoding::percent_decode_str(url.path());
    let path = path.decode_utf8().unwrap();
    match &place.server {
        Server::Directory(_) => assert_eq!(std::fs::read(path.as_ref()).unwrap(), b"found"),
        Server::Cloudinary(_) => {
            let version = proof.version.unwrap();
            let expected =
                "image/upload/v%/p/ä b/100_x25_x2B_x3F_x23.jpg.jpg".replace('%', &version);
            assert_eq!(path, format!("/{}/{expected}", cloudinary::CLOUD));
            let thumbnail = Url::parse(&proof.thumbnail_url.unwrap()).unwrap();
            assert!(
                thumbnail
                    .path()
                    .contains("/upload/c_fill,w_200,h_300,q_85/v")
            );
        }
        Server::Supabase(_) => {
            let expected = "p/original/_xC3_xA4 b/100_x25+?_x23.jpg";
            let public = "storage/v1/object/public";
            assert_eq!(path, format!("/{public}/{}/{expected}", supabase::BUCKET));
        }
        Server::InProcess(_) | Server::SeaweedFs(_) => {
            assert_eq!(path, format!("/{}/{}{}", s3::BUCKET, place.prefix, key));
        }
        _ => {
            let answer = reqwest::get(url).await.unwrap();
            assert_eq!(answer.bytes().await.unwrap(), b"found"[..]);
        }
    }
}
