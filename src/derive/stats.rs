//! From a folder's statistics, `stats.json` unless told otherwise, to what a row says of it.
//!
//! What is accepted: one JSON object (RFC 8259) in UTF-8, with or without a byte order mark. Of two
//! members with the same name the last one counts, as in JavaScript, Python and PostgreSQL's
//! `jsonb`. Numbers are kept digit by digit, also beyond double precision. Refused, because some
//! database would refuse it: U+0000 and lone surrogates in strings, more than [`MAX_DEPTH`] levels,
//! numbers with more than 1,000 characters or an exponent beyond ±1,000.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::rows::{JsonPath, TestStatus};

/// Read files of statistics up to this size, bytes; larger ones are delivered as files only.
pub const MAX_STATS_BYTES: u64 = 1 << 20;

/// Objects and arrays within each other, the outermost counted.
pub const MAX_DEPTH: usize = 64;

/// Characters of a number, and its largest exponent. PostgreSQL's `numeric` ends far beyond.
const MAX_NUMBER: usize = 1000;

/// What a file of statistics says.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    pub test_status: TestStatus,
    /// The JSON text, compact.
    pub json: String,
}

/// Which file of a folder holds its statistics, where in it the test's outcome stands, and which
/// words mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsRules {
    /// The file's name.
    file: String,
    /// In order: the first one that says pass or fail decides.
    fields: Vec<Field>,
    /// Words for each; `true` and `false` always mean pass and fail.
    pass: Vec<String>,
    fail: Vec<String>,
}

/// Where an outcome may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    /// A member of the outermost object, whatever its case.
    Name(String),
    Path(JsonPath),
}

impl Default for StatsRules {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        Self {
            file: "stats.json".to_owned(),
            fields: ["status", "test_status", "result", "passed", "ok"]
                .map(|name| Field::Name(name.to_owned()))
                .to_vec(),
            pass: words(&[
                "pass",
                "passed",
                "ok",
                "success",
                "succeeded",
                "true",
                "yes",
            ]),
            fail: words(&[
                "fail", "failed", "failure", "error", "nok", "ng", "false", "no",
            ]),
        }
    }
}

impl StatsRules {
    /// These rules for a file of another name; the error, as all of this type's, is one sentence.
    pub fn with_file(self, name: &str) -> Result<Self, String> {
        match name {
            "" | "." | ".." => Err(format!("'{name}' is no name of a file of statistics")),
            name if name.contains(['/', '\0']) => Err(format!(
                "'{name}' is no name of a file of statistics; it is looked for in every folder, so \
                 give a name without a path"
            )),
            name => Ok(Self {
                file: name.to_owned(),
                ..self
            }),
        }
    }

    /// Names of members of the outermost object, or paths that begin with `$`, in place of the usual
    /// ones.
    pub fn with_fields(self, fields: &[String]) -> Result<Self, String> {
        let field = |text: &String| {
            match text.trim() {
            "" => Err("the outcome of a test cannot stand in a field without a name".to_owned()),
            path if path.starts_with('$') => JsonPath::parse(path).map(Field::Path).map_err(|why| {
                format!("cannot look for the outcome of a test at '{path}': {why}; write it like $.summary.verdict")
            }),
            name => Ok(Field::Name(name.to_owned())),
        }
        };
        Ok(Self {
            fields: fields.iter().map(field).collect::<Result<_, _>>()?,
            ..self
        })
    }

    /// Words in place of the usual ones; `None` leaves those.
    pub fn with_words(
        self,
        pass: Option<Vec<String>>,
        fail: Option<Vec<String>>,
    ) -> Result<Self, String> {
        let pass = pass.unwrap_or(self.pass);
        let fail = fail.unwrap_or(self.fail);
        if pass.iter().chain(&fail).any(|word| word.trim().is_empty()) {
            return Err("a word for pass or fail is empty".to_owned());
        }
        if let Some(both) = pass
            .iter()
            .find(|word| fail.iter().any(|other| same_word(word, other)))
        {
            return Err(format!(
                "'{both}' cannot mean pass and fail; give the words for both"
            ));
        }
        Ok(Self { pass, fail, ..self })
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether a file of this name holds a folder's statistics.
    pub fn is_stats(&self, name: &[u8]) -> bool {
        name == self.file.as_bytes()
    }

    /// What `object`, whose text is `json`, says. Names and words count regardless of case and of
    /// space around them; numbers say nothing unless they are among the words, for they may be
    /// counts or exit codes.
    fn status(&self, json: &str, object: &Object) -> TestStatus {
        self.fields
            .iter()
            .filter_map(|field| {
                let value = match field {
                    Field::Name(field) => {
                        let member = object.iter().find(|(name, _)| same_word(name, field));
                        member?.1.get()
                    }
                    Field::Path(path) => path.find(json)?,
                };
                self.outcome(value)
            })
            .next()
            .unwrap_or(TestStatus::Unknown)
    }

    fn outcome(&self, value: &str) -> Option<TestStatus> {
        let word = match value.as_bytes().first()? {
            b't' => return Some(TestStatus::Pass),
            b'f' => return Some(TestStatus::Fail),
            b'"' => serde_json::from_str::<String>(value).ok()?,
            b'-' | b'0'..=b'9' => value.to_owned(),
            _ => return None,
        };
        if self.pass.iter().any(|known| same_word(&word, known)) {
            Some(TestStatus::Pass)
        } else if self.fail.iter().any(|known| same_word(&word, known)) {
            Some(TestStatus::Fail)
        } else {
            None
        }
    }
}

fn same_word(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

type Object<'a> = IndexMap<String, &'a RawValue>;

/// Reads a file of statistics; the error is one sentence for the row, which begins with its name.
pub fn parse(content: &[u8], rules: &StatsRules) -> Result<Stats, String> {
    read_object(content, rules).map_err(|why| format!("{} {why}", rules.file))
}

/// What the row says of a file beyond [`MAX_STATS_BYTES`], which need not be read for it.
pub fn too_large(bytes: u64, rules: &StatsRules) -> String {
    format!("{} {}", rules.file, has_too_many(bytes))
}

fn has_too_many(bytes: u64) -> String {
    format!(
        "has {bytes} bytes, and rows take {MAX_STATS_BYTES} at most; it is delivered as a file only"
    )
}

/// Errors are sentences without their subject, the file.
fn read_object(content: &[u8], rules: &StatsRules) -> Result<Stats, String> {
    if content.len() as u64 > MAX_STATS_BYTES {
        return Err(has_too_many(content.len() as u64));
    }
    let text = decode(content)?;
    if text.trim().is_empty() {
        return Err("is empty".into());
    }
    let root: &RawValue = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    if !root.get().starts_with('{') {
        return Err(format!("is not a JSON object but {}", kind(root.get())));
    }
    let mut json = String::with_capacity(text.len());
    compact(root, 1, &mut json)?;
    let object: Object = read(root)?;
    Ok(Stats {
        test_status: rules.status(root.get(), &object),
        json,
    })
}

fn decode(content: &[u8]) -> Result<&str, String> {
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err("is in UTF-16; save it as UTF-8".into());
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    std::str::from_utf8(content).map_err(|error| {
        let at = error.valid_up_to();
        format!(
            "is not UTF-8: byte 0x{:02x} at offset {at}; save it as UTF-8",
            content[at]
        )
    })
}

fn syntax(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1));
    let before = line
        .unwrap_or("")
        .as_bytes()
        .get(error.column().saturating_sub(2)..)
        .unwrap_or(b"");
    let hint = ["NaN", "Infinity"].into_iter().find(|word| {
        let start = &before[..before.len().min(word.len() + 2)];
        start.windows(word.len()).any(|w| w == word.as_bytes())
    });
    match hint {
        Some(word) => format!(
            "is not valid JSON: {word} at line {}; JSON has no such number, write null",
            error.line()
        ),
        None => format!("is not valid JSON: {error}"),
    }
}

fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, String> {
    // The syntax was checked as a whole before; what is left are escapes that are no character.
    serde_json::from_str(value.get())
        .map_err(|_| "has half of a surrogate pair (\\ud800 to \\udfff) in a string".into())
}

/// Writes `value` without white space and without members that a later one replaces.
fn compact(value: &RawValue, depth: usize, out: &mut String) -> Result<(), String> {
    match value.get().as_bytes()[0] {
        b'{' | b'[' if depth > MAX_DEPTH => Err(format!(
            "has more than {MAX_DEPTH} objects and arrays within each other"
        )),
        b'{' => {
            out.push('{');
            for (at, (name, member)) in read::<Object>(value)?.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                string(name, out)?;
                out.push(':');
                compact(member, depth + 1, out)?;
            }
            out.push('}');
            Ok(())
        }
        b'[' => {
            out.push('[');
            for (at, item) in read::<Vec<&RawValue>>(value)?.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                compact(item, depth + 1, out)?;
            }
            out.push(']');
            Ok(())
        }
        b'"' => string(&read::<String>(value)?, out),
        b'-' | b'0'..=b'9' => number(value.get(), out),
        _ => {
            out.push_str(value.get());
            Ok(())
        }
    }
}

fn string(text: &str, out: &mut String) -> Result<(), String> {
    if text.contains('\0') {
        return Err("has a NUL character (\\u0000) in a string; \
                    PostgreSQL cannot keep it, leave it out"
            .into());
    }
    out.push_str(&serde_json::Value::from(text).to_string());
    Ok(())
}

fn number(text: &str, out: &mut String) -> Result<(), String> {
    let exponent = match text.split_once(['e', 'E']) {
        Some((_, exponent)) => exponent.parse::<i32>().unwrap_or(i32::MAX),
        None => 0,
    };
    if text.len() > MAX_NUMBER || exponent.unsigned_abs() as usize > MAX_NUMBER {
        let start: String = text.chars().take(20).collect();
        return Err(format!(
            "has a number that no database keeps: {start}{}",
            if start.len() < text.len() { "…" } else { "" }
        ));
    }
    out.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(content: &[u8]) -> Result<String, String> {
        parse(content, &StatsRules::default()).map(|stats| stats.json)
    }

    fn status(content: &str) -> TestStatus {
        let stats = parse(content.as_bytes(), &StatsRules::default());
        stats.unwrap().test_status
    }

    fn error(content: &[u8]) -> String {
        let error = json(content).unwrap_err();
        assert!(error.starts_with("stats.json "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn the_outcome_is_found_under_its_usual_names() {
        for (content, expected) in [
            (r#"{"status": "PASS"}"#, TestStatus::Pass),
            (r#"{"Test_Status": " Failed "}"#, TestStatus::Fail),
            (r#"{"result": "ok"}"#, TestStatus::Pass),
            (r#"{"passed": false}"#, TestStatus::Fail),
            (r#"{"ok": true}"#, TestStatus::Pass),
            (r#"{"status": "done", "passed": true}"#, TestStatus::Pass),
            (r#"{"ok": true, "status": "fail"}"#, TestStatus::Fail),
            (r#"{"status": "pa\u0073s"}"#, TestStatus::Pass),
        ] {
            assert_eq!(status(content), expected, "{content}");
        }
    }

    #[test]
    fn what_is_not_known_is_unknown_and_not_failed() {
        for content in [
            "{}",
            r#"{"status": "maybe"}"#,
            r#"{"status": 0}"#,
            r#"{"passed": 12}"#,
            r#"{"ok": null}"#,
            r#"{"status": {"ok": true}}"#,
        ] {
            assert_eq!(status(content), TestStatus::Unknown, "{content}");
        }
    }

    #[test]
    fn words_and_fields_can_be_chosen() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| word.to_string())
                .collect::<Vec<_>>()
        };
        let rules = StatsRules::default()
            .with_fields(&words(&["verdict", "$.summary[0].exit"]))
            .and_then(|rules| rules.with_words(Some(words(&["gut", "0"])), Some(words(&["1"]))))
            .unwrap();
        let outcome = |content: &str| parse(content.as_bytes(), &rules).unwrap().test_status;
        assert_eq!(outcome(r#"{"Verdict": "GUT"}"#), TestStatus::Pass);
        assert_eq!(outcome(r#"{"summary": [{"exit": 1}]}"#), TestStatus::Fail);
        assert_eq!(
            outcome(r#"{"verdict": "?", "summary": [{"exit": 0}]}"#),
            TestStatus::Pass
        );
        assert_eq!(outcome(r#"{"verdict": false}"#), TestStatus::Fail);
        assert_eq!(outcome(r#"{"verdict": "failed"}"#), TestStatus::Unknown);
        assert_eq!(outcome(r#"{"status": "pass"}"#), TestStatus::Unknown);
    }

    #[test]
    fn the_file_may_have_another_name() {
        let rules = StatsRules::default().with_file("result.json").unwrap();
        assert!(rules.is_stats(b"result.json") && !rules.is_stats(b"stats.json"));
        assert_eq!(parse(b"", &rules).unwrap_err(), "result.json is empty");
        assert!(too_large(1 << 30, &rules).starts_with("result.json has"));
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        let rules = StatsRules::default;
        for name in ["", ".", "..", "a/b", "a\0"] {
            assert!(rules().with_file(name).is_err(), "{name}");
        }
        for field in ["", " ", "$", "$.a..b"] {
            assert!(rules().with_fields(&[field.into()]).is_err(), "{field}");
        }
        for word in ["", "FAIL"] {
            let words = Some(vec![word.to_owned()]);
            assert!(rules().with_words(words, None).is_err(), "{word}");
        }
    }

    #[test]
    fn the_json_is_kept_whole_in_its_order() {
        assert_eq!(
            json(b"{ \"b\" : [ 1.10, -2E+3, 123456789012345678901234567890 ],\n\t\"a\": {\"x\": null} }\n"),
            Ok(r#"{"b":[1.10,-2E+3,123456789012345678901234567890],"a":{"x":null}}"#.into())
        );
        assert_eq!(
            json(br#"{"s":"\u00e4\n\/"}"#),
            Ok("{\"s\":\"ä\\n/\"}".into())
        );
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        assert_eq!(
            json(br#"{"a":1,"b":2,"\u0061":{"c":3,"c":4}}"#),
            Ok(r#"{"a":{"c":4},"b":2}"#.into())
        );
        assert_eq!(
            status(r#"{"status":"fail","status":"pass"}"#),
            TestStatus::Pass
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_content() {
        assert_eq!(json(b"\xef\xbb\xbf{}"), Ok("{}".into()));
        assert!(error(b"\xff\xfe{\0}\0").contains("UTF-16"));
    }

    #[test]
    fn what_is_not_json_is_named_with_its_place() {
        assert_eq!(error(b""), "stats.json is empty");
        assert_eq!(error(b" \n"), "stats.json is empty");
        assert!(error(b"{\n\"a\": 1,\n}").contains("line 3"));
        assert!(error(b"{\"a\": 1} x").contains("trailing characters"));
        assert!(error(b"{\"a\": \"half").contains("line 1"));
        assert!(error(b"{\"a\": \"\xe4\"}").contains("byte 0xe4 at offset 7"));
    }

    #[test]
    fn what_is_not_an_object_is_named() {
        assert!(error(b"[1]").ends_with("an array"));
        assert!(error(b"\"x\"").ends_with("a string"));
        assert!(error(b"null").ends_with("null"));
        assert!(error(b"17").ends_with("a number"));
    }

    #[test]
    fn nan_is_not_json() {
        for bad in [
            "{\"a\": NaN}",
            "{\"a\":[1, Infinity]}",
            "{\"a\": -Infinity}",
        ] {
            assert!(error(bad.as_bytes()).contains("write null"), "{bad}");
        }
        assert!(!error(b"{\"NaN\": nope}").contains("write null"));
    }

    #[test]
    fn what_a_database_refuses_is_refused() {
        assert!(error(br#"{"a":"x\u0000y"}"#).contains("NUL"));
        assert!(error(br#"{"x\u0000y":1}"#).contains("NUL"));
        assert!(error(b"{\"a\":\"x\0y\"}").contains("control character"));
        for lone in [
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":1}"#,
            r#"{"a":["\ud83dx"]}"#,
        ] {
            assert!(error(lone.as_bytes()).contains("surrogate"), "{lone}");
        }
        assert_eq!(json(br#"{"n":1e400}"#), Ok(r#"{"n":1e400}"#.into()));
        for bad in ["1e1001", "1E-1001", "1e99999999999"] {
            let bad = format!("{{\"n\":{bad}}}");
            assert!(error(bad.as_bytes()).contains("number"), "{bad}");
        }
        assert!(error(format!("{{\"n\":{}}}", "9".repeat(1001)).as_bytes()).ends_with("999…"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            let inner = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
        };
        assert!(json(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(error(nested(MAX_DEPTH + 1).as_bytes()).contains("within each other"));
        assert!(error(nested(50_000).as_bytes()).contains("within each other"));
    }

    #[test]
    fn a_large_file_is_not_read() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_STATS_BYTES as usize));
        assert!(error(large.as_bytes()).contains("1048584 bytes"));
    }
}
