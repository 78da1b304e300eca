//! Telling others: the commands of `--on-batch` and `--on-failure`, and the desktop. Only reads the
//! journal, so it cannot keep delivery waiting.
//!
//! One thread, `notify`, where anybody wants to be told; it ends with [`Notifier`]. It looks once a second,
//! and runs one command at a time: what happens meanwhile is told together.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use crate::journal::{JournalError, View, now_ms};
use crate::status::collect::fill_from_journal;
use crate::status::{Batch, Failure, Snapshot, counted};

const EVERY: Duration = Duration::from_secs(1);
/// How long a command may take before it is ended,
const PATIENCE: Duration = Duration::from_secs(60);
/// and all commands together when nothing else keeps the process.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(10);
const LOOK_AT_CHILD: Duration = Duration::from_millis(50);
/// Batches and failures that are told together at most, the newest; and the bytes of it, which a pipe
/// takes also if nobody reads.
const MOST: usize = 100;
const MOST_BYTES: usize = 32 << 10;
/// What commands get to know of our environment: nothing that could be a secret.
const PASSED_ON: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Who is to be told of what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Commands for the shell.
    pub on_batch: Option<String>,
    pub on_failure: Option<String>,
    /// The desktop, of batches.
    pub desktop: bool,
}

/// Tells as long as it lives, and a last time at its end.
pub struct Notifier {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// `fixed` says whose journal it is.
    pub fn start(hooks: &Hooks, journal: &Path, fixed: Snapshot) -> Result<Self, JournalError> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let mut notifier = Self {
            stop: Some(stop),
            thread: None,
        };
        if *hooks == Hooks::default() {
            return Ok(notifier);
        }
        let view = View::open(journal)?;
        let teller = Teller {
            told_batch: view.batches(1)?.first().map_or(0, |batch| batch.id),
            told_until: now_ms(),
            told: HashSet::new(),
            end: End {
                stopped,
                since: None,
            },
            hooks: hooks.clone(),
            view,
            fixed,
        };
        let spawned = std::thread::Builder::new()
            .name("notify".into())
            .spawn(move || teller.run());
        match spawned {
            Ok(thread) => notifier.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "nobody is told of batches and failures"),
        }
        Ok(notifier)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a command reads from its standard input: one line of JSON.
#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    directory: &'a str,
    remote: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    batches: &'a [Batch],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    failures: &'a [Failure],
    delivered_files: u64,
    queued_files: u64,
    failed_files: u64,
    suspect_files: u64,
}

struct Teller {
    hooks: Hooks,
    view: View,
    fixed: Snapshot,
    /// The last batch that was told.
    told_batch: i64,
    /// Failures until then were told, of that moment itself only these.
    told_until: i64,
    told: HashSet<(String, String)>,
    end: End,
}

/// The process is to end.
struct End {
    stopped: Receiver<()>,
    since: Option<Instant>,
}

impl End {
    /// Whether it has come, after waiting for it.
    fn wait(&mut self, time: Duration) -> bool {
        match self.since {
            // The channel would answer at once.
            Some(_) => std::thread::sleep(time),
            None if self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Disconnected) => {
                self.since = Some(Instant::now());
            }
            None => {}
        }
        self.since.is_some()
    }

    fn is_long_ago(&self) -> bool {
        let since = self.since.map(|since| since.elapsed());
        since.is_some_and(|since| since > PATIENCE_AT_THE_END)
    }
}

impl Teller {
    fn run(mut self) {
        loop {
            let is_over = self.end.since.is_some() || self.end.wait(EVERY);
            if let Err(error) = self.look() {
                tracing::warn!(%error, "the journal does not tell what there is to tell");
            }
            if is_over {
                return;
            }
        }
    }

    fn look(&mut self) -> Result<(), JournalError> {
        let batches = self.new_batches()?;
        let failures = self.new_failures()?;
        if batches.is_empty() && failures.is_empty() {
            return Ok(());
        }
        let mut now = self.fixed.clone();
        fill_from_journal(&self.view, &mut now)?;
        let on_failure = self.hooks.on_failure.as_ref();
        if let Some(command) = on_failure.filter(|_| !failures.is_empty()) {
            let told = text("failure", &now, &[], &failures);
            run(shell(command), &told, &mut self.end);
        }
        let on_batch = self.hooks.on_batch.as_ref();
        if let Some(command) = on_batch.filter(|_| !batches.is_empty()) {
            let told = text("batch", &now, &batches, &[]);
            run(shell(command), &told, &mut self.end);
        }
        if self.hooks.desktop && !batches.is_empty() && has_desktop() {
            run(desktop(&now, &batches), "", &mut self.end);
        }
        Ok(())
    }

    /// Oldest first.
    fn new_batches(&mut self) -> Result<Vec<Batch>, JournalError> {
        let ended = self.view.batches(MOST)?.into_iter();
        let new = ended.filter(|batch| batch.id > self.told_batch);
        let mut new: Vec<Batch> = new.map(Batch::from).collect();
        new.reverse();
        if let Some(last) = new.last() {
            self.told_batch = last.id;
        }
        Ok(new)
    }

    /// What is not tried again by itself.
    fn new_failures(&mut self) -> Result<Vec<Failure>, JournalError> {
        let key = |failure: &Failure| (failure.path.clone(), failure.artifact.clone());
        let mut new = self.view.failures(MOST)?;
        new.retain(|failure| {
            let is_old = failure.at < self.told_until
                || failure.at == self.told_until && self.told.contains(&key(failure));
            !failure.will_retry && !is_old
        });
        let Some(last) = new.iter().map(|failure| failure.at).max() else {
            return Ok(new);
        };
        if last > self.told_until {
            self.told.clear();
            self.told_until = last;
        }
        let at_last = new.iter().filter(|failure| failure.at == last);
        self.told.extend(at_last.map(key));
        new.reverse();
        Ok(new)
    }
}

fn text(event: &'static str, now: &Snapshot, batches: &[Batch], failures: &[Failure]) -> String {
    let told = Told {
        event,
        directory: &now.directory,
        remote: &now.remote,
        batches,
        failures,
        delivered_files: now.delivered_files,
        queued_files: now.queued_files,
        failed_files: now.failed_files,
        suspect_files: now.suspect_files,
    };
    // Fails only for maps with keys that are no text, and there are none.
    let text = serde_json::to_string(&told).unwrap_or_default() + "\n";
    match text.len() <= MOST_BYTES {
        true => text,
        false => self::text(
            event,
            now,
            &batches[batches.len() / 2..],
            &failures[failures.len().div_ceil(2)..],
        ),
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell
}

fn has_desktop() -> bool {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
        || runtime.is_some_and(|runtime| runtime.join("bus").exists())
}

fn desktop(now: &Snapshot, batches: &[Batch]) -> Command {
    let sum = |of: fn(&Batch) -> u64| batches.iter().map(of).sum::<u64>();
    let mut text = format!(
        "{} delivered to {}",
        counted(sum(|batch| batch.successful_uploads), "folder"),
        now.remote
    );
    match sum(|batch| batch.failed_uploads) {
        0 => {}
        failed => text += &format!("; {} with failures", counted(failed, "folder")),
    }
    let mut command = Command::new("notify-send");
    command.args(["--app-name=outboxfs", "--"]);
    command.arg(format!("outboxfs {}", now.directory)).arg(text);
    command
}

/// Runs a command to its end, or to the end of our patience.
fn run(mut command: Command, input: &str, end: &mut End) {
    if end.is_long_ago() {
        return;
    }
    let passed_on = PASSED_ON.map(|name| (name, std::env::var_os(name)));
    command
        .env_clear()
        .envs(
            passed_on
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let program = command.get_program().to_owned();
    let ended = command.spawn().map_err(|error| error.to_string());
    let ended = ended.and_then(|mut child| {
        // Nobody has to read it.
        let _ = child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(input.as_bytes()));
        wait(&mut child, end)
    });
    if let Err(why) = ended {
        tracing::warn!(
            ?program,
            "a command that was to be told of a batch or failure: {why}"
        );
    }
}

fn wait(child: &mut Child, end: &mut End) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        end.wait(LOOK_AT_CHILD);
        if end.is_long_ago() || begun.elapsed() > PATIENCE {
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err("it took too long and was ended".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_fits_into_a_pipe() {
        let failure = Failure {
            path: "x".repeat(4000),
            artifact: "original".into(),
            error: "y".repeat(500),
            attempts: 1,
            at: 0,
            will_retry: false,
        };
        let failures = vec![failure; MOST];
        let text = text("failure", &Snapshot::default(), &[], &failures);
        assert!(text.len() <= MOST_BYTES && text.ends_with("}\n"));
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(told["failures"].as_array().unwrap().len() > 2);
    }
}
