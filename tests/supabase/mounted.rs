//! Files through a mount to Supabase, and their rows to the same project.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::rig::{Rig, eventually};
use super::supabase::{KEY, Service};
use super::tree::make_picture;

/// Everything in one file: where to, and the one key.
#[test]
fn one_block_of_configuration_serves_files_and_rows() {
    let service = Service::start();
    let Some(rig) = Rig::new() else { return };
    let secrets = rig.world.path(".env");
    fs::write(&secrets, format!("SUPABASE_KEY={KEY}\n")).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "remote = \"{}\"\nrows = \"postgrest+{}/rest/v1/device_test\"\nenv-file = \"{}\"\n\
         sync-deletes = true\n",
        service.url("rig", "&urls=signed&expires=30d"),
        service.endpoint(),
        secrets.display(),
    );
    fs::write(rig.world.path("outboxfs.toml"), config).unwrap();
    let config = rig.world.path("outboxfs.toml");
    let output = rig.run(&["mount", "pictures", "--config", config.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let folder = rig.pictures().join("Prüfling 1");
    fs::create_dir(&folder).unwrap();
    make_picture(&folder.join("a & b.jpg"), 64, 48);
    fs::write(folder.join("stats.json"), "{\"status\":\"pass\"}").unwrap();
    rig.delivered_all();
    let there: Vec<String> = service.objects("rig").into_keys().collect();
    let expected = [
        "original/Prüfling 1/a & b.jpg",
        "original/Prüfling 1/stats.json",
        "thumbnail/Prüfling 1/a & b.jpg",
    ];
    assert_eq!(there, expected);
    let rows = service.state.lock().rows.clone();
    let picture = &rows.last().unwrap()["pictures"][0];
    let url = picture["url"].as_str().unwrap();
    assert!(
        url.contains("/storage/v1/object/sign/pictures/rig/original/"),
        "{url}"
    );
    assert!(url.ends_with("?token=signed-for-2592000"), "{url}");

    fs::remove_file(folder.join("a & b.jpg")).unwrap();
    eventually("it is deleted there, too", || {
        service.objects("rig").len() == 1
    });
    rig.unmount();
}
