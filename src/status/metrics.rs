//! `.upload/metrics`: the Prometheus text format (version 0.0.4), names and units as Prometheus
//! recommends (https://prometheus.io/docs/practices/naming/).

use std::fmt::Write;

use super::Snapshot;
use crate::delivery::Counters;

/// The media type of what [`render`] gives.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of the whole mount. Counters begin at zero with the process.
pub fn render(snapshot: &Snapshot, counters: &Counters) -> String {
    let mut out = Metrics(String::new());
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    let seconds = |milliseconds: u64| milliseconds as f64 / 1000.0;
    let version = format!(
        "outboxfs_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    out.head("outboxfs_build_info", "gauge", "The version that runs.");
    out.line(&version, 1.0);
    for (name, help, value) in [
        (
            "queued_files",
            "Files that wait for delivery, those on their way included.",
            snapshot.queued_files,
        ),
        (
            "queued_bytes",
            "Bytes of these files.",
            snapshot.queued_bytes,
        ),
        (
            "delivered_files",
            "Files whose last version is at the remote.",
            snapshot.delivered_files,
        ),
        (
            "delivered_bytes",
            "Bytes of these files.",
            snapshot.delivered_bytes,
        ),
        (
            "failed_files",
            "Files that are not tried again by themselves.",
            snapshot.failed_files,
        ),
        (
            "suspect_files",
            "Files that look damaged and are not sent.",
            snapshot.suspect_files,
        ),
        (
            "queued_rows",
            "Folder rows that wait.",
            snapshot.queued_rows,
        ),
        (
            "failed_rows",
            "Folder rows that are not tried again by themselves.",
            snapshot.failed_rows,
        ),
        (
            "queued_deletions",
            "Files whose objects are to be deleted at the remote.",
            snapshot.queued_deletions,
        ),
        (
            "failed_deletions",
            "Files whose objects could not be deleted.",
            snapshot.failed_deletions,
        ),
        (
            "uploading_files",
            "Files on their way.",
            snapshot.uploading.len() as u64,
        ),
        (
            "workers",
            "Small files that may be uploaded at a time now.",
            snapshot.workers,
        ),
    ] {
        out.gauge(name, help, value as f64);
    }
    let oldest = seconds(snapshot.oldest_waiting.unwrap_or(0));
    out.gauge(
        "oldest_waiting_seconds",
        "Age of the oldest change that waits; 0 if none does.",
        oldest,
    );
    for (name, help, is_so) in [
        (
            "safe_to_unplug",
            "1 if all that was closed is at the remote.",
            snapshot.safe_to_unplug,
        ),
        (
            "remote_up",
            "1 unless something is wrong with the remote as a whole.",
            snapshot.remote_error.is_none(),
        ),
        (
            "rows_up",
            "1 unless something is wrong with the row sink as a whole.",
            snapshot.rows_error.is_none(),
        ),
        (
            "journal_up",
            "1 unless something has happened to the journal.",
            snapshot.journal_error.is_none(),
        ),
        (
            "paused",
            "1 if somebody has said to deliver nothing for now.",
            snapshot.paused,
        ),
        (
            "scanning",
            "1 while the start-up scan goes on.",
            snapshot.scanning.is_some(),
        ),
    ] {
        out.gauge(name, help, flag(is_so));
    }
    out.counter(
        "outboxfs_uploads_total",
        "Files that have arrived.",
        counters.files as f64,
    );
    out.counter(
        "outboxfs_uploaded_bytes_total",
        "Bytes of the files that have arrived.",
        counters.bytes as f64,
    );
    out.counter(
        "outboxfs_upload_failures_total",
        "Attempts to deliver a file that have failed.",
        counters.failures as f64,
    );
    let name = "outboxfs_upload_duration_seconds";
    out.head(
        name,
        "histogram",
        "How long the uploads of files took that have arrived.",
    );
    for (longest, count) in &counters.took {
        out.line(&format!("{name}_bucket{{le=\"{longest}\"}}"), *count as f64);
    }
    out.line(
        &format!("{name}_bucket{{le=\"+Inf\"}}"),
        counters.files as f64,
    );
    out.line(
        &format!("{name}_sum"),
        counters.took_altogether.as_secs_f64(),
    );
    out.line(&format!("{name}_count"), counters.files as f64);
    if let Some(used) = snapshot.resources {
        out.counter(
            "process_cpu_seconds_total",
            "User and system time of the process.",
            used.cpu_seconds,
        );
        out.head(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the process.",
        );
        out.line("process_resident_memory_bytes", used.memory_bytes as f64);
    }
    out.0
}

struct Metrics(String);

impl Metrics {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: f64) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let name = format!("outboxfs_{name}");
        self.head(&name, "gauge", help);
        self.line(&name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "counter", help);
        self.line(name, value);
    }
}
