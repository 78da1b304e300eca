//! What the service keeps of a file, and how it tells of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::{CLOUD, hex};

const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'/');

#[derive(Debug, Clone, Default)]
pub struct Asset {
    pub bytes: Bytes,
    pub version: u64,
    pub context: BTreeMap<String, String>,
    /// The other parameters of its upload.
    pub parameters: BTreeMap<String, String>,
}

/// Kind, type and public id.
pub type Name = (String, String, String);

/// What an upload is answered.
pub fn describe((kind, access, id): &Name, asset: &Asset) -> Value {
    let format = id.rsplit_once('.').map_or("", |(_, format)| format);
    let encoded = percent_encoding::utf8_percent_encode(id, PATH);
    let shown = match kind.as_str() {
        "raw" => encoded.to_string(),
        _ => format!("{encoded}.{format}"),
    };
    let mut body = json!({
        "asset_id": hex(&Md5::digest(id.as_bytes())),
        "public_id": id,
        "version": asset.version,
        "resource_type": kind,
        "type": access,
        "bytes": asset.bytes.len(),
        "etag": hex(&Md5::digest(&asset.bytes)),
        "secure_url": format!(
            "https://res.cloudinary.com/{CLOUD}/{kind}/{access}/v{}/{shown}", asset.version
        ),
    });
    if kind == "image" {
        body["format"] = format.into();
        if let Ok(size) = image::ImageReader::new(std::io::Cursor::new(&asset.bytes))
            .with_guessed_format()
            .unwrap()
            .into_dimensions()
        {
            body["width"] = size.0.into();
            body["height"] = size.1.into();
        }
    }
    body
}

/// What is told of it when it is asked for.
pub fn detailed(name: &Name, asset: &Asset) -> Value {
    let mut body = describe(name, asset);
    body["context"] = json!({ "custom": asset.context });
    body
}
