//! What the book quotes is what the program says: each message in docs/troubleshooting.md is still in the source.

use std::fs;
use std::path::Path;

/// Pieces of a quoted message shorter than this are found anywhere.
const TELLING: usize = 4;

/// Messages of the kernel and of services, which the page quotes and the source does not write.
const OTHERS: &[&str] = &["Transport endpoint is not connected"];

#[test]
fn every_message_that_is_explained_is_one_that_the_program_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let mut source = String::new();
    gather(&root.join("src"), &mut source);
    let source = in_one_line(&source).replace("{RESERVED}", ".upload");

    let quoted: Vec<&str> = page.lines().filter_map(quoted).collect();
    assert!(quoted.len() > 15, "the tables are not found: {quoted:?}");
    let gone: Vec<&str> = quoted
        .into_iter()
        .filter(|message| !OTHERS.contains(message))
        .filter(|message| !pieces(message).all(|piece| source.contains(piece)))
        .collect();
    assert!(gone.is_empty(), "no longer said: {gone:#?}");
}

/// The message in the first cell of a table's row.
fn quoted(line: &str) -> Option<&str> {
    let (_, after) = line
        .split_once("| `")
        .filter(|(before, _)| before.is_empty())?;
    after.split_once('`').map(|(message, _)| message)
}

/// What stands literally in the source: between what varies, and a prefix that goes before each message of a kind.
fn pieces(message: &str) -> impl Iterator<Item = &str> {
    message
        .split(['…', ',', ':', '(', ')', ';'])
        .map(str::trim)
        .filter(|piece| piece.chars().count() >= TELLING)
}

fn gather(folder: &Path, source: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => gather(&path, source),
            false => *source += &fs::read_to_string(&path).unwrap_or_default(),
        }
    }
}

/// Strings that go over several lines as the compiler joins them.
fn in_one_line(source: &str) -> String {
    let lines = source.split("\\\n").enumerate();
    lines
        .map(|(at, part)| if at == 0 { part } else { part.trim_start() })
        .collect()
}
