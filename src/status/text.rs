//! `.upload/status`: for people, in 80 columns. The first line says whether it is safe to unplug.

use std::fmt::Write;

use super::human::{
    DecimalBytes, HumanCount, counted, duration, ending, local_time, one_line, took,
};
use super::{Batch, Failure, Snapshot, Uploading};

const COLUMNS: usize = 80;
/// Files on their way that are named; there may be up to 256.
const UPLOADS_SHOWN: usize = 5;

/// The snapshot as text, with a newline at its end.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = verdict(snapshot);
    out.push('\n');
    troubles(&mut out, snapshot);
    counts(&mut out, snapshot);
    times(&mut out, snapshot);
    uploading(&mut out, &snapshot.uploading);
    batches(&mut out, &snapshot.batches);
    last_errors(&mut out, snapshot);
    places(&mut out, snapshot);
    out
}

/// The one sentence that people come for.
fn verdict(snapshot: &Snapshot) -> String {
    let below = snapshot.below.as_deref().map(one_line);
    if snapshot.safe_to_unplug {
        let safe = match &below {
            None => "Safe to unplug".to_owned(),
            Some(below) => format!("Safe to unplug, as far as '{below}' goes"),
        };
        return match snapshot.delivered_files {
            0 => wrapped("", &format!("{safe}: there is nothing to deliver.")),
            1 => wrapped("", &format!("{safe}: the only file is delivered.")),
            all => wrapped(
                "",
                &format!("{safe}: all {} files are delivered.", HumanCount(all)),
            ),
        };
    }
    let mut why = Vec::new();
    if snapshot.queued_files > 0 {
        let bytes = DecimalBytes(snapshot.queued_bytes);
        why.push(format!(
            "{} ({bytes}) still to deliver",
            counted(snapshot.queued_files, "file")
        ));
    }
    if snapshot.queued_files == 0 && snapshot.queued_rows > 0 {
        why.push(format!(
            "{} still to write",
            counted(snapshot.queued_rows, "row")
        ));
    }
    if snapshot.queued_files == 0 && snapshot.queued_deletions > 0 {
        why.push(format!(
            "{} still to delete at the remote",
            counted(snapshot.queued_deletions, "file")
        ));
    }
    let failed = [
        (snapshot.failed_files, "file"),
        (snapshot.failed_rows, "row"),
        (snapshot.failed_deletions, "deletion"),
    ];
    for (count, noun) in failed.into_iter().filter(|(count, _)| *count > 0) {
        why.push(format!("{} failed", counted(count, noun)));
    }
    if snapshot.suspect_files > 0 {
        why.push(format!(
            "{} suspect",
            counted(snapshot.suspect_files, "file")
        ));
    }
    if let Some(seen) = snapshot.scanning {
        why.push(format!("start-up scan at {}", counted(seen, "file")));
    }
    if snapshot.expanding {
        why.push("a renamed folder is being queued".to_owned());
    }
    if why.is_empty() {
        why.push("the state is not known yet".to_owned());
    }
    let of = below.map_or_else(String::new, |below| format!(" below '{below}'"));
    wrapped("", &format!("NOT safe to unplug: {}{of}.", why.join(", ")))
}

/// What keeps delivery waiting, and what is wrong with the remote or the row sink as a whole.
fn troubles(out: &mut String, snapshot: &Snapshot) {
    let troubles = [
        ("delivery: ", &snapshot.waits_for),
        ("remote: ", &snapshot.remote_error),
        ("rows: ", &snapshot.rows_error),
        ("journal: ", &snapshot.journal_error),
    ];
    for (what, error) in troubles {
        if let Some(error) = error {
            out.push_str(&wrapped("", &format!("{what}{}", one_line(error))));
            out.push('\n');
        }
    }
}

fn counts(out: &mut String, snapshot: &Snapshot) {
    let mut files = |name: &str, files: u64, bytes: Option<u64>, note: String| {
        let size = bytes.map_or(String::new(), |bytes| DecimalBytes(bytes).to_string());
        let line = format!(
            "{name:<10} {:>11} {size:>11}   {note}",
            HumanCount(files).to_string()
        );
        out.push_str(line.trim_end());
        out.push('\n');
    };
    // Rows and failures may be older; they are not counted on this line.
    let oldest = snapshot
        .oldest_waiting
        .filter(|_| snapshot.queued_files > 0);
    let oldest = oldest.map_or(String::new(), |age| {
        format!("oldest waiting {}", duration(age))
    });
    files(
        "queued",
        snapshot.queued_files,
        Some(snapshot.queued_bytes),
        oldest,
    );
    files(
        "delivered",
        snapshot.delivered_files,
        Some(snapshot.delivered_bytes),
        speed(snapshot),
    );
    let failed = snapshot.failed_files;
    let where_listed = if failed > 0 { "see .upload/failed" } else { "" };
    files("failed", failed, None, where_listed.to_owned());
    let suspect = snapshot.suspect_files;
    if suspect > 0 {
        let why = "look damaged, so not sent: see .upload/suspect".to_owned();
        files("suspect", suspect, None, why);
    }
    if let Some(folders) = snapshot.folders {
        let states = [
            (folders.queued, "queued"),
            (folders.failed, "failed"),
            (folders.delivered, "delivered"),
        ];
        let states = states.into_iter().filter(|(count, _)| *count > 0);
        let states: Vec<String> = states
            .map(|(count, state)| format!("{} {state}", HumanCount(count)))
            .collect();
        files("folders", folders.total, None, states.join(", "));
    }
    if snapshot.queued_deletions + snapshot.failed_deletions > 0 {
        let failed = format!("{} failed", HumanCount(snapshot.failed_deletions));
        let note = format!("waiting, {failed}");
        files("deletions", snapshot.queued_deletions, None, note);
    }
    if snapshot.queued_rows + snapshot.failed_rows > 0 {
        let failed = format!("{} failed", HumanCount(snapshot.failed_rows));
        files(
            "rows",
            snapshot.queued_rows,
            None,
            format!("waiting, {failed}"),
        );
    }
}

fn speed(snapshot: &Snapshot) -> String {
    if snapshot.files_per_second <= 0.0 && snapshot.bytes_per_second <= 0.0 {
        return String::new();
    }
    let bytes = DecimalBytes(snapshot.bytes_per_second as u64);
    let mut speed = format!("{bytes}/s, {:.1} files/s", snapshot.files_per_second);
    if let Some(left) = snapshot.time_left {
        speed += &format!(", {} left", duration(left));
    }
    speed
}

/// How long uploads take.
fn times(out: &mut String, snapshot: &Snapshot) {
    if let (Some(mean), Some(most)) = (
        snapshot.mean_upload_milliseconds,
        snapshot.p95_upload_milliseconds,
    ) {
        let mut times = format!("{} on average, 95 in 100 within {}", took(mean), took(most));
        if snapshot.pictures_per_second > 0.0 {
            times += &format!("; {:.1} pictures/s", snapshot.pictures_per_second);
        }
        let _ = writeln!(out, "{:<10} {times}", "uploads");
    }
}

fn uploading(out: &mut String, files: &[Uploading]) {
    if files.is_empty() {
        return;
    }
    out.push_str("\nuploading\n");
    for file in files.iter().take(UPLOADS_SHOWN) {
        let size = DecimalBytes(file.bytes).to_string();
        let since = duration(file.for_milliseconds);
        let start = format!("  {size:>11}  {since:>11}  ");
        let path = ending(&one_line(&file.path), COLUMNS - start.len());
        let _ = writeln!(out, "{start}{path}");
    }
    if files.len() > UPLOADS_SHOWN {
        let _ = writeln!(out, "  and {} more", files.len() - UPLOADS_SHOWN);
    }
}

fn batches(out: &mut String, batches: &[Batch]) {
    if batches.is_empty() {
        return;
    }
    out.push_str("\nrecent batches\n");
    for batch in batches {
        let took = duration((batch.ended_at - batch.started_at).max(0).unsigned_abs());
        let (good, all) = (batch.successful_uploads, batch.total_folders);
        let good = HumanCount(good);
        let _ = writeln!(
            out,
            "  {}  {took:>11}  {good}/{} successful",
            local_time(batch.started_at),
            counted(all, "folder")
        );
    }
}

fn last_errors(out: &mut String, snapshot: &Snapshot) {
    if snapshot.last_errors.is_empty() {
        return;
    }
    out.push_str("\nlast errors\n");
    for failure in &snapshot.last_errors {
        let facts = facts(failure);
        let room = COLUMNS.saturating_sub(facts.chars().count() + 3);
        let path = ending(&one_line(&failure.path), room);
        let _ = writeln!(out, "  {path} {facts}");
        out.push_str(&wrapped("    ", &one_line(&failure.error)));
    }
}

fn facts(failure: &Failure) -> String {
    let attempts = counted(failure.attempts.into(), "attempt");
    let next = if failure.will_retry {
        "will be retried"
    } else {
        "given up"
    };
    format!("({}, {attempts}, {next})", failure.artifact)
}

/// What is mounted where; these lines are never cut, so that they can be copied.
fn places(out: &mut String, snapshot: &Snapshot) {
    out.push('\n');
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<10} {}", one_line(value));
    };
    line("directory", &snapshot.directory);
    match (&snapshot.mountpoint, snapshot.pid) {
        (Some(mountpoint), Some(pid)) => {
            let how = match snapshot.passthrough {
                Some(true) => ", kernel passthrough",
                _ => "",
            };
            line("mounted on", &format!("{mountpoint} (process {pid}{how})"));
        }
        (_, Some(pid)) if snapshot.pushing => {
            line("pushed by", &format!("process {pid}"));
        }
        (_, Some(pid)) => line(
            "mounted on",
            &format!("nothing any more; process {pid} delivers the rest"),
        ),
        (_, None) => line(
            "mounted on",
            "nothing; the next mount or push goes on where it stopped",
        ),
    }
    if let Some(used) = snapshot.resources {
        let memory = DecimalBytes(used.memory_bytes);
        let percent = used.cpu_percent;
        let seconds = duration((used.cpu_seconds * 1000.0) as u64);
        line(
            "uses",
            &format!("{percent:.0} % of a processor ({seconds} so far), {memory} of memory"),
        );
    }
    // Without a daemon, the journal alone does not know it.
    if !snapshot.remote.is_empty() {
        line("remote", &snapshot.remote);
    }
    if let Some(rows) = &snapshot.rows {
        line("rows", rows);
    }
    line("journal", &snapshot.journal);
}

/// The text in lines of at most [`COLUMNS`] columns; a longer word (a URL) stays whole.
fn wrapped(indent: &str, text: &str) -> String {
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(indent)
        .subsequent_indent(indent)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let mut lines = textwrap::fill(text, options);
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Snapshot {
        Snapshot {
            safe_to_unplug: true,
            directory: "/srv/pictures".into(),
            mountpoint: Some("/srv/pictures".into()),
            pid: Some(4711),
            journal: "/var/lib/outboxfs/pictures-1a2b3c4d/journal.db".into(),
            remote: "s3://rig-7/pictures".into(),
            rows: Some("sqlite:/srv/rows.db".into()),
            passthrough: Some(true),
            delivered_files: 4_000,
            delivered_bytes: 144_000_000,
            ..Snapshot::default()
        }
    }

    fn busy() -> Snapshot {
        let upload = |n: u64| Uploading {
            path: format!("2026-11-20/{}DSC_{n:04}.NEF", "deep/".repeat(15)),
            bytes: 31_400_000 * n,
            sent_bytes: 0,
            for_milliseconds: 1_700 * n,
        };
        Snapshot {
            safe_to_unplug: false,
            queued_files: 1_234,
            queued_bytes: 5_600_000_000,
            uploading: (1..=8).map(upload).collect(),
            failed_files: 2,
            queued_rows: 17,
            oldest_waiting: Some(65_000),
            bytes_per_second: 12_345_678.9,
            files_per_second: 45.67,
            time_left: Some(454_000),
            last_errors: vec![Failure {
                path: "rig/broken\x1b[31m.jpg".into(),
                artifact: "thumbnail".into(),
                error: "the picture cannot be decoded: the file ends in the middle of a \
                        scan line; its original was delivered all the same"
                    .into(),
                attempts: 1,
                at: 0,
                will_retry: false,
            }],
            ..idle()
        }
    }

    #[test]
    fn idle_and_delivered_reads_so() {
        assert_eq!(
            render(&idle()),
            "\
Safe to unplug: all 4,000 files are delivered.

queued               0         0 B
delivered        4,000   144.00 MB
failed               0

directory  /srv/pictures
mounted on /srv/pictures (process 4711, kernel passthrough)
remote     s3://rig-7/pictures
rows       sqlite:/srv/rows.db
journal    /var/lib/outboxfs/pictures-1a2b3c4d/journal.db
"
        );
    }

    #[test]
    fn work_in_progress_reads_so() {
        let text = render(&busy());
        let expected = "\
NOT safe to unplug: 1,234 files (5.60 GB) still to deliver, 2 files failed.

queued           1,234     5.60 GB   oldest waiting 1 min 5 s
delivered        4,000   144.00 MB   12.35 MB/s, 45.7 files/s, 7 min 34 s left
failed               2               see .upload/failed
rows                17               waiting, 0 failed

uploading
     31.40 MB          1 s  …eep/deep/deep/deep/deep/deep/deep/deep/DSC_0001.NEF
     62.80 MB          3 s  …eep/deep/deep/deep/deep/deep/deep/deep/DSC_0002.NEF
";
        let start: String = text.split_inclusive('\n').take(10).collect();
        assert_eq!(start, expected);
        assert!(text.contains("  and 3 more\n"));
        assert!(text.contains(
            "  rig/broken\\u{1b}[31m.jpg (thumbnail, 1 attempt, given up)\n    the picture"
        ));
    }

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        for line in render(&busy()).lines() {
            let columns = textwrap::core::display_width(line);
            assert!(columns <= COLUMNS, "{columns}: {line}");
        }
    }

    #[test]
    fn the_first_line_says_why_it_is_not_safe() {
        let first = |change: fn(&mut Snapshot)| {
            let mut snapshot = Snapshot {
                safe_to_unplug: false,
                ..idle()
            };
            change(&mut snapshot);
            render(&snapshot).lines().next().unwrap().to_owned()
        };
        assert!(first(|s| s.queued_rows = 1).contains("1 row still to write"));
        assert!(first(|s| s.failed_files = 1).contains("1 file failed"));
        assert!(first(|s| s.suspect_files = 3).contains("3 files suspect"));
        assert!(first(|s| s.scanning = Some(9)).contains("scan at 9 files"));
        assert!(first(|s| s.expanding = true).contains("a renamed folder"));
        assert!(first(|_| ()).starts_with("NOT safe to unplug: "));
    }

    #[test]
    fn troubles_come_right_after_the_verdict() {
        let mut snapshot = busy();
        snapshot.remote_error = Some("there is no bucket 'rig-7'; create it".into());
        let text = render(&snapshot);
        assert_eq!(
            text.lines().nth(2),
            Some("remote: there is no bucket 'rig-7'; create it")
        );
    }

    #[test]
    fn without_a_daemon_it_says_how_to_go_on() {
        let draining = Snapshot {
            mountpoint: None,
            passthrough: None,
            ..busy()
        };
        assert!(render(&draining).contains("nothing any more; process 4711 delivers the rest"));
        let ended = Snapshot {
            pid: None,
            ..draining
        };
        assert!(render(&ended).contains("mounted on nothing; the next mount or push goes on"));
    }
}
