//! Creating things as the caller: owner, group, umask, set-group-id directories, default ACLs and
//! quotas are then the business of the filesystem below, and come out as there.
//!
//! The kernel has already decided that the caller may (`default_permissions`), by groups that we
//! do not know; so the thread changes its filesystem ids and keeps its capabilities.

use std::cell::Cell;

use fuser::Request;
use rustix::thread::CapabilitySet;

/// `SECBIT_NO_SETUID_FIXUP` of capabilities(7): changing ids changes no capabilities.
const KEEP_CAPABILITIES: libc::c_int = 1 << 2;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Ids {
    uid: u32,
    gid: u32,
    umask: u32,
}

thread_local! {
    /// Who this thread creates as. `None` until it has left the process's umask and capability
    /// rules.
    static CURRENT: Cell<Option<Ids>> = const { Cell::new(None) };
}

/// Makes this thread create as the caller with that umask. It stays so until the next caller:
/// nothing but creating looks at it.
pub(super) fn create_as(request: &Request, umask: u32) {
    let wanted = Ids {
        uid: request.uid(),
        gid: request.gid(),
        umask,
    };
    let current = CURRENT.get();
    if current == Some(wanted) {
        return;
    }
    if current.is_none() {
        leave_the_process();
    }
    if current.map(|ids| ids.umask) != Some(umask) {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    // Without privileges these change nothing, and there is only one caller.
    // SAFETY: both take a number and touch no memory.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, wanted.gid);
        libc::syscall(libc::SYS_setfsuid, wanted.uid);
    }
    CURRENT.set(Some(wanted));
}

fn leave_the_process() {
    // SAFETY: both take numbers; the umask becomes this thread's own.
    unsafe {
        libc::unshare(libc::CLONE_FS);
        libc::prctl(libc::PR_SET_SECUREBITS, KEEP_CAPABILITIES, 0, 0, 0);
    }
}

/// Runs `open_backing` so that what the kernel later writes for the caller takes set-id bits away
/// if the caller's own write would: the kernel keeps the credentials of this moment.
pub(super) fn with_privileges_of<T>(request: &Request, open_backing: impl FnOnce() -> T) -> T {
    if request.uid() == 0 {
        return open_backing();
    }
    let Ok(all) = rustix::thread::capabilities(None) else {
        return open_backing();
    };
    let mut fewer = all;
    fewer.effective.remove(CapabilitySet::FSETID);
    let reduced = rustix::thread::set_capabilities(None, fewer).is_ok();
    let result = open_backing();
    if reduced && let Err(error) = rustix::thread::set_capabilities(None, all) {
        tracing::error!("A thread could not take its privileges back: {error}");
    }
    result
}
