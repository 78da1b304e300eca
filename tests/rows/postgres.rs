//! What is particular to PostgreSQL.

use super::server::PASSWORD;
use super::*;

async fn fixture() -> Option<Postgres> {
    Postgres::new().await
}

async fn open(fixture: &Postgres, user: &str, parameters: &str) -> Arc<dyn RowSink> {
    let url = format!("{}?{parameters}", fixture.database.url(user));
    rows::open(&[url], &fixture.options()).unwrap()
}

#[tokio::test]
async fn a_table_without_its_key_is_left_alone_and_named() {
    let Some(fixture) = fixture().await else {
        return;
    };
    fixture
        .database
        .execute("CREATE TABLE device_test (mount_id text, folder text)")
        .await;
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("no unique key (mount_id, folder)"),
        "{error}"
    );
    for useless in [
        "CREATE UNIQUE INDEX ON device_test (mount_id)",
        "CREATE UNIQUE INDEX ON device_test (mount_id, lower(folder))",
        "CREATE UNIQUE INDEX ON device_test (mount_id, folder) WHERE folder > ''",
        "ALTER TABLE device_test ADD UNIQUE (mount_id, folder) DEFERRABLE",
    ] {
        fixture.database.execute(useless).await;
        assert!(sink(&fixture).probe().await.is_err(), "{useless}");
    }
    let columns =
        "SELECT count(*)::text FROM information_schema.columns WHERE table_name = 'device_test'";
    assert_eq!(fixture.database.text(columns).await, "2");
}

#[tokio::test]
async fn nothing_is_created_where_that_is_not_wanted() {
    let Some(fixture) = fixture().await else {
        return;
    };
    fixture
        .database
        .execute("CREATE TABLE device_test (folder text, mount_id text, hash text, UNIQUE (folder, mount_id))")
        .await;
    let sink = open(&fixture, "postgres", "manage=no").await;
    let error = sink.probe().await.unwrap_err();
    assert!(
        error.message.contains("lacks columns: \"name\" text"),
        "{error}"
    );
    assert!(error.message.contains("\"stats\" jsonb"), "{error}");
    assert!(!error.message.contains("\"hash\""), "{error}");
}

#[tokio::test]
async fn who_may_not_create_the_table_is_told() {
    let Some(fixture) = fixture().await else {
        return;
    };
    super::tables::guest(&fixture.database).await;
    let sink = open(&fixture, "anon", "").await;
    let error = sink.probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("'anon' may not create"),
        "{error}"
    );
}

#[tokio::test]
async fn columns_may_have_other_types() {
    let Some(fixture) = fixture().await else {
        return;
    };
    fixture
        .database
        .execute(
            "CREATE TABLE device_test (mount_id varchar(40), folder varchar(400), stats json, pictures text, \
             files smallint, version numeric, last_delivered_at timestamp, note text, \
             PRIMARY KEY (folder, mount_id))",
        )
        .await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    fixture
        .database
        .execute("UPDATE device_test SET note = 'mine'")
        .await;
    sink.upsert(&[row("a", 2)]).await.unwrap();
    let seen = "SELECT version || note || (stats->>'volts') || (pictures::json->0->>'name') || last_delivered_at FROM device_test";
    assert_eq!(
        fixture.database.text(seen).await,
        "2mine3.30a.jpg2026-11-21 00:01:01.002"
    );
}

#[tokio::test]
async fn names_are_quoted() {
    let Some(fixture) = fixture().await else {
        return;
    };
    fixture
        .database
        .execute("CREATE SCHEMA \"the \"\"lab\"\"\"")
        .await;
    let sink = open(
        &fixture,
        "postgres",
        "schema=the+%22lab%22&table=Device+Test;--",
    )
    .await;
    sink.probe().await.unwrap();
    sink.upsert(&[row("a", 1)]).await.unwrap();
    let count = "SELECT count(*)::text FROM \"the \"\"lab\"\"\".\"Device Test;--\"";
    assert_eq!(fixture.database.text(count).await, "1");
}

#[tokio::test]
async fn a_missing_database_is_said() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let url = format!("{}_not", fixture.url());
    let sink = rows::open(&[url], &fixture.options()).unwrap();
    let error = sink.probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("create the database"),
        "{error}"
    );
}

#[tokio::test]
async fn broken_connections_are_made_again() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let sink = ready(&fixture).await;
    for version in 1..5 {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE application_name = 'outboxfs' AND datname = current_database()";
        fixture.database.execute(kill).await;
        sink.upsert(&[row("a", version)]).await.unwrap();
    }
    assert_eq!(versions(&fixture).await, [("a".into(), 4)]);
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_fine() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let Some(pooler) = Pooler::start(&fixture).await else {
        return;
    };
    let sinks: Vec<_> = (0..4).map(|_| pooler.sink(&fixture, "")).collect();
    let files = pooler.sink(&fixture, "?per=picture");
    for version in 1..6 {
        let rows = [row("a", version), row("b", version)];
        let writes = sinks.iter().chain([&files]).map(|sink| sink.upsert(&rows));
        for result in futures_util::future::join_all(writes).await {
            result.unwrap();
        }
    }
    assert_eq!(versions(&fixture).await, [("a".into(), 5), ("b".into(), 5)]);
}

/// A real pgbouncer that gives each transaction one of two connections.
struct Pooler {
    process: tokio::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `None` where it is not installed.
    async fn start(fixture: &Postgres) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        let program = "/usr/sbin/pgbouncer";
        if !std::path::Path::new(program).exists() {
            eprintln!("skipped: no {program}; apt-get install pgbouncer");
            return None;
        }
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let users = folder.path().join("users");
        std::fs::write(&users, format!("\"postgres\" \"{PASSWORD}\"\n")).unwrap();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 2\n",
            fixture.database.port(),
            users.display()
        );
        let settings = folder.path().join("pgbouncer.ini");
        std::fs::write(&settings, config).unwrap();
        let mut command = tokio::process::Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let quiet = std::process::Stdio::null;
        command
            .arg(settings)
            .stdout(quiet())
            .stderr(quiet())
            .kill_on_drop(true);
        let process = command.spawn().unwrap();
        let pooler = Self {
            process,
            port,
            _folder: folder,
        };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                return Some(pooler);
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("pgbouncer {:?} does not start", pooler.process.id());
    }

    fn sink(&self, fixture: &Postgres, parameters: &str) -> Arc<dyn RowSink> {
        let port = format!(":{}/", fixture.database.port());
        let url = fixture.url().replace(&port, &format!(":{}/", self.port)) + parameters;
        rows::open(&[url], &fixture.options()).unwrap()
    }
}

#[tokio::test]
async fn certificates_are_verified() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let url = |parameters: &str| fixture.url().replace("127.0.0.1", "localhost") + "?" + parameters;
    let probe = async |url: String| {
        let sink = rows::open(&[url], &fixture.options()).unwrap();
        sink.probe().await
    };
    let known = format!(
        "sslmode=require&sslrootcert={}",
        fixture.database.certificate().display()
    );
    probe(url(&known)).await.unwrap();

    let error = probe(url("sslmode=require")).await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("sslrootcert="),
        "{error}"
    );
    // The certificate is localhost's and not the address's.
    let other_name = format!("{}?{known}", fixture.url());
    let error = probe(other_name).await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("cannot be verified"),
        "{error}"
    );
}

#[tokio::test]
async fn daemons_may_create_the_table_at_once() {
    let Some(fixture) = fixture().await else {
        return;
    };
    // Where they meet is a matter of chance.
    for _ in 0..10 {
        let sinks: Vec<_> = (0..8).map(|_| sink(&fixture)).collect();
        let rows = [row("a", 1)];
        let writes = sinks.iter().map(|sink| sink.upsert(&rows));
        for result in futures_util::future::join_all(writes).await {
            result.unwrap();
        }
        assert_eq!(versions(&fixture).await, [("a".into(), 1)]);
        fixture.database.execute("DROP TABLE device_test").await;
    }
}
