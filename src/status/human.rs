//! Numbers and names as people read them.

use std::time::Duration;

pub use indicatif::{DecimalBytes, HumanCount};

/// `3 files`, `1 file`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(count))
}

/// A duration in its two largest units: `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 1 h`.
pub fn duration(milliseconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = Duration::from_millis(milliseconds).as_secs();
    if seconds == 0 {
        return "under 1 s".to_owned();
    }
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let at = largest.unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[at];
    let mut text = format!("{} {name}", seconds / unit);
    if let Some((next, next_name)) = UNITS.get(at + 1)
        && seconds % unit / next > 0
    {
        text += &format!(" {} {next_name}", seconds % unit / next);
    }
    text
}

/// A short time: `7 ms`, `1.2 s`, or as [`duration`].
pub fn took(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 10.0 => format!("{short:.1} ms"),
        short if short < 1000.0 => format!("{short:.0} ms"),
        seconds if seconds < 60_000.0 => format!("{:.1} s", seconds / 1000.0),
        long => duration(long as u64),
    }
}

/// To the second, in the machine's time zone.
pub fn local_time(at: i64) -> String {
    let zone = jiff::tz::TimeZone::system();
    match jiff::Timestamp::from_millisecond(at) {
        Ok(time) => time
            .to_zoned(zone)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => "at an unknown time".to_owned(),
    }
}

/// The text with everything that would move the cursor, break the line or split the field written
/// as an escape (`\n`, `\t`, `\u{1b}`).
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The end of `text` in at most `columns` columns: of a path, the end tells more.
pub fn ending(text: &str, columns: usize) -> String {
    use textwrap::core::display_width;
    if display_width(text) <= columns {
        return text.to_owned();
    }
    let mut start = text.len();
    for (at, _) in text.char_indices().rev() {
        if display_width(&text[at..]) + 1 > columns {
            break;
        }
        start = at;
    }
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (milliseconds, text) in [
            (0, "under 1 s"),
            (999, "under 1 s"),
            (12_000, "12 s"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
            (7_201_000, "2 h"),
            (349_200_000, "4 d 1 h"),
        ] {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn counts_agree_with_their_noun() {
        assert_eq!(counted(0, "file"), "0 files");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(1_234_567, "file"), "1,234,567 files");
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("a\tb\nc\x1b[2J é"), "a\\tb\\nc\\u{1b}[2J é");
    }

    #[test]
    fn the_end_of_a_long_path_is_kept() {
        assert_eq!(ending("short.jpg", 20), "short.jpg");
        assert_eq!(ending("a/very/long/path.jpg", 10), "…/path.jpg");
        assert_eq!(ending("写真写真写真", 5), "…写真");
    }
}
