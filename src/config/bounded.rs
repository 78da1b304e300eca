use std::str::FromStr;

use serde::Deserialize;

/// A whole number from `MIN` to `MAX`: a value outside does not exist, wherever it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Bounded<const MIN: i64, const MAX: i64>(i64);

/// Uploads at a time.
pub type Workers = Bounded<1, 256>;
/// Milliseconds that a change rests before it is delivered; at most an hour.
pub type SettleMs = Bounded<0, 3_600_000>;
/// Requests a second.
pub type TpsLimit = Bounded<1, 100_000>;
/// Pixels of a picture.
pub type MaxPixels = Bounded<1, 1_000_000_000_000>;
/// Folders of a batch.
pub type BatchSize = Bounded<1, 1_000_000>;
/// Attempts after the first one.
pub type MaxRetries = Bounded<0, 1_000>;

impl<const MIN: i64, const MAX: i64> Bounded<MIN, MAX> {
    /// For defaults: does not compile to anything if `value` is out of bounds.
    pub const fn new(value: i64) -> Self {
        assert!(value >= MIN && value <= MAX);
        Self(value)
    }

    /// The number; never negative where `MIN` is not.
    pub const fn get(self) -> i64 {
        self.0
    }

    fn expected() -> String {
        format!("expected a whole number from {MIN} to {MAX}")
    }
}

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for Bounded<MIN, MAX> {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is out of range, {}", Self::expected()))
        }
    }
}

impl<const MIN: i64, const MAX: i64> FromStr for Bounded<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(value) => Self::try_from(value),
            Err(_) => Err(format!(
                "'{}' is not a number, {}",
                text.escape_debug(),
                Self::expected()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_within_bounds_exist() {
        assert_eq!("1".parse::<Workers>().unwrap().get(), 1);
        assert_eq!("256".parse::<Workers>().unwrap().get(), 256);
        for wrong in ["0", "257", "-1", "", "many", "99999999999999999999"] {
            let error = wrong.parse::<Workers>().unwrap_err();
            assert!(error.contains("from 1 to 256"), "{error}");
        }
    }
}
