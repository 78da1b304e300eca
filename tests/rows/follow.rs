//! What the row of a folder says after each thing that can happen to the folder.

use outboxfs::derive::stats::StatsRules;
use outboxfs::derive::thumbnail::ThumbnailState;
use outboxfs::path::RelPath;
use outboxfs::remote::{Key, Proof};
use outboxfs::rows::folder::{DeliveredFile, FolderFiles, StatsFile, build};

use super::*;

/// A folder that things happen to, and its row in SQLite.
struct Folder {
    fixture: Sqlite,
    sink: Arc<dyn RowSink>,
    path: &'static str,
    files: Vec<DeliveredFile>,
    stats: Option<&'static str>,
    version: i64,
}

impl Folder {
    async fn new() -> Self {
        let fixture = Sqlite::new().await.unwrap();
        let mut folder = Self {
            sink: ready(&fixture).await,
            fixture,
            path: "day1/S1",
            files: Vec::new(),
            stats: Some(r#"{"status":"pass"}"#),
            version: 0,
        };
        folder.arrives("a.jpg", 10);
        folder.arrives("stats.json", 5);
        folder
    }

    fn arrives(&mut self, name: &str, size: u64) {
        self.leaves(name);
        self.files.push(DeliveredFile {
            name: name.into(),
            size,
            hash: blake3::hash(&size.to_le_bytes()),
            picture: name.ends_with(".jpg"),
            dimensions: Some((4, 3)),
            thumbnail: ThumbnailState::Delivered,
            delivered_at: DAY + self.version,
            proof: Proof::default(),
        });
    }

    fn leaves(&mut self, name: &str) {
        self.files.retain(|file| file.name != name.as_bytes());
    }

    /// The row after what happened, as delivery writes it.
    async fn row(&mut self) -> Value {
        self.version += 1;
        let row = build(&FolderFiles {
            folder: &RelPath::parse(self.path.as_bytes()).unwrap(),
            version: self.version,
            files: &self.files,
            stats: match self.stats {
                Some(stats) => StatsFile::Content(stats.as_bytes()),
                None => StatsFile::Absent,
            },
            stats_rules: &StatsRules::default(),
            host: "rig-1",
            mount_id: "m1",
            url: &|artifact, path, _| Some(format!("https://x/{}", Key::new(artifact, path))),
        });
        self.sink.upsert(&[row.unwrap()]).await.unwrap();
        let rows = self.fixture.rows().await;
        rows.into_iter()
            .find(|row| row["folder"] == self.path)
            .unwrap()
    }
}

#[tokio::test]
async fn a_late_picture_is_added() {
    let mut folder = Folder::new().await;
    let before = folder.row().await;
    folder.arrives("late.jpg", 100);
    let after = folder.row().await;
    assert_eq!((&after["files"], &after["bytes"]), (&json!(3), &json!(115)));
    assert_eq!(after["picture_count"], 2);
    assert_eq!(
        after["pictures"][1]["url"],
        "https://x/original/day1/S1/late.jpg"
    );
    assert_ne!(after["hash"], before["hash"]);
    assert_eq!(after["first_delivered_at"], before["first_delivered_at"]);
    assert!(after["last_delivered_at"].as_str() > before["last_delivered_at"].as_str());
}

#[tokio::test]
async fn a_replaced_picture_has_its_new_size_and_hash() {
    let mut folder = Folder::new().await;
    let before = folder.row().await;
    folder.arrives("a.jpg", 11);
    let after = folder.row().await;
    assert_eq!(after["pictures"][0]["bytes"], 11);
    assert_eq!(after["files"], before["files"]);
    assert_ne!(after["hash"], before["hash"]);
}

#[tokio::test]
async fn a_deleted_picture_goes_and_the_row_stays() {
    let mut folder = Folder::new().await;
    folder.row().await;
    folder.leaves("a.jpg");
    let after = folder.row().await;
    assert_eq!(
        (&after["pictures"], &after["files"]),
        (&json!([]), &json!(1))
    );
    assert_eq!(after["test_status"], "pass");
}

#[tokio::test]
async fn a_replaced_stats_json_is_the_new_one() {
    let mut folder = Folder::new().await;
    folder.row().await;
    folder.stats = Some(r#"{"status":"FAIL","volts":2}"#);
    let after = folder.row().await;
    assert_eq!(after["test_status"], "fail");
    assert_eq!(after["stats"], json!({"status": "FAIL", "volts": 2}));
}

#[tokio::test]
async fn a_stats_json_that_becomes_invalid_says_so_and_recovers() {
    let mut folder = Folder::new().await;
    folder.row().await;
    folder.stats = Some(r#"{"status":"#);
    let after = folder.row().await;
    assert_eq!(
        (&after["test_status"], &after["stats"]),
        (&json!("unknown"), &Value::Null)
    );
    assert!(
        after["stats_error"]
            .as_str()
            .unwrap()
            .contains("not valid JSON")
    );
    assert_eq!(after["picture_count"], 1);
    folder.stats = Some(r#"{"status":"pass"}"#);
    let after = folder.row().await;
    assert_eq!(
        (&after["test_status"], &after["stats_error"]),
        (&json!("pass"), &Value::Null)
    );
}

#[tokio::test]
async fn a_deleted_stats_json_leaves_nulls() {
    let mut folder = Folder::new().await;
    folder.row().await;
    folder.leaves("stats.json");
    folder.stats = None;
    let after = folder.row().await;
    for column in ["test_status", "stats", "stats_error"] {
        assert_eq!(after[column], Value::Null, "{column}");
    }
}

#[tokio::test]
async fn a_renamed_folder_has_one_row_under_its_new_name() {
    let mut folder = Folder::new().await;
    folder.row().await;
    let gone = Removed {
        mount_id: "m1".into(),
        folder: folder.path.into(),
        version: folder.version + 1,
    };
    folder.path = "day1/S2";
    let after = folder.row().await;
    folder.sink.remove(&[gone]).await.unwrap();
    assert_eq!(after["name"], "S2");
    assert_eq!(
        after["pictures"][0]["url"],
        "https://x/original/day1/S2/a.jpg"
    );
    assert_eq!(folder.fixture.rows().await, [after]);
}
