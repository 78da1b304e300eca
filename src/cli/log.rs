//! Where log lines go: standard error in the foreground, a file in the background.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use super::Error;
use super::daily::Daily;

/// Our own events from info on, other crates' from warn on (fuser warns when anybody but itself
/// unmounts, which is how mounts end), unless `RUST_LOG` says otherwise.
const FILTER: &str = "warn,fuser=error,aws_config=error,lofty=error,outboxfs=info";

// A log that cannot be written (its disk is full) is nobody's business: without
// `log_internal_errors(false)` tracing prints that to standard error, and panics if that fails too.

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER))
}

/// Logs to standard error.
pub fn to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// What a command logs: everything to `file`, if one is given (`-` is standard error), and to standard
/// error only for `debug`; without either, what goes wrong is said by the command itself.
pub fn for_command(debug: bool, file: Option<&Path>) -> Result<(), Error> {
    const DETAILED: &str = "warn,outboxfs=debug";
    let filter = match debug {
        true => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DETAILED)),
        false => filter(),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false);
    let to_stderr = debug || file.is_some_and(|file| file.as_os_str() == "-");
    match file.filter(|file| file.as_os_str() != "-") {
        Some(path) => {
            let file = Daily::open(path).map_err(|error| {
                Error::Refused(format!("cannot write the log {}: {error}", path.display()))
            })?;
            let (file, lines) = (std::sync::Mutex::new(file), lines.with_ansi(false));
            match debug {
                true => lines.with_writer(file.and(io::stderr)).init(),
                false => lines.with_writer(file).init(),
            }
        }
        None if to_stderr => lines
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .init(),
        None => {}
    }
    Ok(())
}

/// Logs to memory until [`DaemonLog::open`] gives it a file: a mount that is refused leaves none.
pub fn to_file() -> DaemonLog {
    let log = DaemonLog(Arc::new(Mutex::new(Sink::Memory(Vec::new()))));
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .log_internal_errors(false)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    log
}

/// The log of a daemon in the background.
#[derive(Clone)]
pub struct DaemonLog(Arc<Mutex<Sink>>);

enum Sink {
    Memory(Vec<u8>),
    File(File),
}

impl DaemonLog {
    /// Appends to `path` from now on, what was logged before included. Standard error goes there
    /// too, so that even a panic is found.
    pub fn open(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut sink = self.0.lock();
        if let Sink::Memory(lines) = &*sink {
            file.write_all(lines)?;
        }
        // SAFETY: both descriptors are open; dup2 has no other precondition (dup2(2)).
        if unsafe { libc::dup2(file.as_raw_fd(), libc::STDERR_FILENO) } < 0 {
            return Err(io::Error::last_os_error());
        }
        *sink = Sink::File(file);
        Ok(())
    }
}

impl Write for DaemonLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock() {
            Sink::Memory(lines) => lines.write(line),
            Sink::File(file) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
