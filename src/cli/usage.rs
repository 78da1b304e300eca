//! What the argument parser says, in one line.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

use super::{REFUSED, complain, say};
use crate::derive::thumbnail;

/// Paragraphs of the parser's messages that do not help.
const NOISE: [&str; 3] = ["Usage:", "For more", "tip: to pass"];

/// Prints help or version where they were asked for, else what is wrong.
pub fn report(error: clap::Error) -> ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayVersion if std::env::args_os().any(|argument| argument == "--verbose") => {
            say(&version());
            ExitCode::SUCCESS
        }
        DisplayHelp | DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(REFUSED)
        }
        _ => {
            complain(&sentence(&error));
            ExitCode::from(REFUSED)
        }
    }
}

/// The version, and what this build can do with pictures.
fn version() -> String {
    let written: Vec<&str> = thumbnail::written_formats().collect();
    format!(
        "outboxfs {}\npictures    {}\nthumbnails  {}\n",
        env!("CARGO_PKG_VERSION"),
        thumbnail::read_formats().join(" "),
        written.join(" ")
    )
}

fn sentence(error: &clap::Error) -> String {
    if let (Some(argument), Some(reason)) = (error.get(ContextKind::InvalidArg), error.source()) {
        // Without the value, which clap would repeat: a URL may hold a secret.
        return format!("{}: {reason}", with_variable(&argument.to_string()));
    }
    let text = error.render().to_string();
    let told: Vec<&str> = text
        .split("\n\n")
        .map(str::trim)
        .filter(|part| !NOISE.iter().any(|noise| part.starts_with(noise)))
        .collect();
    let told = told.join("; ");
    let told: Vec<&str> = told.split_whitespace().collect();
    let told = told.join(" ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told}; '{} --help' shows how it is used", command(&text))
}

/// The command that was meant, from the parser's `Usage: outboxfs push [OPTIONS] <DIR>`.
fn command(text: &str) -> String {
    let usage = text
        .split_once("Usage: ")
        .map_or("outboxfs", |(_, usage)| usage);
    let words = usage.split_whitespace();
    let words: Vec<&str> = words
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    words.join(" ")
}

/// The flag, and the variable that stands for it if that is set: the value may come from there.
fn with_variable(argument: &str) -> String {
    let flag = argument.split([' ', '=', '[']).next().unwrap_or(argument);
    let name = flag
        .trim_start_matches('-')
        .to_uppercase()
        .replace('-', "_");
    let variable = format!("OUTBOXFS_{name}");
    match std::env::var_os(&variable) {
        Some(_) => format!("{flag} (or {variable})"),
        None => flag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::Parser;

    fn refusal(arguments: &[&str]) -> String {
        sentence(&Cli::try_parse_from(arguments).unwrap_err())
    }

    #[test]
    fn a_bad_value_is_named_by_its_flag_and_not_repeated() {
        let text = refusal(&["outboxfs", "mount", "/x", "--remote", "s3://a:hush@b"]);
        assert!(
            text.starts_with("--remote: the URL holds credentials"),
            "{text}"
        );
        assert!(!text.contains("hush"));
    }

    #[test]
    fn usage_errors_are_one_line() {
        for (arguments, start) in [
            (
                vec!["outboxfs", "mount"],
                "the following required arguments were not provided: <DIR|NAME>",
            ),
            (
                vec!["outboxfs", "mount", "/x", "--wokers", "3"],
                "unexpected argument '--wokers' found",
            ),
            (vec!["outboxfs", "mont"], "unrecognized subcommand 'mont'"),
            (
                vec!["outboxfs", "mount", "/x", "--workers"],
                "a value is required for '--workers <N>'",
            ),
        ] {
            let text = refusal(&arguments);
            assert!(text.starts_with(start), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn the_help_that_is_pointed_to_is_of_the_command() {
        let text = refusal(&["outboxfs", "push", "/x", "--wokers", "3"]);
        assert!(text.contains("; 'outboxfs push --help'"), "{text}");
        let text = refusal(&["outboxfs", "mont"]);
        assert!(text.contains("; 'outboxfs --help'"), "{text}");
    }
}
