//! Asking the process that has a directory, a mount's daemon or a push, to do something: a socket
//! beside the journal, `journal.sock`, that only the journal's owner can reach.
//!
//! A request is one line of JSON, the answer another one. Paths are in the text form of keys. The
//! server is one thread, `control`, and one more for each connection, [`CONNECTIONS`] at most; they
//! end with [`Server`], except those that wait for a scan, which end with it.

use std::fs::{File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::{Journal, JournalError, now_ms};
use crate::path::RelPath;
use crate::remote::{Remote, path_text};
use crate::scan::ScanHandle;
use crate::status::Snapshot;
use crate::status::collect::Source;
use crate::suspect;

/// Connections served at a time.
const CONNECTIONS: usize = 16;
/// Longest request, bytes.
const LONGEST: u64 = 64 << 10;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// A file below a mount that changed so recently may still be being written, nanoseconds.
const RECENT: i64 = 2_000_000_000;

const NO_ANSWER: &str = "this is no answer to that";

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Look at the file or folder with all below it, and answer when all that differs from the
    /// journal is queued.
    Scan { path: String },
    /// Queue again what has failed from there on; the answer counts.
    Retry { path: String },
    /// Take the local state of suspect files for right; the answer counts.
    Accept { path: String },
    /// Bring the remote's copies of suspect files back; the answer counts.
    Restore { path: String },
    /// Deliver nothing from now on, or go on.
    Pause { paused: bool },
    /// Read the configuration file again, and take the limits that it has now.
    Reload,
    /// Let go who waits for deliveries by reading `.upload/wait`: the mount is about to be taken away.
    LetGo,
    /// How far is it? The answer is a snapshot.
    Status,
}

impl Request {
    pub fn scan(path: &RelPath) -> Self {
        let path = path_text(path);
        Self::Scan { path }
    }

    pub fn retry(path: &RelPath) -> Self {
        let path = path_text(path);
        Self::Retry { path }
    }

    pub fn accept(path: &RelPath) -> Self {
        let path = path_text(path);
        Self::Accept { path }
    }

    pub fn restore(path: &RelPath) -> Self {
        let path = path_text(path);
        Self::Restore { path }
    }
}

/// What deciding on suspect files takes.
pub struct Suspects {
    pub backing: OwnedFd,
    /// Where copies come from; `None`: there is none to ask.
    pub remote: Option<Arc<dyn Remote>>,
    pub runtime: tokio::runtime::Handle,
    /// Called with each path where something new is.
    pub placed: Box<dyn Fn(&RelPath) + Send + Sync>,
}

/// What only a mount can do of what it is asked.
pub struct Mounted {
    /// Lets go who reads `.upload/wait`.
    pub let_go: Box<dyn Fn() + Send + Sync>,
    /// Reads the configuration file again.
    pub reload: Box<dyn Fn() -> Result<Reloaded, String> + Send + Sync>,
}

/// What has become of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What may change while delivery goes on, as it is from now on: key and value.
    pub limits: Vec<(String, String)>,
    /// Keys whose values in the file have changed, and which only the next mount takes.
    pub later: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(u64),
    Reloaded(Reloaded),
    Status(Box<Snapshot>),
    Failed(String),
}

/// What the tree is to the process that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Mounted over itself: nothing changes without the daemon's knowledge.
    Covered,
    /// Mounted elsewhere: things may change below the mount.
    Beside,
    /// Not mounted.
    Bare,
}

impl Place {
    /// Before when a file must have changed for a scan to speak for it; `None` for any time.
    fn since(self) -> Option<i64> {
        match self {
            Self::Bare => None,
            Self::Covered | Self::Beside => Some(now_ms() * 1_000_000 - RECENT),
        }
    }
}

/// Serves the socket until dropped.
pub struct Server {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    journal: Journal,
    scan: ScanHandle,
    place: Place,
    suspects: Suspects,
    status: Arc<Source>,
    mounted: Option<Mounted>,
    /// The mount has ended: there is nothing left to do but to tell how far it is.
    ends: AtomicBool,
    connections: AtomicUsize,
}

impl Server {
    /// The caller holds the lock on the journal: a socket that is there already belongs to nobody.
    pub fn start(
        journal: Journal,
        scan: ScanHandle,
        place: Place,
        suspects: Suspects,
        status: Arc<Source>,
        mounted: Option<Mounted>,
    ) -> io::Result<Self> {
        let socket = socket_of(journal.path());
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = through_descriptor(&socket, |path| UnixListener::bind(path))?;
        // Whatever the umask was: who can write to it commands us.
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        let stop = Arc::new(AtomicBool::new(false));
        let its_stop = stop.clone();
        let shared = Arc::new(Shared {
            journal,
            scan,
            place,
            suspects,
            status,
            mounted,
            ends: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let its_shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &its_shared, &its_stop))?;
        Ok(Self {
            socket,
            stop,
            shared,
            thread: Some(thread),
        })
    }

    /// From now on only [`Request::Status`] is answered: what is left is being delivered.
    pub fn end(&self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let woken = through_descriptor(&self.socket, |path| UnixStream::connect(path));
        let _ = std::fs::remove_file(&self.socket);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            let busy = Answer::Failed("too many others are asking; try again".to_owned());
            let _ = reply(&stream, &busy);
            continue;
        }
        let its_shared = shared.clone();
        let spawned = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let _ = serve(&stream, &its_shared);
                its_shared.connections.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Status) => match shared.status.snapshot() {
            Ok(snapshot) => Answer::Status(Box::new(snapshot)),
            Err(error) => Answer::Failed(error.to_string()),
        },
        Ok(_) if shared.ends.load(Ordering::Relaxed) => Answer::Failed(
            "the mount has ended, and its daemon delivers what is left; try again when that is through"
                .to_owned(),
        ),
        Ok(Request::Reload) => match reload(shared) {
            Ok(reloaded) => Answer::Reloaded(reloaded),
            Err(error) => Answer::Failed(error),
        },
        Ok(request) => match act(&request, shared) {
            Ok(count) => Answer::Done(count),
            Err(error) => Answer::Failed(error),
        },
        Err(error) => Answer::Failed(format!("this is no request: {error}")),
    };
    reply(stream, &answer)
}

fn reply(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn act(request: &Request, shared: &Shared) -> Result<u64, String> {
    let (journal, suspects) = (&shared.journal, &shared.suspects);
    let result = match request {
        Request::Scan { path } => scan(path, shared),
        Request::Retry { path } => parse(path).and_then(|path| journal.retry(&path)),
        Request::Pause { paused } => journal.pause(*paused).map(|()| 0),
        Request::LetGo => {
            if let Some(mounted) = &shared.mounted {
                (mounted.let_go)();
            }
            Ok(0)
        }
        Request::Status | Request::Reload => Ok(0),
        Request::Accept { path } => {
            parse(path).and_then(|path| suspect::accept(journal, &suspects.backing, &path))
        }
        Request::Restore { path } => {
            let Some(remote) = &suspects.remote else {
                return Err("this push only records: there is no remote to restore from".into());
            };
            let restored = parse(path).and_then(|path| {
                suspects.runtime.block_on(suspect::restore(
                    journal,
                    &suspects.backing,
                    remote.as_ref(),
                    &path,
                    &suspects.placed,
                ))
            });
            return restored.map_err(|error| error.to_string())?.into_result();
        }
    };
    result.map_err(|error| error.to_string())
}

fn reload(shared: &Shared) -> Result<Reloaded, String> {
    match &shared.mounted {
        Some(mounted) => (mounted.reload)(),
        None => Err("this is a push, which reads its settings when it begins".to_owned()),
    }
}

fn scan(path: &str, shared: &Shared) -> Result<u64, JournalError> {
    let since = shared.place.since();
    // Even where nothing can have changed: the start-up scan may not be through.
    let path = match shared.place {
        Place::Covered => None,
        Place::Beside | Place::Bare => Some(parse(path)?),
    };
    let done = match path {
        Some(path) => shared.scan.tree(path, since)?,
        None => shared.scan.list(Vec::new(), since)?,
    };
    match done.recv() {
        Ok(result) => result.map(u64::from),
        Err(_) => Err(JournalError::Closed),
    }
}

fn parse(text: &str) -> Result<RelPath, JournalError> {
    RelPath::from_text(text)
        .ok_or_else(|| JournalError::Sqlite(format!("'{text}' is no path below the directory")))
}

/// Asks whoever has the journal at `journal` open, and waits for the answer. `None` if nobody has.
pub fn ask(journal: &Path, request: &Request) -> Option<Result<u64, String>> {
    Some(converse(journal, request)?.and_then(|answer| match answer {
        Answer::Done(count) => Ok(count),
        Answer::Failed(error) => Err(error),
        Answer::Status(_) | Answer::Reloaded(_) => Err(NO_ANSWER.to_owned()),
    }))
}

/// Has whoever has the journal open read its configuration file again; `None` if nobody has.
pub fn ask_to_reload(journal: &Path) -> Option<Result<Reloaded, String>> {
    let answer = converse(journal, &Request::Reload)?;
    Some(answer.and_then(|answer| match answer {
        Answer::Reloaded(reloaded) => Ok(reloaded),
        Answer::Failed(error) => Err(error),
        Answer::Done(_) | Answer::Status(_) => Err(NO_ANSWER.to_owned()),
    }))
}

/// How far whoever has the journal open is; `None` if nobody has, or he does not tell.
pub fn status(journal: &Path) -> Option<Snapshot> {
    match converse(journal, &Request::Status)? {
        Ok(Answer::Status(snapshot)) => Some(*snapshot),
        _ => None,
    }
}

/// Whether there is somebody to ask.
pub fn is_served(journal: &Path) -> bool {
    through_descriptor(&socket_of(journal), |path| UnixStream::connect(path)).is_ok()
}

/// `None` if there is nobody.
fn converse(journal: &Path, request: &Request) -> Option<Result<Answer, String>> {
    let stream = through_descriptor(&socket_of(journal), |path| UnixStream::connect(path)).ok()?;
    Some(
        exchange(&stream, request)
            .map_err(|error| format!("the process that has the directory did not answer: {error}")),
    )
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn socket_of(journal: &Path) -> PathBuf {
    journal.with_extension("sock")
}

/// A socket's path has 107 bytes at most (unix(7)); by way of its folder's descriptor it is short.
fn through_descriptor<T>(
    socket: &Path,
    with: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    with(Path::new(std::ffi::OsStr::from_bytes(&path)))
}
