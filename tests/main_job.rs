//! The main job: what is written into the mount arrives at the remote, with thumbnails and rows.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rig::{Rig, eventually};
use tree::{contents, make_picture};

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// A camera's and a test rig's folders, as they lie elsewhere before they are copied in.
fn make_source(rig: &Rig) -> String {
    let source = rig.world.path("source");
    for (folder, status) in [("rig1", "passed"), ("rig2", "FAIL")] {
        let folder = source.join(folder);
        fs::create_dir_all(&folder).unwrap();
        make_picture(&folder.join("wide.jpg"), 640, 480);
        make_picture(&folder.join("tall.png"), 300, 900);
        fs::write(
            folder.join("stats.json"),
            format!("{{\"status\": \"{status}\", \"volts\": 3.3}}"),
        )
        .unwrap();
    }
    fs::write(source.join("notes.txt"), "nothing to see").unwrap();
    fs::write(source.join("empty"), "").unwrap();
    source.to_str().unwrap().to_owned()
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn files_thumbnails_and_rows_arrive() {
    let Some(rig) = Rig::new() else { return };
    let source = make_source(&rig);
    rig.mount();
    run("cp", &["-a", &source, rig.pictures().to_str().unwrap()]);
    rig.delivered_all();

    assert_eq!(
        contents(&rig.remote().join("original")),
        contents(&rig.pictures())
    );
    for picture in [
        "source/rig1/wide.jpg",
        "source/rig1/tall.png",
        "source/rig2/wide.jpg",
    ] {
        let thumbnail = rig.remote().join("thumbnail").join(picture);
        let thumbnail = image::ImageReader::open(&thumbnail)
            .unwrap()
            .with_guessed_format()
            .unwrap();
        assert_eq!(
            thumbnail.format(),
            Some(image::ImageFormat::Jpeg),
            "{picture}"
        );
        assert_eq!(
            thumbnail.into_dimensions().unwrap(),
            (200, 300),
            "{picture}"
        );
    }
    assert_eq!(rig.row("SELECT count(*) FROM device_test"), "2");
    assert_eq!(
        rig.row("SELECT test_status FROM device_test WHERE folder = 'source/rig1'"),
        "pass"
    );
    assert_eq!(
        rig.row("SELECT test_status FROM device_test WHERE folder = 'source/rig2'"),
        "fail"
    );
    let of_rig1 = "FROM device_test WHERE folder = 'source/rig1'";
    assert_eq!(
        rig.row(&format!("SELECT stats ->> 'volts' || '' {of_rig1}")),
        "3.3"
    );
    for url in ["url", "thumbnail_url"] {
        let sql = format!("SELECT json_extract(pictures, '$[1].{url}') {of_rig1}");
        let url: url::Url = rig.row(&sql).parse().unwrap();
        assert!(
            url.to_file_path()
                .unwrap()
                .ends_with("source/rig1/wide.jpg"),
            "{url}"
        );
        assert!(url.to_file_path().unwrap().is_file(), "{url}");
    }
    rig.unmount();
}

#[test]
fn without_a_row_sink_rows_keep_nobody_waiting() {
    let Some(rig) = Rig::new() else { return };
    let server = s3::Server::in_process();
    let mut rig = rig;
    use_s3(&mut rig);
    rig.mount_to(&server.url("p"), &[]);
    fs::write(rig.pictures().join("stats.json"), "{}").unwrap();
    rig.unmount();
    // With one, they are written after all.
    let rows = rig.world.path("rows.db");
    rig.mount_to(
        &server.url("p"),
        &["--rows", &format!("sqlite:{}", rows.display())],
    );
    rig.unmount();
    let rows = rusqlite::Connection::open(rows).unwrap();
    let count: i64 = rows
        .query_row("SELECT count(*) FROM device_test", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
}

#[test]
fn unchanged_files_are_not_sent_again() {
    let Some(rig) = Rig::new() else { return };
    let source = make_source(&rig);
    // For a moment, what is copied over is empty.
    rig.mount_with(&["--settle", "300"]);
    let into = rig.pictures().to_str().unwrap().to_owned();
    run("cp", &["-a", &source, &into]);
    rig.delivered_all();
    let object = rig.remote().join("original/source/rig1/wide.jpg");
    let first = inode(&object);

    run("cp", &["-a", &source, &into]);
    run("rsync", &["-a", &source, &into]);
    run(
        "touch",
        &[rig
            .pictures()
            .join("source/rig1/wide.jpg")
            .to_str()
            .unwrap()],
    );
    rig.delivered_all();
    assert_eq!(
        inode(&object),
        first,
        "an object that is sent again is a new file at the remote"
    );

    fs::write(
        rig.pictures().join("source/rig1/wide.jpg"),
        "now it is something else",
    )
    .unwrap();
    rig.delivered_all();
    assert_ne!(inode(&object), first);
    assert_eq!(
        rig.delivered("source/rig1/wide.jpg"),
        b"now it is something else"
    );
}

#[test]
fn what_was_in_the_directory_before_is_delivered_too() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir_all(rig.pictures().join("a/b")).unwrap();
    fs::write(rig.pictures().join("a/b/old"), "old").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", rig.pictures().join("a/link")).unwrap();
    rig.mount();
    eventually("the scan has found it", || {
        rig.remote().join("original/a/b/old").exists()
    });
    rig.delivered_all();
    let arrived: Vec<String> = contents(&rig.remote().join("original"))
        .into_keys()
        .collect();
    assert_eq!(
        arrived,
        ["a/b/old"],
        "a symbolic link is kept, not followed and not delivered"
    );
}

#[test]
fn a_name_used_while_writing_never_arrives() {
    let Some(rig) = Rig::new() else { return };
    rig.mount_with(&["--settle", "300"]);
    let temporary = rig.pictures().join("photo.jpg.part");
    fs::write(&temporary, "all of it").unwrap();
    fs::rename(&temporary, rig.pictures().join("photo.jpg")).unwrap();
    fs::write(rig.pictures().join("scratch"), "gone soon").unwrap();
    fs::remove_file(rig.pictures().join("scratch")).unwrap();
    rig.delivered_all();
    let arrived: Vec<String> = contents(&rig.remote().join("original"))
        .into_keys()
        .collect();
    assert_eq!(arrived, ["photo.jpg"]);
}

#[test]
fn a_renamed_folder_arrives_under_its_new_name() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::create_dir_all(rig.pictures().join("a/deep")).unwrap();
    for number in 0..20 {
        fs::write(
            rig.pictures().join(format!("a/deep/{number}")),
            format!("{number}"),
        )
        .unwrap();
    }
    rig.delivered_all();
    fs::rename(rig.pictures().join("a"), rig.pictures().join("b")).unwrap();
    rig.unmount();
    assert_eq!(
        contents(&rig.remote().join("original/b")),
        contents(&rig.pictures().join("b"))
    );
}

#[test]
fn a_picture_that_cannot_be_decoded_is_delivered_and_its_thumbnail_reported() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    make_picture(&rig.pictures().join("whole.png"), 400, 400);
    let whole = fs::read(rig.pictures().join("whole.png")).unwrap();
    fs::write(rig.pictures().join("half.png"), &whole[..whole.len() / 2]).unwrap();
    rig.delivered_all();
    assert_eq!(rig.delivered("half.png"), &whole[..whole.len() / 2]);
    assert!(!rig.remote().join("thumbnail/half.png").exists());
    let failed = rig.upload("failed");
    let fields: Vec<&str> = failed.trim_end().split('\t').collect();
    assert_eq!(fields[..3], ["half.png", "thumbnail", "1"], "{failed}");
    assert!(
        rig.upload("status").contains("half.png (thumbnail"),
        "{}",
        rig.upload("status")
    );
    let error = rig.row("SELECT json_extract(pictures, '$[0].thumbnail_error') FROM device_test");
    assert!(error.contains("PNG"), "{error}");
}

#[test]
fn an_invalid_stats_json_is_delivered_and_the_row_says_what_is_wrong() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    fs::write(rig.pictures().join("stats.json"), "{\"status\": \"pass\",}").unwrap();
    rig.delivered_all();
    assert_eq!(rig.delivered("stats.json"), b"{\"status\": \"pass\",}");
    let error = rig.row("SELECT stats_error FROM device_test WHERE folder = '.'");
    assert!(error.contains("not valid JSON"), "{error}");
    assert_eq!(rig.row("SELECT stats FROM device_test"), "NULL");

    fs::write(rig.pictures().join("stats.json"), "{\"status\": \"pass\"}").unwrap();
    eventually("the row follows", || {
        rig.row("SELECT test_status FROM device_test") == "pass"
    });
    assert_eq!(rig.row("SELECT stats_error FROM device_test"), "NULL");
}

#[test]
fn what_was_written_and_never_closed_is_found_by_the_next_mount() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    let mut file = File::create(rig.pictures().join("recording")).unwrap();
    file.write_all(b"the first half").unwrap();
    rig.kill();
    drop(file);
    rig.mount();
    rig.delivered_all();
    assert_eq!(rig.delivered("recording"), b"the first half");
}

#[test]
fn a_damaged_local_copy_never_replaces_a_good_remote_one() {
    let Some(rig) = Rig::new() else { return };
    rig.mount();
    for name in ["cut", "lost", "rewritten"] {
        fs::write(rig.pictures().join(name), "all of the content").unwrap();
    }
    rig.delivered_all();
    // Rewritten through the mount, with the daemon killed in the middle: that is no damage.
    let rewriting = File::create(rig.pictures().join("rewritten")).unwrap();
    rig.kill();
    drop(rewriting);
    run("umount", &["-l", rig.pictures().to_str().unwrap()]);
    File::options()
        .write(true)
        .open(rig.pictures().join("cut"))
        .unwrap()
        .set_len(3)
        .unwrap();
    fs::remove_file(rig.pictures().join("lost")).unwrap();

    rig.mount();
    eventually("the scan is through", || {
        rig.snapshot()
            .is_some_and(|now| now.scanning.is_none() && now.queued_files == 0)
    });
    let now = rig.snapshot().unwrap();
    assert_eq!(
        (now.suspect_files, now.safe_to_unplug),
        (2, false),
        "{now:?}"
    );
    assert_eq!(rig.delivered("cut"), b"all of the content");
    assert_eq!(rig.delivered("lost"), b"all of the content");
    assert_eq!(rig.delivered("rewritten"), b"");
    let output = rig.run(&["unmount", "pictures"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn one_daemon_per_directory() {
    let Some(rig) = Rig::new() else { return };
    fs::create_dir(rig.world.path("elsewhere")).unwrap();
    fs::create_dir(rig.world.path("third")).unwrap();
    let mount = |at: &str| {
        rig.run(&[
            "mount",
            "pictures",
            at,
            "--remote",
            "file:///nonexistent-root/r",
        ])
    };
    let remote = format!("file://{}", rig.remote().display());
    let output = rig.run(&["mount", "pictures", "elsewhere", "--remote", &remote]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let second = mount("third");
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    let end = rig.run(&["unmount", "elsewhere"]);
    assert_ne!(second.status.code(), Some(0));
    assert!(error.contains("another outboxfs (process "), "{error}");
    assert_eq!(end.status.code(), Some(0), "{end:?}");
}

#[test]
fn a_close_that_cannot_be_journaled_is_an_error() {
    let Some(rig) = Rig::new() else { return };
    // A disk of its own for the journal, and a small one.
    let state = rig.world.path("state");
    fs::create_dir(&state).unwrap();
    run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=1m",
            "tmpfs",
            state.to_str().unwrap(),
        ],
    );
    rig.mount();
    let failed = (0..20_000).find(|number| {
        let file = File::create(rig.pictures().join(format!("{number}-{}", "x".repeat(200))));
        // std's File ignores what close says.
        file.is_ok_and(|file| nix_close(file).is_err())
    });
    let status = rig.upload("status");
    rig.kill();
    run("umount", &["-l", rig.pictures().to_str().unwrap()]);
    run("umount", &["-l", state.to_str().unwrap()]);
    assert!(
        failed.is_some(),
        "the journal's disk is full and close still says 0:\n{status}"
    );
}

fn nix_close(file: File) -> std::io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was just taken out of its owner.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn use_s3(rig: &mut Rig) {
    rig.world
        .variables
        .push(("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()));
    rig.world
        .variables
        .push(("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()));
}

async fn object(server: &s3::Server, key: &str) -> Option<Vec<u8>> {
    let answer = server
        .client()
        .get_object()
        .bucket(s3::BUCKET)
        .key(key)
        .send()
        .await
        .ok()?;
    Some(answer.body.collect().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_thumbnails_and_rows_arrive_at_s3() {
    for server in [Some(s3::Server::in_process()), s3::Server::seaweedfs()]
        .into_iter()
        .flatten()
    {
        let Some(mut rig) = Rig::new() else { return };
        use_s3(&mut rig);
        let source = make_source(&rig);
        let rows = rig.world.path("rows.db");
        rig.mount_to(
            &server.url("rigs"),
            &["--rows", &format!("sqlite:{}", rows.display())],
        );
        run("cp", &["-a", &source, rig.pictures().to_str().unwrap()]);
        rig.unmount();
        for (name, hash) in contents(&rig.pictures()) {
            let stored = object(&server, &format!("rigs/original/{name}")).await;
            assert_eq!(
                stored.map(|stored| blake3::hash(&stored)),
                Some(hash),
                "{name}"
            );
        }
        let thumbnail = object(&server, "rigs/thumbnail/source/rig2/tall.png")
            .await
            .unwrap();
        let thumbnail = image::load_from_memory(&thumbnail).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (200, 300));
        let rows = rusqlite::Connection::open(rows).unwrap();
        let count: i64 = rows
            .query_row("SELECT count(*) FROM device_test", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_remote_is_not_the_writers_problem() {
    let Some(mut rig) = Rig::new() else { return };
    use_s3(&mut rig);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!(
        "s3://{}/p?endpoint=http://{address}&region=us-east-1",
        s3::BUCKET
    );
    // A file whose first attempt fails is failed.
    rig.mount_to(&url, &["--max-retries", "0"]);
    let write = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let file = rig.pictures().join(format!("{number}"));
            fs::write(file, format!("content {number}")).unwrap();
        }
    };
    let assert_waiting = || {
        eventually("status says what is wrong", || {
            rig.snapshot()
                .is_some_and(|now| now.remote_error.is_some() && now.queued_files == 200)
        });
        // Longer than the pauses between attempts.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(rig.snapshot().unwrap().failed_files, 0);
        let journal = rusqlite::Connection::open(rig.journal()).unwrap();
        let attempts = "SELECT sum(attempts) FROM work";
        let attempts: i64 = journal.query_row(attempts, [], |row| row.get(0)).unwrap();
        assert_eq!(attempts, 0, "attempts are used up");
    };
    write(0..200);
    assert_waiting();
    let server = s3::Server::in_process_on(TcpListener::bind(address).unwrap());
    rig.delivered_all();
    assert_eq!(rig.snapshot().unwrap().remote_error, None);
    let last = object(&server, "p/original/199").await.unwrap();
    assert_eq!(last, b"content 199");

    // It goes away while it is in use.
    drop(server);
    write(200..400);
    assert_waiting();
    let server = s3::Server::in_process_on(TcpListener::bind(address).unwrap());
    rig.delivered_all();
    let last = object(&server, "p/original/399").await.unwrap();
    assert_eq!(last, b"content 399");
    rig.unmount();
}

#[test]
fn wrong_credentials_refuse_the_first_mount_and_queue_on_later_ones() {
    let Some(mut rig) = Rig::new() else { return };
    let server = s3::Server::in_process();
    rig.world
        .variables
        .push(("AWS_SECRET_ACCESS_KEY", "wrong".into()));
    let output = rig.run(&["mount", "pictures", "--remote", &server.url("p")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        !rig.world.path("state").exists(),
        "a refused mount leaves nothing behind"
    );

    use_s3(&mut rig);
    rig.mount_to(&server.url("p"), &[]);
    rig.unmount();
    rig.world
        .variables
        .push(("AWS_SECRET_ACCESS_KEY", "wrong".into()));
    rig.mount_to(&server.url("p"), &[]);
    fs::write(rig.pictures().join("a"), "1").unwrap();
    let now = rig.snapshot().unwrap();
    assert!(
        now.remote_error.is_some() && now.queued_files == 1,
        "{now:?}"
    );
    assert!(
        !format!("{now:?}{error}").contains("wrong\""),
        "a secret never shows"
    );
}
