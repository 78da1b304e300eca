//! The threads that make thumbnails: bounded, niced, and apart from the network's, so that they
//! never stall the upload of an original.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use crate::derive::thumbnail::{self, Options, Thumbnail, ThumbnailError};
use crate::remote::Body;

/// Larger files are not read as pictures, bytes.
const LARGEST: u64 = 256 << 20;
/// As `nice` does: below whatever the person is doing.
const NICENESS: i32 = 10;

struct Job {
    body: Body,
    done: oneshot::Sender<Result<Thumbnail, ThumbnailError>>,
}

/// Ends with its threads when it is dropped.
pub(super) struct Pool(Sender<Job>);

impl Pool {
    /// The channel needs no bound of its own: each file on its way sends one job at most.
    pub(super) fn start(options: Options) -> io::Result<Self> {
        let (jobs, inbox) = crossbeam_channel::unbounded::<Job>();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        for number in 0..threads {
            let (inbox, options) = (inbox.clone(), options.clone());
            std::thread::Builder::new()
                .name(format!("picture-{number}"))
                .spawn(move || {
                    // Linux nices threads, not processes; failing to is no harm.
                    let _ = rustix::process::nice(NICENESS);
                    for job in inbox {
                        let _ = job.done.send(read_and_make(&job.body, &options));
                    }
                })?;
        }
        Ok(Self(jobs))
    }

    /// Makes a thumbnail of the picture.
    pub(super) async fn make(&self, body: Body) -> Result<Thumbnail, ThumbnailError> {
        let (done, made) = oneshot::channel();
        // Fails only when the threads are gone; then `made` says so.
        let _ = self.0.send(Job { body, done });
        made.await
            .unwrap_or_else(|_| Err(ThumbnailError("the thumbnail's thread has ended".into())))
    }
}

fn read_and_make(body: &Body, options: &Options) -> Result<Thumbnail, ThumbnailError> {
    match body {
        Body::Bytes(content) => thumbnail::make(content, options),
        Body::File { file, len } => thumbnail::make(&read(file, *len)?, options),
    }
}

fn read(file: &Arc<File>, len: u64) -> Result<Vec<u8>, ThumbnailError> {
    if len > LARGEST {
        return Err(ThumbnailError(format!(
            "the picture has {len} bytes; thumbnails are made of pictures up to {LARGEST}"
        )));
    }
    let mut content = vec![0; len as usize];
    file.read_exact_at(&mut content, 0)
        .map_err(|error| ThumbnailError(format!("the picture could not be read: {error}")))?;
    Ok(content)
}
