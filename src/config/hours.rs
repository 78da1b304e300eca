use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Time;
use serde::Deserialize;

/// A part of each day, as `22:00-06:00`, in local time. The end belongs to what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hours {
    from: Time,
    to: Time,
}

impl Hours {
    /// How long until they begin; `None` if `now` lies in them.
    pub fn closed_for(self, now: Time) -> Option<Duration> {
        let is_open = match self.from < self.to {
            true => now >= self.from && now < self.to,
            false => now >= self.from || now < self.to,
        };
        let seconds = |time: Time| {
            i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
        };
        let left = (seconds(self.from) - seconds(now)).rem_euclid(24 * 3600);
        (!is_open).then(|| Duration::from_secs(left.unsigned_abs()))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-", from.hour(), from.minute())?;
        write!(f, "{:02}:{:02}", to.hour(), to.minute())
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' are no hours; write 22:00-06:00");
        let time = |text: &str| -> Option<Time> {
            let (hour, minute) = text.trim().split_once(':')?;
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = time(from).zip(time(to)).ok_or_else(wrong)?;
        match from == to {
            true => Err(format!(
                "'{text}' leave no time; leave them out for all day"
            )),
            false => Ok(Self { from, to }),
        }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(hours: &str, hour: i8, minute: i8) -> Option<u64> {
        let hours: Hours = hours.parse().unwrap();
        let closed = hours.closed_for(Time::constant(hour, minute, 0, 0));
        closed.map(|closed| closed.as_secs() / 60)
    }

    #[test]
    fn hours_may_lie_over_midnight() {
        assert_eq!(closed("22:00-06:00", 23, 0), None);
        assert_eq!(closed("22:00-06:00", 5, 59), None);
        assert_eq!(closed("22:00-06:00", 6, 0), Some(16 * 60));
        assert_eq!(closed("22:00-06:00", 21, 30), Some(30));
        assert_eq!(closed("08:30-17:00", 8, 29), Some(1));
        assert_eq!(closed("08:30-17:00", 17, 0), Some(15 * 60 + 30));
    }

    #[test]
    fn what_are_no_hours_is_refused() {
        for wrong in ["", "22", "22:00", "25:00-06:00", "22:00-22:00", "a-b"] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
        let hours: Hours = " 7:05-9:00".parse().unwrap();
        assert_eq!(hours.to_string(), "07:05-09:00");
    }
}
