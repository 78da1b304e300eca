//! The program, run by itself in a temporary directory.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A temporary directory with a directory to mount, and a program that keeps its state in there.
pub struct World {
    pub root: tempfile::TempDir,
    pub variables: Vec<(&'static str, String)>,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("pictures")).unwrap();
        Self {
            root,
            variables: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub fn outboxfs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outboxfs"));
        without_settings(&mut command)
            .current_dir(self.root.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program, expects exit code 2, no output, one line of error and an unchanged disk;
    /// returns the line.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let before = self.everything();
        let output = self.outboxfs().args(arguments).output().unwrap();
        let line = error_line(&output, 2);
        assert_eq!(self.everything(), before, "{line}");
        line
    }

    pub fn everything(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                found.insert(entry.path());
            }
        }
        found
    }
}

#[track_caller]
pub fn error_line(output: &Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let line = error.strip_prefix("outboxfs: ").expect(&error);
    let line = line.strip_suffix('\n').expect(line);
    assert!(!line.contains('\n'), "more than one line: {line}");
    line.to_owned()
}

#[track_caller]
pub fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "'{part}' is not said: {line}");
    }
}

/// Whoever runs the tests may have some.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OUTBOXFS_") {
            command.env_remove(name);
        }
    }
    command
}
