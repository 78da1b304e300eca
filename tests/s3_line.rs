//! What is between us and an S3 service: proxies, certificates, clocks, credentials that expire,
//! connections that end.

#[path = "support/faults.rs"]
mod faults;
#[path = "support/objects.rs"]
mod objects;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faults::{Fault, Proxy};
use outboxfs::remote::{Put, Remote, RemoteErrorKind, open_with};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use url::Url;
use world::{World, assert_says, error_line};

/// Counts what passes.
fn counting(server: &s3::Server) -> (Proxy, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let its_count = count.clone();
    let plan = move |_: &_| {
        its_count.fetch_add(1, Ordering::Relaxed);
        None
    };
    (Proxy::start(&server.endpoint, Box::new(plan)), count)
}

/// A person who tries a remote with these flags and variables.
fn check(endpoint: &str, flags: &[&str], variables: &[(&'static str, &str)]) -> Output {
    let mut world = World::new();
    let given = [
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY),
    ];
    let all = given.iter().chain(variables);
    world.variables = all
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let url = format!("s3://{}/p?endpoint={endpoint}", s3::BUCKET);
    let mut command = world.outboxfs();
    command.args(["check", "--remote", &url]).args(flags);
    command.output().unwrap()
}

#[test]
fn proxies_are_taken_from_the_environment() {
    let server = s3::Server::in_process();
    let runtime = Runtime::new().unwrap();
    let in_runtime = runtime.enter();
    let (proxy, passed) = counting(&server);
    drop(in_runtime);
    // Nobody but the proxy could find that host.
    let variables = [("HTTP_PROXY", proxy.endpoint.as_str())];
    let output = check("http://s3.nowhere.invalid", &[], &variables);
    assert!(output.status.success(), "{output:?}");
    assert!(passed.swap(0, Ordering::Relaxed) > 0);
    let variables = [variables[0], ("NO_PROXY", "127.0.0.1")];
    let output = check(&server.endpoint, &[], &variables);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(passed.load(Ordering::Relaxed), 0);
}

/// The server behind TLS with a certificate that nobody knows; returns where, and the certificate.
fn behind_tls(server: &s3::Server) -> (String, String) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = signed.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = server.endpoint.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let mut socket = acceptor.accept(socket).await.ok()?;
                let mut server = tokio::net::TcpStream::connect(behind).await.ok()?;
                tokio::io::copy_bidirectional(&mut socket, &mut server)
                    .await
                    .ok()
            });
        }
    });
    (format!("https://localhost:{port}"), signed.cert.pem())
}

#[test]
fn a_certificate_of_ones_own_is_trusted_if_it_is_named() {
    let server = s3::Server::in_process();
    let runtime = Runtime::new().unwrap();
    let in_runtime = runtime.enter();
    let (endpoint, certificate) = behind_tls(&server);
    drop(in_runtime);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let flags = ["--ca-file", file.to_str().unwrap()];
    let says = |flags: &[&str]| {
        let output = check(&endpoint, flags, &[]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (worked, said) = says(&[]);
    assert!(!worked && said.contains("--ca-file"), "{said}");
    for wrong in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&file, wrong).unwrap();
        let (worked, said) = says(&flags);
        assert!(!worked && said.contains("ca.pem"), "{said}");
    }
    fs::write(&file, certificate).unwrap();
    let (worked, said) = says(&flags);
    assert!(worked, "{said}");
}

#[test]
fn secrets_may_stand_in_a_file() {
    let server = s3::Server::in_process();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    let text = format!(
        "export AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY='{}'\n",
        s3::ACCESS_KEY,
        s3::SECRET_KEY
    );
    fs::write(&file, text).unwrap();
    let world = World::new();
    let url = format!("s3://{}/p?endpoint={}", s3::BUCKET, server.endpoint);
    let check = || {
        let mut command = world.outboxfs();
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .args(["check", "--remote", &url]);
        command
    };
    // Others could read them.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = check().arg("--env-file").arg(&file).output().unwrap();
    assert_says(&error_line(&output, 1), &["chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = check().arg("--env-file").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");

    // As systemd hands them to a service: a file each.
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("AWS_ACCESS_KEY_ID"), s3::ACCESS_KEY).unwrap();
    let secret = credentials.path().join("AWS_SECRET_ACCESS_KEY");
    fs::write(secret, format!("{}\n", s3::SECRET_KEY)).unwrap();
    let output = check()
        .env("CREDENTIALS_DIRECTORY", credentials.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn open(server: &s3::Server, proxy: &Proxy) -> Arc<dyn Remote> {
    let url = format!("s3://{}/p?endpoint={}", s3::BUCKET, proxy.endpoint);
    let url = Url::parse(&url).unwrap();
    open_with(&url, &server.environment()).await.unwrap()
}

fn put(name: &str) -> Put {
    objects::put(name, b"content")
}

/// The service's clock is an hour ahead: what it says is gone by from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_signed_by_the_clock_of_the_service() {
    let server = s3::Server::in_process();
    let signed_at = Arc::new(Mutex::new(Vec::new()));
    let its_signed_at = signed_at.clone();
    let plan = move |request: &hyper::Request<_>| {
        let at = request.headers()["x-amz-date"].to_str().unwrap().to_owned();
        its_signed_at.lock().unwrap().push(at);
        Some(Fault::Skewed)
    };
    let proxy = Proxy::start(&server.endpoint, Box::new(plan));
    let remote = open(&server, &proxy).await;
    for _ in 0..2 {
        let error = remote.put(put("a")).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::Transient, "{error}");
    }
    let signed_at = signed_at.lock().unwrap().clone();
    let seconds = |text: &str| {
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).unwrap();
        at.to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp()
            .as_second()
    };
    let ahead = seconds(&signed_at[1]) - seconds(&signed_at[0]);
    assert!((3590..3660).contains(&ahead), "{ahead} s");
}

/// What one request is asked to wait, all wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_asked_to_slow_down_makes_no_other_request_meanwhile() {
    let server = s3::Server::in_process();
    let asked = AtomicUsize::new(0);
    let plan = move |_: &_| (asked.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::SlowDown);
    let proxy = Proxy::start(&server.endpoint, Box::new(plan));
    let remote = open(&server, &proxy).await;
    let error = remote.put(put("a")).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    let began = Instant::now();
    remote.put(put("b")).await.unwrap();
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    remote.put(put("c")).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_closed_is_no_failure() {
    let server = s3::Server::in_process();
    let (proxy, passed) = counting(&server);
    let remote = open(&server, &proxy).await;
    for name in ["a", "b", "c"] {
        remote.put(put(name)).await.unwrap();
        proxy.hang_up().await;
    }
    assert_eq!(passed.load(Ordering::Relaxed), 3);
}

/// A directory with files to push, and a queue that no file of may fail.
fn push(world: &mut World, endpoint: &str) -> Output {
    for number in 0..30 {
        let file = world.path("pictures").join(format!("{number}.txt"));
        fs::write(file, format!("file {number}")).unwrap();
    }
    let url = format!("s3://{}/p?endpoint={endpoint}", s3::BUCKET);
    let arguments = ["push", "pictures", "--remote", &url, "--max-retries", "0"];
    world.outboxfs().args(arguments).output().unwrap()
}

#[test]
fn credentials_that_the_service_finds_expired_are_waited_for() {
    let server = s3::Server::in_process();
    let runtime = Runtime::new().unwrap();
    let in_runtime = runtime.enter();
    let seen = AtomicUsize::new(0);
    let plan = move |_: &_| {
        let number = seen.fetch_add(1, Ordering::Relaxed);
        (10..13).contains(&number).then_some(Fault::Expired)
    };
    let proxy = Proxy::start(&server.endpoint, Box::new(plan));
    drop(in_runtime);
    let mut world = World::new();
    world.variables = vec![
        ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
    ];
    let output = push(&mut world, &proxy.endpoint);
    assert!(output.status.success(), "{output:?}");
    assert!(proxy.faults() > 0);
}

/// A `credential_process` whose credentials last for seconds.
#[test]
fn credentials_are_renewed_before_they_expire() {
    let server = s3::Server::in_process();
    let mut world = World::new();
    let (script, config, calls) = (
        world.path("credentials.sh"),
        world.path("aws-config"),
        world.path("calls"),
    );
    // The SDK renews what lasts for less than five to ten seconds, by chance; the push takes over seven.
    let text = format!(
        "#!/bin/sh\necho >>'{}'\nprintf '{{\"Version\": 1, \"AccessKeyId\": \"{}\", \
         \"SecretAccessKey\": \"{}\", \"Expiration\": \"%s\"}}' \"$(date -u -d '+11 seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
        calls.display(),
        s3::ACCESS_KEY,
        s3::SECRET_KEY
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!(
        "[profile short]\ncredential_process = {}\n",
        script.display()
    );
    fs::write(&config, text).unwrap();
    world.variables = vec![
        ("AWS_CONFIG_FILE", config.display().to_string()),
        ("OUTBOXFS_TPS_LIMIT", "4".to_owned()),
    ];
    let endpoint = format!("{}&profile=short", server.endpoint);
    let output = push(&mut world, &endpoint);
    assert!(output.status.success(), "{output:?}");
    let calls = fs::read_to_string(calls).unwrap().lines().count();
    // Not once, and not for each of the 30 files.
    assert!((2..30).contains(&calls), "asked {calls} times");
}
