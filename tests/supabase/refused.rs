//! What the service, or something in its place, does not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Response;
use outboxfs::remote::RemoteErrorKind;

use super::double::{Double, json};
use super::supabase::{ANON, BUCKET, KEY, PROJECT, Service, TOKEN, environment, url_at};
use super::{key, noise, open, put};

#[tokio::test]
async fn wrong_keys_and_tokens_are_explained_and_not_shown() {
    let service = Service::start();
    let wrong_token = environment(ANON).with("SUPABASE_TOKEN", "wr0ng");
    for (environment, why) in [
        (environment("wr0ng"), "SUPABASE_KEY is of this project"),
        (wrong_token, "SUPABASE_TOKEN anew"),
        (environment(ANON), "policies on storage.objects"),
    ] {
        let remote = open(&service.url("p", ""), &environment).await.unwrap();
        for error in [
            remote.probe().await.unwrap_err(),
            remote.put(put("a", b"x")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
            assert!(error.message.contains(why), "{error}");
            assert!(!error.message.contains("wr0ng"), "{error}");
        }
    }
    let user = environment(ANON).with("SUPABASE_TOKEN", TOKEN);
    let remote = open(&service.url("p", ""), &user).await.unwrap();
    remote.probe().await.unwrap();
    remote.put(put("a", b"x")).await.unwrap();
    let error = open(&service.url("p", ""), &environment(""))
        .await
        .err()
        .unwrap();
    assert!(error.message.contains("set SUPABASE_KEY"), "{error}");
}

/// In the middle of a run: it is everything that is refused, and nothing fails for good.
#[tokio::test]
async fn a_token_that_runs_out_fails_the_probe_too() {
    let service = Service::start();
    let remote = open(&service.url("p", ""), &environment(KEY))
        .await
        .unwrap();
    remote.put(put("a", b"x")).await.unwrap();
    service.state.lock().revoked = true;
    let error = remote.put(put("b", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("has run out"), "{error}");
    remote.probe().await.unwrap_err();
    service.state.lock().revoked = false;
    remote.put(put("b", b"x")).await.unwrap();
}

#[tokio::test]
async fn what_the_service_does_not_take_is_said_in_its_words() {
    let service = Service::start();
    let remote = open(&service.url("p", ""), &environment(KEY))
        .await
        .unwrap();
    let large = noise(7 << 20, 1);
    let refused = |error: outboxfs::remote::RemoteError, why: &str| {
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains(why), "{error}");
    };
    service.state.lock().largest = Some(10);
    for content in [&b"more than ten"[..], &large] {
        let error = remote.put(put("a", content)).await.unwrap_err();
        refused(error, "exceeded the maximum allowed size");
    }
    service.state.lock().largest = None;
    service.state.lock().only_type = Some("image/png");
    for content in [&b"x"[..], &large] {
        let error = remote.put(put("a", content)).await.unwrap_err();
        refused(error, "mime type image/jpeg is not supported");
    }
    // The bucket itself works.
    remote.probe().await.unwrap();
    service.state.lock().only_type = None;
    let nowhere = format!("supabase://{PROJECT}/none?endpoint={}", service.endpoint());
    let nowhere = open(&nowhere, &environment(KEY)).await.unwrap();
    refused(
        nowhere.put(put("a", b"x")).await.unwrap_err(),
        "create the bucket",
    );
    refused(nowhere.probe().await.unwrap_err(), "create the bucket");
    refused(
        nowhere.head(&key("a")).await.unwrap_err(),
        "create the bucket",
    );
    assert!(service.objects("p").is_empty());
}

#[tokio::test]
async fn without_overwrite_what_is_there_stays_and_a_lost_answer_is_no_conflict() {
    let service = Service::start();
    let remote = open(&service.url("p", "&overwrite=false"), &environment(KEY))
        .await
        .unwrap();
    assert!(!remote.capabilities().overwrites);
    for content in [noise(100, 1), noise(7 << 20, 1)] {
        let name = content.len().to_string();
        remote.put(put(&name, &content)).await.unwrap();
        remote.put(put(&name, &content)).await.unwrap();
        let error = remote
            .put(put(&name, &noise(content.len(), 2)))
            .await
            .unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("already exists"), "{error}");
        assert!(service.objects("p")[&format!("original/{name}")].bytes == content);
    }
}

#[tokio::test]
async fn a_web_page_in_its_place_is_waited_out() {
    let page = Double::start(|_| {
        let answer = Response::builder().header("content-type", "text/html");
        answer.body("<html>Please log in</html>".into()).unwrap()
    });
    let remote = open(&url_at(&page.endpoint, "", ""), &environment(KEY))
        .await
        .unwrap();
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("a web page answers"), "{error}");
}

#[tokio::test]
async fn secrets_follow_neither_redirects_nor_the_addresses_of_uploads() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = heard.clone();
    let elsewhere = Double::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        json(200, &serde_json::json!({}))
    });
    let to = elsewhere.endpoint.clone();
    let redirecting = Double::start(move |came| {
        let to = format!("{to}{}", came.path);
        // The second is where an upload is to go on.
        let status = if came.path.ends_with("/resumable") {
            201
        } else {
            307
        };
        let answer = Response::builder().status(status).header("location", to);
        answer.body(Default::default()).unwrap()
    });
    let remote = open(&url_at(&redirecting.endpoint, "", ""), &environment(KEY))
        .await
        .unwrap();
    for content in [noise(10, 1), noise(7 << 20, 1)] {
        remote.put(put("a", &content)).await.unwrap_err();
    }
    remote.head(&key("a")).await.unwrap_err();
    remote.list("", &mut |_| {}).await.unwrap_err();
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    let url = format!("supabase://{PROJECT}/{BUCKET}?endpoint=http://192.0.2.1");
    let error = open(&url, &environment(KEY)).await.err().unwrap();
    assert!(error.message.contains("--insecure"), "{error}");
}
