//! A log file that begins anew each day: what was written on an earlier one is kept beside it, with
//! that day as its suffix.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

pub struct Daily {
    path: PathBuf,
    file: File,
    /// When the first line of the file was written, or the last of an older one.
    day: Date,
}

impl Daily {
    /// Goes on with the file that is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_on(path, Zoned::now().date())
    }

    fn open_on(path: &Path, today: Date) -> io::Result<Self> {
        let file = append(path)?;
        let metadata = file.metadata()?;
        let day = match metadata.len() {
            0 => today,
            _ => {
                let time = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
                time.to_zoned(TimeZone::system()).date()
            }
        };
        let path = path.to_owned();
        Ok(Self { path, file, day })
    }

    fn write_on(&mut self, line: &[u8], today: Date) -> io::Result<usize> {
        if today != self.day {
            let mut old = OsString::from(&self.path);
            old.push(format!(".{}", self.day));
            // A log in the wrong file is better than none.
            if std::fs::rename(&self.path, old).is_ok() {
                self.file = append(&self.path)?;
            }
            self.day = today;
        }
        self.file.write(line)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

impl Write for Daily {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_on(line, Zoned::now().date())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("push.log");
        let day = |day| Date::new(2026, 11, day).unwrap();
        let mut log = Daily::open_on(&path, day(20)).unwrap();
        for (number, line) in [(20, "one\n"), (20, "two\n"), (21, "three\n")] {
            log.write_on(line.as_bytes(), day(number)).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("push.log.2026-11-20"), "one\ntwo\n");
        assert_eq!(read("push.log"), "three\n");

        // Another push, later.
        let mut log = Daily::open_on(&path, day(21)).unwrap();
        log.day = day(21);
        log.write_on(b"four\n", day(21)).unwrap();
        assert_eq!(read("push.log"), "three\nfour\n");
    }

    #[test]
    fn a_file_of_an_earlier_day_is_put_aside_by_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("push.log");
        std::fs::write(&path, "old\n").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let noon = Date::new(2025, 1, 2).unwrap().at(12, 0, 0, 0);
        let noon = noon.to_zoned(TimeZone::system()).unwrap().timestamp();
        file.set_modified(noon.into()).unwrap();
        let mut log = Daily::open(&path).unwrap();
        log.write_all(b"new\n").unwrap();
        let old = folder.path().join("push.log.2025-01-02");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "old\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }
}
