//! From keys to public ids and back.
//!
//! Cloudinary forbids `?&#\%<>+`, replaces other special characters by `_`, and trims spaces, so that
//! two names could become one. Those are [escaped](crate::remote::escaped) here; all else stands as it
//! is, and each public id belongs to one key only.

use crate::remote::Artifact;
use crate::remote::escaped::{escape, escape_char, unescape};

/// Characters (<https://cloudinary.com/documentation/ts_permitted_naming_conventions>).
const LONGEST: usize = 255;

/// What kind of asset Cloudinary makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    /// Sound, too.
    Video,
    Raw,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Image, Self::Video, Self::Raw];

    /// By the name alone, so that what is only known by its key is found again.
    pub fn of(key: &str) -> Self {
        let guess = mime_guess::from_path(key).first_raw().unwrap_or_default();
        match guess.split_once('/') {
            Some((
                "image",
                "jpeg" | "png" | "gif" | "webp" | "bmp" | "tiff" | "heic" | "heif" | "avif",
            )) => Self::Image,
            Some(("video" | "audio", _)) => Self::Video,
            _ => Self::Raw,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Raw => "raw",
        }
    }
}

/// The public id of an original below `folder`; an error says why there can be none.
pub(super) fn of_key(folder: &str, key: &str) -> Result<String, String> {
    let path = key.strip_prefix(Artifact::Original.folder());
    let path = path.and_then(|path| path.strip_prefix('/'));
    let Some(path) = path else {
        return Err("Cloudinary makes thumbnails by itself".to_owned());
    };
    let id = below(folder, &encode(path));
    let length = id.chars().count();
    match length <= LONGEST {
        true => Ok(id),
        false => Err(format!(
            "the public id would have {length} characters, and Cloudinary takes {LONGEST} at most; give \
             the file or its folders shorter names"
        )),
    }
}

/// The key of a public id that [`of_key`] made.
pub(super) fn to_key(folder: &str, id: &str) -> Option<String> {
    let path = match folder {
        "" => id,
        _ => id.strip_prefix(folder)?.strip_prefix('/')?,
    };
    let path = unescape(path)?;
    Some(format!("{}/{path}", Artifact::Original.folder()))
}

/// What the public ids of all keys begin with that begin with `prefix`; `None` if there can be none.
pub(super) fn prefix(folder: &str, prefix: &str) -> Option<String> {
    let path = prefix.strip_prefix(Artifact::Original.folder())?;
    let path = path.strip_prefix('/').unwrap_or(path);
    // The last component may be cut anywhere.
    let whole = path.rfind('/').map_or("", |at| &path[..=at]);
    Some(below(folder, &encode(whole)))
}

fn below(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}

/// Whether Cloudinary keeps a character.
fn stands(c: char) -> bool {
    match c {
        '_' | '.' | '-' | ' ' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => !c.is_control() && !c.is_whitespace(),
    }
}

fn encode(path: &str) -> String {
    let components = path.split('/');
    let last = components.clone().count() - 1;
    let encoded = components.enumerate().map(|(at, component)| {
        // Such a folder would be taken for a version in URLs.
        let digits = component.strip_prefix('v');
        let is_version = at < last
            && digits
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        let escaped = escape(component, stands);
        match is_version {
            true => {
                let mut first = String::new();
                escape_char('v', &mut first);
                first + &escaped[1..]
            }
            false => escaped,
        }
    });
    encoded.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_look_as_they_do_on_disk() {
        for path in [
            "IMG_0001.jpg",
            "day 1/Zürich 日本-x_y.png",
            "a_x/_xyz",
            "v1",
        ] {
            let id = of_key("", &format!("original/{path}")).unwrap();
            assert_eq!(id, path);
        }
        assert_eq!(of_key("rig/7", "original/a b").unwrap(), "rig/7/a b");
        assert_eq!(of_key("", "original/a&b?").unwrap(), "a_x26b_x3F");
        assert_eq!(of_key("", "original/v12/a").unwrap(), "_x7612/a");
        assert!(of_key("", "thumbnail/a").is_err());
    }

    #[test]
    fn every_public_id_leads_back_to_its_key_and_has_no_forbidden_characters() {
        for path in [
            "a&b=c;d",
            "100%25",
            "_x26",
            "__x26",
            "_x5Fx26",
            "_x_x26",
            " lead and trail ",
            " ",
            "a /b",
            "v1/v2/v3",
            "~'\"()*!,:@$[]{}|<>^`+#?",
            "back%5Cslash",
            "\u{a0}x",
            "e\u{301}",
        ] {
            let key = format!("original/{path}");
            let id = of_key("f", &key).unwrap();
            assert_eq!(to_key("f", &id).as_deref(), Some(key.as_str()), "{id}");
            assert!(
                !id.contains(['?', '&', '#', '\\', '%', '<', '>', '+']),
                "{id}"
            );
            assert_eq!(id.trim(), id);
        }
    }

    #[test]
    fn a_prefix_holds_all_keys_that_begin_with_it() {
        for (start, key) in [
            ("original/a_", "original/a_x26"),
            ("original/v1/a ", "original/v1/a b"),
        ] {
            let id = of_key("f", key).unwrap();
            assert!(id.starts_with(&prefix("f", start).unwrap()), "{id}");
        }
        assert_eq!(prefix("f", "thumbnail/"), None);
        assert_eq!(prefix("", "original/").as_deref(), Some(""));
    }

    #[test]
    fn what_is_too_long_is_said() {
        assert!(of_key("", &format!("original/{}", "ü".repeat(255))).is_ok());
        let error = of_key("", &format!("original/{}", "x".repeat(256))).unwrap_err();
        assert!(error.contains("255"), "{error}");
    }

    #[test]
    fn kinds_follow_from_names() {
        for (name, kind) in [
            ("a.JPG", Kind::Image),
            ("a.tar.png", Kind::Image),
            ("a.mp4", Kind::Video),
            ("a.wav", Kind::Video),
            ("stats.json", Kind::Raw),
            ("a.nef", Kind::Raw),
            ("none", Kind::Raw),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
