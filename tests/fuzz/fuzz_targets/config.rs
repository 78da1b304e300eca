//! Any text as a configuration file: settings, or one line that names the file and the line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use outboxfs::config::{ConfigError, ConfigFile, limits};

fn read(text: &str) -> Result<(), ConfigError> {
    let file = ConfigFile::of(Path::new("/etc/o.toml"), text.to_owned())?;
    let mounts = file.mounts()?;
    let names = mounts.iter().map(|mount| Some(mount.name.as_str()));
    for name in names.chain([None]) {
        let settings = file.settings(name).expect("they were read before");
        // What is there twice is an error, and what is there has a line.
        let written = file.written(name).expect("it was read before");
        assert!(
            written
                .values()
                .all(|one| one.line >= 1 && one.line <= text.lines().count())
        );
        if let Err(why) = limits(&settings) {
            assert!(why.to_string().starts_with("--"), "{why}");
        }
    }
    Ok(())
}

fuzz_target!(|text: &str| {
    if let Err(why) = read(text) {
        let why = why.to_string();
        assert!(
            why.starts_with("/etc/o.toml:") && !why.contains('\n'),
            "{why}"
        );
    }
});
