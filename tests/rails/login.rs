//! Who we are to the application: one login for all, renewed in time or when it is refused; and secrets
//! that nobody else gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outboxfs::remote::{Environment, Remote, RemoteErrorKind, open_with};
use url::Url;

use super::faults::Proxy;
use super::rails::{Account, Behaviour, PASSWORD};
use super::{open, open_at, put};

fn account() -> Option<Account> {
    Account::new(&Behaviour::default())
}

/// So many files at a time.
async fn deliver(remote: &Arc<dyn Remote>, names: impl Iterator<Item = String>) {
    let puts = names.map(|name| {
        let remote = remote.clone();
        tokio::spawn(async move { remote.put(put(&name, name.as_bytes())).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_serves_all_workers_before_and_after_a_token_is_revoked() {
    let Some(account) = account() else { return };
    let remote = open(&account, &account.server.endpoint, "").await;
    deliver(&remote, (0..10).map(|i| i.to_string())).await;
    assert_eq!(account.events("login"), 1);
    account.revoke();
    deliver(&remote, (10..20).map(|i| i.to_string())).await;
    assert_eq!(account.songs().len(), 20);
    assert_eq!(account.events("login"), 2);
    assert!(account.events("unauthorized") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_before_its_time_is_up() {
    let Some(account) = account() else { return };
    let remote = open(&account, &account.server.endpoint, "&lifetime=1s").await;
    deliver(&remote, ["a".to_owned()].into_iter()).await;
    let before = account.events("login");
    tokio::time::sleep(Duration::from_secs(1)).await;
    deliver(&remote, ["b".to_owned()].into_iter()).await;
    assert!(account.events("login") > before);
    assert_eq!(account.events("unauthorized"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_runs_out_in_mid_run_is_renewed() {
    let short = Behaviour {
        token_seconds: 5,
        ..Behaviour::default()
    };
    let Some(account) = Account::new(&short) else {
        return;
    };
    let remote = open(&account, &account.server.endpoint, "").await;
    deliver(&remote, ["a".to_owned()].into_iter()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    deliver(&remote, ["b".to_owned()].into_iter()).await;
    assert_eq!(account.songs().len(), 2);
    assert!(account.events("unauthorized") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_tried_by_everybody() {
    let Some(account) = account() else { return };
    let environment = account
        .environment()
        .with("OUTBOXFS_RAILS_PASSWORD", "hunter2");
    let remote = open_at(&account.url(""), &environment).await;
    for _ in 0..5 {
        let error = remote.put(put("a", b"x")).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        for said in ["Invalid email or password", "OUTBOXFS_RAILS_PASSWORD"] {
            assert!(error.message.contains(said), "{error}");
        }
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    let probed = remote.probe().await.unwrap_err();
    assert_eq!(probed.kind, RemoteErrorKind::Permanent, "{probed}");
    assert_eq!(account.events("login"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_the_right_is_told_before_anything_is_sent() {
    let may_not = Behaviour {
        may_upload: false,
        ..Behaviour::default()
    };
    let Some(account) = Account::new(&may_not) else {
        return;
    };
    let remote = open(&account, &account.server.endpoint, "").await;
    let probed = remote.probe().await.unwrap_err();
    let put = remote.put(put("a", b"x")).await.unwrap_err();
    for error in [probed, put] {
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains("not allowed to upload"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_ones_own_serves_until_it_is_revoked() {
    let Some(account) = account() else { return };
    let token = account.token();
    let environment = Environment::process().with("OUTBOXFS_RAILS_TOKEN", &token);
    let remote = open_at(&account.url(""), &environment).await;
    remote.probe().await.unwrap();
    remote.put(put("a", b"x")).await.unwrap();
    account.revoke();
    let error = remote.put(put("b", b"y")).await.unwrap_err();
    // All wait for it then, for the probe says the same.
    assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
    let probed = remote.probe().await.unwrap_err();
    assert_eq!(probed.kind, RemoteErrorKind::Permanent, "{probed}");
    assert!(error.message.contains("OUTBOXFS_RAILS_TOKEN"), "{error}");
    assert!(!error.message.contains(&token), "{error}");
    assert_eq!(account.events("login"), 0);
}

#[tokio::test]
async fn missing_credentials_are_said_before_anybody_is_asked() {
    for (url, variables, said) in [
        (
            "rails+https://a.example?api=archive",
            &[][..],
            "set OUTBOXFS_RAILS_EMAIL and OUTBOXFS_RAILS_PASSWORD",
        ),
        (
            "rails+https://a.example?api=archive",
            &["OUTBOXFS_RAILS_EMAIL"],
            "set OUTBOXFS_RAILS_EMAIL and OUTBOXFS_RAILS_PASSWORD",
        ),
        (
            "rails+https://a.example",
            &["OUTBOXFS_RAILS_EMAIL", "OUTBOXFS_RAILS_PASSWORD"],
            "add login=PATH or api=archive",
        ),
        (
            "rails+http://a.example?api=archive",
            &["OUTBOXFS_RAILS_TOKEN"],
            "--insecure",
        ),
    ] {
        let mut environment = Environment::process();
        for name in variables {
            environment = environment.with(name, "x");
        }
        let opened = open_with(&Url::parse(url).unwrap(), &environment).await;
        let error = opened.err().unwrap();
        assert_eq!(error.kind, RemoteErrorKind::Permanent, "{error}");
        assert!(error.message.contains(said), "{url}: {error}");
    }
}

/// Each header of a request to where the bytes go is one that the application named, or HTTP needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_gets_the_bytes_and_no_secret() {
    let Some(account) = account() else { return };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let names = seen.clone();
    let plan = move |request: &hyper::Request<hyper::body::Incoming>| {
        if request.method() == hyper::Method::PUT {
            let headers = request.headers().iter();
            let text =
                |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                    format!("{name}: {}", value.to_str().unwrap())
                };
            names.lock().unwrap().extend(headers.map(text));
        }
        None
    };
    let proxy = Proxy::start(&account.server.endpoint, Box::new(plan));
    let remote = open(&account, &proxy.endpoint, "").await;
    remote.put(put("a.mp3", b"music")).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&"content-type: audio/mpeg".to_owned()));
    assert!(seen.contains(&"content-length: 5".to_owned()), "{seen:?}");
    for header in seen.iter() {
        assert!(!header.starts_with("authorization"), "{header}");
        assert!(!header.contains(PASSWORD) && !header.contains("Bearer"));
    }
}
