//! A row, whatever its folder.

use outboxfs::rows::{FileRef, FolderRow, TestStatus};

pub fn of_folder(folder: &str) -> FolderRow {
    FolderRow {
        folder: folder.into(),
        name: folder.into(),
        test_status: Some(TestStatus::Pass),
        stats: None,
        stats_error: None,
        pictures: vec![FileRef {
            name: "a.jpg".into(),
            url: "https://x/a.jpg".into(),
            thumbnail_url: None,
            thumbnail_error: None,
            bytes: 1,
            width: None,
            height: None,
            hash: "00".into(),
            delivered_at: 1,
            etag: None,
            object_id: None,
            object_version: None,
        }],
        other_files: Vec::new(),
        files: 1,
        bytes: 1,
        hash: "00".into(),
        host: "rig".into(),
        mount_id: "m1".into(),
        version: 1,
        first_delivered_at: 1,
        last_delivered_at: 1,
        outboxfs_version: "0".into(),
    }
}
