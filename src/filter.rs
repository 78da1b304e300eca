//! Which files are taken: `--include`, `--exclude`, `--max-size`, and the rules of `.outboxignore`
//! files, all with the syntax and meaning of gitignore(5).

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{Mode, OFlags};

use crate::glob::{self, Globs};
use crate::path::RelPath;

/// The file in a folder whose rules hold from that folder on.
pub const IGNORE_FILE: &[u8] = b".outboxignore";
/// Reserved in every directory: what has this name below a mount is hidden by it.
pub const RESERVED: &[u8] = b".upload";
/// Rules in it beyond this are not read, bytes.
const LONGEST_RULES: u64 = 1 << 20;

/// What a person wants of a tree. The default takes everything.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only what one of these matches, if there are any.
    include: Option<Globs>,
    exclude: Gitignore,
    max_size: Option<u64>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            include: None,
            exclude: Gitignore::empty(),
            max_size: None,
        }
    }
}

impl Filter {
    /// Globs, relative to the backing directory; one without a slash holds in every folder. Sizes
    /// are bytes. The error says which glob is wrong.
    pub fn new(
        include: &[String],
        exclude: &[String],
        max_size: Option<u64>,
    ) -> Result<Self, String> {
        Ok(Self {
            include: match include {
                [] => None,
                globs => Some(Globs::new(globs)?),
            },
            exclude: glob::rules(exclude)?,
            max_size,
        })
    }

    pub fn takes_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty() && self.max_size.is_none()
    }

    /// Whether a file or folder is left out by the globs, or has the name that mounts hide.
    pub fn leaves_out(&self, path: &RelPath, is_folder: bool) -> bool {
        if path.name() == RESERVED {
            return true;
        }
        if self.exclude.matched(path.as_path(), is_folder).is_ignore() {
            return true;
        }
        match &self.include {
            Some(include) if !is_folder => !include.matches(path),
            _ => false,
        }
    }

    pub fn is_too_large(&self, size: u64) -> bool {
        self.max_size.is_some_and(|most| size > most)
    }
}

/// The `.outboxignore` files from the backing directory down to a folder.
#[derive(Debug, Clone, Default)]
pub struct Ignores(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    rules: Gitignore,
    /// Length of the path of the folder that they are in, with its slash.
    prefix: usize,
    above: Ignores,
}

impl Ignores {
    /// These, and the rules that `folder` has of its own. A line that is not a rule is said in the
    /// log and has no effect, as with git.
    pub fn with(&self, folder: &RelPath, text: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(text).lines() {
            if let Err(error) = builder.add_line(None, line) {
                tracing::warn!(folder = %folder, %error, "a line of .outboxignore is not a rule");
            }
        }
        let rules = match builder.build() {
            Ok(rules) => rules,
            Err(error) => {
                tracing::warn!(folder = %folder, %error, "the .outboxignore there cannot be used");
                return self.clone();
            }
        };
        Self(Some(Arc::new(Rules {
            rules,
            prefix: match folder.is_root() {
                true => 0,
                false => folder.as_bytes().len() + 1,
            },
            above: self.clone(),
        })))
    }

    /// Whether what is at `path` is ignored; the deepest rule decides.
    pub fn ignores(&self, path: &RelPath, is_folder: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let mut at = self;
        while let Some(own) = &at.0 {
            let below = std::ffi::OsStr::from_bytes(&path.as_bytes()[own.prefix..]);
            match own.rules.matched(Path::new(below), is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => at = &own.above,
            }
        }
        false
    }
}

/// The text of a folder's `.outboxignore`, if it has one that can be read.
pub fn rules_in(folder: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, IGNORE_FILE, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(LONGEST_RULES)
        .read_to_end(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        Filter::new(&owned(include), &owned(exclude), None).unwrap()
    }

    #[test]
    fn a_glob_without_a_slash_holds_in_every_folder() {
        let filter = filter(&[], &["*.tmp", "/only-here", "cache/"]);
        for (name, is_folder, out) in [
            ("a.tmp", false, true),
            ("x/y/a.tmp", false, true),
            ("only-here", false, true),
            ("x/only-here", false, false),
            ("x/cache", true, true),
            ("cache", false, false),
            ("a.jpg", false, false),
        ] {
            assert_eq!(filter.leaves_out(&path(name), is_folder), out, "{name}");
        }
    }

    #[test]
    fn an_include_takes_only_what_it_matches_and_all_in_a_folder_it_matches() {
        let filter = filter(&["*.JPG", "DCIM/"], &["secret*"]);
        for (name, out) in [
            ("x/a.JPG", false),
            ("x/a.png", true),
            ("DCIM/1/a.png", false),
            ("DCIM/secret.png", true),
        ] {
            assert_eq!(filter.leaves_out(&path(name), false), out, "{name}");
        }
        assert!(
            !filter.leaves_out(&path("x"), true),
            "folders are looked into"
        );
    }

    #[test]
    fn the_deepest_rule_decides() {
        let ignores = Ignores::default().with(&RelPath::root(), b"*.raw\nbuild/\n# no\n");
        let ignores = ignores.with(&path("keep"), b"!*.raw\n/own\n");
        assert!(ignores.ignores(&path("keep/own"), false));
        assert!(!ignores.ignores(&path("keep/deeper/own"), false));
        assert!(!ignores.ignores(&path("keep/a.raw"), false));
        assert!(ignores.ignores(&path("keep/build"), true));
        let above = Ignores::default().with(&RelPath::root(), b"*.raw\n");
        assert!(above.ignores(&path("a.raw"), false));
    }

    #[test]
    fn a_glob_that_is_none_is_named() {
        let error = Filter::new(&["[z-a]".to_owned()], &[], None).unwrap_err();
        assert!(error.contains("'[z-a]'"), "{error}");
    }
}
