//! The threads that make thumbnails: bounded, niced, and apart from the network's, so that they
//! never stall the upload of an original.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::Pictures;
use crate::derive::thumbnail::{Helper, Thumbnail, ThumbnailError, make_all};
use crate::remote::Body;

/// Larger files are not read as pictures, bytes.
const LARGEST: u64 = 256 << 20;
/// As `nice` does: below whatever the person is doing.
const NICENESS: i32 = 10;

struct Job {
    body: Body,
    done: oneshot::Sender<Result<Vec<Thumbnail>, ThumbnailError>>,
}

/// Ends with its threads when it is dropped.
pub(super) struct Pool(Sender<Job>);

impl Pool {
    /// The channel needs no bound of its own: each file on its way sends one job at most.
    pub(super) fn start(pictures: &Pictures) -> io::Result<Self> {
        let (jobs, inbox) = crossbeam_channel::unbounded::<Job>();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        for number in 0..threads {
            let (inbox, pictures) = (inbox.clone(), pictures.clone());
            std::thread::Builder::new()
                .name(format!("picture-{number}"))
                .spawn(move || {
                    // Linux nices threads, not processes; failing to is no harm.
                    let _ = rustix::process::nice(NICENESS);
                    let mut helper = Helper::new(pictures.program.clone(), &pictures.limits);
                    for job in inbox {
                        let made = read_and_make(&job.body, &pictures, &mut helper);
                        let _ = job.done.send(made);
                    }
                })?;
        }
        Ok(Self(jobs))
    }

    /// Makes the thumbnails of the picture, in all sizes that are wanted.
    pub(super) async fn make(&self, body: Body) -> Result<Vec<Thumbnail>, ThumbnailError> {
        let (done, made) = oneshot::channel();
        // Fails only when the threads are gone; then `made` says so.
        let _ = self.0.send(Job { body, done });
        made.await
            .unwrap_or_else(|_| Err(ThumbnailError("the thumbnail's thread has ended".into())))
    }
}

fn read_and_make(
    body: &Body,
    pictures: &Pictures,
    helper: &mut Helper,
) -> Result<Vec<Thumbnail>, ThumbnailError> {
    let read;
    let content: &[u8] = match body {
        Body::Bytes(content) => content,
        Body::File { file, len } => {
            read = self::read(file, *len)?;
            &read
        }
    };
    make_all(
        content,
        &pictures.thumbnails,
        &pictures.limits,
        Some(helper),
    )
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
