//! What mount(8) and umount(8) call: `mount.outboxfs` and `mount.fuse.outboxfs`, `umount.…`, links to
//! this program. Translates their arguments to those of `outboxfs mount` and decides how to unmount.
//!
//! ```text
//! mount.TYPE SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
//! umount.TYPE DIR [-nlfvr] [-N NAMESPACE] [-t TYPE]
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::ValueEnum;
use rustix::mount::UnmountFlags;

use super::mounts::real_path;
use super::{Error, unmount};
use crate::config::{MountSettings, described};
use crate::mount::Restriction;

/// Options of /etc/fstab that are for mount(8), systemd or the kernel, and nothing to us.
const OTHERS: [&str; 26] = [
    "defaults",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "dev",
    "suid",
    "exec",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "silent",
];

/// What this program was called to be.
pub enum Called {
    /// By a person, or anything else: the arguments as they are.
    Itself(Vec<OsString>),
    Unmount(Unmount),
}

pub struct Unmount {
    mountpoint: PathBuf,
    lazily: bool,
    by_force: bool,
}

/// Looks at the name that the program was called by.
pub fn called(mut arguments: Vec<OsString>) -> Result<Called, Error> {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    match name.and_then(OsStr::to_str) {
        Some("mount.outboxfs" | "mount.fuse.outboxfs") => {
            mount(arguments.split_off(1)).map(Called::Itself)
        }
        Some("umount.outboxfs" | "umount.fuse.outboxfs") => {
            unmount_arguments(arguments.split_off(1)).map(Called::Unmount)
        }
        _ => Ok(Called::Itself(arguments)),
    }
}

/// Tells umount(8), by way of /run/mount/utab, that there is a helper for this mount: it does not look for
/// one by itself. Only root's umount(8) has helpers. A sentence if that does not work.
pub fn register(settings: &MountSettings) -> Option<String> {
    if !settings.flush || !rustix::process::geteuid().is_root() {
        return None;
    }
    // What is not said again would be allowed again.
    let restrictions = settings.restrictions.iter();
    let restrictions: String = restrictions.map(|one| format!("{},", one.name())).collect();
    let output = Command::new("mount")
        .args(["-i", "-o"])
        .arg(format!("remount,bind,{restrictions}uhelper=fuse.outboxfs"))
        .arg("--")
        .arg(&settings.mountpoint)
        .output();
    let why = match output {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("mount: {error}"),
    };
    Some(format!(
        "umount(8) will not wait for the flush ({why}); 'outboxfs unmount' does"
    ))
}

/// Letters of flags, what stands for itself, and the value of `-o`.
struct Parts {
    flags: String,
    paths: Vec<OsString>,
    options: Vec<u8>,
}

fn parts(arguments: Vec<OsString>) -> Parts {
    let mut parts = Parts {
        flags: String::new(),
        paths: Vec::new(),
        options: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            b"-o" => {
                let value = arguments.next().unwrap_or_default();
                parts.options.push(b',');
                parts.options.extend(value.into_vec());
            }
            b"-t" | b"-N" => drop(arguments.next()),
            [b'-', letters @ ..] if !letters.is_empty() => {
                parts.flags += &String::from_utf8_lossy(letters);
            }
            _ => parts.paths.push(argument),
        }
    }
    parts
}

fn mount(arguments: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let parts = parts(arguments);
    let [spec, directory] = parts.paths.as_slice() else {
        return Err(Error::Refused(
            "mount(8) calls this with what is mounted and where; use 'outboxfs mount'".to_owned(),
        ));
    };
    let mut translated: Vec<OsString> = ["outboxfs", "mount"].map(OsString::from).into();
    for option in options(&parts.options) {
        let option = String::from_utf8(option)
            .map_err(|_| Error::Refused("a mount option is not UTF-8".to_owned()))?;
        translated.extend(translate(&option)?);
    }
    let mut source = OsString::from("--source=");
    source.push(spec);
    translated.push(source);
    translated.push("--".into());
    translated.push(spec.clone());
    translated.push(directory.clone());
    Ok(translated)
}

/// Options between commas; those in quotes are parts of a value.
fn options(text: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let mut quoted = false;
    for byte in text {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => options.push(Vec::new()),
            byte => options
                .last_mut()
                .into_iter()
                .for_each(|last| last.push(*byte)),
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

/// The flag that an option is, if it is one of ours.
fn translate(option: &str) -> Result<Option<OsString>, Error> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    if OTHERS.contains(&name)
        || name.starts_with("x-")
        || name.starts_with("X-")
        || name == "comment"
    {
        return Ok(None);
    }
    if Restriction::from_str(name, false).is_ok() {
        return Ok(Some(format!("--restrict={name}").into()));
    }
    if name == "ro" {
        return Err(Error::Refused(
            "a mount that cannot be written to has nothing to deliver; leave out the option ro"
                .to_owned(),
        ));
    }
    let key = name.replace('_', "-");
    let is_known = key == "config" || described().iter().any(|setting| setting.key == key);
    match (is_known, value) {
        (false, _) => Err(Error::Refused(format!(
            "'{name}' is no mount option; each setting of 'outboxfs mount --help' is one, without \
             the dashes"
        ))),
        (true, Some(value)) => Ok(Some(format!("--{key}={value}").into())),
        (true, None) => Ok(Some(format!("--{key}").into())),
    }
}

fn unmount_arguments(arguments: Vec<OsString>) -> Result<Unmount, Error> {
    let parts = parts(arguments);
    match <[OsString; 1]>::try_from(parts.paths) {
        Ok([mountpoint]) => Ok(Unmount {
            mountpoint: mountpoint.into(),
            lazily: parts.flags.contains('l'),
            by_force: parts.flags.contains('f'),
        }),
        Err(_) => Err(Error::Refused(
            "umount(8) calls this with a mount point; use 'outboxfs unmount'".to_owned(),
        )),
    }
}

/// Unmounts; waits for the end of delivery where the mount has the option `flush`.
pub fn unmount(asked: &Unmount) -> Result<ExitCode, Error> {
    let path = &asked.mountpoint;
    let hurries = asked.lazily || asked.by_force;
    if !hurries && unmount::is_to_flush(path) {
        return unmount::and_flush(path);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Error::Failed(format!("cannot unmount {}: {error}", path.display()))
    };
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, asked.lazily);
    flags.set(UnmountFlags::FORCE, asked.by_force);
    let real = real_path(path).map_err(|error| failed(&error))?;
    rustix::mount::unmount(real, flags).map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(options: &str) -> Result<Vec<String>, String> {
        let arguments = ["mount.outboxfs", "rig", "/mnt", "-n", "-o", options];
        match called(arguments.map(OsString::from).into()) {
            Ok(Called::Itself(arguments)) => Ok(arguments
                .into_iter()
                .map(|argument| argument.into_string().unwrap())
                .collect()),
            Ok(Called::Unmount(_)) => panic!("that was a mount"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn options_are_settings_and_what_is_for_others_is_left_out() {
        let given = "rw,noauto,nofail,_netdev,x-systemd.requires=net,nosuid,flush,allow_other,\
                     workers=4,remote=s3://b/p?endpoint=http://h,config=/c.toml,\
                     thumbnail=\"64x64,quality=70\"";
        let expected = [
            "outboxfs",
            "mount",
            "--restrict=nosuid",
            "--flush",
            "--allow-other",
            "--workers=4",
            "--remote=s3://b/p?endpoint=http://h",
            "--config=/c.toml",
            "--thumbnail=64x64,quality=70",
            "--source=rig",
            "--",
            "rig",
            "/mnt",
        ];
        assert_eq!(translated(given).unwrap(), expected);
    }

    #[test]
    fn what_is_no_option_is_said() {
        assert!(translated("wokers=4").unwrap_err().contains("'wokers'"));
        assert!(translated("ro").unwrap_err().contains("leave out"));
    }

    #[test]
    fn other_names_are_the_program_itself() {
        let arguments = vec![OsString::from("/usr/bin/outboxfs"), "status".into()];
        match called(arguments.clone()) {
            Ok(Called::Itself(same)) => assert_eq!(same, arguments),
            _ => panic!("not itself"),
        }
    }
}
