//! Progress of a push: a bar on a terminal, a line now and then elsewhere, both on standard error.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::status::{Snapshot, duration, one_line};

/// Between two looks, on a terminal and elsewhere.
const REDRAW: Duration = Duration::from_millis(150);
const LINE: Duration = Duration::from_secs(5);
/// Files that are named as being on their way.
const NAMED: usize = 3;

/// How far it is.
#[derive(Debug, Clone, Default)]
pub struct HowFar {
    pub done_files: u64,
    pub done_bytes: u64,
    pub snapshot: Snapshot,
}

/// Shows progress until dropped.
pub struct Display {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// A display that shows nothing yet, and nothing ever if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let target = match quiet || !io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // 80 columns hold the numbers, and no bar beside them.
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %\n{msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            stop: Arc::default(),
            thread: None,
        }
    }

    /// What writes lines to standard error without disturbing the bar.
    pub fn lines(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let bar = self.bar.clone();
        move |line: &str| bar.suspend(|| super::complain(line))
    }

    /// Asks `how_far` again and again, on a thread of its own, `progress`.
    pub fn follow(&mut self, quiet: bool, how_far: impl Fn() -> Option<HowFar> + Send + 'static) {
        if quiet {
            return;
        }
        let (bar, stop) = (self.bar.clone(), self.stop.clone());
        let look = move || {
            let every = if bar.is_hidden() { LINE } else { REDRAW };
            let mut next = Instant::now() + every;
            while !stop.load(Ordering::Relaxed) {
                if Instant::now() >= next {
                    next = Instant::now() + every;
                    if let Some(how_far) = how_far() {
                        show(&bar, &how_far);
                    }
                }
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        };
        let thread = std::thread::Builder::new().name("progress".into());
        self.thread = thread.spawn(look).ok();
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

fn show(bar: &ProgressBar, how_far: &HowFar) {
    let text = line(how_far);
    if bar.is_hidden() {
        return super::complain(&text);
    }
    bar.set_length(how_far.done_files + how_far.snapshot.queued_files);
    bar.set_position(how_far.done_files);
    let names = how_far.snapshot.uploading.iter().take(NAMED);
    let names: Vec<String> = names.map(|file| one_line(&file.path)).collect();
    bar.set_message(match names.is_empty() {
        true => text,
        false => format!("{text}\n  {}", names.join(", ")),
    });
}

/// `1,200 of 5,000 files, 12.0 MB of 50.0 MB, 3.1 MB/s, 12 s left`
fn line(how_far: &HowFar) -> String {
    let HowFar {
        done_files,
        done_bytes,
        snapshot,
    } = how_far;
    let mut parts = vec![
        format!(
            "{} of {} files",
            HumanCount(*done_files),
            HumanCount(done_files + snapshot.queued_files)
        ),
        format!(
            "{} of {}",
            DecimalBytes(*done_bytes),
            DecimalBytes(done_bytes + snapshot.queued_bytes)
        ),
    ];
    if snapshot.bytes_per_second > 0.0 {
        let rate = DecimalBytes(snapshot.bytes_per_second as u64);
        parts.push(format!("{rate}/s"));
    }
    if let Some(left) = snapshot.time_left {
        parts.push(format!("{} left", duration(left)));
    }
    if let Some(looked_at) = snapshot.scanning {
        parts.push(format!("scanning ({} so far)", HumanCount(looked_at)));
    }
    if let Some(error) = &snapshot.remote_error {
        parts.push(error.clone());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let how_far = HowFar {
            done_files: 1200,
            done_bytes: 12_000_000,
            snapshot: Snapshot {
                queued_files: 3800,
                queued_bytes: 38_000_000,
                bytes_per_second: 3_100_000.0,
                time_left: Some(12_000),
                ..Snapshot::default()
            },
        };
        assert_eq!(
            line(&how_far),
            "1,200 of 5,000 files, 12.00 MB of 50.00 MB, 3.10 MB/s, 12 s left"
        );
    }
}
