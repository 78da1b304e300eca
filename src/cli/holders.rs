//! Which processes keep a mount busy, from `/proc` (proc(5)): those that have a file open in it or
//! stand in it. Other users' processes can be seen by root only.

use std::fs;
use std::path::Path;

/// `name (pid)` of each, but for those of `except`.
pub fn of(mountpoint: &Path, except: &[u32]) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| !except.contains(pid) && holds(*pid, mountpoint))
        .map(|pid| format!("{} ({pid})", name(pid)))
        .collect()
}

fn holds(pid: u32, mountpoint: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(mountpoint));
    if ["cwd", "root", "exe"]
        .iter()
        .any(|link| inside(&process.join(link)))
    {
        return true;
    }
    fs::read_dir(process.join("fd"))
        .is_ok_and(|open| open.flatten().any(|file| inside(&file.path())))
}

fn name(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.trim_end().to_owned(),
        Err(_) => "a process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let me = std::process::id();
        let _open = fs::File::create(path.join("busy")).unwrap();
        let holders = of(&path, &[]);
        assert!(
            holders.len() == 1 && holders[0].contains(&format!("({me})")),
            "{holders:?}"
        );
        assert!(of(&path, &[me]).is_empty());
    }
}
