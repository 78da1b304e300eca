//! What a thumbnail should be, and how people write that: `200x300,fit=contain,quality=90`.

use std::str::FromStr;
use std::time::Duration;

/// How a picture of other proportions goes into the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// Fills the box; what hangs over is cut off evenly. Small pictures are scaled up.
    #[default]
    Cover,
    /// All of it is shown, centred on the background, in exactly the size of the box. Small pictures
    /// are scaled up.
    Contain,
    /// All of it is shown, no larger than the box and never larger than the picture itself.
    Inside,
}

/// What the thumbnail is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Jpeg,
    Png,
    WebP,
    Avif,
}

impl Fit {
    const ALL: [Self; 3] = [Self::Cover, Self::Contain, Self::Inside];

    /// As it is written in a specification.
    fn name(self) -> &'static str {
        match self {
            Self::Cover => "cover",
            Self::Contain => "contain",
            Self::Inside => "inside",
        }
    }
}

impl Format {
    pub(super) const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::WebP, Self::Avif];

    /// RFC 6838; of the thumbnail as an object.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Avif => "image/avif",
        }
    }

    /// As it is written in a specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Avif => "avif",
        }
    }

    /// Whether this build writes it.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Jpeg | Self::Png => true,
            Self::WebP => cfg!(feature = "webp"),
            Self::Avif => cfg!(feature = "avif"),
        }
    }
}

/// What a thumbnail should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Pixels.
    pub width: u32,
    pub height: u32,
    pub fit: Fit,
    pub format: Format,
    /// 1 to 100; PNG, which loses nothing, has none.
    pub quality: u8,
    /// What lies behind transparent pixels and beside the picture: red, green, blue.
    pub background: [u8; 3],
    /// Whether JPEG is written in growing detail.
    pub progressive: bool,
    /// Whether light is averaged instead of numbers: bright spots on dark ground keep their
    /// brightness, and it takes several times as long.
    pub linear: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            width: 200,
            height: 300,
            fit: Fit::Cover,
            format: Format::Jpeg,
            quality: 85,
            background: [255; 3],
            progressive: false,
            linear: false,
        }
    }
}

impl Options {
    /// What tells this size from others in keys: `640x480`, `640x480-contain`, `64x64-webp`.
    pub fn label(&self) -> String {
        let mut label = format!("{}x{}", self.width, self.height);
        if self.fit != Fit::Cover {
            label.push('-');
            label.push_str(self.fit.name());
        }
        if self.format != Format::Jpeg {
            label.push('-');
            label.push_str(self.format.name());
        }
        label
    }
}

/// What a picture may cost. Only the first frame or page of one is decoded, so how many there are
/// needs no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Pictures with more pixels than this are refused before they are decoded.
    pub max_pixels: u64,
    /// Pictures that need more memory than this to be decoded are refused, bytes.
    pub max_memory: u64,
    /// Pictures that take more processor time than this are given up. Where a decoder cannot be
    /// interrupted, `max_pixels` bounds its time.
    pub max_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 200_000_000,
            max_memory: 1 << 30,
            max_time: Duration::from_secs(30),
        }
    }
}

/// Why a specification is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "thumbnail {given:?}: {why}; write WIDTHxHEIGHT, then any of ,fit= ,quality= ,format= ,background= ,progressive ,linear, as in 200x300,fit=contain,quality=90"
)]
pub struct SpecError {
    given: String,
    why: String,
}

impl FromStr for Options {
    type Err = SpecError;

    /// Reads `WIDTHxHEIGHT[,fit=cover|contain|inside][,quality=1..100][,format=jpeg|png|webp|avif]
    /// [,background=RRGGBB][,progressive][,linear]`; what is not said is as by default.
    fn from_str(spec: &str) -> Result<Self, SpecError> {
        parse(spec).map_err(|why| SpecError {
            given: spec.into(),
            why,
        })
    }
}

fn parse(spec: &str) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = spec.split(',').map(str::trim);
    let size = words.next().unwrap_or_default();
    (options.width, options.height) = parse_size(size)?;
    let mut said: Vec<&str> = Vec::new();
    for word in words {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        if said.contains(&key) {
            return Err(format!("{key} is given twice"));
        }
        said.push(key);
        match (key, value) {
            ("fit", Some(value)) => options.fit = parse_fit(value)?,
            ("quality", Some(value)) => options.quality = parse_quality(value)?,
            ("format", Some(value)) => options.format = parse_format(value)?,
            ("background", Some(value)) => options.background = parse_color(value)?,
            ("progressive", None) => options.progressive = true,
            ("linear", None) => options.linear = true,
            ("fit" | "quality" | "format" | "background", None) => {
                return Err(format!("{key} needs a value, as in {key}=…"));
            }
            _ => return Err(format!("{word:?} means nothing here")),
        }
    }
    Ok(options)
}

fn parse_size(size: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| {
        // Longer sides than this would be no thumbnails, and no JPEG either.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let side = text.parse::<u32>().ok().filter(|_| digits);
        side.filter(|side| (1..=16_384).contains(side))
            .ok_or_else(|| format!("{text:?} is not a number of pixels from 1 to 16384"))
    };
    let (width, height) = size
        .split_once(['x', 'X', '×'])
        .ok_or_else(|| format!("{size:?} is not a size"))?;
    Ok((side(width)?, side(height)?))
}

fn parse_fit(value: &str) -> Result<Fit, String> {
    let fit = Fit::ALL.into_iter().find(|fit| fit.name() == value);
    fit.ok_or_else(|| format!("fit is cover, contain or inside, not {value:?}"))
}

fn parse_quality(value: &str) -> Result<u8, String> {
    value
        .parse::<u8>()
        .ok()
        .filter(|quality| (1..=100).contains(quality))
        .ok_or_else(|| format!("quality is 1 to 100, not {value:?}"))
}

fn parse_format(value: &str) -> Result<Format, String> {
    let value = if value == "jpg" { "jpeg" } else { value };
    let format = Format::ALL
        .into_iter()
        .find(|format| format.name() == value)
        .ok_or_else(|| format!("format is jpeg, png, webp or avif, not {value:?}"))?;
    if !format.is_built_in() {
        return Err(format!(
            "this build does not write {value}; build it with --features {value}"
        ));
    }
    Ok(format)
}

fn parse_color(value: &str) -> Result<[u8; 3], String> {
    let digits = value.strip_prefix('#').unwrap_or(value);
    let number = u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| digits.len() == 6 && !digits.starts_with('+'))
        .ok_or_else(|| format!("background is six hexadecimal digits, not {value:?}"))?;
    let [_, red, green, blue] = number.to_be_bytes();
    Ok([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_alone_leaves_the_rest_as_it_is() {
        let options: Options = "64x48".parse().unwrap();
        let by_default = Options {
            width: 64,
            height: 48,
            ..Options::default()
        };
        assert_eq!(options, by_default);
    }

    #[test]
    fn everything_can_be_said() {
        let spec =
            "640X480, fit=inside,quality=70,format=png,background=#102030,progressive,linear";
        let options: Options = spec.parse().unwrap();
        assert_eq!((options.width, options.height), (640, 480));
        assert_eq!((options.fit, options.format), (Fit::Inside, Format::Png));
        assert_eq!((options.quality, options.background), (70, [16, 32, 48]));
        assert!(options.progressive && options.linear);
    }

    #[test]
    fn labels_tell_sizes_fits_and_formats_apart() {
        let labels = |spec: &str| spec.parse::<Options>().unwrap().label();
        assert_eq!(labels("640x480,quality=70"), "640x480");
        assert_eq!(labels("640x480,fit=inside"), "640x480-inside");
        assert_eq!(labels("64x64,fit=contain,format=png"), "64x64-contain-png");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (spec, named) in [
            ("", "\"\" is not a size"),
            ("200", "\"200\" is not a size"),
            ("0x300", "\"0\" is not a number of pixels"),
            ("+1x300", "\"+1\" is not a number of pixels"),
            ("200x99999", "\"99999\" is not a number of pixels"),
            ("200x300,fit=fill", "not \"fill\""),
            ("200x300,fit", "fit needs a value"),
            ("200x300,quality=0", "not \"0\""),
            ("200x300,quality=90,quality=80", "quality is given twice"),
            ("200x300,format=bmp", "not \"bmp\""),
            ("200x300,background=+12345", "six hexadecimal digits"),
            ("200x300,,", "\"\" means nothing here"),
            ("200x300,size=3", "\"size=3\" means nothing here"),
        ] {
            let why = spec.parse::<Options>().unwrap_err().to_string();
            assert!(why.contains(named), "{spec}: {why}");
        }
    }

    #[test]
    #[cfg(not(feature = "webp"))]
    fn a_format_that_the_build_lacks_says_how_to_get_it() {
        let why = "200x300,format=webp".parse::<Options>().unwrap_err();
        assert!(why.to_string().contains("--features webp"), "{why}");
    }
}
