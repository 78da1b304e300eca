//! What `status --watch` shows, for 80 columns and 24 lines or more.

use std::collections::VecDeque;

use indicatif::{DecimalBytes, HumanCount};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Gauge, Paragraph, Sparkline};

use crate::status::{Snapshot, counted, duration, ending, local_time, one_line, took};

/// Throughput is remembered for so many looks, which are a second apart.
const REMEMBERED: usize = 600;
/// Columns of a file's bar.
const BAR: usize = 10;

pub struct Screen {
    pub snapshot: Snapshot,
    /// What became of the last key.
    pub message: Option<String>,
    /// Bytes a second, the newest last.
    rates: VecDeque<u64>,
}

impl Screen {
    pub fn new(snapshot: Snapshot) -> Self {
        let mut screen = Self {
            snapshot: Snapshot::default(),
            message: None,
            rates: VecDeque::new(),
        };
        screen.update(snapshot);
        screen
    }

    pub fn update(&mut self, snapshot: Snapshot) {
        if self.rates.len() == REMEMBERED {
            self.rates.pop_front();
        }
        self.rates.push_back(snapshot.bytes_per_second as u64);
        self.snapshot = snapshot;
    }

    pub fn draw(&self, frame: &mut Frame) {
        let [head, bar, facts, graph, uploading, last, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Length(4),
            Constraint::Length(4),
            Constraint::Min(3),
            Constraint::Length(self.last_lines()),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.head(frame, head);
        self.bar(frame, bar);
        frame.render_widget(Paragraph::new(self.facts()), facts);
        self.graph(frame, graph);
        self.uploading(frame, uploading);
        self.last(frame, last);
        let keys_text = " q quit   r retry what has failed   p pause, go on";
        let keys_line = match &self.message {
            Some(message) => format!("{keys_text}   {}", one_line(message)),
            None => keys_text.to_owned(),
        };
        frame.render_widget(Paragraph::new(keys_line).reversed(), keys);
    }

    fn head(&self, frame: &mut Frame, area: Rect) {
        let now = &self.snapshot;
        let width = usize::from(area.width);
        let places = match now.remote.is_empty() {
            true => now.directory.clone(),
            false => format!("{} → {}", now.directory, now.remote),
        };
        let state = verdict(now);
        let state = match now.safe_to_unplug {
            true => Line::from(state).green().bold(),
            false => Line::from(state).bold(),
        };
        let lines = vec![Line::from(ending(&one_line(&places), width)), state];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn bar(&self, frame: &mut Frame, area: Rect) {
        let now = &self.snapshot;
        let all = now.delivered_files + now.queued_files;
        let ratio = match all {
            0 => 1.0,
            all => now.delivered_files as f64 / all as f64,
        };
        let left = now
            .time_left
            .map_or(String::new(), |left| format!(", {} left", duration(left)));
        let label = format!(
            "{} of {}{left}",
            HumanCount(now.delivered_files),
            counted(all, "file")
        );
        let gauge = Gauge::default().ratio(ratio).label(label).green();
        frame.render_widget(gauge, area);
    }

    fn facts(&self) -> Vec<Line<'_>> {
        let now = &self.snapshot;
        let oldest = now.oldest_waiting.filter(|_| now.queued_files > 0);
        let oldest = oldest.map_or(String::new(), |age| {
            format!(", oldest for {}", duration(age))
        });
        let failed = format!(
            "{} failed, {} suspect",
            HumanCount(now.failed_files),
            HumanCount(now.suspect_files)
        );
        let failed = match now.failed_files + now.suspect_files {
            0 => Span::raw(failed),
            _ => Span::raw(failed).red().bold(),
        };
        let folders = now.folders.map_or(String::new(), |folders| {
            format!(
                "folders  {}: {} delivered, {} queued, {} failed",
                HumanCount(folders.total),
                HumanCount(folders.delivered),
                HumanCount(folders.queued),
                HumanCount(folders.failed)
            )
        });
        let times = match (now.mean_upload_milliseconds, now.p95_upload_milliseconds) {
            (Some(mean), Some(most)) => {
                format!("{} an upload, 95 in 100 within {}", took(mean), took(most))
            }
            _ => "nothing has been uploaded yet".to_owned(),
        };
        let used = now.resources.map_or(String::new(), |used| {
            format!(
                ";  {:.0} % CPU, {}",
                used.cpu_percent,
                DecimalBytes(used.memory_bytes)
            )
        });
        vec![
            Line::from(vec![
                Span::raw(format!(
                    "queue    {} ({}){oldest}; {} workers; ",
                    counted(now.queued_files, "file"),
                    DecimalBytes(now.queued_bytes),
                    now.workers
                )),
                failed,
            ]),
            Line::from(folders),
            Line::from(format!("times    {times}{used}")),
            self.trouble(),
        ]
    }

    fn trouble(&self) -> Line<'_> {
        let now = &self.snapshot;
        let troubles = [
            &now.waits_for,
            &now.remote_error,
            &now.rows_error,
            &now.journal_error,
        ];
        match troubles.into_iter().flatten().next() {
            Some(trouble) => Line::from(one_line(trouble)).yellow(),
            None => Line::default(),
        }
    }

    fn graph(&self, frame: &mut Frame, area: Rect) {
        let now = &self.snapshot;
        let columns = usize::from(area.width);
        let shown = self.rates.len().saturating_sub(columns);
        let rates: Vec<u64> = self.rates.iter().skip(shown).copied().collect();
        let most = rates.iter().copied().max().unwrap_or(0);
        let title = format!(
            " {}/s, {:.1} files/s, {:.1} pictures/s; at most {}/s in {} ",
            DecimalBytes(now.bytes_per_second as u64),
            now.files_per_second,
            now.pictures_per_second,
            DecimalBytes(most),
            duration(rates.len() as u64 * 1000)
        );
        let graph = Sparkline::default()
            .block(Block::new().borders(Borders::TOP).title(title))
            .style(Style::new().cyan())
            .max(most.max(1))
            .data(rates);
        frame.render_widget(graph, area);
    }

    fn uploading(&self, frame: &mut Frame, area: Rect) {
        let files = &self.snapshot.uploading;
        let title = format!(" {} on their way ", counted(files.len() as u64, "file"));
        let block = Block::new().borders(Borders::TOP).title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let width = usize::from(inner.width);
        let lines = files.iter().take(usize::from(inner.height)).map(|file| {
            let part = match file.bytes {
                0 => 1.0,
                bytes => file.sent_bytes as f64 / bytes as f64,
            };
            let full = (part.min(1.0) * BAR as f64) as usize;
            let start = format!(
                "{}{} {:>3.0} %  {:>10}  {:>9}  ",
                "█".repeat(full),
                "░".repeat(BAR - full),
                part * 100.0,
                DecimalBytes(file.bytes).to_string(),
                duration(file.for_milliseconds)
            );
            let room = width.saturating_sub(start.chars().count());
            Line::from(format!("{start}{}", ending(&one_line(&file.path), room)))
        });
        frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
    }

    /// Lines for why something has failed.
    fn reason_lines(&self) -> usize {
        match self.snapshot.last_errors.len() {
            1 => 3,
            _ => 1,
        }
    }

    /// Lines that failures and batches take.
    fn last_lines(&self) -> u16 {
        let now = &self.snapshot;
        let failures = now.last_errors.len().min(3) * (1 + self.reason_lines());
        let lists = failures + now.batches.len().min(3);
        let titles =
            usize::from(!now.last_errors.is_empty()) + usize::from(!now.batches.is_empty());
        (lists + titles) as u16
    }

    fn last(&self, frame: &mut Frame, area: Rect) {
        let now = &self.snapshot;
        let width = usize::from(area.width);
        let mut lines = Vec::new();
        let title = |text: &str| {
            let rule = "─".repeat(width.saturating_sub(text.chars().count() + 2));
            Line::from(format!("─{text} {rule}"))
        };
        if !now.last_errors.is_empty() {
            lines.push(title(" failures"));
        }
        for failure in now.last_errors.iter().take(3) {
            let next = match failure.will_retry {
                true => "will be retried",
                false => "given up",
            };
            let attempts = counted(failure.attempts.into(), "attempt");
            let facts = format!("  {}, {attempts}, {next}", failure.artifact);
            let room = width.saturating_sub(facts.chars().count());
            let path = ending(&one_line(&failure.path), room);
            lines.push(Line::from(format!("{path}{facts}")).red());
            // The reason is at its end.
            let why = one_line(&failure.error);
            let room = width.saturating_sub(2);
            match self.reason_lines() {
                1 => lines.push(Line::from(format!("  {}", ending(&why, room)))),
                most => {
                    let wrapped = textwrap::wrap(&why, room).into_iter().take(most);
                    lines.extend(wrapped.map(|line| Line::from(format!("  {line}"))));
                }
            }
        }
        if !now.batches.is_empty() {
            lines.push(title(" batches"));
        }
        for batch in now.batches.iter().take(3) {
            let time = (batch.ended_at - batch.started_at).max(0).unsigned_abs();
            lines.push(Line::from(format!(
                "{}  {:>11}  {}/{} successful",
                local_time(batch.started_at),
                duration(time),
                HumanCount(batch.successful_uploads),
                counted(batch.total_folders, "folder"),
            )));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }
}

fn verdict(now: &Snapshot) -> String {
    match (now.safe_to_unplug, now.pid, now.paused) {
        (true, ..) => "safe to unplug: everything is delivered".to_owned(),
        (_, None, _) => {
            "NOT safe to unplug: nobody delivers; the next mount or push goes on".to_owned()
        }
        (_, _, true) => "NOT safe to unplug: paused".to_owned(),
        _ => "NOT safe to unplug".to_owned(),
    }
}

/// How far it is, where there is no screen.
pub fn line(now: &Snapshot) -> String {
    let mut parts = vec![
        verdict(now),
        format!("{} delivered", counted(now.delivered_files, "file")),
        format!(
            "{} queued ({})",
            HumanCount(now.queued_files),
            DecimalBytes(now.queued_bytes)
        ),
    ];
    if now.failed_files + now.suspect_files > 0 {
        parts.push(format!(
            "{} failed, {} suspect",
            HumanCount(now.failed_files),
            HumanCount(now.suspect_files)
        ));
    }
    if now.bytes_per_second > 0.0 {
        parts.push(format!("{}/s", DecimalBytes(now.bytes_per_second as u64)));
    }
    if let Some(left) = now.time_left {
        parts.push(format!("{} left", duration(left)));
    }
    let troubles = [&now.waits_for, &now.remote_error, &now.rows_error];
    parts.extend(troubles.into_iter().flatten().map(|text| one_line(text)));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Batch, Failure, Folders, Resources, Uploading};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn busy() -> Snapshot {
        let upload = |n: u64| Uploading {
            path: format!("2026-11-20/{}\x1bDSC_{n:04}.NEF", "deep/".repeat(15)),
            bytes: 31_400_000,
            sent_bytes: 15_700_000,
            for_milliseconds: 1_700 * n,
        };
        Snapshot {
            directory: "/srv/rig".into(),
            remote: "s3://rig-7/pictures".into(),
            pid: Some(1),
            queued_files: 1_000,
            queued_bytes: 5_600_000_000,
            delivered_files: 3_000,
            failed_files: 2,
            folders: Some(Folders {
                total: 400,
                delivered: 300,
                queued: 98,
                failed: 2,
            }),
            uploading: (1..=40).map(upload).collect(),
            workers: 8,
            bytes_per_second: 12_345_678.9,
            files_per_second: 45.67,
            mean_upload_milliseconds: Some(83.4),
            p95_upload_milliseconds: Some(1_230.0),
            time_left: Some(454_000),
            resources: Some(Resources {
                cpu_percent: 34.2,
                cpu_seconds: 12.0,
                memory_bytes: 61_000_000,
            }),
            last_errors: vec![Failure {
                path: "rig/broken.jpg".into(),
                artifact: "original".into(),
                error: "the remote said no".into(),
                attempts: 9,
                at: 0,
                will_retry: false,
            }],
            batches: vec![Batch {
                id: 1,
                started_at: 0,
                ended_at: 17_000,
                total_folders: 50,
                successful_uploads: 45,
                failed_uploads: 5,
            }],
            ..Snapshot::default()
        }
    }

    fn drawn(screen: &Screen, columns: u16, lines: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_has_its_place_in_80_columns_and_24_lines() {
        let mut screen = Screen::new(busy());
        screen.message = Some("2 uploads queued again".into());
        let text = drawn(&screen, 80, 24);
        for part in [
            "/srv/rig → s3://rig-7/pictures",
            "NOT safe to unplug",
            "3,000 of 4,000 files, 7 min 34 s left",
            "2 failed, 0 suspect",
            "400: 300 delivered, 98 queued, 2 failed",
            "83 ms an upload, 95 in 100 within 1.2 s",
            "34 % CPU, 61.00 MB",
            "12.35 MB/s, 45.7 files/s",
            "40 files on their way",
            "█████░░░░░  50 %",
            "DSC_0001.NEF",
            "rig/broken.jpg  original, 9 attempts, given up",
            "the remote said no",
            "45/50 folders successful",
            "r retry",
            "2 uploads queued again",
        ] {
            assert!(text.contains(part), "'{part}' is not shown:\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        let screen = Screen::new(busy());
        for (columns, lines) in [(1, 1), (20, 5), (80, 10), (200, 60)] {
            drawn(&screen, columns, lines);
        }
    }

    #[test]
    fn a_line_says_how_far_it_is() {
        assert_eq!(
            line(&busy()),
            "NOT safe to unplug, 3,000 files delivered, 1,000 queued (5.60 GB), 2 failed, 0 \
             suspect, 12.35 MB/s, 7 min 34 s left"
        );
    }
}
