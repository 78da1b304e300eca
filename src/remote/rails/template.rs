//! What requests say and where answers say it: `metadata.title:{title}` is a member of a JSON body,
//! `song.id` one of an answer.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// All that a template can name.
const NAMES: [&str; 20] = [
    "album",
    "artist",
    "blake3",
    "byte_size",
    "checksum",
    "content_type",
    "duration",
    "email",
    "filename",
    "folder",
    "genre",
    "disc",
    "key",
    "mtime",
    "password",
    "path",
    "signed_id",
    "title",
    "track",
    "year",
];

/// What of them only the file's tags, or its name, can tell.
const FROM_TAGS: [&str; 8] = [
    "album", "artist", "disc", "duration", "genre", "title", "track", "year",
];

/// What the names stand for, for one file.
#[derive(Default, Clone)]
pub(super) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        debug_assert!(NAMES.contains(&name), "{name}");
        self.0.insert(name, value.into());
    }

    fn text(&self, name: &str) -> String {
        match self.0.get(name) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

/// Text with names in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(&'static str),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("a '{{' in '{text}' has no '}}'"))?;
            let known = NAMES.iter().find(|known| **known == name);
            let known =
                known.ok_or_else(|| format!("{{{name}}} is none of {}", NAMES.join(", ")))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Name(known));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Name(name) => Some(*name),
        })
    }

    /// A name alone is its value, whatever its type, or nothing where there is none.
    fn value(&self, values: &Values) -> Option<Value> {
        if let [Piece::Name(name)] = self.0[..] {
            return values.0.get(name).cloned();
        }
        let text = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name(name) => values.text(name),
        });
        Some(Value::String(text.collect()))
    }

    /// Part of a URL.
    pub fn in_url(&self, values: &Values) -> String {
        let text = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name(name) => {
                utf8_percent_encode(&values.text(name), NON_ALPHANUMERIC).to_string()
            }
        });
        text.collect()
    }
}

/// The members of a JSON object, each under a path of names with dots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, Template)>);

impl Fields {
    /// Adds `NAME:TEMPLATE`.
    pub fn add(&mut self, field: &str) -> Result<(), String> {
        let (name, template) = field.split_once(':').ok_or_else(|| {
            format!("'{field}' is not NAME:VALUE, as in metadata.title:{{title}}")
        })?;
        let whole = |name: &str| !name.is_empty() && name.split('.').all(|part| !part.is_empty());
        let nested = |one: &str, other: &str| {
            other
                .strip_prefix(one)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !whole(name) {
            return Err(format!("'{name}' has an empty name"));
        }
        let mut others = self.0.iter().map(|(other, _)| other);
        if let Some(other) = others.find(|other| nested(name, other) || nested(other, name)) {
            return Err(format!("'{name}' and '{other}' cannot both have a value"));
        }
        self.0.push((name.to_owned(), Template::parse(template)?));
        Ok(())
    }

    /// Fields that are right, as ours are.
    pub fn of(fields: &[&str]) -> Self {
        let mut all = Self::default();
        for field in fields {
            all.add(field).expect("a preset's field");
        }
        all
    }

    /// Whether it takes the file's tags to fill them in.
    pub fn need_tags(&self) -> bool {
        let mut names = self.0.iter().flat_map(|(_, template)| template.names());
        names.any(|name| FROM_TAGS.contains(&name))
    }

    pub fn json(&self, values: &Values) -> Value {
        let mut object = Map::new();
        for (name, template) in &self.0 {
            if let Some(value) = template.value(values) {
                insert(&mut object, name, value);
            }
        }
        Value::Object(object)
    }
}

fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            object.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Where an answer says something: names with dots, several by commas, of which the first counts that is
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member(String);

impl Member {
    pub fn of(names: &str) -> Self {
        Self(names.to_owned())
    }

    pub fn find<'a>(&self, answer: &'a Value) -> Option<&'a Value> {
        self.0.split(',').find_map(|names| {
            let found = names
                .split('.')
                .try_fold(answer, |value, name| member(value, name.trim()))?;
            (!found.is_null()).then_some(found)
        })
    }

    /// Text, or a number as text.
    pub fn text(&self, answer: &Value) -> Option<String> {
        match self.find(answer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// By its name, or in a list by its number.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        _ => value.get(name),
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("title", "So \"What\"");
        values.set("track", 1);
        values.set("filename", "a b/ü.mp3");
        values
    }

    #[test]
    fn bodies_hold_what_is_known_with_its_type() {
        let fields = Fields::of(&[
            "song.title:{title}",
            "song.track:{track}",
            "song.album:{album}",
            "name:#{track} {title}{album}",
            "from:outboxfs",
        ]);
        assert_eq!(
            fields.json(&values()),
            json!({
                "song": {"title": "So \"What\"", "track": 1},
                "name": "#1 So \"What\"",
                "from": "outboxfs",
            })
        );
        assert!(fields.need_tags());
        assert!(!Fields::of(&["a:{filename}"]).need_tags());
    }

    #[test]
    fn what_is_put_into_a_url_stays_what_it_is() {
        let template = Template::parse("find?name={filename}").unwrap();
        assert_eq!(template.in_url(&values()), "find?name=a%20b%2F%C3%BC%2Emp3");
    }

    #[test]
    fn wrong_fields_say_what_is_wrong() {
        for (fields, why) in [
            (&["title"][..], "not NAME:VALUE"),
            (&["a..b:x"], "empty name"),
            (&["a:{titel}"], "{titel} is none of album"),
            (&["a:{title"], "no '}'"),
            (&["a:x", "a.b:y"], "cannot both"),
            (&["a.b:x", "a:y"], "cannot both"),
            (&["a:x", "a:y"], "cannot both"),
        ] {
            let mut all = Fields::default();
            let added: Result<(), String> = fields.iter().try_for_each(|field| all.add(field));
            assert!(added.unwrap_err().contains(why), "{fields:?}");
        }
    }

    #[test]
    fn answers_are_looked_into_by_name() {
        let answer = json!({"song": {"id": 7, "url": null}, "url": "u"});
        assert_eq!(Member::of("song.id").text(&answer).as_deref(), Some("7"));
        let url = Member::of("song.url,url");
        assert_eq!(url.text(&answer).as_deref(), Some("u"));
        assert_eq!(Member::of("song.title").find(&answer), None);
        assert_eq!(Member::of("song").text(&answer), None);
        let list = json!([{"id": 8}]);
        assert_eq!(Member::of("0.id").text(&list).as_deref(), Some("8"));
        assert_eq!(Member::of("1.id,id").text(&list), None);
    }
}
