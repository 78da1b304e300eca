//! A page of the tutorial, followed step by step: its commands are run by one shell, as they stand there, with places
//! of a test in the place of those that stand for any; what it shows has to be what is shown.
#![allow(dead_code)] // each test file uses a part of it

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::world::World;

pub struct Page {
    steps: Vec<Step>,
    /// What is run before the step that begins so.
    before: Vec<(String, String)>,
}

struct Step {
    command: String,
    /// Lines; `…` is for any.
    shows: Vec<String>,
}

impl Page {
    pub fn read(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/tutorial/{name}.md"));
        let text = fs::read_to_string(file).unwrap();
        let mut steps = Vec::new();
        let mut parts = text.split("\n```");
        parts.next();
        // What is in a block, and what comes after it, take turns.
        for block in parts.step_by(2) {
            match block.split_once('\n') {
                Some(("console", shown)) => steps.extend(console(shown)),
                Some(("sh", script)) => steps.push(Step {
                    command: script.to_owned(),
                    shows: Vec::new(),
                }),
                _ => {}
            }
        }
        assert!(!steps.is_empty(), "{name} has no steps");
        Self {
            steps,
            before: Vec::new(),
        }
    }

    /// Puts `to` wherever `from` stands.
    #[track_caller]
    pub fn with(mut self, from: &str, to: &str) -> Self {
        let mut found = false;
        for step in &mut self.steps {
            let texts = std::iter::once(&mut step.command).chain(&mut step.shows);
            for text in texts {
                found |= text.contains(from);
                *text = text.replace(from, to);
            }
        }
        assert!(found, "the page says nothing of {from}");
        self
    }

    /// Leaves out the steps in which this stands: they are for another place.
    #[track_caller]
    pub fn without(mut self, what: &str) -> Self {
        let before = self.steps.len();
        self.steps.retain(|step| !step.command.contains(what));
        assert_ne!(self.steps.len(), before, "the page says nothing of {what}");
        self
    }

    /// What a person does, or waits for, before the step that begins so.
    pub fn before(mut self, step: &str, command: &str) -> Self {
        self.before.push((step.to_owned(), command.to_owned()));
        self
    }

    /// Runs all of it, in the world's directory, which is the home of whoever does it.
    #[track_caller]
    pub fn follow(self, world: &World) {
        let mut script = String::from("set -u\n");
        for (number, step) in self.steps.iter().enumerate() {
            for (_, command) in self
                .before
                .iter()
                .filter(|(of, _)| step.command.starts_with(of))
            {
                script += &format!("{command} || exit 99\n");
            }
            let command = step.command.trim_end();
            script += &format!(
                "{{\n{command}\n}} >step-{number} 2>&1 || exit {}\n",
                number + 1
            );
        }
        let program = Path::new(env!("CARGO_BIN_EXE_outboxfs")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let home = world.path("");
        let mut shell = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OUTBOXFS_") {
                shell.env_remove(name);
            }
        }
        shell
            .args(["-c", &script])
            .current_dir(&home)
            .env("PATH", path)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", world.path("state"))
            .env("XDG_DATA_HOME", world.path("data"))
            .env("XDG_CONFIG_HOME", world.path("config"))
            .envs(world.variables.iter().map(|(name, value)| (name, value)));
        let output = shell.output().unwrap();
        let shown: Vec<String> = (0..self.steps.len())
            .map(|number| {
                fs::read_to_string(world.path(&format!("step-{number}"))).unwrap_or_default()
            })
            .collect();
        assert!(
            output.status.success(),
            "{output:?}\n{}",
            shown.join("\n---\n")
        );
        for (step, shown) in self.steps.iter().zip(&shown) {
            let shown: Vec<String> = shown.lines().map(shape).collect();
            let mut left = shown.iter();
            for line in step.shows.iter().filter(|line| *line != "…") {
                let line = shape(line);
                assert!(
                    left.any(|shown| *shown == line),
                    "after '{}' the page shows\n{line}\nand what is shown is\n{}",
                    step.command,
                    shown.join("\n")
                );
            }
        }
    }
}

/// `$ command`, its further lines, and what it shows.
fn console(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        let command = line.strip_prefix("$ ");
        match (command, steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                shows: Vec::new(),
            }),
            (None, Some(step)) if goes_on => step.command += &format!("\n{line}"),
            (None, Some(step)) => step.shows.push(line.to_owned()),
            (None, None) => panic!("a block that begins with no command: {block}"),
        }
        goes_on = (command.is_some() || goes_on) && line.ends_with('\\');
    }
    steps
}

/// A line without its numbers, their units, and how wide columns are.
fn shape(line: &str) -> String {
    let id = regex::Regex::new("-[0-9a-f]{8}/").unwrap();
    let line = id.replace_all(line, "-#/");
    // Of what has come this moment no age is told yet.
    let line = line.split("oldest waiting").next().unwrap_or_default();
    let way = [
        ", kernel passthrough",
        ", reads and writes through the daemon",
    ];
    let line = way
        .iter()
        .fold(line.to_owned(), |line, way| line.replace(way, ""));
    let words = line.split_whitespace().filter_map(|word| {
        let bare = word.trim_matches(['(', ')', ',', ';', '.']);
        // `under 1 s`
        let is_unit = [
            "under", "B", "kB", "MB", "GB", "B/s", "kB/s", "MB/s", "ms", "s",
        ]
        .contains(&bare);
        (!is_unit).then(|| number(word))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A word in which `#` stands for each number.
fn number(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        match c.is_ascii_digit() || (matches!(c, '.' | ',') && out.ends_with('#')) {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
    out
}
