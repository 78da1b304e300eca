//! Our requests beside those that the official clients make for the same, as `storage-js.mjs` has
//! recorded them.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::double::Came;
use super::supabase::Service;
use super::{key, noise, open, put};

const OFFICIAL: &str = include_str!("storage-js.json");

/// What each HTTP client has of its own.
const OWN: [&str; 5] = [
    "host",
    "content-length",
    "user-agent",
    "accept",
    "accept-encoding",
];

fn decode64(text: &str) -> String {
    String::from_utf8(aws_smithy_types::base64::decode(text).unwrap()).unwrap()
}

/// What a header says, whichever way it is written down.
fn meaning_of(name: &str, value: &str) -> Value {
    match name {
        "x-metadata" => serde_json::from_str(&decode64(value)).unwrap(),
        "upload-metadata" => {
            let fields = value.split(',').map(|field| field.split_once(' ').unwrap());
            let fields = fields.map(|(name, value)| match name {
                "metadata" => (name, serde_json::from_str(&decode64(value)).unwrap()),
                _ => (name, decode64(value).into()),
            });
            Value::Object(
                fields
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            )
        }
        _ => value.into(),
    }
}

fn meaning(method: &str, path: &str, headers: &BTreeMap<String, String>, body: Value) -> Value {
    let headers = headers
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()));
    let headers: BTreeMap<&str, Value> = headers
        .map(|(name, value)| (name.as_str(), meaning_of(name, value)))
        .collect();
    let path = percent_decode_str(path).decode_utf8().unwrap();
    json!({ "method": method, "path": path, "headers": headers, "body": body })
}

fn ours(came: &Came) -> Value {
    let text = String::from_utf8_lossy(&came.body);
    let body = match came.header("content-type") {
        Some("application/json") => serde_json::from_slice(&came.body).unwrap(),
        _ if came.body.len() > 100 => format!("{} bytes", came.body.len()).into(),
        _ => text.into(),
    };
    meaning(&came.method, &came.path, &came.headers, body)
}

#[tokio::test]
async fn request_by_request_we_send_what_the_official_clients_send() {
    let service = Service::start();
    let url = service.url("p", "&urls=signed&expires=2h");
    let signing = open(&url, &service.environment()).await.unwrap();
    let remote = open(&service.url("p", ""), &service.environment())
        .await
        .unwrap();
    let proof = signing.put(put("plain.jpg", b"content")).await.unwrap();
    let signed = format!(
        "{}/storage/v1/object/sign/pictures/p/original/plain.jpg",
        service.endpoint()
    );
    assert_eq!(
        proof.url.unwrap(),
        format!("{signed}?token=signed-for-7200")
    );
    let odd = "with space/a b & c'(1)+@.jpg";
    remote.put(put(odd, b"content")).await.unwrap();
    service
        .state
        .lock()
        .objects
        .retain(|name, _| !name.contains("with space"));
    remote.list("original/", &mut |_| {}).await.unwrap();
    remote.head(&key("plain.jpg")).await.unwrap().unwrap();
    remote
        .get(&key("plain.jpg"), &mut Vec::new())
        .await
        .unwrap()
        .unwrap();
    remote.delete(&key("plain.jpg")).await.unwrap();
    let mut content = noise((6 << 20) + 5, 1);
    content[6 << 20..].fill(0);
    remote.put(put("large.jpg", &content)).await.unwrap();

    let requests = service.requests();
    // Signing comes with the upload.
    let order = [0, 2, 1, 3, 4, 5, 6, 7, 8, 9];
    let official: Value = serde_json::from_str(OFFICIAL).unwrap();
    let official = official["requests"].as_array().unwrap();
    assert_eq!(requests.len(), official.len());
    for (at, official) in order.iter().zip(official) {
        let text = ours(&requests[*at]).to_string();
        let text = text.replace(blake3::hash(b"content").to_hex().as_str(), "HASH");
        let text = text.replace(blake3::hash(&content).to_hex().as_str(), "HASH");
        let mut ours: Value = serde_json::from_str(&text).unwrap();
        let headers = official["headers"].clone();
        let headers: BTreeMap<String, String> = serde_json::from_value(headers).unwrap();
        let (method, path) = (
            official["method"].as_str().unwrap(),
            official["path"].as_str().unwrap(),
        );
        let official = meaning(method, path, &headers, official["body"].clone());
        // The service names uploads.
        if path.ends_with("/resumable/id") {
            ours["path"] = official["path"].clone();
        }
        assert_eq!(ours, official);
    }
}
