//! Where log lines go, and how they are written: standard error in the foreground, a file in the
//! background.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::Error;
use super::daily::Daily;
use crate::config::LogFormat;

/// Our own events from info on, other crates' from warn on (fuser warns when anybody but itself
/// unmounts, which is how mounts end), unless `RUST_LOG` says otherwise.
const FILTER: &str = "warn,fuser=error,aws_config=error,lofty=error,outboxfs=info";

// A log that cannot be written (its disk is full) is nobody's business: without
// `log_internal_errors(false)` tracing prints that to standard error, and panics if that fails too.

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER))
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Lines written to `writer`.
fn lines<W>(format: Option<LogFormat>, colour: bool, writer: W) -> Lines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(colour)
        .with_writer(writer);
    match format {
        Some(LogFormat::Json) => layer.json().boxed(),
        Some(LogFormat::Text) | None => layer.boxed(),
    }
}

/// Standard error; where that leads to systemd's journal, and nobody wants another format, that gets
/// the fields one by one.
fn stderr_lines(format: Option<LogFormat>) -> Lines {
    if format.is_none()
        && leads_to_journal(&io::stderr())
        && let Ok(journal) = tracing_journald::layer()
    {
        return journal.with_field_prefix(None).boxed();
    }
    lines(format, io::stderr().is_terminal(), io::stderr)
}

/// Whether what is written there goes to systemd's journal: it says so by device and inode number
/// (systemd.exec(5), `$JOURNAL_STREAM`).
fn leads_to_journal(stream: &impl AsFd) -> bool {
    let (Ok(journal), Ok(stat)) = (
        std::env::var("JOURNAL_STREAM"),
        rustix::fs::fstat(stream.as_fd()),
    ) else {
        return false;
    };
    journal == format!("{}:{}", stat.st_dev, stat.st_ino)
}

fn start(filter: EnvFilter, lines: Lines) {
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

/// Logs to standard error.
pub fn to_stderr(format: Option<LogFormat>) {
    start(filter(), stderr_lines(format));
}

/// What a command logs: everything to `file`, if one is given (`-` is standard error), and to standard
/// error only for `debug`; without either, what goes wrong is said by the command itself.
pub fn for_command(
    debug: bool,
    file: Option<&Path>,
    format: Option<LogFormat>,
) -> Result<(), Error> {
    const DETAILED: &str = "warn,outboxfs=debug";
    let filter = match debug {
        true => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DETAILED)),
        false => filter(),
    };
    let to_stderr = debug || file.is_some_and(|file| file.as_os_str() == "-");
    match file.filter(|file| file.as_os_str() != "-") {
        Some(path) => {
            let file = Daily::open(path).map_err(|error| {
                Error::Refused(format!("cannot write the log {}: {error}", path.display()))
            })?;
            let file = std::sync::Mutex::new(file);
            start(
                filter,
                match debug {
                    true => lines(format, false, file.and(io::stderr)),
                    false => lines(format, false, file),
                },
            );
        }
        None if to_stderr => start(filter, stderr_lines(format)),
        None => {}
    }
    Ok(())
}

/// Logs to memory until [`DaemonLog::open`] gives it a file: a mount that is refused leaves none.
pub fn to_file(format: Option<LogFormat>) -> DaemonLog {
    let log = DaemonLog(Arc::new(Mutex::new(Sink::Memory(Vec::new()))));
    let writer = log.clone();
    start(filter(), lines(format, false, move || writer.clone()));
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
