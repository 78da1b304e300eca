use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes as people write it: `1500`, `500K`, `20M`, `1.5G`, `4GiB`. K, M, G and T are
/// powers of 1,000, Ki, Mi, Gi and Ti of 1,024; a B at the end changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(u64);

impl Bytes {
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no size; write 500K, 20M, 1.5G or 4GiB");
        let lower = text.trim().to_ascii_lowercase();
        let end = lower
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim();
        let (unit, base) = match unit.strip_suffix('b').unwrap_or(unit).strip_suffix('i') {
            Some(unit) => (unit, 1024_u64),
            None => (unit.strip_suffix('b').unwrap_or(unit), 1000),
        };
        let power = match unit {
            "" if base == 1000 => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            _ => return Err(wrong()),
        };
        Ok(Self((number * base.pow(power) as f64) as u64))
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("500K", 500_000),
            ("1.5G", 1_500_000_000),
            ("20 mb", 20_000_000),
            ("4GiB", 4 << 30),
            ("1ki", 1024),
            ("12B", 12),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "M", "1x", "-1", "1iB", "1.2.3"] {
            let error = text.parse::<Bytes>().unwrap_err();
            assert!(error.contains("is no size"), "{text}: {error}");
        }
    }
}
