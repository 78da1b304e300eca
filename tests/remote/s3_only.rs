//! What only S3 can get wrong.

use outboxfs::remote::{Environment, RemoteErrorKind, open_with};
use url::Url;

use super::place::{noise, open_s3, put, put_file, refused, servers, shared_seaweedfs};
use super::{MIB, s3};

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
    let options = "&cache_control=max-age%3D60&tag=who:camera%201&tag=year:2024&acl=public-read\
                   &metadata=rig:lab%207&metadata=blake3:ours";
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
        let metadata = head.metadata().unwrap();
        assert_eq!(metadata["rig"], "lab 7", "{name}");
        assert_ne!(metadata["blake3"], "ours", "{name}");
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
