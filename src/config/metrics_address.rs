use std::net::SocketAddr;
use std::str::FromStr;

use serde::Deserialize;

/// Where metrics are served: a loopback address and a port. File names are no metrics, but how much a
/// machine delivers is nobody else's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MetricsAddress(SocketAddr);

impl MetricsAddress {
    pub fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("'{text}' is no address and port; write 127.0.0.1:9469"))?;
        match address.ip().is_loopback() {
            true => Ok(Self(address)),
            false => Err(format!(
                "'{text}' could be reached by others, and metrics are served without a password; \
                 write 127.0.0.1:{} and let a proxy serve others",
                address.port()
            )),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
