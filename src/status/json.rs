//! `.upload/status.json`: the [`Snapshot`]'s fields by their names.

use serde::Serialize;

use super::Snapshot;

/// Indented JSON (RFC 8259) with a newline at its end.
pub fn render(snapshot: &Snapshot) -> String {
    pretty(snapshot)
}

/// The same of other things that have only string keys.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("there are only string keys");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_back_what_was_written() {
        let snapshot = Snapshot {
            directory: "/srv/\"quoted\"\n".into(),
            queued_bytes: u64::MAX,
            oldest_waiting: Some(5),
            ..Snapshot::default()
        };
        let text = render(&snapshot);
        assert!(text.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
    }

    #[test]
    fn a_rate_that_is_no_number_is_still_json() {
        let snapshot = Snapshot {
            bytes_per_second: f64::NAN,
            ..Snapshot::default()
        };
        assert!(render(&snapshot).contains("\"bytes_per_second\": null"));
    }
}
