//! What is particular to PostgREST. The service is a strict double; see `service.rs`.

use outboxfs::rows::Credentials;

use super::service::Recorded;
use super::*;

async fn fixture() -> Option<Postgrest> {
    Postgrest::new().await
}

fn with_key(fixture: &Postgrest, key: Option<&str>, token: Option<&str>) -> Arc<dyn RowSink> {
    let options = Options {
        credentials: Credentials {
            supabase_key: key.map(str::to_owned),
            postgrest_token: token.map(str::to_owned),
            ..Credentials::default()
        },
        ..Options::default()
    };
    rows::open(&[fixture.url()], &options).unwrap()
}

/// What `@supabase/postgrest-js` 2 sends for `from('device_test').upsert(rows, { onConflict:
/// 'mount_id,folder' })` with the client's usual headers; recorded from its requests by
/// `tests/rows/postgrest-js.mjs`.
const OFFICIAL: &str = include_str!("postgrest-js.json");

#[tokio::test]
async fn an_upsert_is_what_the_official_client_sends() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let sink = ready(&fixture).await;
    fixture.service.requests();
    sink.upsert(&[row("a", 1), row("b", 1)]).await.unwrap();
    let requests = fixture.service.requests();
    let ours: Vec<&Recorded> = requests
        .iter()
        .filter(|request| request.method == "POST")
        .collect();
    let [ours] = ours[..] else {
        panic!("{requests:?}")
    };
    let official: Value = serde_json::from_str(OFFICIAL).unwrap();
    assert_eq!(official["method"], ours.method);
    assert_eq!(official["path"], ours.path);
    assert_eq!(official["query"]["on_conflict"], ours.query["on_conflict"]);
    // The order of the columns is ours.
    let set = |list: &str| {
        list.split(',')
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let columns = official["query"]["columns"].as_str().unwrap();
    assert_eq!(set(columns), set(&ours.query["columns"]));
    assert_eq!(
        official["query"].as_object().unwrap().len(),
        ours.query.len()
    );
    for header in ["apikey", "authorization", "content-type"] {
        assert_eq!(
            official["headers"][header], ours.headers[header],
            "{header}"
        );
    }
    // PostgREST returns nothing unless asked; we say so.
    let prefer = format!(
        "{},return=minimal",
        official["headers"]["prefer"].as_str().unwrap()
    );
    assert_eq!(prefer, ours.headers["prefer"]);
    let body: Value = serde_json::from_str(&ours.body).unwrap();
    assert_eq!(official["body"], body);
}

#[tokio::test]
async fn an_older_version_is_not_sent_even_where_no_trigger_guards() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let drop = "DROP TRIGGER keep_newest ON device_test";
    fixture.service.database.execute(drop).await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 5)]).await.unwrap();
    sink.upsert(&[row("a", 4), row("b \"\\(,)", 1)])
        .await
        .unwrap();
    sink.upsert(&[row("b \"\\(,)", 0)]).await.unwrap();
    let expected = [("a".into(), 5), ("b \"\\(,)".into(), 1)];
    assert_eq!(versions(&fixture).await, expected);
}

#[tokio::test]
async fn wrong_keys_are_explained_and_not_shown() {
    let Some(fixture) = fixture().await else {
        return;
    };
    for (key, token, why) in [
        (None, None, "set SUPABASE_KEY"),
        (Some("wr0ng"), None, "Invalid API key"),
        (
            Some("service-key"),
            Some("wr0ng"),
            "the token is wrong or has run out",
        ),
    ] {
        let error = with_key(&fixture, key, token).probe().await.unwrap_err();
        assert!(error.permanent && error.message.contains(why), "{error}");
        assert!(!error.message.contains("wr0ng"), "{error}");
    }
}

#[tokio::test]
async fn row_level_security_is_explained() {
    let Some(fixture) = fixture().await else {
        return;
    };
    fixture
        .service
        .database
        .execute(
            "DO $$ BEGIN CREATE ROLE anon; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
             GRANT SELECT, INSERT, UPDATE ON device_test TO anon; \
             ALTER TABLE device_test ENABLE ROW LEVEL SECURITY",
        )
        .await;
    let sink = with_key(&fixture, Some("anon-key"), None);
    let error = sink.upsert(&[row("a", 1)]).await.unwrap_err();
    assert!(
        error.message.contains("violates row-level security"),
        "{error}"
    );
    assert!(error.message.contains("add policies"), "{error}");
}

#[tokio::test]
async fn what_the_table_lacks_is_named() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let database = &fixture.service.database;
    database
        .execute("ALTER TABLE device_test DROP COLUMN hash")
        .await;
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("'hash' column"),
        "{error}"
    );
    assert!(error.message.contains("docs/rows.md"), "{error}");

    database.execute("DROP TABLE device_test").await;
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("create the table"),
        "{error}"
    );
}

#[tokio::test]
async fn a_row_that_the_table_refuses_holds_up_no_other() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let sink = ready(&fixture).await;
    let check = "ALTER TABLE device_test ADD CHECK (folder <> 'bad')";
    fixture.service.database.execute(check).await;
    let (good, bad) = ([row("good", 1)], [row("bad", 1)]);
    let (first, second) = tokio::join!(sink.upsert(&good), sink.upsert(&bad));
    first.unwrap();
    let error = second.unwrap_err();
    assert!(
        error.permanent && error.message.contains("check constraint"),
        "{error}"
    );
    assert_eq!(versions(&fixture).await, [("good".into(), 1)]);
}

#[tokio::test]
async fn a_batch_is_sent_in_pieces_that_proxies_take() {
    let Some(fixture) = fixture().await else {
        return;
    };
    let sink = ready(&fixture).await;
    let long = "x".repeat(3000);
    let mut rows: Vec<_> = (0..600).map(|n| row(&format!("f{n}"), 1)).collect();
    rows.push(row(&long, 1));
    rows.iter_mut()
        .for_each(|row| row.stats = Some(format!("{{\"x\":\"{long}\"}}")));
    fixture.service.requests();
    sink.upsert(&rows).await.unwrap();
    for request in fixture.service.requests() {
        let query: usize = request.query.values().map(String::len).sum();
        assert!(
            request.body.len() <= 1 << 20 && query <= 4096,
            "{} {query}",
            request.body.len()
        );
    }
    assert_eq!(fixture.rows().await.len(), 601);
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgrest+http://127.0.0.1:{port}/rest/v1/device_test");
    let sink = rows::open(&[url], &Options::default()).unwrap();
    let error = sink.upsert(&[row("a", 1)]).await.unwrap_err();
    assert!(
        !error.permanent && error.message.contains("cannot be reached"),
        "{error}"
    );
}
