//! How long a picture may take: processor time of the thread that works on it, as a machine that is
//! busy or asleep is no fault of the picture.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Reads between two looks at the clock, which costs as much as some of them.
const READS: u32 = 64;

/// When a picture has taken too long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Duration);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(now().saturating_add(time))
    }

    pub(super) fn has_passed(self) -> bool {
        now() > self.0
    }
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The picture for decoders that read as they go: past the deadline, reading fails.
pub(super) struct Timed<'a> {
    bytes: Cursor<&'a [u8]>,
    deadline: Deadline,
    reads: u32,
}

impl<'a> Timed<'a> {
    pub(super) fn new(bytes: &'a [u8], deadline: Deadline) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            deadline,
            reads: 0,
        }
    }

    fn look(&mut self) -> io::Result<()> {
        self.reads += 1;
        if self.reads.is_multiple_of(READS) && self.deadline.has_passed() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, super::TOO_SLOW));
        }
        Ok(())
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.look()?;
        self.bytes.read(buffer)
    }
}

impl BufRead for Timed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.look()?;
        // In pieces, so that a decoder that reads a file at once comes back in between.
        self.bytes
            .fill_buf()
            .map(|rest| &rest[..rest.len().min(4096)])
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
    }
}

impl Seek for Timed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_fails_once_the_time_is_over() {
        let mut timed = Timed::new(&[7; 100], Deadline::after(Duration::ZERO));
        let mut byte = [0];
        let read = (0..READS).try_for_each(|_| timed.read_exact(&mut byte));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn all_is_read_within_the_time() {
        let mut timed = Timed::new(&[7; 10_000], Deadline::after(Duration::from_secs(3600)));
        let mut bytes = Vec::new();
        timed.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 10_000]);
    }
}
