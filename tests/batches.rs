//! Batches, and what people can ask the journal with plain sqlite3.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::process::Command;

use rig::{Rig, eventually};
use tree::make_picture;
use world::assert_says;

/// What the sqlite3 program answers, with its mode for lists.
fn sqlite(rig: &Rig, sql: &str) -> String {
    let journal = rig.world.path("state/journal.db");
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(journal)
        .arg(sql)
        .output()
        .expect("the sqlite3 program (apt install sqlite3)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

fn mount(rig: &Rig, more: &[&str]) {
    let journal = rig.world.path("state/journal.db");
    rig.mount_with(&[&["--journal", journal.to_str().unwrap()], more].concat());
}

fn write(rig: &Rig, name: &str, content: &str) {
    let path = rig.pictures().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn batches_ended(rig: &Rig, count: usize) {
    eventually("the batch has ended", || {
        rig.snapshot().is_some_and(|now| now.batches.len() == count)
    });
}

#[test]
fn folders_and_batches_are_asked_for_with_plain_sql() {
    let Some(rig) = Rig::new() else { return };
    mount(&rig, &["--settle", "300"]);
    for folder in ["rig/one", "rig/two"] {
        write(
            &rig,
            &format!("{folder}/stats.json"),
            "{\"status\":\"pass\"}",
        );
        make_picture(&rig.pictures().join(folder).join("p.png"), 20, 20);
    }
    write(&rig, "notes", "some text");
    rig.delivered_all();
    batches_ended(&rig, 1);

    let columns = |view: &str| {
        sqlite(
            &rig,
            &format!("SELECT group_concat(name) FROM pragma_table_info('{view}')"),
        )
    };
    assert_eq!(
        columns("folder_status"),
        "folder_path,folder_name,last_modified,file_count,file_hash,upload_status,upload_timestamp,\
         error_message,retry_count,created_at,updated_at"
    );
    assert_eq!(
        columns("upload_batches"),
        "batch_id,batch_name,total_folders,successful_uploads,failed_uploads,start_time,end_time,\
         status,created_at"
    );
    let folders =
        "SELECT folder_path, folder_name, file_count, upload_status, error_message, retry_count,
                       upload_timestamp >= created_at, last_modified LIKE '20__-__-__T__:__:__.___Z'
                   FROM folder_status ORDER BY folder_path";
    assert_eq!(
        sqlite(&rig, folders),
        ".|.|1|success||0|1|1\nrig/one|one|2|success||0|1|1\nrig/two|two|2|success||0|1|1"
    );
    let batches =
        "SELECT total_folders, successful_uploads, failed_uploads, status, end_time > start_time,
                       batch_name LIKE 'batch_20______\\_______' ESCAPE '\\'
                   FROM upload_batches";
    assert_eq!(sqlite(&rig, batches), "3|3|0|success|1|1");
    // The hash is that of the row, where there is one, and what b3sum says.
    let hash = sqlite(
        &rig,
        "SELECT file_hash FROM folder_status WHERE folder_path = 'rig/one'",
    );
    assert_eq!(
        hash,
        rig.row("SELECT hash FROM device_test WHERE folder = 'rig/one'")
    );
    let hash = sqlite(
        &rig,
        "SELECT file_hash FROM folder_status WHERE folder_path = '.'",
    );
    let listed = format!("{}  notes\0", blake3::hash(b"some text").to_hex());
    assert_eq!(hash, blake3::hash(listed.as_bytes()).to_hex().as_str());

    // One more, in which something fails.
    let in_the_way = rig.remote().join("original/rig/one/folder");
    fs::write(&in_the_way, "not a folder").unwrap();
    write(&rig, "rig/one/folder/file", "cannot be stored");
    write(&rig, "rig/two/more", "can be stored");
    batches_ended(&rig, 2);
    let status = rig.upload("status");
    assert_says(
        &status,
        &[
            "recent batches",
            "1/2 folders successful",
            "3/3 folders successful",
        ],
    );
    let batch = format!("{batches} ORDER BY batch_id DESC LIMIT 1");
    assert_eq!(sqlite(&rig, &batch), "2|1|1|failed|1|1");
    let failed =
        "SELECT folder_path, upload_status, retry_count, error_message LIKE '%move or remove it%'
                  FROM folder_status WHERE upload_status <> 'success'";
    assert_eq!(sqlite(&rig, failed), "rig/one/folder|failed|1|1");

    fs::remove_file(&in_the_way).unwrap();
    let folder = rig.pictures().join("rig/one/folder");
    let output = rig.run(&["retry", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    batches_ended(&rig, 3);
    assert_eq!(sqlite(&rig, &batch), "1|1|0|success|1|1");
    rig.unmount();
    assert_eq!(sqlite(&rig, "SELECT count(*) FROM upload_batches"), "3");
}

#[test]
fn a_batch_goes_on_over_the_death_of_the_daemon() {
    let Some(rig) = Rig::new() else { return };
    mount(&rig, &["--settle", "60000"]);
    write(&rig, "a/file", "waits");
    eventually("it is queued", || rig.snapshot().unwrap().queued_files == 1);
    let running =
        "SELECT total_folders, successful_uploads, failed_uploads, status, end_time IS NULL
                   FROM upload_batches";
    // The views follow within half a second.
    eventually("the batch is in the view", || {
        sqlite(&rig, running) == "1|0|0|running|1"
    });
    rig.kill();
    mount(&rig, &["--settle", "300"]);
    write(&rig, "b/file", "too");
    rig.unmount();
    assert_eq!(sqlite(&rig, running), "2|2|0|success|0");
}

#[test]
fn batches_hold_so_many_folders_and_have_a_pause_between_them() {
    let Some(rig) = Rig::new() else { return };
    for number in 0..5 {
        for file in ["one", "two"] {
            let content = format!("{number} {file}");
            write(&rig, &format!("folder-{number}/{file}"), &content);
        }
    }
    mount(&rig, &["--batch-size", "2", "--batch-delay", "300ms"]);
    rig.delivered_all();
    batches_ended(&rig, 3);
    let folders = "SELECT total_folders, successful_uploads FROM upload_batches ORDER BY batch_id";
    assert_eq!(sqlite(&rig, folders), "2|2\n2|2\n1|1");
    let pauses = "SELECT min(after.started_at - before.ended_at) >= 300
                  FROM batch AS before JOIN batch AS after ON after.id = before.id + 1";
    assert_eq!(sqlite(&rig, pauses), "1");
    rig.unmount();
}
