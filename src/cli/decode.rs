//! `outboxfs decode`, which outboxfs itself calls.

use std::process::ExitCode;

use super::{Error, FAILED};
use crate::derive::decode;

/// Decode pictures for another outboxfs, which speaks on standard input.
#[derive(Debug, clap::Args)]
pub struct DecodeArgs {
    /// What a picture may take, bytes.
    memory: u64,
}

pub fn run(args: DecodeArgs) -> Result<ExitCode, Error> {
    match decode::run(args.memory) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever asked is gone, or sees the end of the answer.
        Err(_) => Ok(ExitCode::from(FAILED)),
    }
}
