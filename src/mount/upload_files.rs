//! The files in `.upload`: opening, reading and writing them.
//!
//! What may take longer than a moment is done on one of the threads called `upload`, [`THREADS`] of
//! them, behind a channel of [`BACKLOG`]; they end with the filesystem. Who waits for deliveries is
//! parked in [`super::waiting`].

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};
use fuser::{ReplyData, ReplyWrite};
use parking_lot::Mutex;
use rustix::io::Errno;

use super::content::Opened;
use super::fs::{OutboxFs, Result, errno};
use super::handles::Handle;
use super::nodes::NodeId;
use super::upload_dir::Virtual;
use super::waiting::{Outcome, Parked};
use super::{Content, Kind, Pages};
use crate::path::RelPath;

const THREADS: usize = 2;
const BACKLOG: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for what takes longer.
pub(super) struct Workers(Sender<Job>);

impl Workers {
    pub fn start() -> io::Result<Self> {
        let (jobs, inbox) = crossbeam_channel::bounded::<Job>(BACKLOG);
        for _ in 0..THREADS {
            let inbox = inbox.clone();
            std::thread::Builder::new()
                .name("upload".into())
                .spawn(move || {
                    for job in inbox {
                        job();
                    }
                })?;
        }
        Ok(Self(jobs))
    }

    /// EBUSY if there is too much to do already.
    fn run<T: Send + 'static>(
        &self,
        reply: T,
        job: impl FnOnce(T) + Send + 'static,
    ) -> std::result::Result<(), T> {
        // Shared, so that the reply can be had back from a job that was refused.
        let slot = Arc::new(Mutex::new(Some(reply)));
        let its_slot = slot.clone();
        let sent = self.0.try_send(Box::new(move || {
            if let Some(reply) = its_slot.lock().take() {
                job(reply);
            }
        }));
        match sent {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                slot.lock().take().map_or(Ok(()), Err)
            }
        }
    }
}

/// A file of the virtual tree, opened.
pub(super) enum VirtualFile {
    /// As it was when it was opened.
    Text(Vec<u8>),
    List(Mutex<Box<dyn Pages>>),
    /// Read, it is empty once all in the directory is delivered.
    Wait {
        directory: NodeId,
        outcome: Mutex<Option<Outcome>>,
    },
    /// Read, it says what can be written, or what became of what was written last.
    Control {
        directory: NodeId,
        said: Mutex<Vec<u8>>,
    },
}

impl OutboxFs {
    pub fn open_virtual(&self, id: NodeId, flags: i32) -> Result<Opened> {
        let node = self.numbers.get(id).ok_or(Errno::STALE)?;
        let directory = node.directory();
        let path = self.backing.nodes.path(directory).ok_or(Errno::NOENT)?;
        let content = match &node {
            Virtual::File(_, place) => {
                let (name, kind) = *self.files.names().get(*place).ok_or(Errno::NOENT)?;
                let writes =
                    flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
                if writes && kind != Kind::Control {
                    return Err(Errno::ACCESS);
                }
                match kind {
                    Kind::Wait => VirtualFile::Wait {
                        directory,
                        outcome: Mutex::new(None),
                    },
                    Kind::Control => VirtualFile::Control {
                        directory,
                        said: Mutex::new(self.files.usage().into()),
                    },
                    Kind::Content => match self.files.open(&path, name)? {
                        Content::Text(text) => VirtualFile::Text(text),
                        Content::List(pages) => VirtualFile::List(Mutex::new(pages)),
                    },
                }
            }
            Virtual::About(_, name) if flags & libc::O_ACCMODE == libc::O_RDONLY => {
                let about = self.files.about(&path.join(name)).ok_or(Errno::NOENT)?;
                VirtualFile::Text(about)
            }
            Virtual::About(..) => return Err(Errno::ACCESS),
            Virtual::Folder(_) | Virtual::Abouts(_) => return Err(Errno::ISDIR),
        };
        let fh = self.handles.add(Handle::Virtual(Arc::new(content)));
        Ok(Opened::Virtual(fh))
    }

    /// `reader` is the thread that reads, or 0 if it is not to be known.
    pub fn read_virtual(
        &self,
        file: Arc<VirtualFile>,
        (offset, size): (u64, u32),
        reader: u32,
        reply: ReplyData,
    ) {
        match &*file {
            VirtualFile::Text(text) => reply.data(part(text, offset, size)),
            VirtualFile::Control { said, .. } => reply.data(part(&said.lock(), offset, size)),
            VirtualFile::List(_) => {
                let refused = self.workers.run(reply, move |reply| {
                    let VirtualFile::List(pages) = &*file else {
                        return reply.error(fuser::Errno::EIO);
                    };
                    match pages.lock().read(offset, size as usize) {
                        Ok(text) => reply.data(&text),
                        Err(error) => reply.error(errno(error)),
                    }
                });
                if let Err(reply) = refused {
                    reply.error(fuser::Errno::EBUSY);
                }
            }
            VirtualFile::Wait { directory, outcome } => {
                if let Some(outcome) = &*outcome.lock() {
                    return outcome.answer(offset, size, reply);
                }
                let directory = *directory;
                let parked = Parked {
                    file,
                    directory,
                    range: (offset, size),
                    reader,
                    reply,
                };
                self.waiting.park(parked);
            }
        }
    }

    /// Commands, a line each; they are done when the answer comes.
    pub fn write_virtual(&self, file: Arc<VirtualFile>, text: &[u8], reply: ReplyWrite) {
        let VirtualFile::Control { directory, .. } = &*file else {
            return reply.error(fuser::Errno::EBADF);
        };
        let Some(path) = self.backing.nodes.path(*directory) else {
            return reply.error(fuser::Errno::ENOENT);
        };
        let (files, text) = (self.files.clone(), text.to_vec());
        let refused = self.workers.run(reply, move |reply| {
            let (answer, good) = command_all(&*files, &path, &text);
            if let VirtualFile::Control { said, .. } = &*file {
                *said.lock() = answer.into_bytes();
            }
            match good {
                true => reply.written(u32::try_from(text.len()).unwrap_or(u32::MAX)),
                false => reply.error(fuser::Errno::EINVAL),
            }
        });
        if let Err(reply) = refused {
            reply.error(fuser::Errno::EBUSY);
        }
    }
}

/// What was said to each line, up to the first that was refused; and whether none was.
fn command_all(
    files: &dyn super::VirtualFiles,
    directory: &RelPath,
    text: &[u8],
) -> (String, bool) {
    let mut answers = String::new();
    for line in text.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match files.command(directory, line.trim_ascii()) {
            Ok(answer) => answers += &format!("{answer}\n"),
            Err(error) => {
                tracing::warn!(%directory, error, "a command written to .upload/control was refused");
                return (answers + &format!("refused: {error}\n"), false);
            }
        }
    }
    (answers, true)
}

/// `size` bytes of the text from `offset` on, or what there is of them.
pub(super) fn part(text: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = text.get(start..).unwrap_or_default();
    &rest[..rest.len().min(size as usize)]
}
