//! What docs/security.md promises: hostile people on the machine, and hostile servers.

#[path = "support/rig.rs"]
mod rig;
#[path = "support/world.rs"]
mod world;

#[path = "security/confined.rs"]
mod confined;
#[path = "security/private.rs"]
mod private;
#[path = "security/race.rs"]
mod race;
#[path = "security/server.rs"]
mod server;

/// nobody(5).
pub const NOBODY: u32 = 65_534;

/// A command that runs as nobody; `None` where we may not become somebody else.
pub fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Option<std::process::Command> {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root to become somebody else");
        return None;
    }
    let mut command = std::process::Command::new(program);
    // Without further groups: the standard library gives them up with the user.
    command.uid(NOBODY).gid(NOBODY);
    Some(command)
}
