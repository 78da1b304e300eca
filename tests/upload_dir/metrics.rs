//! `.upload/metrics`, as a file and over HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::rig::{Rig, eventually};
use crate::{block, read, write};

/// The value of a metric.
#[track_caller]
fn value(text: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines.find(|(found, _)| *found == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .1
        .parse()
        .unwrap()
}

fn check(text: &str) {
    promtool(&["check", "metrics"], text);
}

/// What promtool has to complain of; skipped where it is not installed.
fn promtool(arguments: &[&str], text: &str) {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        assert!(
            std::env::var_os("OUTBOXFS_TEST_PROMTOOL").is_none(),
            "promtool is missing"
        );
        eprintln!("skipped: promtool is not installed");
        return;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}\n{text}"
    );
}

fn answer(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: &str, path: &str) -> String {
    answer(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn metrics_are_what_prometheus_wants() {
    let Some(rig) = Rig::new() else { return };
    block(&rig, "bad");
    let said = rig.mount_with(&["--metrics-listen", "127.0.0.1:0"]);
    check(&read(&rig, "", "metrics"));
    write(&rig, "d/one", "1");
    write(&rig, "two", "22");
    write(&rig, "bad", "333");
    let metrics = || read(&rig, "", "metrics");
    eventually("two are delivered", || {
        value(&metrics(), "outboxfs_failed_files") == 1.0
            && value(&metrics(), "outboxfs_delivered_files") == 2.0
    });
    let text = metrics();
    check(&text);
    for (name, expected) in [
        ("outboxfs_queued_files", 0.0),
        ("outboxfs_delivered_bytes", 3.0),
        ("outboxfs_uploads_total", 2.0),
        ("outboxfs_uploaded_bytes_total", 3.0),
        ("outboxfs_upload_duration_seconds_count", 2.0),
        ("outboxfs_upload_duration_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("outboxfs_safe_to_unplug", 0.0),
        ("outboxfs_remote_up", 1.0),
    ] {
        assert_eq!(value(&text, name), expected, "{name}");
    }
    assert!(value(&text, "outboxfs_upload_failures_total") >= 1.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    let mut last = 0.0;
    for line in text.lines().filter(|line| line.contains("_seconds_bucket")) {
        let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(count >= last, "{text}");
        last = count;
    }

    // The same over HTTP, at the address that mount has said.
    let line = said.lines().find(|line| line.starts_with("metrics "));
    let url = line.unwrap().split_whitespace().nth(1).unwrap();
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/metrics")
        .unwrap();
    let served = get(address, "/metrics");
    let (head, body) = served.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    check(body);
    assert_eq!(value(body, "outboxfs_delivered_files"), 2.0);
    assert!(get(address, "/").starts_with("HTTP/1.1 404 "));
    let posted = answer(
        address,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    // Whoever connects and says nothing keeps nobody else from asking.
    let silent: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "));
    drop(silent);
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    write(&rig, "d/one", "1");
    rig.delivered_all();
    let text = read(&rig, "", "metrics");
    let dashboard = include_str!("../../contrib/grafana/outboxfs.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard["panels"], &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    let mut rules = String::from("groups: [{name: dashboard, rules: [\n");
    for (number, expression) in asked.iter().enumerate() {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace('$', "");
        let mut names = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = names
            .find(|name| name.starts_with("outboxfs_") || name.starts_with("process_"))
            .unwrap_or_else(|| panic!("{expression} asks for nothing of ours"));
        let has = |end: char| text.contains(&format!("\n{ours}{end}"));
        assert!(has(' ') || has('{'), "{ours} is not in {text}");
        rules += &format!("{{record: 'r{number}', expr: '{expression}'}},\n");
    }
    promtool(&["check", "rules", "/dev/stdin"], &(rules + "]}]\n"));
}

/// All that a dashboard asks Prometheus for.
fn expressions(panels: &serde_json::Value, asked: &mut Vec<String>) {
    match panels {
        serde_json::Value::Object(members) => {
            asked.extend(
                members
                    .get("expr")
                    .and_then(|expr| expr.as_str())
                    .map(str::to_owned),
            );
            members.values().for_each(|value| expressions(value, asked));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| expressions(value, asked));
        }
        _ => {}
    }
}

#[test]
fn an_address_that_cannot_be_is_refused() {
    let Some(rig) = Rig::new() else { return };
    let line = rig
        .world
        .refusal(&["mount", "pictures", "--metrics-listen", "0.0.0.0:9469"]);
    assert!(line.contains("could be reached by others"), "{line}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = rig.run(&["mount", "pictures", "--metrics-listen", &address]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("choose another --metrics-listen"), "{error}");
    assert!(!rig.is_mounted());
}
