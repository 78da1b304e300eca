//! Every event, marker and status is as its JSON Schema in `docs/` says.

use std::fs;
use std::process::{Command, Stdio};

use crate::Push;

/// Lines of JSON on standard input, each valid against the schema that is named.
const CHECK: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
kind = jsonschema.validators.validator_for(schema)
kind.check_schema(schema)
validator = kind(schema)
for line in sys.stdin:
    validator.validate(json.loads(line))
";

fn has_validator() -> bool {
    let found = Command::new("python3")
        .args(["-W", "ignore", "-c", "import jsonschema"])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Lines of JSON that are not valid against the schema are a failure.
#[track_caller]
fn assert_valid(schema: &str, lines: &str) {
    assert_eq!(complaint(schema, lines), None);
}

fn complaint(schema: &str, lines: &str) -> Option<String> {
    use std::io::Write;
    let schema = format!("{}/docs/{schema}", env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new("python3")
        .args(["-W", "ignore", "-c", CHECK, &schema])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn events_are_as_their_schema_says() {
    if !has_validator() {
        eprintln!("skipped: python3 has no jsonschema");
        return;
    }
    let push = Push::to_directory();
    push.write("a/new", "1");
    push.write("large", &"x".repeat(2000));
    push.write("way/file", "2");
    fs::create_dir_all(push.world.path("remote/original")).unwrap();
    fs::write(push.world.path("remote/original/way"), "in the way").unwrap();
    let run = |more: &[&str]| {
        let output = push.run("pictures", &[&["--json"], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let mut lines = run(&["--dry-run"]);
    lines += &run(&["--max-size", "1K", "--markers"]);
    fs::write(push.world.path("list"), "missing\n").unwrap();
    lines += &run(&["--files-from", "list"]);
    lines += &run(&["--scan-only"]);
    for kind in [
        "would_send",
        "queued",
        "uploaded",
        "skipped",
        "failed",
        "summary",
    ] {
        assert!(
            lines.contains(&format!("{{\"event\":\"{kind}\"")),
            "{kind}: {lines}"
        );
    }
    assert_valid("events.schema.json", &lines);

    for marker in ["a/success.json", "way/failed.json"] {
        let text = fs::read_to_string(push.tree().join(marker)).unwrap();
        assert_valid("marker.schema.json", &text.replace('\n', ""));
    }
    let status = push
        .world
        .outboxfs()
        .args(["status", "pictures", "--json"])
        .output();
    let status = String::from_utf8(status.unwrap().stdout).unwrap();
    assert_valid("status.schema.json", &status.replace('\n', ""));
    let verified = push.verify("pictures", &["--json"]);
    assert_valid(
        "events.schema.json",
        &String::from_utf8(verified.stdout).unwrap(),
    );
}

#[test]
fn what_is_no_event_is_found() {
    if !has_validator() {
        eprintln!("skipped: python3 has no jsonschema");
        return;
    }
    for line in [
        r#"{"event":"queued","path":"a","bytes":1}"#,
        r#"{"event":"queued","path":"a","bytes":"1","reason":"new"}"#,
        r#"{"event":"failed","path":"a","error":"x","attempts":-1,"will_retry":false}"#,
        r#"{"event":"unheard_of"}"#,
    ] {
        assert!(complaint("events.schema.json", line).is_some(), "{line}");
    }
}
