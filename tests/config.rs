//! Where settings come from: the configuration file, found and named; what `config show` says of it,
//! and what `init` writes.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use rig::Rig;
use world::{World, assert_says};

/// Writes a file as people have it: others may read it.
fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

fn show(world: &World, arguments: &[&str]) -> String {
    let mut command = world.outboxfs();
    command.args(["config", "show"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Value and source of a setting.
fn setting(shown: &str, key: &str) -> (String, String) {
    let line = shown
        .lines()
        .find(|line| line.split(' ').next() == Some(key))
        .unwrap_or_else(|| panic!("{key} is not shown: {shown}"));
    let mut columns = line.split("  ").map(str::trim).filter(|c| !c.is_empty());
    let (_, value) = (columns.next(), columns.next().unwrap_or_default());
    (
        value.to_owned(),
        columns.next().unwrap_or_default().to_owned(),
    )
}

#[test]
fn the_file_beside_the_directory_goes_before_the_users() {
    let world = World::new();
    write(&world.path("config/outboxfs/config.toml"), "workers = 2\n");
    let shown = show(&world, &["pictures"]);
    let source = world.path("config/outboxfs/config.toml");
    let source = format!("{}:1", source.display());
    assert_eq!(setting(&shown, "workers"), ("2".into(), source));

    write(&world.path("pictures.outboxfs.toml"), "\nworkers = 3\n");
    let source = format!("{}:2", world.path("pictures.outboxfs.toml").display());
    fs::create_dir(world.path("pictures/2024")).unwrap();
    for path in ["pictures", "pictures/2024"] {
        let shown = show(&world, &[path]);
        assert_eq!(setting(&shown, "workers"), ("3".into(), source.clone()));
    }

    write(&world.path("own.toml"), "workers = 4\n");
    let shown = show(&world, &["pictures", "--config", "own.toml"]);
    assert_eq!(setting(&shown, "workers").0, "4");
}

#[test]
fn a_misspelt_variable_is_told_with_what_was_meant() {
    let mut world = World::new();
    world.variables = vec![("OUTBOXFS_WORKER", "3".to_owned())];
    let output = world.outboxfs().args(["config", "show"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["OUTBOXFS_WORKER means", "OUTBOXFS_WORKERS was"]);
}

#[test]
fn each_value_is_told_with_where_it_comes_from_and_secrets_are_not_told() {
    let mut world = World::new();
    let config = world.path("o.toml");
    let secrets = world.path("secrets.env");
    fs::write(&secrets, "AWS_SECRET_ACCESS_KEY=hush-hush\n").unwrap();
    fs::set_permissions(&secrets, Permissions::from_mode(0o600)).unwrap();
    write(
        &config,
        "workers = 2\nenv-file = 'secrets.env'\nexclude = [\n  '*.tmp',\n  'x',\n]\n\
         columns = { voltage = '$.v number' }\n\
         [mounts.rig]\ndirectory = 'pictures'\nmax-retries = 5\n",
    );
    world.variables = vec![
        ("OUTBOXFS_SETTLE", "0".to_owned()),
        ("OUTBOXFS_CONFIG", config.display().to_string()),
        ("AWS_ACCESS_KEY_ID", "AKIAVISIBLE".to_owned()),
    ];
    let shown = show(&world, &["rig", "--bwlimit", "10M"]);
    let at = |line: u32| format!("{}:{line}", config.display());
    for (key, value, source) in [
        ("workers", "2", at(1)),
        ("exclude", "[ '*.tmp', 'x', ]", at(3)),
        ("columns", "{ voltage = '$.v number' }", at(7)),
        ("max-retries", "5", at(10)),
        ("settle", "0", "OUTBOXFS_SETTLE".to_owned()),
        ("bwlimit", "10M", "--bwlimit".to_owned()),
        ("max-retry-delay", "5m", "default".to_owned()),
        ("sync-deletes", "false", "default".to_owned()),
        ("AWS_ACCESS_KEY_ID", "********", "environment".to_owned()),
        (
            "AWS_SECRET_ACCESS_KEY",
            "********",
            secrets.display().to_string(),
        ),
        (
            "directory",
            &world.path("pictures").display().to_string(),
            "[mounts.rig]".to_owned(),
        ),
    ] {
        assert_eq!(setting(&shown, key), (value.to_owned(), source), "{key}");
    }
    assert!(
        !shown.contains("hush") && !shown.contains("AKIA"),
        "{shown}"
    );
}

#[test]
fn a_file_that_others_may_change_is_not_followed() {
    let world = World::new();
    let config = world.path("pictures.outboxfs.toml");
    write(&config, "workers = 3\n");
    fs::set_permissions(&config, Permissions::from_mode(0o666)).unwrap();
    let line = world.refusal(&["mount", "pictures"]);
    assert_says(&line, &["pictures.outboxfs.toml", "chmod go-w", "--config"]);
}

#[test]
fn a_name_that_is_a_directory_too_is_refused() {
    let world = World::new();
    let text = "[mounts.pictures]\ndirectory = '/srv'\n[mounts.cam]\ndirectory = '/nowhere/cam'\n";
    write(&world.path("config/outboxfs/config.toml"), text);
    let line = world.refusal(&["mount", "pictures"]);
    assert_says(&line, &["name of a mount", "./pictures", "/srv"]);
    let line = world.refusal(&["mount", "cam"]);
    assert_says(&line, &["/nowhere/cam does not exist", "mkdir"]);
}

#[test]
fn mounts_are_mounted_and_unmounted_by_their_names() {
    let Some(rig) = Rig::new() else { return };
    let world = &rig.world;
    fs::create_dir(world.path("kept")).unwrap();
    let text = format!(
        "workers = 3\n\
         [mounts.rig]\ndirectory = '{}'\nmountpoint = '{}'\nremote = 'file://{}'\n\
         [mounts.other]\ndirectory = '/nowhere'\nremote = 's3://no/where'\n",
        world.path("kept").display(),
        rig.pictures().display(),
        rig.remote().display(),
    );
    write(&world.path("config/outboxfs/config.toml"), &text);
    let output = rig.run(&["mount", "rig"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::write(rig.pictures().join("a"), "1").unwrap();
    rig.delivered_all();
    let output = rig.run(&["status", "rig"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(
        &said,
        &[&format!("mounted on {}", rig.pictures().display())],
    );
    let output = rig.run(&["unmount", "rig"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(rig.delivered("a"), b"1");

    // Other commands take the same settings, by name and by path.
    fs::write(world.path("kept/b"), "2").unwrap();
    let output = rig.run(&["push", "rig"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(rig.delivered("b"), b"2");
    let output = rig.run(&["verify", "kept"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn init(world: &World, arguments: &[&str], answers: &str) -> Output {
    let mut command = world.outboxfs();
    command
        .args(["init", "--config", "o.toml"])
        .args(arguments)
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may refuse before it reads.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn init_asks_tries_and_writes_what_can_be_mounted() {
    let world = World::new();
    let remote = format!("file://{}", world.path("remote").display());
    let output = init(&world, &[], &format!("pictures\n{remote}\n\n"));
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(&said, &["write   ok", "the mount 'pictures'"]);
    let shown = show(&world, &["./pictures", "--config", "o.toml"]);
    assert_eq!(setting(&shown, "remote").0, format!("\"{remote}\""));
    assert_eq!(setting(&shown, "workers").1, "default");

    // What is given is not asked for, and what is there stays.
    let before = fs::read_to_string(world.path("o.toml")).unwrap();
    let output = init(&world, &["--directory", "cam"], "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_says(&error, &["cam is no directory; make it with 'mkdir -p"]);
    for name in ["cam", "x"] {
        fs::create_dir(world.path(name)).unwrap();
    }
    let output = init(&world, &["--directory", "cam"], &format!("{remote}\n\n"));
    assert!(output.status.success(), "{output:?}");
    let after = fs::read_to_string(world.path("o.toml")).unwrap();
    assert!(after.starts_with(&before) && after.contains("[mounts.cam]"));

    let output = init(&world, &["cam", "--directory", "x"], "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_says(&error, &["has a mount 'cam' already"]);
    assert_eq!(fs::read_to_string(world.path("o.toml")).unwrap(), after);
}

#[test]
fn init_writes_nothing_that_does_not_work_unless_told_to() {
    let world = World::new();
    let before = world.everything();
    let remote = "s3://b/p?endpoint=http://127.0.0.1:1&region=r";
    let arguments = ["rig", "--directory", "pictures", "--remote", remote];
    let answers = "\nkey-id\nhush-hush\n";
    let output = init(&world, &arguments, answers);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(world.everything(), before);

    let output = init(&world, &[&arguments[..], &["--no-check"]].concat(), answers);
    assert!(output.status.success(), "{output:?}");
    let said = format!("{output:?}");
    assert!(!said.contains("hush"), "{said}");
    let secrets = world.path("rig.env");
    assert_eq!(
        secrets.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_says(
        &fs::read_to_string(&secrets).unwrap(),
        &["AWS_SECRET_ACCESS_KEY='hush-hush'"],
    );
    let config = fs::read_to_string(world.path("o.toml")).unwrap();
    assert!(!config.contains("hush"), "{config}");
    let shown = show(&world, &["rig", "--config", "o.toml"]);
    assert_eq!(
        setting(&shown, "AWS_SECRET_ACCESS_KEY").1,
        secrets.display().to_string()
    );
}

#[test]
fn init_without_answers_says_how_to_give_them() {
    let world = World::new();
    let output = init(&world, &[], "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_says(&error, &["nobody answers 'Directory", "init --help"]);
}

#[test]
fn the_documentation_names_every_setting_with_its_default() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let docs = fs::read_to_string(docs).unwrap();
    let world = World::new();
    for line in show(&world, &[]).lines() {
        let key = line.split(' ').next().unwrap();
        if key.starts_with(|c: char| c.is_ascii_uppercase()) {
            continue;
        }
        let (default, _) = setting(line, key);
        let row = docs
            .lines()
            .find(|row| row.starts_with(&format!("| `{key}` | ")));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md does not name {key}"));
        let default = default.trim_start_matches('-');
        assert!(
            row.contains(&format!("| {default} |").replace("|  |", "| |")),
            "{row}: {default}"
        );
    }
}
