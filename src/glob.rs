//! Globs with the syntax and meaning of gitignore(5), relative to the backing directory.

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::path::RelPath;

/// A list of globs; one without a slash holds in every folder, and what matches a folder matches all
/// that is in it.
#[derive(Debug, Clone)]
pub struct Globs {
    rules: Gitignore,
    text: String,
}

impl Default for Globs {
    fn default() -> Self {
        Self {
            rules: Gitignore::empty(),
            text: String::new(),
        }
    }
}

impl Globs {
    /// The error says which glob is wrong.
    pub fn new(globs: &[String]) -> Result<Self, String> {
        Ok(Self {
            rules: rules(globs)?,
            text: globs.join("\n"),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a file, or a folder that it is in, matches.
    pub fn matches(&self, path: &RelPath) -> bool {
        let matched = self
            .rules
            .matched_path_or_any_parents(path.as_path(), false);
        matched.is_ignore()
    }

    /// As they were written, a line each.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The globs as rules of `.gitignore`.
pub fn rules(globs: &[String]) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        builder
            .add_line(None, glob)
            .map_err(|error| format!("'{glob}' is not a glob: {error}"))?;
    }
    builder
        .build()
        .map_err(|error| format!("the globs cannot be used: {error}"))
}
