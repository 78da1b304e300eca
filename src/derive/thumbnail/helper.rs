//! C decoders, at arm's length: they work in a process of their own (`outboxfs decode`), which has
//! nothing to lose. A picture that makes one crash, or run away with memory or time, costs that
//! process and its own thumbnail.
//!
//! A process serves one worker, one picture after another, so starting it costs nothing much. It is
//! started when it is first needed, and again after a crash.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use super::recognise::Kind;
use super::wire::{self, Decoded, Request};
use super::{Limits, TOO_SLOW, ThumbnailError, cannot_decode};

/// A process is replaced after so many pictures, in case a library leaks.
const PICTURES: u32 = 500;

/// The program whose `decode` command decodes, and its process.
pub struct Helper {
    program: PathBuf,
    memory: u64,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// Both are there until the end.
    pipes: Option<(ChildStdin, ChildStdout)>,
    pictures: u32,
}

impl Helper {
    /// `program` is outboxfs itself. Nothing is started yet.
    pub fn new(program: PathBuf, limits: &Limits) -> Self {
        Self {
            program,
            memory: limits.max_memory,
            process: None,
        }
    }

    pub(super) fn decode(
        &mut self,
        kind: Kind,
        request: &Request<'_>,
    ) -> Result<Decoded, ThumbnailError> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.start().map_err(|error| {
                ThumbnailError(format!(
                    "The process that decodes {} pictures cannot be started: {error}.",
                    kind.name()
                ))
            })?,
        };
        match process.ask(request) {
            Ok(answer) => {
                if process.pictures < PICTURES {
                    self.process = Some(process);
                }
                answer.map_err(|why| cannot_decode(kind.name(), why))
            }
            Err(error) => Err(cannot_decode(kind.name(), process.end(&error))),
        }
    }

    fn start(&self) -> io::Result<Process> {
        let mut command = Command::new(&self.program);
        command
            .arg("decode")
            .arg(self.memory.to_string())
            // No credentials, and no directory that it would keep busy.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "LD_LIBRARY_PATH"))
            // Each pool of glibc's takes much of the address space, which is limited.
            .env("MALLOC_ARENA_MAX", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        Ok(Process {
            child,
            pipes,
            pictures: 0,
        })
    }
}

impl Process {
    fn ask(&mut self, request: &Request<'_>) -> io::Result<Result<Decoded, String>> {
        self.pictures += 1;
        let (to, from) = self.pipes.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        wire::send_request(to, request)?;
        wire::receive_answer(from, request.max_pixels)
    }

    /// Why there is no answer.
    fn end(mut self, error: &io::Error) -> String {
        self.pipes = None;
        // It may have said something that cannot be, and be waiting for more.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => ended(status, error),
            Err(error) => error.to_string(),
        }
    }
}

fn ended(status: ExitStatus, error: &io::Error) -> String {
    match status.signal() {
        Some(libc::SIGXCPU | libc::SIGALRM) => TOO_SLOW.to_owned(),
        Some(libc::SIGKILL) | None => format!("its decoder ended without an answer ({error})"),
        Some(signal) => {
            format!("its decoder crashed (signal {signal}); the file is probably damaged")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is what it ends by.
        self.pipes = None;
        let _ = self.child.wait();
    }
}
