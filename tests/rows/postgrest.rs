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

/// The official client for Python, where scripts/setup --test has installed it.
fn official_client() -> Option<&'static str> {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/python3");
    let mut look = std::process::Command::new(python);
    look.args(["-c", "import postgrest"])
        .stderr(std::process::Stdio::null());
    if look.status().is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = std::env::var_os("OUTBOXFS_TEST_POSTGREST").is_some();
    assert!(!required, "no postgrest in target/tools");
    eprintln!("skipped: no postgrest in target/tools; scripts/setup --test installs it");
    None
}

/// What a request says, without the headers that every HTTP client has of its own.
fn meaning(request: &Recorded) -> Value {
    let list = |text: &str| {
        let values = super::service::values(text).unwrap();
        json!(
            values
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
        )
    };
    let query = request.query.iter().map(|(name, value)| {
        let inner = value.strip_prefix("in.(").and_then(|v| v.strip_suffix(')'));
        let value = match (name.as_str(), inner) {
            ("columns" | "select" | "on_conflict", _) => list(value),
            (_, Some(inner)) => list(inner),
            _ => json!(value),
        };
        (name.clone(), value)
    });
    let prefer = request.headers.get("prefer").map(|prefer| {
        let preferences = prefer.split(',').map(str::trim);
        preferences.collect::<std::collections::BTreeSet<_>>()
    });
    json!({
        "method": request.method,
        "path": request.path,
        "query": query.collect::<serde_json::Map<_, _>>(),
        "prefer": prefer,
        "apikey": request.headers["apikey"],
        "authorization": request.headers["authorization"],
        // The client for Python sends an empty object with a DELETE, where a body says nothing.
        "body": (request.method == "POST")
            .then(|| serde_json::from_str::<Value>(&request.body).unwrap()),
    })
}

#[tokio::test]
async fn request_by_request_we_send_what_the_official_client_sends() {
    use tokio::io::AsyncWriteExt;
    let (Some(python), Some(fixture)) = (official_client(), fixture().await) else {
        return;
    };
    let sink = ready(&fixture).await;
    fixture.service.requests();
    let rows = [row("a \"b\\ (c), d.e:f*", 1), row("plain", 1)];
    sink.upsert(&rows).await.unwrap();
    let gone = Removed {
        mount_id: "m1".into(),
        folder: rows[0].folder.clone(),
        version: 2,
    };
    sink.remove(&[gone]).await.unwrap();
    let ours = fixture.service.requests();
    assert_eq!(versions(&fixture).await, [("plain".into(), 1)]);

    let truncate = "TRUNCATE device_test";
    fixture.service.database.execute(truncate).await;
    let body: Value = serde_json::from_str(&ours[1].body).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rows/postgrest-py.py");
    let mut client = tokio::process::Command::new(python)
        .arg(script)
        .arg(format!("{}/rest/v1", fixture.service.url()))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let work = json!({ "rows": body, "version": 2 }).to_string();
    let mut input = client.stdin.take().unwrap();
    input.write_all(work.as_bytes()).await.unwrap();
    drop(input);
    assert!(client.wait().await.unwrap().success());
    assert_eq!(versions(&fixture).await, [("plain".into(), 1)]);

    let official = fixture.service.requests();
    assert_eq!((ours.len(), official.len()), (3, 3), "{official:?}");
    for (ours, official) in ours.iter().zip(&official) {
        assert_eq!(meaning(ours), meaning(official));
    }
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

#[test]
fn a_key_goes_in_the_clear_only_to_this_machine() {
    let open = |url: &str, insecure| {
        let credentials = Credentials {
            supabase_key: Some("service-key".into()),
            insecure,
            ..Credentials::default()
        };
        let options = Options {
            credentials,
            ..Options::default()
        };
        rows::open(&[url.to_owned()], &options).map(drop)
    };
    let elsewhere = "postgrest+http://db.example/rest/v1/device_test";
    let error = open(elsewhere, false).unwrap_err();
    assert!(error.message.contains("--insecure"), "{error}");
    open(elsewhere, true).unwrap();
    open(&elsewhere.replace("http:", "https:"), false).unwrap();
    open("postgrest+http://127.0.0.1:1/device_test", false).unwrap();
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
