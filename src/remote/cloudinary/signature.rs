//! Signed parameters, as <https://cloudinary.com/documentation/authentication_signatures> has them.

use std::fmt::Write;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// With what the account's setting "Signature algorithm" says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha1,
    Sha256,
}

/// Parameters of a request; one without a value is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name, value));
        }
        self
    }

    /// What is to be sent: the parameters, their signature, and whose it is.
    pub fn signed(
        self,
        algorithm: Algorithm,
        key: &str,
        secret: &str,
    ) -> Vec<(&'static str, String)> {
        let signature = self.signature(algorithm, secret);
        let mut all = self.0;
        all.extend([("signature", signature), ("api_key", key.to_owned())]);
        all
    }

    fn signature(&self, algorithm: Algorithm, secret: &str) -> String {
        // A `&` within a value must not look like the next parameter (version 2 of signatures).
        let one = |(name, value): &(&str, String)| format!("{name}={value}").replace('&', "%26");
        let mut lines: Vec<String> = self.0.iter().map(one).collect();
        lines.sort();
        let text = lines.join("&") + secret;
        match algorithm {
            Algorithm::Sha1 => hex(&Sha1::digest(&text)),
            Algorithm::Sha256 => hex(&Sha256::digest(&text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the documentation.
    #[test]
    fn the_documented_example_has_the_documented_signature() {
        let parameters = Parameters::default()
            .with("public_id", "sample_image")
            .with("timestamp", "1315060510")
            .with("eager", "w_400,h_300,c_pad|w_260,h_200,c_crop")
            .with("context", "");
        assert_eq!(
            parameters.signature(Algorithm::Sha1, "abcd"),
            "bfd09f95f331f558cbd1320e67aa8d488770583e"
        );
    }
}
