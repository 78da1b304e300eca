//! What the sinks do whose table lies in a PostgreSQL that somebody else keeps, whichever way they
//! reach it.

use outboxfs::derive::stats::{self, MAX_DEPTH, StatsRules};
use outboxfs::rows::{Credentials, RowError};

use super::server::{Database, PASSWORD};
use super::*;

/// A table that the sink uses, and neither makes nor changes.
trait Kept: Fixture {
    fn database(&self) -> &Database;

    /// As a role that has the rights that it is granted, and no more.
    fn as_guest(&self) -> Arc<dyn RowSink>;

    /// `secret` in place of the right one.
    fn with_secret(&self, secret: Option<&str>) -> Arc<dyn RowSink>;

    /// What to do about a missing secret.
    fn advice(&self) -> &'static str;
}

impl Kept for Postgres {
    fn database(&self) -> &Database {
        &self.database
    }

    fn as_guest(&self) -> Arc<dyn RowSink> {
        let url = format!("{}?manage=no", self.database.url("anon"));
        rows::open(&[url], &self.options()).unwrap()
    }

    fn with_secret(&self, secret: Option<&str>) -> Arc<dyn RowSink> {
        let options = with(Credentials {
            postgres_password: secret.map(str::to_owned),
            ..Credentials::default()
        });
        rows::open(&[self.url()], &options).unwrap()
    }

    fn advice(&self) -> &'static str {
        "set PGPASSWORD"
    }
}

impl Kept for Postgrest {
    fn database(&self) -> &Database {
        &self.service.database
    }

    fn as_guest(&self) -> Arc<dyn RowSink> {
        self.with_secret(Some("anon-key"))
    }

    fn with_secret(&self, secret: Option<&str>) -> Arc<dyn RowSink> {
        let options = with(Credentials {
            supabase_key: secret.map(str::to_owned),
            ..Credentials::default()
        });
        rows::open(&[self.url()], &options).unwrap()
    }

    fn advice(&self) -> &'static str {
        "set SUPABASE_KEY"
    }
}

fn with(credentials: Credentials) -> Options {
    Options {
        credentials,
        ..Options::default()
    }
}

/// The role `anon`, which all databases of the server share.
pub async fn guest(database: &Database) {
    let create = format!(
        "DO $$ BEGIN CREATE ROLE anon LOGIN PASSWORD '{PASSWORD}'; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    database.execute(&create).await;
}

/// The table as docs/rows.md has it, and a guest who has no right to it.
async fn kept(fixture: &impl Kept) -> Arc<dyn RowSink> {
    let schema = include_str!("../../src/rows/schema/postgres_folder.sql");
    fixture.database().execute(schema).await;
    guest(fixture.database()).await;
    fixture.as_guest()
}

async fn grant(fixture: &impl Kept) {
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON device_test TO anon";
    fixture.database().execute(grant).await;
}

/// What is wrong with the sink, whether it is seen before the first row or by it.
async fn trouble(sink: &dyn RowSink) -> RowError {
    match sink.probe().await {
        Err(error) => error,
        Ok(()) => sink.upsert(&[row("a", 1)]).await.unwrap_err(),
    }
}

async fn what_the_table_lacks_is_named(fixture: impl Kept) {
    let sink = kept(&fixture).await;
    grant(&fixture).await;
    let drop = "ALTER TABLE device_test DROP COLUMN hash";
    fixture.database().execute(drop).await;
    let error = sink.probe().await.unwrap_err();
    assert!(error.permanent, "{error}");
    let named = ["\"hash\" text", "'hash' column"].map(|name| error.message.contains(name));
    assert!(
        named.contains(&true) && error.message.contains("add"),
        "{error}"
    );

    fixture.database().execute("DROP TABLE device_test").await;
    let error = sink.probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("create"),
        "{error}"
    );
    assert!(error.message.contains("docs/rows.md"), "{error}");
}

async fn a_table_without_its_key_is_named(fixture: impl Kept) {
    let sink = kept(&fixture).await;
    grant(&fixture).await;
    let drop = "ALTER TABLE device_test DROP CONSTRAINT device_test_pkey";
    fixture.database().execute(drop).await;
    let error = trouble(sink.as_ref()).await;
    assert!(
        error.permanent && error.message.contains("unique key"),
        "{error}"
    );
}

async fn a_row_that_the_table_refuses_holds_up_no_other(fixture: impl Kept) {
    let sink = kept(&fixture).await;
    grant(&fixture).await;
    let check = "ALTER TABLE device_test ADD CHECK (folder <> 'bad')";
    fixture.database().execute(check).await;
    let (good, bad) = ([row("good", 1)], [row("bad", 1)]);
    let (first, second, third) =
        tokio::join!(sink.upsert(&good), sink.upsert(&bad), sink.upsert(&good));
    first.unwrap();
    third.unwrap();
    let error = second.unwrap_err();
    assert!(
        error.permanent && error.message.contains("check constraint"),
        "{error}"
    );
    assert_eq!(versions(&fixture).await, [("good".into(), 1)]);
}

async fn a_missing_right_is_said_and_rows_wait_for_it(fixture: impl Kept) {
    let sink = kept(&fixture).await;
    let error = sink.upsert(&[row("a", 1)]).await.unwrap_err();
    let advice = "GRANT SELECT, INSERT, UPDATE, DELETE";
    assert!(
        !error.permanent && error.message.contains(advice),
        "{error}"
    );
    grant(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();

    let enable = "ALTER TABLE device_test ENABLE ROW LEVEL SECURITY";
    fixture.database().execute(enable).await;
    let error = sink.upsert(&[row("b", 1)]).await.unwrap_err();
    assert!(error.message.contains("row-level security"), "{error}");
    assert!(error.message.contains("add policies"), "{error}");
    let policy = "CREATE POLICY rigs ON device_test TO anon USING (true)";
    fixture.database().execute(policy).await;
    sink.upsert(&[row("b", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("a".into(), 1), ("b".into(), 1)]);
}

async fn a_wrong_secret_is_said_and_not_shown(fixture: impl Kept) {
    let missing = fixture.with_secret(None).probe().await.unwrap_err();
    assert!(
        missing.permanent && missing.message.contains(fixture.advice()),
        "{missing}"
    );
    let sink = fixture.with_secret(Some("wr0ng"));
    let wrong = sink.probe().await.unwrap_err();
    assert!(
        wrong.permanent && wrong.message.contains(fixture.advice()),
        "{wrong}"
    );
    assert!(
        !format!("{wrong} {}", sink.describe()).contains("wr0ng"),
        "{wrong}"
    );
}

async fn nobody_there_is_worth_another_try(fixture: impl Kept) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut url: url::Url = fixture.url().parse().unwrap();
    url.set_port(Some(port)).unwrap();
    let sink = rows::open(&[url.as_str()], &fixture.options()).unwrap();
    let error = sink.upsert(&[row("a", 1)]).await.unwrap_err();
    assert!(
        !error.permanent && error.message.contains("cannot be reached"),
        "{error}"
    );
}

async fn stats_that_are_accepted_fit_into_jsonb(fixture: impl Kept) {
    let sink = ready(&fixture).await;
    let deep = "[".repeat(MAX_DEPTH - 1) + &"]".repeat(MAX_DEPTH - 1);
    for (at, value) in [
        "1e1000".to_owned(),
        "-1e-1000".into(),
        "9".repeat(1000),
        format!("0.{}", "1".repeat(990)),
        format!("\"{}\"", "ü".repeat(500_000)),
        r#""\ud83d\udcf7\u0001\uffff""#.into(),
        deep,
    ]
    .iter()
    .enumerate()
    {
        let content = format!("{{\"n\":{value}}}");
        let stats = stats::parse(content.as_bytes(), &StatsRules::default()).unwrap();
        let mut row = row(&format!("f{at}"), 1);
        row.stats = Some(stats.json);
        sink.upsert(&[row]).await.unwrap();
    }
    let digits = "SELECT length(stats->>'n')::text FROM device_test WHERE folder = 'f0'";
    assert_eq!(fixture.database().text(digits).await, "1001");
}

conformance!(
    postgres: Postgres,
    postgrest: Postgrest;
    [
        what_the_table_lacks_is_named,
        a_table_without_its_key_is_named,
        a_row_that_the_table_refuses_holds_up_no_other,
        a_missing_right_is_said_and_rows_wait_for_it,
        a_wrong_secret_is_said_and_not_shown,
        nobody_there_is_worth_another_try,
        stats_that_are_accepted_fit_into_jsonb,
    ]
);
