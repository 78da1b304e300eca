//! What is left when a daemon has ended.

use indicatif::DecimalBytes;

use crate::status::{Snapshot, counted};

/// What did not arrive, and that the next mount goes on with it; `None` if all did.
pub fn sentence(snapshot: &Snapshot) -> Option<String> {
    if snapshot.is_all_delivered() {
        return None;
    }
    let bytes = DecimalBytes(snapshot.queued_bytes);
    let each = [
        (
            snapshot.queued_files,
            "file",
            format!(" ({bytes}) to deliver"),
        ),
        (snapshot.failed_files, "failed file", String::new()),
        (snapshot.suspect_files, "suspect file", String::new()),
        (snapshot.queued_rows, "row", " to write".to_owned()),
        (snapshot.failed_rows, "failed row", String::new()),
        (
            snapshot.queued_deletions,
            "file",
            " to delete at the remote".to_owned(),
        ),
        (snapshot.failed_deletions, "failed deletion", String::new()),
    ];
    let mut left: Vec<String> = each
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, noun, what)| counted(count, noun) + &what)
        .collect();
    if snapshot.scanning.is_some() {
        left.push("folders not looked at yet".to_owned());
    }
    if snapshot.expanding {
        left.push("a renamed folder's files to queue".to_owned());
    }
    let mut text = format!("left: {}", left.join(", "));
    let resumable = snapshot.queued_files + snapshot.queued_rows + snapshot.queued_deletions > 0
        || snapshot.scanning.is_some()
        || snapshot.expanding;
    if let Some(why) = &snapshot.waits_for {
        text += &format!("; {why}");
    } else if resumable {
        let directory = &snapshot.directory;
        text += &format!("; the next mount or push of {directory} goes on with it");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_left_says_nothing() {
        assert_eq!(sentence(&Snapshot::default()), None);
    }

    #[test]
    fn what_is_left_is_counted() {
        let snapshot = Snapshot {
            directory: "/srv/rig".into(),
            queued_files: 1_200,
            queued_bytes: 3_000_000,
            failed_files: 2,
            ..Snapshot::default()
        };
        assert_eq!(
            sentence(&snapshot).unwrap(),
            "left: 1,200 files (3.00 MB) to deliver, 2 failed files; the next mount or \
             push of /srv/rig goes on with it"
        );
    }

    #[test]
    fn an_unfinished_scan_is_something_left() {
        let snapshot = Snapshot {
            directory: "/srv/rig".into(),
            scanning: Some(0),
            ..Snapshot::default()
        };
        assert_eq!(
            sentence(&snapshot).unwrap(),
            "left: folders not looked at yet; the next mount or push of /srv/rig goes on with it"
        );
    }
}
