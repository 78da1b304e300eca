//! `outboxfs decode`: the process that C decoders work in, without rights, descriptors, or a way to
//! get any. Reads pictures on standard input and writes pixels on standard output, as
//! [`wire`](crate::derive::thumbnail::wire) says, until its input ends.

#[cfg(feature = "heif")]
mod heif;
mod sandbox;
#[cfg(feature = "webp")]
mod webp;

use std::io::{self, BufReader, BufWriter};

use super::thumbnail::wire::{self, Asked, Decoded, Library};

/// A picture may take so many times the processor time that it is allowed until it is done: the process
/// is niced, and the machine may have other work.
const PATIENCE: u64 = 20;

/// Serves until the input ends. `memory` is what a picture may take, bytes.
///
/// # Errors
///
/// The process cannot be confined, or its pipes fail.
pub fn run(memory: u64) -> io::Result<()> {
    sandbox::close_descriptors();
    #[cfg(feature = "heif")]
    heif::prepare();
    sandbox::enter(memory)?;
    let mut from = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut to = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    while let Some(asked) = wire::receive_request(&mut from)? {
        sandbox::allow_seconds(asked.max_seconds)?;
        sandbox::end_after(asked.max_seconds.max(1).saturating_mul(PATIENCE));
        let decoded = decode(&asked);
        sandbox::end_after(0);
        wire::send_answer(&mut to, &decoded)?;
    }
    Ok(())
}

fn decode(asked: &Asked) -> Result<Decoded, String> {
    match asked.decoder {
        #[cfg(feature = "webp")]
        Library::WebP => webp::decode(asked),
        #[cfg(feature = "heif")]
        Library::Heif => heif::decode(asked),
        #[cfg(not(all(feature = "webp", feature = "heif")))]
        _ => Err("this build has no decoder for it".into()),
    }
}
