//! Members of `stats.json` as columns of their own: `voltage = "$.power.voltage number"`.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::RowError;
use super::layout::{Cell, Kind};

/// A column that is filled from `stats.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedColumn {
    pub name: String,
    pub kind: Kind,
    path: Vec<Step>,
    /// As it was written, for messages.
    spec: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From 0.
    Item(usize),
}

impl PromotedColumn {
    /// `spec` is a path and, after a space, a type: `$.power.voltage number`. Paths are made of
    /// `.name`, `["any name"]` and `[0]`; types are text (the default), integer, number, boolean,
    /// time (RFC 3339) and json.
    pub fn parse(name: &str, spec: &str) -> Result<Self, RowError> {
        let wrong = |why: String| {
            RowError::permanent(format!(
                "cannot make a column '{name}' of '{spec}': {why}; write it like \
                 voltage = \"$.power.voltage number\""
            ))
        };
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            return Err(wrong("a column's name has 1 to 63 characters".into()));
        }
        let spec = spec.trim();
        let (path, kind) = match spec.rsplit_once(' ') {
            Some((path, kind)) if !kind.ends_with(']') => (path.trim_end(), kind),
            _ => (spec, "text"),
        };
        let kind = match kind {
            "text" => Kind::Text,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "time" => Kind::Time,
            "json" => Kind::Json,
            other => {
                return Err(wrong(format!(
                    "'{other}' is no type (text, integer, number, boolean, time, json)"
                )));
            }
        };
        let steps = path
            .strip_prefix('$')
            .ok_or_else(|| wrong("a path begins with $".into()))?;
        Ok(Self {
            name: name.to_owned(),
            kind,
            path: steps_of(steps).map_err(wrong)?,
            spec: path.to_owned(),
        })
    }

    /// The value in `stats`, which is valid JSON; null if it is not there. The error, one sentence,
    /// says that it is of another type.
    pub fn cell(&self, stats: &str) -> Result<Cell, String> {
        let Some(value) = find(stats, &self.path) else {
            return Ok(Cell::Null);
        };
        if value == "null" {
            return Ok(Cell::Null);
        }
        // Rigs write numbers and times as strings as well, so a string counts as what it holds.
        let string: Option<String> = serde_json::from_str(value).ok();
        let held = string.as_deref().map_or(value, str::trim);
        let cell = match self.kind {
            Kind::Json => Some(Cell::Json(value.to_owned())),
            Kind::Text => Some(Cell::Text(string.clone().unwrap_or(value.to_owned()))),
            Kind::Integer => held.parse().ok().map(Cell::Integer),
            Kind::Number => serde_json::from_str::<serde_json::Number>(held)
                .is_ok()
                .then(|| Cell::Number(held.to_owned())),
            Kind::Boolean => held.to_lowercase().parse().ok().map(Cell::Boolean),
            Kind::Time => held.parse().ok().map(Cell::Time),
        };
        cell.ok_or_else(|| {
            let shown: String = value.chars().take(40).collect();
            let kind = match self.kind {
                Kind::Integer => "an integer",
                Kind::Number => "a number",
                Kind::Boolean => "true or false",
                _ => "a time as RFC 3339 has it",
            };
            format!(
                "stats.json has {shown} at {}, which is not {kind}",
                self.spec
            )
        })
    }
}

fn steps_of(mut rest: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (Step::Member(after[..end].to_owned()), &after[end..])
        } else if rest.starts_with("[\"") {
            let mut strings = serde_json::Deserializer::from_str(&rest[1..]).into_iter::<String>();
            let name = strings.next().and_then(Result::ok);
            let after = rest[1 + strings.byte_offset()..].strip_prefix(']');
            let (Some(name), Some(after)) = (name, after) else {
                return Err(format!("'{rest}' is not closed"));
            };
            (Step::Member(name), after)
        } else if let Some((index, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']'))
        {
            let index = index
                .parse()
                .map_err(|_| format!("'[{index}]' is no index"))?;
            (Step::Item(index), after)
        } else {
            return Err(format!("'{rest}' is no part of a path"));
        };
        if step == Step::Member(String::new()) {
            return Err("a name is empty".into());
        }
        steps.push(step);
        rest = after;
    }
    if steps.is_empty() {
        return Err("the path names no member".into());
    }
    Ok(steps)
}

fn find<'a>(mut json: &'a str, path: &[Step]) -> Option<&'a str> {
    for step in path {
        let value: &RawValue = match step {
            Step::Member(name) => serde_json::from_str::<HashMap<String, &RawValue>>(json)
                .ok()?
                .remove(name)?,
            Step::Item(at) => serde_json::from_str::<Vec<&RawValue>>(json)
                .ok()?
                .get(*at)?,
        };
        json = value.get();
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = r#"{"power":{"voltage":3.300,"ok":true,"at":"2026-11-21T10:00:00+01:00",
        "n":"17","odd name":["a",{"b":12345678901234567890}]},"none":null}"#;

    fn cell(spec: &str) -> Result<Cell, String> {
        PromotedColumn::parse("c", spec).unwrap().cell(STATS)
    }

    #[test]
    fn members_are_found_and_typed() {
        for (spec, expected) in [
            ("$.power.voltage number", Cell::Number("3.300".into())),
            ("$.power.voltage", Cell::Text("3.300".into())),
            ("$.power.ok boolean", Cell::Boolean(true)),
            ("$.power.n integer", Cell::Integer(17)),
            (
                "$.power.at time",
                Cell::Time("2026-11-21T09:00:00Z".parse().unwrap()),
            ),
            (r#"$.power["odd name"][0]"#, Cell::Text("a".into())),
            (
                r#"$["power"]["odd name"][1].b number"#,
                Cell::Number("12345678901234567890".into()),
            ),
            (
                r#"$.power["odd name"] json"#,
                Cell::Json(r#"["a",{"b":12345678901234567890}]"#.into()),
            ),
            ("$.none number", Cell::Null),
            ("$.power.absent number", Cell::Null),
            ("$.power.voltage.deeper", Cell::Null),
        ] {
            assert_eq!(cell(spec), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(
            cell("$.power.at number").unwrap_err(),
            "stats.json has \"2026-11-21T10:00:00+01:00\" at $.power.at, which is not a number"
        );
        assert!(cell("$.power.voltage integer").is_err());
        assert!(cell("$.power.voltage time").is_err());
    }

    #[test]
    fn a_malformed_path_is_refused() {
        for spec in [
            "",
            "power",
            "$",
            "$.",
            "$.a..b",
            "$[x]",
            "$[\"a\"",
            "$.a float",
            "$x",
        ] {
            assert!(PromotedColumn::parse("c", spec).is_err(), "{spec}");
        }
        assert!(PromotedColumn::parse("", "$.a").is_err());
    }
}
