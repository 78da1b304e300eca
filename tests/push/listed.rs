//! Lists of files, and programs that drive a push.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::{Push, of_kind};
use serde_json::Value;

#[test]
fn listed_files_are_delivered_and_no_others() {
    let push = Push::to_directory();
    for path in [
        "a/one",
        "two",
        "three",
        "new\nline",
        "100%25.txt",
        "folder/x",
        "folder/y",
        "not",
    ] {
        push.write(path, path);
    }
    let two = push.tree().join("two").display().to_string();
    for (arguments, input) in [
        (
            &["--files-from", "-"][..],
            format!("a/one\n{two}\nfolder\n\n"),
        ),
        (
            &["--files-from", "-", "--null"],
            "three\0new\nline\0".to_owned(),
        ),
        (
            &["--files-from", "-"],
            "{\"path\": \"100%2525.txt\", \"more\": 1}\n".to_owned(),
        ),
    ] {
        let mut child = push
            .command("pictures", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{input}");
    }
    assert_eq!(
        push.objects(),
        [
            "100%2525.txt",
            "a/one",
            "folder/x",
            "folder/y",
            "new%0Aline",
            "three",
            "two"
        ]
    );
}

#[test]
fn a_listed_file_that_is_not_there_is_a_failure_and_the_rest_arrives() {
    let push = Push::to_directory();
    push.write("here", "1");
    fs::write(push.world.path("list"), "missing\nhere\n../outside\n").unwrap();
    let events = push.events("pictures", &["--files-from", "list"], 1);
    let failed = of_kind(&events, "failed", "error");
    assert!(failed["missing"].contains("No such file"), "{failed:?}");
    assert!(failed["../outside"].contains("no path in"), "{failed:?}");
    assert_eq!(push.objects(), ["here"]);
}

#[test]
fn a_program_that_drives_it_hears_of_each_file_before_it_closes_the_list() {
    use std::io::{BufRead, BufReader};
    let push = Push::to_directory();
    push.write("a", "1");
    push.write("b", "2");
    let mut child = push
        .command("pictures", &["--files-from", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |kind: &str| {
        let line = lines.next().unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], kind, "{line}");
        event
    };
    for name in ["a", "b"] {
        list.write_all(format!("{name}\n").as_bytes()).unwrap();
        assert_eq!(next("queued")["path"], name);
        let uploaded = next("uploaded");
        assert_eq!(uploaded["path"], name);
        assert!(
            uploaded["url"]
                .as_str()
                .unwrap()
                .ends_with(&format!("original/{name}"))
        );
    }
    drop(list);
    assert_eq!(next("summary")["uploaded_files"], 2);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
