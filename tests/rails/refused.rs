//! What an application, or whatever answers in its place, does not take: said once, in its words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outboxfs::remote::{Body, Environment, Put, RemoteErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

use super::rails::{Account, Behaviour, Server};
use super::{open, open_at, put};

fn account() -> Option<Account> {
    Account::new(&Behaviour::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_application_does_not_take_fails_for_good_with_its_words() {
    let Some(account) = account() else { return };
    let remote = open(&account, &account.server.endpoint, "").await;
    let mut wrong_type = put("a.stl", b"solid");
    wrong_type.content_type = "model/stl".to_owned();
    let content = vec![0; 51 << 20];
    let file = tempfile::tempfile().unwrap();
    file.set_len(content.len() as u64).unwrap();
    let too_large = Put {
        body: Body::File {
            file: Arc::new(file),
            len: content.len() as u64,
        },
        hash: blake3::hash(&content),
        ..put("long.mp3", b"")
    };
    for (put, words) in [
        (wrong_type, "Files of this type are not accepted"),
        (too_large, "File is too large (maximum is 50 MB)"),
    ] {
        let error = remote.put(put).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    // Others are not held up.
    remote.put(put("b.mp3", b"music")).await.unwrap();
    assert_eq!(account.songs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_is_told() {
    let Some(account) = account() else { return };
    let remote = open(&account, &account.server.endpoint, "").await;
    remote.put(put("a.mp3", b"the same")).await.unwrap();
    let error = remote.put(put("b.mp3", b"the same")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(
        error.message.contains("This song is there already"),
        "{error}"
    );
    assert_eq!(account.songs().len(), 1);
}

/// As Rails makes it: forms have a token in them, programs do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_protected_against_forgery_is_told() {
    let Some(server) = Server::shared() else {
        return;
    };
    let url = format!("rails+{}", server.endpoint);
    let remote = open_at(&url, &Environment::process()).await;
    let probed = remote.probe().await.unwrap_err();
    let put = remote.put(put("a", b"x")).await.unwrap_err();
    for error in [probed, put] {
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("skip_forgery_protection"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_told() {
    let Some(account) = account() else { return };
    let remote = open(&account, &account.server.endpoint, "&upload=/api/v2/upload").await;
    let probed = remote.probe().await.unwrap_err();
    assert_eq!(probed.kind, RemoteErrorKind::Permanent, "{probed}");
    assert!(probed.message.contains("upload="), "{probed}");
    let options = "&record=/api/v2/create";
    let remote = open(&account, &account.server.endpoint, options).await;
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    assert!(error.message.contains("record="), "{error}");
}

/// Somebody who answers the same to everybody; counts them.
async fn answering(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 8192]).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    (endpoint, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn token() -> Environment {
    Environment::process().with("OUTBOXFS_RAILS_TOKEN", "hunter2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_another_host_is_not_followed() {
    let (elsewhere, asked) = answering(answer("200 OK", "", "{}")).await;
    let to = format!("Location: {elsewhere}/x\r\n");
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
    ] {
        let (endpoint, _) = answering(answer(status, &to, "")).await;
        let remote = open_at(&format!("rails+{endpoint}?api=archive"), &token()).await;
        let probed = remote.probe().await.unwrap_err();
        let put = remote.put(put("a", b"x")).await.unwrap_err();
        for error in [probed, put] {
            assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
            assert!(error.message.contains("127.0.0.1"), "{error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_the_place_of_an_answer_is_waited_out() {
    let page = answer(
        "200 OK",
        "Content-Type: text/html\r\n",
        "<html>Log in</html>",
    );
    let (endpoint, _) = answering(page).await;
    let remote = open_at(&format!("rails+{endpoint}?api=archive"), &token()).await;
    let probed = remote.probe().await.unwrap_err();
    let put = remote.put(put("a", b"x")).await.unwrap_err();
    for error in [probed, put] {
        assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
        assert!(error.message.contains("web page"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_another_api_is_told() {
    let json = "Content-Type: application/json\r\n";
    for (body, said) in [
        (r#"{"id": 5}"#, "no direct_upload.url"),
        (
            r#"{"direct_upload": {"url": "http://127.0.0.1:1/"}}"#,
            "no signed_id",
        ),
        (
            r#"{"signed_id": "s", "direct_upload": {"url": "http://storage.example/?signature=hush"}}"#,
            "--insecure",
        ),
        (
            r#"{"signed_id": "s", "direct_upload": {"url": "http://127.0.0.1:1/", "headers": {"a b": "c"}}}"#,
            "a b",
        ),
    ] {
        let (endpoint, _) = answering(answer("200 OK", json, body)).await;
        let remote = open_at(&format!("rails+{endpoint}?api=archive"), &token()).await;
        let error = remote.put(put("a", b"x")).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains(said), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
}

/// Somebody with a certificate that we trust, though for another name; tells whether he heard anything.
async fn another_host() -> (String, String, Arc<AtomicUsize>) {
    let signed = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let key = signed.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(mut socket) = acceptor.accept(socket).await {
                let read = socket.read(&mut [0; 8192]).await;
                count.fetch_add(read.unwrap_or(0), Ordering::Relaxed);
            }
        }
    });
    (
        format!("https://localhost:{port}"),
        signed.cert.pem(),
        heard,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_host_hears_nothing() {
    let (endpoint, certificate, heard) = another_host().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let environment = token().with_ca_file(file.path());
    let remote = open_at(&format!("rails+{endpoint}?api=archive"), &environment).await;
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("not valid for name"), "{error}");
    assert_eq!(heard.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let remote = open_at(&format!("rails+{endpoint}?api=archive"), &token()).await;
    let error = remote.put(put("a", b"x")).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Unreachable, "{error}");
}
