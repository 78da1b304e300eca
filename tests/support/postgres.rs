//! A real PostgreSQL server for the tests of one program: in a directory of its own, on a free
//! port, with a database for each test. It ends with the program, however that ends.
#![allow(dead_code)] // each test file uses a part of it

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

pub const PASSWORD: &str = "hunter2";

/// A database that nobody else uses.
pub struct Database {
    server: &'static Server,
    name: String,
}

struct Server {
    folder: PathBuf,
    port: u16,
    /// Stops the server when its standard input is closed, which our death does too.
    _keeper: Child,
}

impl Database {
    /// `None` where no PostgreSQL is installed, unless OUTBOXFS_TEST_POSTGRES=required.
    pub async fn new() -> Option<Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = SERVER.get_or_init(|| {
            let programs = programs();
            let required =
                std::env::var_os("OUTBOXFS_TEST_POSTGRES").is_some_and(|v| v == "required");
            assert!(
                programs.is_some() || !required,
                "no PostgreSQL in /usr/lib/postgresql; apt-get install postgresql"
            );
            programs.map(|programs| Server::start(&programs))
        });
        let Some(server) = server else {
            eprintln!("skipped: no PostgreSQL in /usr/lib/postgresql; apt-get install postgresql");
            return None;
        };
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Self { server, name };
        let main = database.client_to("postgres").await;
        main.batch_execute(&format!("CREATE DATABASE {}", database.name))
            .await
            .unwrap();
        Some(database)
    }

    /// `postgres://user@127.0.0.1:port/database`.
    pub fn url(&self, user: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/{}",
            self.server.port, self.name
        )
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The certificate that the server shows, for `localhost`.
    pub fn certificate(&self) -> PathBuf {
        self.server.folder.join("data/server.crt")
    }

    /// As the superuser.
    pub async fn client(&self) -> Client {
        self.client_to(&self.name).await
    }

    async fn client_to(&self, database: &str) -> Client {
        let address = format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}",
            self.server.port
        );
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    pub async fn text(&self, query: &str) -> String {
        self.client()
            .await
            .query_one(query, &[])
            .await
            .unwrap()
            .get(0)
    }
}

/// The newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut programs: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    programs.sort();
    programs.pop()
}

impl Server {
    fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("outboxfs-pg-")
            .tempdir()
            .unwrap()
            .keep();
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        // PostgreSQL refuses to run as root.
        let user: &[&str] = match rustix::process::geteuid().is_root() {
            true => {
                run(Command::new("chown").args(["-R", "postgres"]).arg(&folder));
                &[
                    "setpriv",
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--init-groups",
                ]
            }
            false => &["env"],
        };
        let as_user = |program: &str| {
            let mut command = Command::new(user[0]);
            command
                .args(&user[1..])
                .arg(programs.join(program))
                .current_dir("/");
            command
        };
        run(as_user("initdb")
            .args([
                "--no-sync",
                "--auth=password",
                "--username=postgres",
                "--locale=C.UTF-8",
            ])
            .arg(format!("--pwfile={}", folder.join("password").display()))
            .arg(folder.join("data")));
        // SCRAM takes an unoptimised client half a second, so only one role does it.
        let access = "host all rig all scram-sha-256\nhost all all all password\n";
        std::fs::write(folder.join("data/pg_hba.conf"), access).unwrap();
        write_certificate(&folder.join("data"));
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let script = r#"
            folder=$1; shift
            "$@" >"$folder/log" 2>&1 </dev/null & server=$!
            read -r _
            kill -QUIT "$server"; wait "$server"
            rm -rf "$folder"
        "#;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", script, "keeper"]).arg(&folder);
        keeper.args(user).arg(programs.join("postgres"));
        keeper.arg("-D").arg(folder.join("data"));
        keeper.arg("-k").arg(&folder);
        keeper.args(["-p", &port.to_string(), "-h", "127.0.0.1,::1"]);
        for setting in ["fsync=off", "ssl=on", "max_connections=200"] {
            keeper.args(["-c", setting]);
        }
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .current_dir("/");
        let keeper = keeper.spawn().unwrap();
        let server = Self {
            folder,
            port,
            _keeper: keeper,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        // The eighth line of its lock file is its state (miscadmin.h).
        let state = || {
            let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
            Some(file.lines().nth(7)?.trim().to_owned())
        };
        while state().as_deref() != Some("ready") {
            assert!(
                Instant::now() < until,
                "PostgreSQL does not start: {}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn write_certificate(data: &Path) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, content) in [
        ("server.crt", signed.cert.pem()),
        ("server.key", signed.signing_key.serialize_pem()),
    ] {
        let path = data.join(name);
        std::fs::write(&path, content).unwrap();
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let owner = std::fs::metadata(data).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}
