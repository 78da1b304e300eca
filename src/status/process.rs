//! What this process uses of the machine.

use std::fs;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Resources;

/// Shares of a processor are means over this long, or since the process began.
const WINDOW: Duration = Duration::from_secs(5);

/// Looks at the process now and then.
pub struct Usage(Mutex<Looks>);

/// The last look that is old enough to be compared with, and a newer one.
struct Looks {
    old: Look,
    new: Look,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    cpu_seconds: f64,
}

impl Default for Usage {
    fn default() -> Self {
        let look = Look {
            at: Instant::now(),
            cpu_seconds: cpu_seconds(),
        };
        Self(Mutex::new(Looks {
            old: look,
            new: look,
        }))
    }
}

impl Usage {
    /// `None` where /proc does not tell.
    pub fn now(&self) -> Option<Resources> {
        let (cpu_seconds, memory_bytes) = (cpu_seconds(), memory_bytes()?);
        let now = Look {
            at: Instant::now(),
            cpu_seconds,
        };
        let mut looks = self.0.lock();
        if now.at - looks.new.at >= WINDOW {
            looks.old = looks.new;
            looks.new = now;
        }
        let passed = (now.at - looks.old.at).as_secs_f64().max(0.001);
        let used = cpu_seconds - looks.old.cpu_seconds;
        Some(Resources {
            cpu_percent: (used / passed * 1000.0).round() / 10.0,
            cpu_seconds,
            memory_bytes,
        })
    }
}

/// User and system time of all threads.
fn cpu_seconds() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

/// What is resident (proc(5)).
fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let usage = Usage::default();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {}
        let used = usage.now().unwrap();
        assert!(used.cpu_seconds > 0.0 && used.memory_bytes > 1 << 20);
        assert!(used.cpu_percent > 0.0, "{used:?}");
    }
}
