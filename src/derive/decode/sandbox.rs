//! What a process gives up before it looks at other people's files with other people's code.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What the picture's file and the stacks of threads take of the address space, bytes.
const BESIDE: u64 = 384 << 20;

/// Closes what was inherited but for standard input, output and error: a daemon has a mount open.
pub(super) fn close_descriptors() {
    let (first, last, flags) = (3_u32, u32::MAX, 0_u32);
    // By its number: musl has no function of that name (close_range(2)).
    // SAFETY: nothing in this process has opened a descriptor yet that it will use again.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// From here on the process can compute, and read and write what is open. `memory` is in bytes.
pub(super) fn enter(memory: u64) -> io::Result<()> {
    let none = |resource| setrlimit(resource, limit(0));
    none(Resource::Core)?;
    none(Resource::Fsize)?;
    setrlimit(
        Resource::As,
        limit(memory.saturating_add(BESIDE + program()?)),
    )?;
    let filter = SeccompFilter::new(
        CALLS
            .iter()
            .map(|call| (*call, Vec::new()))
            .collect::<BTreeMap<_, _>>(),
        // As an older kernel would answer, which every library copes with.
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH
            .try_into()
            .map_err(io::Error::other)?,
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)?;
    // Also gives up the rights that a set-uid program would bring.
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// What the program and its libraries take of the address space now, bytes.
fn program() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(size.ok_or(io::ErrorKind::InvalidData)? << 10)
}

/// The kernel ends the process (SIGXCPU) when it has used this much processor time from now on.
pub(super) fn allow_seconds(seconds: u64) -> io::Result<()> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = (used.tv_sec as u64).saturating_add(seconds.max(1));
    setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(maximum.map_or(current, |maximum| maximum.min(current))),
            maximum,
        },
    )?;
    Ok(())
}

/// The kernel ends the process (SIGALRM) when so many seconds have gone by, whether it worked or slept:
/// threads of a decoder may wait for each other for ever. 0 for no limit.
pub(super) fn end_after(seconds: u64) {
    let seconds = libc::c_uint::try_from(seconds).unwrap_or(libc::c_uint::MAX);
    // SAFETY: takes a number and touches no memory.
    unsafe { libc::alarm(seconds) };
}

fn limit(value: u64) -> Rlimit {
    Rlimit {
        current: Some(value),
        maximum: Some(value),
    }
}

/// Memory, threads (libde265 and dav1d start some), the clock and its alarm, the two pipes, and ending.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
    libc::SYS_prctl,
    libc::SYS_setitimer,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
