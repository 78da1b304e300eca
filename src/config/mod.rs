//! Settings: defaults < file < environment < flags.
//!
//! [`Settings`] names each option once: its field is the flag, the environment variable and the
//! key of the file. [`resolve`] makes [`MountSettings`] of them, checked and with nothing left out.

mod bounded;
mod bytes;
mod file;
mod hours;
mod log_format;
mod metrics_address;
mod option;
mod pictures;
mod places;
mod resolve;
mod settings;
mod span;
mod urls;

pub use bounded::{BatchSize, MaxPixels, MaxRetries, SettleMs, TpsLimit, Workers};
pub use bytes::Bytes;
pub use file::{ConfigFile, NamedMount, Written};
pub use hours::Hours;
pub use log_format::LogFormat;
pub use metrics_address::MetricsAddress;
pub use option::{Described, described};
pub use places::Places;
pub use resolve::{MountSettings, limits, resolve};
pub use settings::{SETTINGS, Settings};
pub use span::Span;
pub use urls::{RemoteUrl, RowsUrl};

/// What is wrong with the settings: one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);
