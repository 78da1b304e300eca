//! What is particular to SQLite files.

use super::*;

#[tokio::test]
async fn a_table_of_another_shape_is_left_alone_and_named() {
    let fixture = Sqlite::new().await.unwrap();
    fixture.execute("CREATE TABLE device_test (mount_id TEXT, folder TEXT, hash TEXT)");
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(error.permanent);
    assert!(
        error.message.contains("no unique key (mount_id, folder)"),
        "{error}"
    );
    assert_eq!(
        fixture.number("SELECT count(*) FROM pragma_table_info('device_test')"),
        3
    );

    let fixture = Sqlite::new().await.unwrap();
    let schema = include_str!("../../src/rows/schema/sqlite_folder.sql");
    let columns = schema.replace("PRIMARY KEY (mount_id, folder)", "x TEXT");
    fixture.execute(&columns);
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.message.contains("no unique key (mount_id, folder)"),
        "{error}"
    );
}

#[tokio::test]
async fn another_table_and_columns_of_ones_own_are_fine() {
    let fixture = Sqlite::new().await.unwrap();
    let url = format!("{}?table=my%20\"rigs\"", fixture.url());
    let sink = rows::open(&[url], &Options::default()).unwrap();
    sink.probe().await.unwrap();
    fixture.execute("ALTER TABLE \"my \"\"rigs\"\"\" ADD COLUMN note TEXT");
    sink.upsert(&[row("a", 1)]).await.unwrap();
    fixture.execute("UPDATE \"my \"\"rigs\"\"\" SET note = 'mine'");
    sink.upsert(&[row("a", 2)]).await.unwrap();
    let kept = "SELECT count(*) FROM \"my \"\"rigs\"\"\" WHERE note = 'mine' AND version = 2";
    assert_eq!(fixture.number(kept), 1);
}

#[tokio::test]
async fn a_database_that_was_taken_away_is_made_again() {
    let fixture = Sqlite::new().await.unwrap();
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    fixture.remove_files();
    sink.upsert(&[row("b", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("b".into(), 1)]);
}

#[tokio::test]
async fn what_is_no_database_is_not_touched() {
    let fixture = Sqlite::new().await.unwrap();
    std::fs::write(fixture.path(), "a letter to my aunt, long enough to be one").unwrap();
    let error = sink(&fixture).probe().await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("not a database"),
        "{error}"
    );
    let content = std::fs::read_to_string(fixture.path()).unwrap();
    assert!(content.starts_with("a letter"));
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_worth_another_try() {
    let fixture = Sqlite::new().await.unwrap();
    let folder = fixture.path().parent().unwrap().join("disk");
    let url = format!("sqlite:{}/rows.db", folder.display());
    let sink = rows::open(&[url], &Options::default()).unwrap();
    let error = sink.probe().await.unwrap_err();
    assert!(
        !error.permanent && error.message.contains("there is no folder"),
        "{error}"
    );
    std::fs::create_dir(&folder).unwrap();
    sink.upsert(&[row("a", 1)]).await.unwrap();
}
