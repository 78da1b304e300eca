//! Columns from a folder's name: `--folder-pattern '(?P<sku>[^_]+)_(?P<colour>.+)'`.

use regex::Regex;

use super::RowError;
use super::layout::Cell;

/// A pattern with named groups for the whole name of a folder.
#[derive(Debug, Clone)]
pub struct FolderPattern {
    regex: Regex,
    /// As it was written.
    pattern: String,
    /// The named groups and their numbers.
    groups: Vec<(String, usize)>,
}

impl FolderPattern {
    /// The error says why the pattern does not compile, or that it names nothing.
    pub fn parse(pattern: &str) -> Result<Self, RowError> {
        let wrong = |why: &str| {
            RowError::permanent(format!(
                "cannot use the folder pattern '{pattern}': {why}; write it like \
                 '(?P<sku>[^_]+)_(?P<colour>.+)'"
            ))
        };
        // The last line of a regex error is the reason; the others point at it with a caret.
        let regex = Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$")));
        let regex = regex.map_err(|error| {
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or("").trim();
            wrong(reason.trim_start_matches("error: "))
        })?;
        let groups: Vec<(String, usize)> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(at, name)| Some((name?.to_owned(), at)))
            .collect();
        if groups.is_empty() {
            return Err(wrong("it has no named groups, so it fills no columns"));
        }
        Ok(Self {
            regex,
            pattern: pattern.to_owned(),
            groups,
        })
    }

    /// Names of the columns it fills.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// What each group says of `name`, and last what is wrong if the pattern does not match it.
    pub fn cells(&self, name: &str) -> Vec<Cell> {
        let mut cells = vec![Cell::Null; self.groups.len() + 1];
        let mut places = self.regex.capture_locations();
        if self.regex.captures_read(&mut places, name).is_none() {
            cells[self.groups.len()] = Cell::Text(format!(
                "the folder's name '{name}' does not match the pattern {}",
                self.pattern
            ));
            return cells;
        }
        for (cell, (_, group)) in cells.iter_mut().zip(&self.groups) {
            if let Some((start, end)) = places.get(*group) {
                *cell = Cell::Text(name[start..end].to_owned());
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.into())
    }

    #[test]
    fn groups_become_cells() {
        let pattern =
            FolderPattern::parse("(?P<sku>[^_]+)_(?P<colour>[^_]+)(_(?<size>.+))?").unwrap();
        assert_eq!(
            pattern.groups().collect::<Vec<_>>(),
            ["sku", "colour", "size"]
        );
        assert_eq!(
            pattern.cells("A17_dark red"),
            [text("A17"), text("dark red"), Cell::Null, Cell::Null]
        );
        assert_eq!(pattern.cells("Ü_日_本")[2], text("本"));
    }

    #[test]
    fn a_name_that_does_not_match_is_reported() {
        let pattern = FolderPattern::parse("(?P<sku>[0-9]+)|(?P<name>[a-z]+)").unwrap();
        assert_eq!(pattern.cells("17"), [text("17"), Cell::Null, Cell::Null]);
        let cells = pattern.cells("17 or so");
        assert_eq!(cells[..2], [Cell::Null, Cell::Null]);
        let Cell::Text(error) = &cells[2] else {
            panic!("{cells:?}")
        };
        assert!(error.contains("'17 or so' does not match"), "{error}");
    }

    #[test]
    fn a_pattern_that_cannot_work_is_refused_in_one_line() {
        for (pattern, why) in [
            ("(?P<sku>[^_]+", "unclosed group"),
            ("a)(?P<x>b", "unopened group"),
            ("(.+)_(.+)", "no named groups"),
            ("", "no named groups"),
        ] {
            let error = FolderPattern::parse(pattern).unwrap_err();
            assert!(error.message.contains(why), "{error}");
            assert!(!error.message.contains('\n'), "{error}");
        }
    }
}
