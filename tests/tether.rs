//! contrib/gphoto2: pictures from a camera into a mount, by gphoto2 itself. The camera is a directory,
//! which can download and not capture.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;

use rig::Rig;
use world::assert_says;

#[test]
fn pictures_of_a_camera_are_delivered_and_the_mount_goes_with_the_camera() {
    let Some(rig) = Rig::new() else { return };
    if Command::new("gphoto2").arg("--version").output().is_err() {
        eprintln!("skipped: there is no gphoto2");
        return;
    }
    let world = &rig.world;
    let camera = world.path("camera/DCIM");
    fs::create_dir_all(&camera).unwrap();
    for name in ["one.jpg", "two.jpg"] {
        fs::write(camera.join(name), name).unwrap();
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_outboxfs")).parent().unwrap();
    let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/contrib/gphoto2/outboxfs-tether"
    ));
    command
        .arg(rig.pictures())
        .args(["--camera", "Mass Storage Camera", "--folder", "/", "--port"])
        .arg(format!("disk:{}", world.path("camera").display()))
        .envs(
            world
                .outboxfs()
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env(
            "OUTBOXFS_REMOTE",
            format!("file://{}", rig.remote().display()),
        )
        .env("TETHER_ACTION", "--get-all-files")
        .env("PATH", path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_says(
        &said,
        &[
            "-one.jpg is safe on disk",
            "-two.jpg is safe on disk",
            "everything is delivered",
        ],
    );
    assert!(!rig.is_mounted());
    let day = fs::read_dir(rig.remote().join("original"))
        .unwrap()
        .next()
        .unwrap();
    assert_eq!(fs::read_dir(day.unwrap().path()).unwrap().count(), 2);
}
