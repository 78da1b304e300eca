//! Rows that go to several sinks at once.

use super::*;

#[tokio::test]
async fn every_sink_has_every_row() {
    let (sqlite, csv) = (Sqlite::new().await.unwrap(), Csv::new().await.unwrap());
    let urls = [sqlite.url(), csv.url()];
    let sink = rows::open(&urls, &Options::default()).unwrap();
    sink.probe().await.unwrap();
    sink.upsert(&[row("a", 1), row("b", 1)]).await.unwrap();
    assert_eq!(sqlite.rows().await, csv.rows().await);
    assert_eq!(sink.describe(), urls.join(", "));
}

#[tokio::test]
async fn one_that_is_away_delays_its_own_rows_only() {
    let (lines, folder) = (
        JsonLines::new().await.unwrap(),
        tempfile::TempDir::new().unwrap(),
    );
    let disk = folder.path().join("disk");
    let away = format!("sqlite:{}/rows.db", disk.display());
    let sink = rows::open(&[lines.url(), away.clone()], &Options::default()).unwrap();
    for version in 1..4 {
        let error = sink.upsert(&[row("a", version)]).await.unwrap_err();
        assert!(
            !error.permanent && error.message.contains("there is no folder"),
            "{error}"
        );
        assert_eq!(versions(&lines).await, [("a".into(), version)]);
    }
    // What is brought again for the sake of the other one is not written twice.
    sink.upsert(&[row("a", 3)]).await.unwrap_err();
    assert_eq!(lines.lines().len(), 3);

    std::fs::create_dir(&disk).unwrap();
    let back = async {
        while sink.upsert(&[row("a", 3)]).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, back)
        .await
        .expect("it is asked again");
    assert_eq!(lines.lines().len(), 3);
    let there = rusqlite::Connection::open(disk.join("rows.db")).unwrap();
    let version: i64 = there
        .query_row("SELECT version FROM device_test", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 3);
}
