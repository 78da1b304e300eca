//! What an audio file says of itself, else what its name says.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use lofty::config::ParseOptions;
use lofty::file::{AudioFile, FileType, TaggedFileExt};
use lofty::probe::Probe;
use lofty::tag::Accessor;

use super::template::Values;
use crate::remote::Body;

/// Sets `title` and what else is known of the music. Reads the file; a file that is none of music, or
/// damaged, has the title that its name says.
pub(super) fn read(body: &Body, name: &str, values: &mut Values) {
    from_name(name, values);
    let kind = name
        .rsplit_once('.')
        .and_then(|(_, ext)| FileType::from_ext(ext));
    let Some(kind) = kind else {
        return;
    };
    let result = match body {
        Body::Bytes(bytes) => from_file(Cursor::new(bytes.clone()), kind, values),
        Body::File { file, len } => from_file(Positioned::new(file.clone(), *len), kind, values),
    };
    if let Err(error) = result {
        tracing::debug!(name, error, "its tags cannot be read");
    }
}

fn from_file(file: impl Read + Seek, kind: FileType, values: &mut Values) -> Result<(), String> {
    let options = ParseOptions::new().read_cover_art(false);
    let file = Probe::with_file_type(io::BufReader::new(file), kind)
        .options(options)
        .guess_file_type()
        .map_err(|error| error.to_string())?
        .read()
        .map_err(|error| error.to_string())?;
    let seconds = file.properties().duration().as_secs_f64();
    if seconds > 0.0 {
        values.set("duration", (seconds * 1000.0).round() / 1000.0);
    }
    // The one that the format is meant to have goes before older ones.
    let primary = file.primary_tag();
    let mut tags: Vec<_> = primary.into_iter().collect();
    tags.extend(file.tags());
    let text = |of: &dyn Fn(&lofty::tag::Tag) -> Option<String>| {
        let mut found = tags.iter().filter_map(|tag| of(tag));
        found.find(|text| !text.trim().is_empty())
    };
    type Text = fn(&lofty::tag::Tag) -> Option<String>;
    let texts: [(&'static str, Text); 4] = [
        ("title", |tag| tag.title().map(Into::into)),
        ("artist", |tag| tag.artist().map(Into::into)),
        ("album", |tag| tag.album().map(Into::into)),
        ("genre", |tag| tag.genre().map(Into::into)),
    ];
    for (name, of) in texts {
        if let Some(text) = text(&of) {
            values.set(name, text.trim().replace('\0', "/"));
        }
    }
    if let Some(track) = tags.iter().find_map(|tag| tag.track()) {
        values.set("track", track);
    }
    if let Some(disc) = tags.iter().find_map(|tag| tag.disk()) {
        values.set("disc", disc);
    }
    if let Some(date) = tags.iter().find_map(|tag| tag.date()) {
        values.set("year", date.year);
    }
    Ok(())
}

/// `01 - Title.mp3`, `Artist - Title.mp3`, `Artist - Album - 01 - Title.mp3`.
fn from_name(name: &str, values: &mut Values) {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let stem = stem.replace('_', " ");
    let stem = match stem.trim() {
        "" => name,
        stem => stem,
    };
    let mut parts: Vec<&str> = stem.split(" - ").map(str::trim).collect();
    parts.retain(|part| !part.is_empty());
    let Some(last) = parts.pop() else {
        values.set("title", stem);
        return;
    };
    let (track, title) = match numbered(last) {
        Some((track, title)) => (Some(track), title),
        None => (None, last),
    };
    values.set("title", title);
    let mut track = track;
    if track.is_none()
        && let Some(number) = parts.iter().position(|part| is_track(part))
    {
        track = parts.remove(number).parse().ok();
    }
    if let Some(track) = track {
        values.set("track", track);
    }
    if let Some(artist) = parts.first() {
        values.set("artist", *artist);
    }
    if let Some(album) = parts.get(1) {
        values.set("album", *album);
    }
}

fn is_track(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `01 Title`, `01. Title`: two digits at least, for `7 Seconds` is a title.
fn numbered(text: &str) -> Option<(u32, &str)> {
    let (number, title) = text.split_once(' ')?;
    let (digits, dot) = match number.strip_suffix(['.', ')']) {
        Some(digits) => (digits, true),
        None => (number, false),
    };
    let is_number = is_track(digits) && (dot || (digits.len() == 2 && digits.starts_with('0')));
    let title = title.trim_start_matches(['-', ' ']);
    (is_number && !title.is_empty()).then(|| Some((digits.parse().ok()?, title)))?
}

/// Reads a file that others read too, with a position of its own.
struct Positioned {
    file: Arc<File>,
    at: u64,
    len: u64,
}

impl Positioned {
    fn new(file: Arc<File>, len: u64) -> Self {
        Self { file, at: 0, len }
    }
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.at);
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::template::Fields;
    use super::*;

    fn known(body: &Body, name: &str) -> Value {
        let mut values = Values::default();
        read(body, name, &mut values);
        let names = ["title", "artist", "album", "track", "year", "duration"];
        let fields: Vec<String> = names
            .iter()
            .map(|name| format!("{name}:{{{name}}}"))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        Fields::of(&fields).json(&values)
    }

    fn bytes(bytes: &[u8]) -> Body {
        Body::Bytes(bytes.to_vec().into())
    }

    /// An ID3v2.3 tag and a second of silence: frames of MPEG 1 layer III, 128 kbit/s, 44.1 kHz.
    fn mp3() -> Vec<u8> {
        let frame = |id: &[u8; 4], text: &str| {
            let mut frame = id.to_vec();
            frame.extend((text.len() as u32 + 1).to_be_bytes());
            frame.extend([0, 0, 0]);
            frame.extend(text.as_bytes());
            frame
        };
        let frames = [
            frame(b"TIT2", "So What"),
            frame(b"TPE1", "Miles Davis"),
            frame(b"TALB", "Kind of Blue"),
            frame(b"TRCK", "1/5"),
            frame(b"TYER", "1959"),
        ]
        .concat();
        let mut file = b"ID3\x03\x00\x00\x00\x00".to_vec();
        file.extend([(frames.len() >> 7) as u8, (frames.len() & 0x7f) as u8]);
        file.extend(frames);
        for _ in 0..38 {
            file.extend([0xff, 0xfb, 0x90, 0xc4]);
            file.extend([0; 413]);
        }
        file
    }

    #[test]
    fn tags_go_before_the_name() {
        let expected = json!({
            "title": "So What", "artist": "Miles Davis", "album": "Kind of Blue", "track": 1, "year": 1959,
        });
        let mut of_bytes = known(&bytes(&mp3()), "somebody - else.mp3");
        let seconds = of_bytes["duration"].as_f64().unwrap();
        assert!((0.9..1.1).contains(&seconds), "{seconds}");
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &mp3()).unwrap();
        let len = mp3().len() as u64;
        let file = Arc::new(file);
        let of_file = known(&Body::File { file, len }, "somebody - else.mp3");
        assert_eq!(of_bytes, of_file);
        of_bytes.as_object_mut().unwrap().remove("duration");
        assert_eq!(of_bytes, expected);
    }

    #[test]
    fn without_tags_the_name_tells() {
        for (name, expected) in [
            ("So What.mp3", json!({"title": "So What"})),
            ("01 - So What.mp3", json!({"title": "So What", "track": 1})),
            ("01 So What.mp3", json!({"title": "So What", "track": 1})),
            ("12. So What.mp3", json!({"title": "So What", "track": 12})),
            ("7 Seconds.mp3", json!({"title": "7 Seconds"})),
            (
                "Miles_Davis_-_So_What.flac",
                json!({"title": "So What", "artist": "Miles Davis"}),
            ),
            (
                "Miles Davis - Kind of Blue - 01 - So What.mp3",
                json!({"title": "So What", "artist": "Miles Davis", "album": "Kind of Blue", "track": 1}),
            ),
            ("1999.mp3", json!({"title": "1999"})),
            (".mp3", json!({"title": ".mp3"})),
            ("readme", json!({"title": "readme"})),
            (" - .wav", json!({"title": "-"})),
        ] {
            assert_eq!(known(&bytes(b"no music"), name), expected, "{name}");
        }
    }

    #[test]
    fn damaged_files_have_their_names() {
        for cut in [0, 3, 10, 11, 40, 200] {
            let known = known(&bytes(&mp3()[..cut]), "song.mp3");
            assert!(known["title"].is_string(), "{cut}: {known}");
        }
        for name in [
            "a.flac", "a.m4a", "a.ogg", "a.wav", "a.opus", "a.aiff", "a.ape",
        ] {
            assert_eq!(known(&bytes(&mp3()[150..]), name)["title"], "a", "{name}");
        }
    }
}
