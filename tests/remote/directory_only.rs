//! What only a directory can get wrong.

use outboxfs::remote::RemoteErrorKind;

use super::place::{Place, Server, key, put, put_at};

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
