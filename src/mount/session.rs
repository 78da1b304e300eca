//! Mounting, unmounting, and what can go wrong with it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use fuser::{BackgroundSession, Config, INodeNo, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::Resource;

use super::VirtualFiles;
use super::attr;
use super::caller::can_create_for_others;
use super::fs::{OutboxFs, SHARED_TTL, Served};
use super::handles::Handles;
use super::kernel::{self, Mounted, Restriction};
use super::linger::Linger;
use super::mapped::Watch;
use super::nodes::ROOT;
use super::probe;
use super::resolve::Backing;
use super::upload_dir::Numbers;
use super::upload_files::Workers;
use super::waiting::Waiting;
use crate::filter::Filter;
use crate::journal::Journal;
use crate::path::RelPath;
use crate::selection::Selection;

/// Source of the mount in /proc/self/mountinfo, and the end of its type.
pub(super) const NAME: &str = "outboxfs";

/// Who may use the mount, besides what modes and owners say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allow {
    /// The user who mounted it.
    #[default]
    Owner,
    /// That user and root.
    OwnerAndRoot,
    /// Everybody.
    Everyone,
}

/// How to mount.
#[derive(Debug, Clone)]
pub struct Options {
    /// Let the kernel read and write backing files by itself, where it can.
    pub passthrough: bool,
    pub allow: Allow,
    /// What of the directory is delivered.
    pub filter: Filter,
    /// Whether what is removed here is removed elsewhere: then its removal has to outlast the daemon.
    pub sync_deletes: bool,
    /// List `.upload` in the root.
    pub show_upload_dir: bool,
    /// List what files say of themselves among their extended attributes.
    pub list_xattrs: bool,
    /// Event loops.
    pub threads: usize,
    /// The source in /proc/self/mountinfo, where root mounts; the program's name if `None`.
    pub source: Option<String>,
    /// What is not allowed, where root mounts. (Nobody else's mount allows devices and set-user-ID.)
    pub restrictions: Vec<Restriction>,
    /// What [`super::mount_only`] gave, where it has mounted already.
    pub device: Option<Arc<OwnedFd>>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            passthrough: true,
            allow: Allow::default(),
            filter: Filter::default(),
            sync_deletes: false,
            show_upload_dir: false,
            list_xattrs: false,
            // One of them may be waiting for the journal before it opens a file for writing.
            threads: cores.max(4),
            source: None,
            restrictions: Vec::new(),
            device: None,
        }
    }
}

/// Why a directory could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the mount point {0} cannot be used: {1}")]
    Mountpoint(PathBuf, io::Error),
    #[error("the mount point {0} is not a directory")]
    NotADirectory(PathBuf),
    #[error(
        "the mount point {0} lies inside the backing directory {1}: mount the directory over \
         itself, or choose a mount point elsewhere"
    )]
    Inside(PathBuf, PathBuf),
    #[error("the backing directory cannot be read: {0}")]
    Backing(io::Error),
    #[error(
        "there is no /dev/fuse here: load the module (modprobe fuse), or let the container use it"
    )]
    NoDevice,
    #[error(
        "other users cannot be let in: to make files for them takes CAP_SETPCAP, which is missing \
         here; mount without --allow-other, or give the container that capability"
    )]
    NotForOthers,
    #[error("{0} cannot be mounted: {1}")]
    Refused(PathBuf, io::Error),
}

/// A running filesystem. It ends when it is unmounted, by whomever.
pub struct Mount {
    session: BackgroundSession,
    /// Where fuser has not mounted and will not unmount.
    mounted: Option<Mounted>,
    unmounter: Unmounter,
    passthrough: Arc<AtomicBool>,
    filesystem: Arc<OutboxFs>,
}

/// Tells the kernel that a name means something else than it remembers, because the daemon changed
/// what is below the mount by itself.
pub struct Renewer {
    notifier: fuser::Notifier,
    filesystem: Arc<OutboxFs>,
}

/// Unmounts, also while somebody waits for the end of the mount.
#[derive(Clone)]
pub struct Unmounter {
    mountpoint: PathBuf,
    waiting: Arc<Waiting>,
}

/// Mounts `backing`, a directory that was opened before: it may be the mount point itself, which
/// is then only to be reached through it. Where files may have to be taken that were left out before,
/// `to_scan` is told; it must have room. Returns when the mount is ready.
pub fn mount(
    backing: OwnedFd,
    mountpoint: &Path,
    journal: Journal,
    files: Arc<dyn VirtualFiles>,
    to_scan: Sender<RelPath>,
    options: &Options,
) -> Result<Mount, MountError> {
    raise_descriptor_limit();
    let for_others = options.allow == Allow::Everyone && rustix::process::geteuid().is_root();
    if for_others && !can_create_for_others() {
        return Err(MountError::NotForOthers);
    }
    let exclusive = match &options.device {
        // To look at the mount point would be to wait for ourselves.
        Some(_) => false,
        None => check_mountpoint(&backing, mountpoint)?,
    };
    let scratch = probe::scratch_file(&backing).ok();
    let passthrough = Arc::new(AtomicBool::new(options.passthrough));
    let selection = Selection::new(
        backing.try_clone().map_err(MountError::Backing)?,
        options.filter.clone(),
        (!exclusive).then_some(SHARED_TTL),
    );
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => MountError::NoDevice,
        _ => MountError::Refused(mountpoint.to_owned(), error),
    };
    let waiting = Arc::new(Waiting::default());
    let filesystem = Arc::new(OutboxFs {
        selection,
        to_scan,
        backing: Backing::new(backing).map_err(|error| MountError::Backing(error.into()))?,
        handles: Handles::new(journal.writing().clone()),
        linger: Linger::new(),
        watch: Watch::default(),
        journal,
        files,
        numbers: Numbers::new(),
        workers: Workers::start().map_err(refused)?,
        waiting: waiting.clone(),
        show_upload_dir: options.show_upload_dir,
        list_xattrs: options.list_xattrs,
        passthrough: passthrough.clone(),
        sync_deletes: options.sync_deletes,
        exclusive,
        exact_times: scratch.as_ref().is_some_and(probe::has_exact_times),
    });
    let served = Served(filesystem.clone());
    let (session, mounted) = match kernel::mount(mountpoint, options).map_err(refused)? {
        Some((device, mounted)) => {
            let config = config(options);
            let session = Session::from_fd(served, device, config.acl, config);
            (session.map_err(refused)?, mounted)
        }
        None => {
            let session = Session::new(served, mountpoint, &config(options));
            (session.map_err(refused)?, None)
        }
    };
    if passthrough.load(Ordering::Relaxed)
        && let Some(scratch) = &scratch
        && let Err(error) = probe::can_pass_through(&session, scratch)
    {
        passthrough.store(false, Ordering::Relaxed);
        tracing::info!(
            "Reads and writes go through outboxfs, which is slower: the kernel does not pass them \
             to the backing files ({error}). It takes Linux 6.9 and CAP_SYS_ADMIN."
        );
    }
    std::thread::Builder::new()
        .name("mapped".into())
        .spawn({
            let filesystem = filesystem.clone();
            move || filesystem.watch_mapped()
        })
        .map_err(refused)?;
    std::thread::Builder::new()
        .name("waiting".into())
        .spawn({
            let filesystem = filesystem.clone();
            move || filesystem.serve_waiting()
        })
        .map_err(refused)?;
    let device = session.as_fd().try_clone_to_owned().map_err(refused)?;
    filesystem.linger.look_at(device);
    let session = session.spawn().map_err(refused)?;
    Ok(Mount {
        session,
        mounted,
        unmounter: Unmounter {
            mountpoint: mountpoint.to_owned(),
            waiting,
        },
        passthrough,
        filesystem,
    })
}

impl Renewer {
    /// The entry at `path` is new.
    pub fn renew(&self, path: &RelPath) {
        let Some((parent, name)) = path.split() else {
            return;
        };
        let backing = &self.filesystem.backing;
        let parent = match parent.is_root() {
            true => Some(ROOT),
            false => attr::stat(backing.root(), parent.as_bytes())
                .ok()
                .map(|stat| backing.id(&stat)),
        };
        // What the kernel does not remember it need not forget.
        if let Some(parent) = parent {
            let _ = self
                .notifier
                .inval_entry(INodeNo(parent), OsStr::from_bytes(name));
        }
    }
}

impl Mount {
    /// To renew what the kernel remembers, as long as it is mounted.
    pub fn renewer(&self) -> Renewer {
        Renewer {
            notifier: self.session.notifier(),
            filesystem: self.filesystem.clone(),
        }
    }

    /// Whether reads and writes go from the kernel to the backing files.
    pub fn passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// To unmount it while somebody waits for its end.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until the session has ended: unmounted, and nothing open any more. All that was
    /// written through the mount has then been given to the journal.
    pub fn wait(self) -> io::Result<()> {
        let result = match self.session.join() {
            // Taken down by force, by the kernel or an administrator: ended like any other.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
            result => result,
        };
        // What is there now is somebody else's.
        if let (Ok(()), Some(mounted)) = (&result, self.mounted) {
            mounted.forget();
        }
        result
    }
}

impl Unmounter {
    /// Takes the mount point away. What is still open stays usable, and the session goes on, until
    /// it is closed. Who waits for deliveries is let go.
    pub fn unmount(&self) -> io::Result<()> {
        let taken_away = self.take_away();
        self.release_waiting();
        taken_away
    }

    /// Lets go who waits for deliveries: they keep the mount busy.
    pub fn release_waiting(&self) {
        self.waiting.release();
    }

    fn take_away(&self) -> io::Result<()> {
        match rustix::mount::unmount(&self.mountpoint, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) => {
                let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                Ok(rustix::mount::unmount(&self.mountpoint, flags)?)
            }
            Err(Errno::PERM) => self.unmount_by_helper(),
            // Somebody else was faster.
            Err(Errno::INVAL) => Ok(()),
            result => Ok(result?),
        }
    }

    /// What an unprivileged user mounted, fusermount3(1) unmounts.
    fn unmount_by_helper(&self) -> io::Result<()> {
        let output = Command::new("fusermount3")
            .args(["-u", "-z", "--"])
            .arg(&self.mountpoint)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(message.trim().to_owned()))
    }
}

/// Whether the mount point hides the backing directory.
fn check_mountpoint(backing: &OwnedFd, mountpoint: &Path) -> Result<bool, MountError> {
    let broken = |error: Errno| MountError::Mountpoint(mountpoint.to_owned(), error.into());
    let unreadable = |error: Errno| MountError::Backing(error.into());
    let below = attr::stat(backing, b"").map_err(unreadable)?;
    let at = rustix::fs::stat(mountpoint).map_err(broken)?;
    if !rustix::fs::FileType::from_raw_mode(at.st_mode).is_dir() {
        return Err(MountError::NotADirectory(mountpoint.to_owned()));
    }
    let device = rustix::fs::makedev(below.stx_dev_major, below.stx_dev_minor);
    if (device, below.stx_ino) == (at.st_dev, at.st_ino) {
        return Ok(true);
    }
    let backing_path = std::fs::read_link(super::resolve::proc_path(backing));
    let mountpoint_path = mountpoint.canonicalize();
    if let (Ok(backing), Ok(mountpoint)) = (backing_path, mountpoint_path)
        && mountpoint.starts_with(&backing)
    {
        // A request for the mount point would go round in circles.
        return Err(MountError::Inside(mountpoint, backing));
    }
    Ok(false)
}

fn config(options: &Options) -> Config {
    let mut config = Config::default();
    // For fusermount3.
    config.mount_options = vec![
        MountOption::FSName(NAME.to_owned()),
        MountOption::Subtype(NAME.to_owned()),
        MountOption::DefaultPermissions,
    ];
    config.acl = match options.allow {
        Allow::Owner => SessionACL::Owner,
        Allow::OwnerAndRoot => SessionACL::RootAndOwner,
        Allow::Everyone => SessionACL::All,
    };
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = rustix::process::geteuid().is_root();
    config
}

/// One descriptor a file that somebody has open: the soft limit of 1024 is for programs that use
/// select(2).
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Less is less, not wrong.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}
