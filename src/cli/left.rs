//! What is left when a daemon has ended.

use indicatif::{DecimalBytes, HumanCount};

use crate::status::Snapshot;

/// What did not arrive, and that the next mount goes on with it; `None` if all did.
pub fn sentence(snapshot: &Snapshot) -> Option<String> {
    if snapshot.is_all_delivered() {
        return None;
    }
    let bytes = DecimalBytes(snapshot.queued_bytes);
    let counted = [
        (snapshot.queued_files, format!("files ({bytes}) to deliver")),
        (snapshot.failed_files, "failed files".to_owned()),
        (snapshot.suspect_files, "suspect files".to_owned()),
        (snapshot.queued_rows, "rows to write".to_owned()),
        (snapshot.failed_rows, "failed rows".to_owned()),
        (
            snapshot.queued_deletions,
            "files to delete at the remote".to_owned(),
        ),
        (snapshot.failed_deletions, "failed deletions".to_owned()),
    ];
    let mut left: Vec<String> = counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", HumanCount(count)))
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
        text += &format!("; 'outboxfs mount {}' resumes", snapshot.directory);
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
            "left: 1,200 files (3.00 MB) to deliver, 2 failed files; 'outboxfs mount /srv/rig' \
             resumes"
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
            "left: folders not looked at yet; 'outboxfs mount /srv/rig' resumes"
        );
    }
}
