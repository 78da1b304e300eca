//! Our requests beside those of the official SDK for the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use outboxfs::remote::{Copy, Described};
use serde_json::{Value, json};

use super::cloudinary::{CLOUD, KEY, SECRET, Service};
use super::double::Came;
use super::{key, noise, open, put};

const NAMES: [(&str, &str); 5] = [
    ("plain.jpg", "plain.jpg"),
    ("with space/a b.jpg", "with space/a b.jpg"),
    ("Zürich/日本.png", "Zürich/日本.png"),
    ("this&that=c|d.gif", "this_x26that_x3Dc_x7Cd.gif"),
    ("100% + #1?.webp", "100_x25 _x2B _x231_x3F.webp"),
];

fn official_sdk() -> Option<&'static str> {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/python3");
    let mut look = Command::new(python);
    look.args(["-c", "import cloudinary"]).stderr(Stdio::null());
    if look.status().is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = std::env::var_os("OUTBOXFS_TEST_CLOUDINARY").is_some();
    assert!(!required, "no cloudinary in target/tools");
    eprintln!("skipped: no cloudinary in target/tools; scripts/setup --test installs it");
    None
}

/// Has the SDK do it; returns the signatures that were asked for.
fn sdk(python: &str, service: &Service, algorithm: &str, work: &Value) -> Vec<String> {
    let mut child = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/cloudinary/sdk.py"
        ))
        .args([service.endpoint(), CLOUD, KEY, SECRET, algorithm])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(work.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The form's fields; a file as its length.
fn fields(came: &Came) -> BTreeMap<String, String> {
    let text = |(name, content): (String, hyper::body::Bytes)| match name.as_str() {
        "file" => (name, format!("{} bytes", content.len())),
        _ => (name, String::from_utf8(content.to_vec()).unwrap()),
    };
    came.form().into_iter().map(text).collect()
}

/// What a request says, without what differs from moment to moment.
fn meaning(came: &Came) -> (String, String, BTreeMap<String, String>, Option<String>) {
    let mut fields = fields(came);
    for name in ["timestamp", "signature"] {
        assert!(fields.remove(name).is_some(), "{name} is missing");
    }
    let range = came.header("content-range").map(str::to_owned);
    assert_eq!(range.is_some(), came.header("x-unique-upload-id").is_some());
    (came.method.clone(), came.path.clone(), fields, range)
}

/// The SDK's signature of the parameters of each request.
fn assert_signed(python: &str, service: &Service, algorithm: &str, requests: &[Came]) {
    let mut signatures = Vec::new();
    let work = requests.iter().map(|came| {
        let mut fields = fields(came);
        signatures.extend(fields.remove("signature"));
        for unsigned in ["file", "api_key"] {
            fields.remove(unsigned);
        }
        json!({ "action": "sign", "parameters": fields })
    });
    let work = Value::Array(work.collect());
    assert_eq!(sdk(python, service, algorithm, &work), signatures);
}

#[tokio::test]
async fn request_by_request_we_send_what_the_official_sdk_sends() {
    let Some(python) = official_sdk() else { return };
    for algorithm in ["sha1", "sha256"] {
        let service = Service::start();
        service.state.lock().sha256 = algorithm == "sha256";
        let options = format!(
            "&signature={algorithm}&tag=rig%207&tag=a%20b&context=where:a%3Db%7Cc&context=who:Zoë\
             &eager=true&folder_mode=dynamic&type=private"
        );
        let url = service.url("p", &options);
        let remote = open(&url, &service.environment()).await.unwrap();
        let mut work = Vec::new();
        for (name, id) in NAMES {
            let content = name.as_bytes();
            let put = put(name, content);
            remote.put(put.clone()).await.unwrap();
            let (folder, shown) = name
                .rsplit_once('/')
                .map_or(("p".to_owned(), name), |(folder, name)| {
                    (format!("p/{folder}"), name)
                });
            work.push(json!({
                "action": "upload",
                "file": aws_smithy_types::base64::encode(content),
                "parameters": {
                    "public_id": format!("p/{id}"),
                    "type": "private",
                    "resource_type": "image",
                    "overwrite": true,
                    "invalidate": true,
                    "tags": ["rig 7", "a b"],
                    "context": {
                        "where": "a=b|c",
                        "who": "Zoë",
                        "mtime": "1700000000.5",
                        "blake3": put.hash.to_hex().as_str(),
                    },
                    "eager": [{ "raw_transformation": "c_fill,w_200,h_300,q_85" }],
                    "asset_folder": folder,
                    "display_name": shown,
                },
            }));
        }
        let copy = Copy {
            from: key("plain.jpg"),
            to: key("re & named.jpg"),
            expected: ("blake3", blake3::hash(b"plain.jpg").to_hex().to_string()),
            described: Some(Described {
                content_type: "image/jpeg".to_owned(),
                hash: blake3::hash(b"plain.jpg"),
                metadata: Vec::new(),
            }),
            moves: true,
        };
        assert!(remote.copy(&copy).await.unwrap().is_some());
        let b3 = blake3::hash(b"plain.jpg").to_hex();
        work.push(json!({ "action": "rename", "parameters": {
            "from_public_id": "p/plain.jpg", "to_public_id": "p/re _x26 named.jpg", "type": "private",
            "overwrite": true, "invalidate": true,
            "context": format!("blake3={b3}|where=a\\=b\\|c|who=Zoë"),
        }}));
        remote.delete(&key("re & named.jpg")).await.unwrap();
        work.push(json!({ "action": "destroy", "parameters": {
            "public_id": "p/re _x26 named.jpg", "type": "private", "invalidate": true,
        }}));

        let mut ours = service.requests();
        ours.retain(|came| came.method == "POST");
        service.state.lock().assets.clear();
        sdk(python, &service, algorithm, &Value::Array(work));
        let official = service.requests();
        assert_eq!(
            (ours.len(), official.len()),
            (NAMES.len() + 2, NAMES.len() + 2)
        );
        for (ours, official) in ours.iter().zip(&official) {
            assert_eq!(meaning(ours), meaning(official));
        }
        assert_signed(python, &service, algorithm, &ours);
    }
}

/// A large file goes in pieces as the SDK's do, only that these are smaller.
#[tokio::test]
async fn pieces_are_sent_as_the_official_sdk_sends_them() {
    let Some(python) = official_sdk() else { return };
    let service = Service::start();
    let url = service.url("", "&thumbnail=none");
    let remote = open(&url, &service.environment()).await.unwrap();
    let content = noise(20_000_001, 1);
    let mut large = put("film.mp4", &content);
    large.metadata.clear();
    remote.put(large.clone()).await.unwrap();
    let ours = service.requests();
    assert!(service.objects("")["original/film.mp4"].bytes == content);
    service.state.lock().assets.clear();
    let work = json!([{
        "action": "upload_large",
        "file": aws_smithy_types::base64::encode(&content),
        "parameters": {
            "public_id": "film.mp4",
            "resource_type": "video",
            "overwrite": true,
            "invalidate": true,
            "context": { "blake3": large.hash.to_hex().as_str() },
            "chunk_size": 8 << 20,
        },
    }]);
    sdk(python, &service, "sha1", &work);
    let official = service.requests();
    assert_eq!((ours.len(), official.len()), (3, 3));
    for (ours, official) in ours.iter().zip(&official) {
        assert_eq!(meaning(ours), meaning(official));
    }
    assert!(service.objects("")["original/film.mp4"].bytes == content);
    assert_signed(python, &service, "sha1", &ours);
}
