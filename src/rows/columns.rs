//! Members of `stats.json` as columns of their own: `voltage = "$.power.voltage number"`.

use super::RowError;
use super::json_path::JsonPath;
use super::layout::{Cell, Kind};

/// A column that is filled from `stats.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedColumn {
    pub name: String,
    pub kind: Kind,
    path: JsonPath,
}

impl PromotedColumn {
    /// `spec` is a path and, after a space, a type: `$.power.voltage number`. Types are text (the
    /// default), integer, number, boolean, time (RFC 3339) and json.
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
        Ok(Self {
            name: name.to_owned(),
            kind,
            path: JsonPath::parse(path).map_err(wrong)?,
        })
    }

    /// The value in `stats`, which is valid JSON; null if it is not there. The error, one sentence,
    /// says that it is of another type.
    pub fn cell(&self, stats: &str) -> Result<Cell, String> {
        let Some(value) = self.path.find(stats) else {
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
                "column {} is empty: {shown} at {} is not {kind}",
                self.name, self.path
            )
        })
    }
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
            "column c is empty: \"2026-11-21T10:00:00+01:00\" at $.power.at is not a number"
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
