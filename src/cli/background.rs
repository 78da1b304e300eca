//! The way to the background: the child mounts and stays, the parent waits for its word and ends.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::daemon::{DaemonError, Ready};

/// What the child tells the parent, once.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    Ready(Ready),
    /// Not mounted, and why.
    NotReady(DaemonError),
}

/// Who goes on after [`detach`].
pub enum Side {
    Parent(Child),
    Child(Reporter),
}

/// The parent's view of the child.
pub struct Child {
    pub pid: i32,
    words: PipeReader,
}

/// The child's way to tell the parent.
pub struct Reporter(PipeWriter);

/// Forks. The child has a session of its own, `/` as its working directory, no standard input and
/// output; standard error stays until the log is open, so that a panic before that is seen.
///
/// Must be called while there is one thread only: others would not exist in the child, and the
/// locks they hold would stay locked.
pub fn detach() -> io::Result<Side> {
    let (words, report) = io::pipe()?;
    // SAFETY: the process has one thread (see above), so the child may do what the parent could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(words);
            leave_terminal()?;
            Ok(Side::Child(Reporter(report)))
        }
        // The child alone holds the writing end now: its death is the pipe's end.
        pid => Ok(Side::Parent(Child { pid, words })),
    }
}

fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: both descriptors are open; dup2 has no other precondition (dup2(2)).
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

impl Reporter {
    /// Tells the parent. If it is gone (Ctrl-C), nobody needs to know.
    pub fn tell(mut self, word: &Word) {
        if let Ok(text) = serde_json::to_vec(word) {
            let _ = self.0.write_all(&text);
        }
    }
}

impl Child {
    /// Waits for the child's word, however long the mount takes; a child that dies without one is
    /// a failure too.
    pub fn word(mut self) -> Word {
        let mut text = Vec::new();
        let read = self.words.read_to_end(&mut text);
        match (read, serde_json::from_slice(&text)) {
            (Ok(_), Ok(word)) => word,
            _ => Word::NotReady(DaemonError::Failed(format!(
                "the daemon ended before the mount was ready ({}); run it again with --foreground \
                 to see why",
                self.death()
            ))),
        }
    }

    fn death(&self) -> String {
        use rustix::process::{Pid, WaitOptions, waitpid};
        // The pipe is closed a moment before the process is gone.
        for _ in 0..50 {
            match waitpid(Pid::from_raw(self.pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => {
                    return match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => format!("exit code {code}"),
                        (None, Some(signal)) => format!("signal {signal}"),
                        (None, None) => "no reason known".to_owned(),
                    };
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => break,
            }
        }
        "no reason known".to_owned()
    }
}
