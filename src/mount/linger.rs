//! Who has just been answered asks again at once: `cp` of one small file is eight requests in a row.
//! To be put to sleep between two of them and woken by the next costs more than most of them take to
//! answer, above all in virtual machines, where waking another processor leaves the guest. So for a
//! moment after an answer we look for the next request ourselves.
//!
//! Nothing is spent on requests that come singly, and never more than one thread looks.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// So long we look. As long as a caller takes who does nothing but ask.
const PATIENCE: Duration = Duration::from_micros(50);
/// Requests are in a row if one comes so soon after the other, woken or not.
const IN_A_ROW: Duration = Duration::from_micros(250);

pub(super) struct Linger {
    began: Instant,
    /// The kernel's end of the mount, where requests arrive.
    device: OnceLock<OwnedFd>,
    /// When the last request was answered, nanoseconds since `began`.
    answered: AtomicU64,
    /// A thread is looking.
    looking: AtomicBool,
}

/// A request that is being answered; what comes after it is looked for when this is dropped.
pub(super) struct Answering<'a> {
    linger: &'a Linger,
    /// It came soon after the one before.
    in_a_row: bool,
}

impl Linger {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            device: OnceLock::new(),
            answered: AtomicU64::new(0),
            looking: AtomicBool::new(false),
        }
    }

    /// From now on there is somewhere to look. With one processor whoever looks keeps the caller from
    /// asking.
    pub fn look_at(&self, device: OwnedFd) {
        if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
            let _ = self.device.set(device);
        }
    }

    /// A request has come.
    pub fn answering(&self) -> Answering<'_> {
        let since = self
            .now()
            .saturating_sub(self.answered.load(Ordering::Relaxed));
        Answering {
            linger: self,
            in_a_row: u128::from(since) < IN_A_ROW.as_nanos(),
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Returns when there is a request to be read, or nobody is likely to send one.
    fn look(&self, device: &OwnedFd) {
        let end = Instant::now() + PATIENCE;
        let at_once = Timespec::default();
        while Instant::now() < end {
            let mut waiting = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
            if poll(&mut waiting, Some(&at_once)) != Ok(0) {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let linger = self.linger;
        linger.answered.store(linger.now(), Ordering::Relaxed);
        if self.in_a_row
            && let Some(device) = linger.device.get()
            && !linger.looking.swap(true, Ordering::Acquire)
        {
            linger.look(device);
            linger.looking.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_looks_only_after_requests_in_a_row() {
        let (mut kernel, device) = UnixStream::pair().unwrap();
        let linger = Linger::new();
        linger.look_at(device.into());
        std::thread::sleep(IN_A_ROW * 2);
        assert!(!linger.answering().in_a_row, "nothing came before");
        linger.answered.store(linger.now(), Ordering::Relaxed);
        let mut answering = linger.answering();
        answering.in_a_row = true; // whatever the machine did in between
        kernel.write_all(b"request").unwrap();
        drop(answering);
        assert!(!linger.looking.load(Ordering::Relaxed));
    }
}
