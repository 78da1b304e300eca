//! What systemd makes of the units.

use std::process::Command;

/// The exposure that `systemd-analyze security` finds, 0 to 10.
fn exposure(unit: &str) -> Option<f64> {
    let unit = format!("{}/contrib/systemd/{unit}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("systemd-analyze");
    let command = command.args(["security", "--offline=true", "--no-pager", &unit]);
    let Ok(output) = command.env("LC_ALL", "C.UTF-8").output() else {
        eprintln!("skipped: no systemd-analyze here");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, found) = text.split_once("Overall exposure level").expect(&text);
    let (_, found) = found.split_once(": ").unwrap();
    Some(found.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn the_units_are_as_exposed_as_their_page_says() {
    let (Some(sandboxed), Some(of_root)) = (
        exposure("outboxfs-sandboxed@.service"),
        exposure("outboxfs@.service"),
    ) else {
        return;
    };
    assert!(sandboxed <= 2.5, "{sandboxed}");
    assert!(of_root <= 5.2, "{of_root}");
}
