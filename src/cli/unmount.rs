//! `outboxfs unmount`

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::SIGINT;

use super::given::place;
use super::mounts::{Mounts, is_dead, real_path};
use super::{Error, FAILED, complain, holders, left, preflight, say};
use crate::control::{self, Request};
use crate::journal::View;
use crate::status::collect::fill_from_journal;
use crate::status::{Snapshot, duration, one_line};

/// How often the journal is asked how far the daemon is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A busy mount may be busy for a moment only: a file manager's look, an indexer's.
const BUSY_TRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How long a daemon that was told to stop may take to finish what it is sending.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// Errors that are named at the end; all are in the journal.
const ERRORS_SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  outboxfs unmount ~/Pictures
      Until everything is delivered, however long it takes.
  outboxfs unmount ~/Pictures --timeout 2m && poweroff

Exit codes:
  0  unmounted, and everything is delivered
  1  something is left (the next mount resumes), or the mount is busy
  2  wrong usage, or this is no outboxfs mount";

/// Unmount, and wait until everything is delivered.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct UnmountArgs {
    /// Where it is mounted, or its name in the configuration file.
    #[arg(value_name = "MOUNTPOINT|NAME", value_hint = clap::ValueHint::DirPath)]
    mountpoint: PathBuf,

    /// Give up waiting after this time (90s, 10m, 1h 30m); the next mount delivers the rest.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

pub fn run(args: UnmountArgs) -> Result<ExitCode, Error> {
    unmount(&place(&args.mountpoint)?, args.timeout)
}

/// Whether the mount says that umount(8) is to wait. One whose daemon does not answer does not.
pub fn is_to_flush(path: &Path) -> bool {
    let status = fs::read(path.join(".upload/status.json")).unwrap_or_default();
    serde_json::from_slice(&status).is_ok_and(|daemon: Snapshot| daemon.flush)
}

/// For umount(8): until everything is delivered.
pub fn and_flush(path: &Path) -> Result<ExitCode, Error> {
    unmount(path, None)
}

fn unmount(path: &Path, timeout: Option<Duration>) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let mountpoint = find_mount(path)?;
    let before = ask_daemon(&mountpoint)?;
    let pid = daemon_pid(&before, &mountpoint)?;
    // Before the unmount, so that it is this process and not a later one with its number.
    let daemon = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
        Error::Failed(format!(
            "cannot watch the daemon (process {pid:?}): {error}"
        ))
    })?;
    // Not to be the one that keeps it busy, where its own working directory is the mount.
    std::env::set_current_dir("/")
        .map_err(|error| Error::Failed(format!("cannot change to /: {error}")))?;
    detach_mount(&mountpoint, &before)?;
    let deadline = timeout.map(|timeout| started + timeout);
    let stopped = follow(&daemon, &before, deadline)?;
    report(&mountpoint, &before, stopped.as_ref())
}

/// The canonical mount point, if it is one of ours.
fn find_mount(path: &Path) -> Result<PathBuf, Error> {
    let shown = path.display();
    let real = real_path(path)
        .map_err(|error| Error::Refused(format!("cannot look at {shown}: {error}")))?;
    let mounts = Mounts::read()
        .map_err(|error| Error::Refused(format!("cannot read /proc/self/mountinfo: {error}")))?;
    if mounts.at(&real).is_some_and(|mount| mount.is_ours()) {
        return Ok(real);
    }
    let hint = match (mounts.at(&real), mounts.containing(&real)) {
        (Some(other), _) => {
            let fstype = String::from_utf8_lossy(&other.fstype);
            format!(": something else ({fstype}) is mounted there; use umount")
        }
        (None, Some(above)) if above.is_ours() => {
            let above = above.mountpoint.display();
            format!(", but lies in one; use 'outboxfs unmount {above}'")
        }
        _ => ": nothing is mounted there".to_owned(),
    };
    Err(Error::Refused(format!(
        "{shown} is not an outboxfs mount{hint}"
    )))
}

/// What the daemon says of itself.
fn ask_daemon(mountpoint: &Path) -> Result<Snapshot, Error> {
    let file = mountpoint.join(".upload/status.json");
    let shown = mountpoint.display();
    let text = match fs::read(&file) {
        Err(error) if is_dead(&error) => {
            preflight::unmount_stale(mountpoint)?;
            return Err(Error::Failed(format!(
                "the daemon of {shown} has died; the mount was taken away, and the next 'outboxfs \
                 mount' delivers what is left"
            )));
        }
        text => text,
    };
    let text =
        text.map_err(|error| Error::Failed(format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::Failed(format!(
            "the daemon of {shown} is of another version ({error}); use 'umount {shown}'"
        ))
    })
}

fn daemon_pid(snapshot: &Snapshot, mountpoint: &Path) -> Result<Pid, Error> {
    snapshot
        .pid
        .and_then(|pid| Pid::from_raw(pid.try_into().ok()?))
        .ok_or_else(|| {
            let shown = mountpoint.display();
            Error::Failed(format!(
                "the daemon of {shown} does not say which process it is; use 'umount {shown}'"
            ))
        })
}

fn detach_mount(mountpoint: &Path, daemon: &Snapshot) -> Result<(), Error> {
    let mut tried = 0;
    loop {
        match try_unmount(mountpoint) {
            Ok(()) => return Ok(()),
            Err(Unmount::Busy) if tried < BUSY_TRIES => {
                // Who waits for deliveries keeps it busy, and need not: this waits for them too.
                let _ = control::ask(Path::new(&daemon.journal), &Request::LetGo);
                tried += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(Unmount::Busy) => return Err(busy(mountpoint, daemon.pid.unwrap_or(0))),
            Err(Unmount::Other(reason)) => {
                return Err(Error::Failed(format!(
                    "cannot unmount {}: {reason}",
                    mountpoint.display()
                )));
            }
        }
    }
}

fn busy(mountpoint: &Path, daemon: u32) -> Error {
    let shown = mountpoint.display();
    let holders = holders::of(mountpoint, &[daemon, std::process::id()]);
    let who = match holders.is_empty() {
        true => "other users' programs".to_owned(),
        false => holders.join(", "),
    };
    Error::Failed(format!(
        "{shown} is still in use by {who}; close the files or leave the directory, then unmount \
         again (it stays mounted and goes on delivering)"
    ))
}

enum Unmount {
    Busy,
    Other(String),
}

fn try_unmount(mountpoint: &Path) -> Result<(), Unmount> {
    use rustix::io::Errno;
    match rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(Unmount::Busy),
        // Without the right to unmount, the helper that mounted it has it.
        Err(Errno::PERM) => fusermount(mountpoint),
        Err(error) => Err(Unmount::Other(error.to_string())),
    }
}

fn fusermount(mountpoint: &Path) -> Result<(), Unmount> {
    let output = Command::new("fusermount3")
        .env("LC_ALL", "C")
        .args(["-u", "--"])
        .arg(mountpoint)
        .output()
        .map_err(|error| Unmount::Other(format!("cannot run fusermount3: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Device or resource busy") {
        return Err(Unmount::Busy);
    }
    Err(Unmount::Other(said.trim().to_owned()))
}

/// Waits for the daemon's end. At the deadline it is told to stop, and gets a little time to. Ctrl-C ends
/// the waiting only, and says so.
/// Returns what the daemon said of itself when it was told to stop, if it was.
fn follow(
    daemon: &OwnedFd,
    before: &Snapshot,
    deadline: Option<Instant>,
) -> Result<Option<Snapshot>, Error> {
    let progress = Progress::start(before);
    let mut told = false;
    let mut stopped = None;
    let mut deadline = deadline;
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, interrupted.clone())
        .map_err(|error| Error::Failed(format!("cannot watch for Ctrl-C: {error}")))?;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            let (directory, pid) = (&before.directory, before.pid.unwrap_or(0));
            return Err(Error::Failed(format!(
                "{directory} is unmounted, and its daemon (process {pid}) goes on delivering; \
                 'outboxfs status {directory}' shows how far it is"
            )));
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            if told {
                let pid = before.pid.unwrap_or(0);
                return Err(Error::Failed(format!(
                    "the daemon (process {pid}) was told to stop and still runs; it goes on \
                     delivering"
                )));
            }
            stopped = control::status(Path::new(&before.journal));
            // It may have ended by itself this moment.
            let _ = pidfd_send_signal(daemon, Signal::TERM);
            told = true;
            deadline = Some(now + STOP_GRACE);
        }
        let wait = deadline.map_or(LOOK_EVERY, |at| (at - now).min(LOOK_EVERY));
        if has_ended(daemon, wait)? {
            return Ok(stopped);
        }
        progress.look();
    }
}

/// Whether the process has ended, after waiting for it for `wait` at most.
fn has_ended(daemon: &OwnedFd, wait: Duration) -> Result<bool, Error> {
    let timeout = Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut watched = [PollFd::new(daemon, PollFlags::IN)];
    match poll(&mut watched, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Error::Failed(format!("cannot watch the daemon: {error}"))),
    }
}

/// A bar on a terminal, nothing elsewhere.
struct Progress {
    journal: PathBuf,
    bar: ProgressBar,
    total: u64,
}

impl Progress {
    fn start(before: &Snapshot) -> Self {
        let total = weight(before);
        let bar = if io::stderr().is_terminal() && total > 0 {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self {
            journal: before.journal.clone().into(),
            bar,
            total,
        }
    }

    fn look(&self) {
        if self.bar.is_hidden() {
            return;
        }
        // Its daemon knows what is on its way; the journal does not.
        let Some(now) = control::status(&self.journal) else {
            return;
        };
        let sent: u64 = now.uploading.iter().map(|file| file.sent_bytes).sum();
        let left = weight(&now).saturating_sub(sent);
        self.bar.set_position(self.total.saturating_sub(left));
        let mut message = format!(
            "{} ({}) to deliver",
            crate::status::counted(now.queued_files, "file"),
            DecimalBytes(now.queued_bytes)
        );
        if now.failed_files > 0 {
            message += &format!(", {} failed", HumanCount(now.failed_files));
        }
        if let Some(left) = now.time_left {
            message += &format!(", {} left", duration(left));
        }
        if let Some(error) = now.remote_error.or(now.rows_error) {
            message += &format!("; {error}");
        }
        self.bar.set_message(message);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What the bar measures: bytes, and something for each file and row, which take time too.
fn weight(snapshot: &Snapshot) -> u64 {
    const EACH: u64 = 64 * 1024;
    snapshot.queued_bytes + EACH * (snapshot.queued_files + snapshot.queued_rows)
}

/// What the journal says now that the daemon has ended.
fn report(
    mountpoint: &Path,
    before: &Snapshot,
    stopped: Option<&Snapshot>,
) -> Result<ExitCode, Error> {
    let shown = mountpoint.display();
    let mut after = Snapshot {
        directory: before.directory.clone(),
        ..Snapshot::default()
    };
    View::open(Path::new(&before.journal))
        .and_then(|view| fill_from_journal(&view, &mut after))
        .map_err(|error| {
            Error::Failed(format!(
                "{shown} is unmounted, but the journal {} cannot be read: {error}",
                before.journal
            ))
        })?;
    let Some(left) = left::sentence(&after) else {
        let files = crate::status::counted(after.delivered_files, "file");
        say(&format!(
            "{shown} is unmounted; everything is delivered ({files}).\n"
        ));
        return Ok(ExitCode::SUCCESS);
    };
    complain(&format!("{shown} is unmounted; {left}"));
    let errors = stopped.map(|stopped| [&stopped.remote_error, &stopped.rows_error]);
    for error in errors.into_iter().flatten().flatten() {
        complain(error);
    }
    for failure in after.last_errors.iter().take(ERRORS_SHOWN) {
        let (path, artifact) = (&failure.path, &failure.artifact);
        complain(&format!(
            "{path} ({artifact}): {}",
            one_line(&failure.error)
        ));
    }
    Ok(ExitCode::from(FAILED))
}
