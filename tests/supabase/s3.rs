//! Supabase through its S3 interface: the rules of the `supabase` preset.

use std::sync::Arc;

use hyper::Response;
use outboxfs::remote::{Environment, RemoteErrorKind};
use parking_lot::Mutex;

use super::double::{Came, Double};
use super::{open, put};

fn known() -> Environment {
    // Whatever this machine has set must not stand in.
    let unset = [
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
    ];
    let known = unset
        .iter()
        .fold(Environment::process(), |known, name| known.with(name, ""));
    known
        .with("AWS_ACCESS_KEY_ID", "id")
        .with("AWS_SECRET_ACCESS_KEY", "hush")
}

#[tokio::test]
async fn the_bucket_is_in_the_path_the_region_in_the_signature_and_md5_the_checksum() {
    let came: Arc<Mutex<Vec<Came>>> = Arc::default();
    let noted = came.clone();
    let service = Double::start(move |request| {
        noted.lock().push(request.clone());
        let answer = Response::builder().header("etag", "\"e\"");
        answer.body(Default::default()).unwrap()
    });
    let url = format!(
        "s3://pictures/p?provider=supabase&region=eu-central-1&endpoint={}/storage/v1/s3",
        service.endpoint
    );
    let remote = open(&url, &known()).await.unwrap();
    remote.put(put("a b.jpg", b"content")).await.unwrap();
    let request = came.lock().pop().unwrap();
    assert_eq!(request.path, "/storage/v1/s3/pictures/p/original/a%20b.jpg");
    let signed = request.header("authorization").unwrap();
    assert!(signed.contains("/eu-central-1/s3/aws4_request"), "{signed}");
    assert!(request.header("content-md5").is_some());
    assert!(
        !request
            .headers
            .keys()
            .any(|name| name.starts_with("x-amz-checksum"))
    );
}

#[tokio::test]
async fn without_a_region_it_is_asked_for() {
    let url = "s3://pictures/p?provider=supabase&endpoint=https://x.supabase.co/storage/v1/s3";
    let Some(error) = open(url, &known()).await.err() else {
        // This machine's AWS configuration names one.
        return;
    };
    assert_eq!(error.kind, RemoteErrorKind::Permanent);
    assert!(error.message.contains("region=NAME"), "{error}");
}
