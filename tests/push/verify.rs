//! `outboxfs verify` and `outboxfs check`.

use std::fs;
use std::io::Write;

use crate::s3;
use crate::tree::make_picture;
use crate::world::{World, assert_says};
use crate::{Push, events, key, path, put};
use outboxfs::remote::{Artifact, Key};

#[test]
fn verify_finds_what_is_missing_different_and_extra() {
    let server = s3::Server::in_process();
    for push in [Push::to_directory(), Push::to_s3(&server)] {
        for name in ["same", "missing", "shorter", "other", "in/deep", "inside"] {
            push.write(name, &format!("the content of {name}"));
        }
        make_picture(&push.tree().join("p.png"), 20, 20);
        push.push(
            "pictures",
            &["--thumbnail", "200x300", "--thumbnail", "64x64"],
        );
        assert_says(&push.run_verify(&[]), &["7 files", "as delivered"]);
        push.write("waiting", "not delivered");
        push.push("pictures", &["--scan-only"]);

        let remote = push.open_remote();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            remote.delete(&key("missing")).await.unwrap();
            remote
                .delete(&Key::new(Artifact::Thumbnail, &path("p.png")))
                .await
                .unwrap();
            for (name, content) in [
                ("shorter", "short"),
                ("other", "The content of other"),
                ("in/extra", "x"),
            ] {
                remote.put(put(name, content)).await.unwrap();
            }
            let mut further = put("gone.png", "x");
            further.key = Key::below("thumbnail-64x64", &path("gone.png"));
            remote.put(further).await.unwrap();
        });
        for more in [&["--json"][..], &["--json", "--full"]] {
            let output = push.verify("pictures", more);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let mut events = events(&output.stdout);
            let summary = events.pop().unwrap();
            let mut found: Vec<String> = events
                .iter()
                .map(|event| format!("{} {}", event["event"], event["key"]).replace('"', ""))
                .collect();
            found.sort();
            assert_eq!(
                found,
                [
                    "different original/other",
                    "different original/shorter",
                    "extra original/in/extra",
                    "extra thumbnail-64x64/gone.png",
                    "missing original/missing",
                    "missing thumbnail/p.png"
                ]
            );
            assert_eq!(
                (&summary["verified_files"], &summary["pending_files"]),
                (&7.into(), &1.into())
            );
        }
        let of_folder = push.verify("pictures/in", &[]);
        assert_eq!(of_folder.status.code(), Some(0), "{of_folder:?}");
        let said = String::from_utf8(of_folder.stdout).unwrap();
        assert_says(&said, &["extra\toriginal/in/extra\n", "1 file "]);
    }
}

#[test]
fn verify_in_full_reads_what_a_listing_does_not_show() {
    let push = Push::to_directory();
    push.write("a", "the content");
    push.push("pictures", &[]);
    let object = push.world.path("remote/original/a");
    let mut file = fs::File::options().write(true).open(object).unwrap();
    file.write_all(b"THE").unwrap();
    assert_says(&push.run_verify(&[]), &["1 file "]);
    let output = push.verify("pictures", &["--full"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(
        &said,
        &["different\toriginal/a\tits content is not what was delivered"],
    );
}

#[test]
fn a_directory_that_was_never_pushed_cannot_be_verified() {
    let world = World::new();
    let line = world.refusal(&["verify", "pictures"]);
    assert_says(&line, &["never mounted or pushed"]);
    let line = world.refusal(&["retry", "pictures"]);
    assert_says(&line, &["never mounted or pushed"]);
}

#[test]
fn check_says_each_step_and_leaves_nothing() {
    let server = s3::Server::in_process();
    for push in [Push::to_directory(), Push::to_s3(&server)] {
        let rows = format!("sqlite:{}", push.world.path("rows.db").display());
        let arguments = ["check", "--remote", &push.remote, "--rows", &rows];
        let output = push.world.outboxfs().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        for step in ["write", "look", "list", "read", "delete", "rows"] {
            assert!(
                said.lines()
                    .any(|line| line.starts_with(step) && line.contains("ok")),
                "{said}"
            );
        }
        assert_eq!(push.objects(), Vec::<String>::new());
    }
}

#[test]
fn check_says_what_does_not_work() {
    let mut push = Push::to_directory();
    push.world.variables = vec![
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
    ];
    let remote = "s3://none/p?endpoint=http://127.0.0.1:1";
    let output = push
        .world
        .outboxfs()
        .args(["check", "--remote", remote])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("write"), "{said}");
    assert_says(&said, &["FAILED", "127.0.0.1:1"]);
}
