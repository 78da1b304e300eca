//! What the service, or something in its place, does not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Response;
use outboxfs::remote::{Environment, RemoteErrorKind};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

use super::cloudinary::{CLOUD, KEY, SECRET, Service, credentials, url_at};
use super::double::{Double, json};
use super::{key, open, put};

fn known() -> Environment {
    Environment::process().with("CLOUDINARY_URL", &credentials())
}

#[tokio::test]
async fn wrong_keys_are_explained_and_not_shown() {
    let service = Service::start();
    for wrong in [
        format!("cloudinary://{KEY}:wr0ng@{CLOUD}"),
        format!("cloudinary://999:{SECRET}@{CLOUD}"),
    ] {
        let environment = Environment::process().with("CLOUDINARY_URL", &wrong);
        let remote = open(&service.url("p", ""), &environment).await.unwrap();
        let probed = remote.probe().await.unwrap_err();
        let error = remote.put(put("a", b"x")).await.unwrap_err();
        for error in [probed, error] {
            assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
            assert!(
                error.message.contains("401") && error.message.contains("the console"),
                "{error}"
            );
            assert!(
                !error.message.contains("wr0ng") && !error.message.contains(SECRET),
                "{error}"
            );
        }
    }
    let other = format!("cloudinary://{KEY}:{SECRET}@other");
    let environment = Environment::process().with("CLOUDINARY_URL", &other);
    let error = open(&service.url("", ""), &environment)
        .await
        .err()
        .unwrap();
    assert!(error.message.contains("another cloud"), "{error}");
}

/// In the middle of a run: it is everything that is refused, and nothing fails for good.
#[tokio::test]
async fn a_key_that_is_revoked_fails_the_probe_too() {
    let service = Service::start();
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    remote.put(put("a", b"x")).await.unwrap();
    service.state.lock().revoked = true;
    let error = remote.put(put("b", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    remote.probe().await.unwrap_err();
    service.state.lock().revoked = false;
    remote.put(put("b", b"x")).await.unwrap();
}

#[tokio::test]
async fn a_key_without_the_right_to_store_is_told_so() {
    let service = Service::start();
    service.state.lock().read_only = true;
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    for error in [
        remote.put(put("a", b"x")).await.unwrap_err(),
        remote.probe().await.unwrap_err(),
    ] {
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("the right"), "{error}");
    }
}

#[tokio::test]
async fn what_the_service_does_not_take_is_said_in_its_words() {
    let service = Service::start();
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    service.state.lock().largest = Some(10);
    let error = remote
        .put(put("a.txt", b"more than ten"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(
        error
            .message
            .contains("File size too large. Got 13. Maximum is 10"),
        "{error}"
    );
    service.state.lock().largest = None;
    service.state.lock().looks = true;
    let error = remote.put(put("a.jpg", b"no picture")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("Invalid image file"), "{error}");
    let error = remote.put(put(&"x".repeat(254), b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("256 characters"), "{error}");
    assert!(service.objects("p").is_empty());
}

#[tokio::test]
async fn without_overwrite_what_is_there_stays_and_a_lost_answer_is_no_conflict() {
    let service = Service::start();
    let remote = open(&service.url("p", "&overwrite=false"), &known())
        .await
        .unwrap();
    assert!(!remote.capabilities().overwrites);
    let first = remote.put(put("a.jpg", b"first")).await.unwrap();
    assert_eq!(remote.put(put("a.jpg", b"first")).await.unwrap(), first);
    let error = remote.put(put("a.jpg", b"other")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(
        error.message.contains("other content as 'p/a.jpg'"),
        "{error}"
    );
    assert_eq!(service.objects("p")["original/a.jpg"].bytes, &b"first"[..]);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right() {
    let service = Service::start();
    service.state.lock().ahead = 7 * 3600;
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Transient, "{error}");
    remote.put(put("a", b"x")).await.unwrap();
}

#[tokio::test]
async fn too_many_uploads_at_a_time_slow_down_and_fail_nothing() {
    let service = Service::start();
    service.state.lock().busy = 1;
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert!(error.throttled && error.may_pass(), "{error}");
    remote.put(put("a", b"x")).await.unwrap();
}

#[tokio::test]
async fn an_allowance_that_is_used_up_is_asked_no_more() {
    let service = Service::start();
    let remote = open(&service.url("p", ""), &known()).await.unwrap();
    remote.put(put("a", b"x")).await.unwrap();
    service.state.lock().allowance = Some(2);
    for _ in 0..2 {
        assert!(remote.head(&key("a")).await.unwrap().is_some());
    }
    service.requests();
    let error = remote.head(&key("a")).await.unwrap_err();
    assert!(error.throttled && error.may_pass(), "{error}");
    let minutes = error.retry_after.unwrap().as_secs() / 60;
    assert!((20..=30).contains(&minutes), "{error}");
    assert!(service.requests().is_empty(), "it was asked all the same");
    // Uploads are not counted.
    remote.put(put("b", b"x")).await.unwrap();
}

#[tokio::test]
async fn a_web_page_in_its_place_is_waited_out() {
    let page = Double::start(|_| {
        let answer = Response::builder().header("content-type", "text/html; charset=utf-8");
        answer.body("<html>Please log in</html>".into()).unwrap()
    });
    let remote = open(&url_at(&page.endpoint, "", ""), &known())
        .await
        .unwrap();
    for error in [
        remote.put(put("a", b"x")).await.unwrap_err(),
        remote.head(&key("a")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
        assert!(error.message.contains("a web page answers"), "{error}");
    }
}

#[tokio::test]
async fn secrets_do_not_follow_redirects() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = heard.clone();
    let elsewhere = Double::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        json(200, &serde_json::json!({ "result": "ok" }))
    });
    let to = elsewhere.endpoint.replace("127.0.0.1", "localhost");
    let redirecting = Double::start(move |came| {
        let answer = Response::builder().status(307);
        let to = format!("{to}{}", came.path);
        answer
            .header("location", to)
            .body(Default::default())
            .unwrap()
    });
    let remote = open(&url_at(&redirecting.endpoint, "", ""), &known())
        .await
        .unwrap();
    for error in [
        remote.probe().await.unwrap_err(),
        remote.put(put("a", b"x")).await.unwrap_err(),
        remote.head(&key("a")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("sends us to localhost"), "{error}");
    }
    assert_eq!(heard.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn secrets_do_not_go_in_the_clear_beyond_this_machine() {
    let url = url_at("http://192.0.2.1", "", "");
    let error = open(&url, &known()).await.err().unwrap();
    assert_eq!(error.kind, RemoteErrorKind::Permanent);
    assert!(error.message.contains("--insecure"), "{error}");
    assert!(open(&url, &known().with_insecure(true)).await.is_ok());
}

/// A service with a certificate for `name`, and a file that has it trusted.
fn behind_tls(name: &str) -> (Double, tempfile::NamedTempFile) {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let secret = signed.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], secret)
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), signed.cert.pem()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer = |_: &_| json(200, &serde_json::json!({ "result": "not found" }));
    (Double::start_tls(acceptor, answer), file)
}

#[tokio::test]
async fn only_a_trusted_certificate_of_this_host_will_do() {
    let (service, trusted) = behind_tls("localhost");
    let url = url_at(&service.endpoint, "", "");
    let remote = open(&url, &known().with_ca_file(trusted.path()))
        .await
        .unwrap();
    remote.probe().await.unwrap();
    let untrusting = open(&url, &known()).await.unwrap();
    let error = untrusting.probe().await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("--ca-file"), "{error}");

    let (service, trusted) = behind_tls("other.example");
    let url = url_at(&service.endpoint, "", "");
    let remote = open(&url, &known().with_ca_file(trusted.path()))
        .await
        .unwrap();
    let error = remote.probe().await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("somebody else answers"), "{error}");
}
