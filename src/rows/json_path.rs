//! A place in a JSON text: `$.power.voltage`, `$.channels[0]["any name"]`.

use std::collections::HashMap;
use std::fmt;

use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
    /// As it was written.
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From 0.
    Item(usize),
}

impl JsonPath {
    /// The error says what is wrong with it, without a subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let steps = text
            .strip_prefix('$')
            .ok_or_else(|| "a path begins with $".to_owned())?;
        Ok(Self {
            steps: steps_of(steps)?,
            text: text.to_owned(),
        })
    }

    /// The text of the value there; `None` if there is none. Of two members with the same name the
    /// last one counts.
    pub fn find<'a>(&self, mut json: &'a str) -> Option<&'a str> {
        for step in &self.steps {
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
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
