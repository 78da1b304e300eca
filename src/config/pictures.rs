//! What is made of pictures, and what they may cost.

use super::{ConfigError, MaxPixels, Settings};
use crate::derive::thumbnail::{Limits, Options};

/// What was asked for, else the usual thumbnail; nothing where none are wanted.
pub(super) fn thumbnails(
    asked: Option<Vec<Options>>,
    none: Option<bool>,
) -> Result<Vec<Options>, ConfigError> {
    if none == Some(true) {
        return Ok(Vec::new());
    }
    let thumbnails = asked
        .filter(|asked| !asked.is_empty())
        .unwrap_or_else(|| vec![Options::default()]);
    for (at, one) in thumbnails.iter().enumerate() {
        let label = one.label();
        if thumbnails[..at].iter().any(|other| other.label() == label) {
            return Err(ConfigError(format!(
                "--thumbnail {label} is given twice: two thumbnails of the same size, fit and \
                 format would have the same key"
            )));
        }
    }
    Ok(thumbnails)
}

pub(super) fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let usual = Limits::default();
    let max_memory = settings
        .max_picture_memory
        .map_or(usual.max_memory, |bytes| bytes.get());
    let max_time = settings
        .max_picture_time
        .map_or(usual.max_time, |time| time.get());
    if max_memory == 0 || max_time.is_zero() {
        return Err(ConfigError(
            "--max-picture-memory and --max-picture-time cannot be 0; use --no-thumbnails to make \
             none"
                .to_owned(),
        ));
    }
    Ok(Limits {
        max_pixels: settings
            .max_pixels
            .map_or(usual.max_pixels, |pixels: MaxPixels| {
                pixels.get().unsigned_abs()
            }),
        max_memory,
        max_time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    fn made(toml: &str) -> Result<Vec<Options>, ConfigError> {
        let settings = settings(toml);
        thumbnails(settings.thumbnail, settings.no_thumbnails)
    }

    #[test]
    fn one_is_made_unless_told_otherwise() {
        assert_eq!(made("").unwrap(), [Options::default()]);
        assert_eq!(made("no-thumbnails = true").unwrap(), []);
        assert_eq!(made("thumbnail = []").unwrap(), [Options::default()]);
        let two = made("thumbnail = ['64x64', '640x480,quality=70']").unwrap();
        assert_eq!((two[0].width, two[1].width, two[1].quality), (64, 640, 70));
    }

    #[test]
    fn two_that_would_share_a_key_are_refused() {
        let error = made("thumbnail = ['64x64', '64x64,quality=70']").unwrap_err();
        assert!(
            error.to_string().contains("64x64 is given twice"),
            "{error}"
        );
        assert!(made("thumbnail = ['64x64', '64x64,fit=inside']").is_ok());
    }

    #[test]
    fn limits_are_what_is_said_or_the_usual() {
        let usual = Limits::default();
        assert_eq!(limits(&settings("")).unwrap(), usual);
        let toml = "max-pixels = 5\nmax-picture-memory = '2M'\nmax-picture-time = '3s'";
        let said = limits(&settings(toml)).unwrap();
        assert_eq!((said.max_pixels, said.max_memory), (5, 2_000_000));
        assert_eq!(said.max_time.as_secs(), 3);
        assert!(limits(&settings("max-picture-time = '0s'")).is_err());
    }
}
