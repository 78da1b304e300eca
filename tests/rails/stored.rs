//! What the application has in the end: files, records, and where they are found.

use std::sync::Arc;

use serde_json::json;

use super::rails::{Account, Behaviour, FIELDS, Server};
use super::{open, open_at, put, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_has_what_the_file_and_its_name_say() {
    let Some(account) = Account::new(&Behaviour::default()) else {
        return;
    };
    let remote = open(&account, &account.server.endpoint, "").await;
    let path = "Miles Davis/Kind of Blue/Miles Davis - Kind of Blue - 01 - So What.mp3";
    let proof = remote.put(put(path, b"no tags")).await.unwrap();
    let song = account.song(path).unwrap();
    assert_eq!(song.title, "So What");
    assert_eq!(
        song.filename,
        "Miles Davis - Kind of Blue - 01 - So What.mp3"
    );
    let metadata = &song.metadata;
    assert_eq!(metadata["artist"], "Miles Davis");
    assert_eq!(metadata["album"], "Kind of Blue");
    assert_eq!(metadata["track"], json!(1));
    assert_eq!(proof.id, Some(song.id.to_string()));
    let url = proof.url.unwrap();
    assert_eq!(
        url,
        format!("{}/songs/{}", account.server.endpoint, song.id)
    );
}

/// The paths, names and members of another API fit without code; here the archive's own by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_api_can_be_spelled_out() {
    let Some(account) = Account::new(&Behaviour::default()) else {
        return;
    };
    let url = format!(
        "rails+{}?login=/api/v1/auth/login&login_field=email:{{email}}&login_field=password:{{password}}\
         &bearer=api_token&lifetime=30m&upload=/api/v1/songs/direct_upload\
         &upload_field=blob.filename:{{filename}}&upload_field=blob.byte_size:{{byte_size}}\
         &upload_field=blob.checksum:{{checksum}}&upload_field=blob.content_type:{{content_type}}\
         &signed_id=signed_id&upload_url=direct_upload.url&upload_headers=direct_upload.headers\
         &record=/api/v1/songs/create_from_blob&record_field=blob_signed_id:{{signed_id}}\
         &record_field=filename:{{filename}}\
         &record_field=metadata.title:{{folder}}%3A%20{{title}}&record_id=song.id&record_url=song.url&once=X-Key",
        account.server.endpoint
    );
    let remote = open_at(&url, &account.environment()).await;
    remote.put(put("Blue/a.mp3", b"music")).await.unwrap();
    assert_eq!(account.songs()[0].title, "Blue: a");
}

/// The application's files in S3: it signs the URL, with a checksum and a length that S3 verifies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_straight_to_s3_where_the_application_has_them() {
    let Some(s3) = s3::Server::seaweedfs() else {
        return;
    };
    let variables = [
        ("ARCHIVE_S3", s3.endpoint.as_str()),
        ("ARCHIVE_BUCKET", s3::BUCKET),
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY),
    ];
    let Some(server) = Server::start(&variables) else {
        return;
    };
    let account = Arc::new(server).account(&Behaviour::default());
    let remote = open_at(&account.url(FIELDS), &account.environment()).await;
    let music = b"music".repeat(1000);
    remote.put(put("a b/ü.mp3", &music)).await.unwrap();
    remote.put(put("empty.mp3", b"")).await.unwrap();
    for (path, content) in [("a b/ü.mp3", &music[..]), ("empty.mp3", b"")] {
        let song = account.song(path).unwrap();
        let get = s3.client().get_object().bucket(s3::BUCKET).key(&song.key);
        let object = get.send().await.unwrap();
        assert_eq!(object.content_type(), Some("audio/mpeg"));
        let bytes = object.body.collect().await.unwrap().to_vec();
        assert!(bytes == content, "{path}");
    }
}
