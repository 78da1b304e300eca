//! Comparing what the journal says was delivered with what the remote has.
//!
//! A listing answers for most objects: an entity tag that is still the one of the delivery says that
//! the content is. Where it does not, the object's metadata is asked for, and where that has no
//! checksum, or everything is to be read, its content is. Memory: 32 bytes an object.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::journal::{JournalError, Proved, View};
use crate::path::RelPath;
use crate::remote::{
    Artifact, Key, Listed, ObjectInfo, Remote, RemoteError, RemoteErrorKind, Thumbnails,
};

/// Files on their way from the journal.
const AHEAD: usize = 256;
/// Attempts to ask for an object, and the pause between two.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only this file or folder.
    pub below: RelPath,
    /// Read every object and compare its BLAKE3.
    pub full: bool,
    /// Objects asked for at a time.
    pub workers: usize,
}

/// Something that is not as the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Missing {
        key: Key,
    },
    Different {
        key: Key,
        why: String,
    },
    /// At the remote, and not known to the journal.
    Extra {
        key: String,
        bytes: u64,
    },
    /// Could not be found out.
    Unknown {
        key: Key,
        error: String,
    },
}

/// Counts of what was found; sizes are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub verified_files: u64,
    pub verified_bytes: u64,
    pub missing: u64,
    pub different: u64,
    pub extra: u64,
    pub unknown: u64,
    /// Files that wait for delivery; nothing is said of them.
    pub pending_files: u64,
}

impl Report {
    /// Whether the remote has everything as it was delivered.
    pub fn is_good(&self) -> bool {
        self.missing + self.different + self.unknown == 0
    }

    fn count(&mut self, finding: &Finding) {
        match finding {
            Finding::Missing { .. } => self.missing += 1,
            Finding::Different { .. } => self.different += 1,
            Finding::Extra { .. } => self.extra += 1,
            Finding::Unknown { .. } => self.unknown += 1,
        }
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// Verifies, and calls `found` for each thing that is wrong, as it is found.
pub async fn verify(
    view: View,
    remote: Arc<dyn Remote>,
    options: Options,
    mut found: impl FnMut(&Finding),
) -> Result<Report, VerifyError> {
    let can = remote.capabilities();
    if !can.reads {
        return Err(RemoteError::permanent(format!(
            "{} cannot be asked what it has, so there is nothing to compare with",
            remote.describe()
        ))
        .into());
    }
    let folders = Artifact::folders(view.meta()?.thumbnails);
    let keeps_thumbnails = can.thumbnails == Thumbnails::Kept;
    let mut index = Index::of(remote.as_ref(), folders, &options.below).await?;
    let mut report = Report::default();
    let mut tell = |report: &mut Report, findings: Vec<Finding>| {
        for finding in &findings {
            report.count(finding);
            found(finding);
        }
    };
    let (sender, mut files) = mpsc::channel(AHEAD);
    let below = options.below.clone();
    let journal = tokio::task::spawn_blocking(move || read_journal(&view, &below, &sender));
    let mut asked = JoinSet::new();
    while let Some(file) = files.recv().await {
        let Some(question) = report.look(&mut index, file, options.full, keeps_thumbnails) else {
            continue;
        };
        while asked.len() >= options.workers {
            tell(&mut report, next(&mut asked).await);
        }
        asked.spawn(question.ask(remote.clone(), options.full));
    }
    while !asked.is_empty() {
        tell(&mut report, next(&mut asked).await);
    }
    match journal.await {
        Ok(result) => result?,
        Err(error) => return Err(JournalError::Sqlite(error.to_string()).into()),
    }
    tell(&mut report, index.extras(remote.as_ref()).await?);
    Ok(report)
}

async fn next(asked: &mut JoinSet<Vec<Finding>>) -> Vec<Finding> {
    match asked.join_next().await {
        Some(Ok(findings)) => findings,
        _ => Vec::new(),
    }
}

fn read_journal(
    view: &View,
    below: &RelPath,
    to: &mpsc::Sender<Proved>,
) -> Result<(), JournalError> {
    view.each_proved(below, |file| {
        // Fails only when nobody wants to know any more.
        let _ = to.blocking_send(file);
    })
}

/// What the listing does not answer of a file.
struct Question {
    file: Proved,
    original: Option<Key>,
    thumbnail: Option<Key>,
}

impl Report {
    /// Looks a file up in the listing; `None` if that tells enough.
    fn look(
        &mut self,
        index: &mut Index,
        file: Proved,
        full: bool,
        keeps_thumbnails: bool,
    ) -> Option<Question> {
        let original = Key::new(Artifact::Original, &file.path);
        let thumbnail = Key::new(Artifact::Thumbnail, &file.path);
        let listed = index.see(&original);
        let has_thumbnail = index.see(&thumbnail).is_some();
        index.see_further(&file.path);
        if !file.current {
            self.pending_files += 1;
            return None;
        }
        self.verified_files += 1;
        self.verified_bytes += file.size;
        let etag = file.proof.etag.as_deref().map(short);
        let as_delivered = listed
            .is_some_and(|(size, of_it)| size == file.size && of_it.is_some() && of_it == etag);
        let question = Question {
            original: (full || !as_delivered).then_some(original),
            thumbnail: (file.thumbnail && keeps_thumbnails && !has_thumbnail).then_some(thumbnail),
            file,
        };
        (question.original.is_some() || question.thumbnail.is_some()).then_some(question)
    }
}

impl Question {
    async fn ask(self, remote: Arc<dyn Remote>, full: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(key) = &self.original {
            findings.extend(original(remote.as_ref(), key, &self.file, full).await);
        }
        if let Some(key) = &self.thumbnail {
            findings.extend(match head(remote.as_ref(), key).await {
                Ok(Some(_)) => None,
                Ok(None) => Some(Finding::Missing { key: key.clone() }),
                Err(error) => Some(unknown(key, &error)),
            });
        }
        findings
    }
}

fn unknown(key: &Key, error: &RemoteError) -> Finding {
    Finding::Unknown {
        key: key.clone(),
        error: error.to_string(),
    }
}

/// What is wrong with an original, asked of the remote itself.
async fn original(remote: &dyn Remote, key: &Key, file: &Proved, full: bool) -> Option<Finding> {
    let different = |why: String| {
        Some(Finding::Different {
            key: key.clone(),
            why,
        })
    };
    let info = match head(remote, key).await {
        Ok(Some(info)) => info,
        Ok(None) => return Some(Finding::Missing { key: key.clone() }),
        Err(error) => return Some(unknown(key, &error)),
    };
    if info.content_size() != file.size {
        return different(format!(
            "it has {} bytes, {} were delivered",
            info.content_size(),
            file.size
        ));
    }
    let same_etag = info.etag.is_some() && info.etag == file.proof.etag;
    if !full {
        match info.blake3 {
            _ if same_etag => return None,
            Some(hash) if hash == file.hash => return None,
            Some(_) => return different("it was stored with another checksum".to_owned()),
            None => {}
        }
    }
    match read(remote, key).await {
        Ok(Some(hash)) if hash == file.hash => None,
        Ok(Some(_)) => different("its content is not what was delivered".to_owned()),
        Ok(None) => Some(Finding::Missing { key: key.clone() }),
        Err(error) => Some(unknown(key, &error)),
    }
}

async fn head(remote: &dyn Remote, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
    let mut attempt = 1;
    loop {
        match remote.head(key).await {
            Err(error) if may_pass(&error) && attempt < ATTEMPTS => {}
            result => return result,
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(remote: &dyn Remote, key: &Key) -> Result<Option<blake3::Hash>, RemoteError> {
    let mut attempt = 1;
    loop {
        let mut hasher = blake3::Hasher::new();
        match remote.get(key, &mut hasher).await {
            Err(error) if may_pass(&error) && attempt < ATTEMPTS => {}
            result => return Ok(result?.map(|_| hasher.finalize())),
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn may_pass(error: &RemoteError) -> bool {
    error.kind != RemoteErrorKind::Permanent
}

/// The objects below a path, and which of them the journal has spoken of; sorted by key.
struct Index {
    folders: Vec<String>,
    below: RelPath,
    entries: Vec<Entry>,
}

struct Entry {
    key: u64,
    size: u64,
    /// 0: it has none.
    etag: u64,
    seen: bool,
}

impl Index {
    async fn of(
        remote: &dyn Remote,
        folders: Vec<String>,
        below: &RelPath,
    ) -> Result<Self, RemoteError> {
        let mut entries = Vec::new();
        each_object(remote, &folders, below, &mut |object| {
            entries.push(Entry {
                key: short(&object.key),
                size: object.size,
                etag: object.etag.as_deref().map_or(0, short),
                seen: false,
            });
        })
        .await?;
        entries.sort_unstable_by_key(|entry| entry.key);
        Ok(Self {
            folders,
            below: below.clone(),
            entries,
        })
    }

    fn find(&self, key: &str) -> Option<usize> {
        let key = short(key);
        let found = self.entries.binary_search_by_key(&key, |entry| entry.key);
        found.ok()
    }

    /// Size and short form of the entity tag of an object, which is no extra one then.
    fn see(&mut self, key: &Key) -> Option<(u64, Option<u64>)> {
        let at = self.find(key.as_str())?;
        let entry = &mut self.entries[at];
        entry.seen = true;
        Some((entry.size, (entry.etag != 0).then_some(entry.etag)))
    }

    /// A file's thumbnails of further sizes are no extra objects. Whether all are there is not known: the
    /// journal does not say of which sizes they were made.
    fn see_further(&mut self, path: &RelPath) {
        for at in 2..self.folders.len() {
            self.see(&Key::below(&self.folders[at], path));
        }
    }

    /// Lists once more, for the names: only their short forms were kept.
    async fn extras(&self, remote: &dyn Remote) -> Result<Vec<Finding>, RemoteError> {
        let mut extras = Vec::new();
        if self.entries.iter().all(|entry| entry.seen) {
            return Ok(extras);
        }
        each_object(remote, &self.folders, &self.below, &mut |object| {
            let at = self.find(&object.key);
            if at.is_some_and(|at| !self.entries[at].seen) {
                extras.push(Finding::Extra {
                    key: object.key,
                    bytes: object.size,
                });
            }
        })
        .await?;
        Ok(extras)
    }
}

async fn each_object(
    remote: &dyn Remote,
    folders: &[String],
    below: &RelPath,
    each: &mut (dyn FnMut(Listed) + Send),
) -> Result<(), RemoteError> {
    // Without a listing each file is asked for, and what is there beside them is not known.
    let lists = remote.capabilities().lists;
    for folder in folders.iter().filter(|_| lists) {
        let prefix = crate::push::prefix(folder, below);
        let within = |key: &str| match key.strip_prefix(&prefix) {
            Some(rest) => below.is_root() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        let each = &mut |object: Listed| {
            if within(&object.key) {
                each(object);
            }
        };
        remote.list(&prefix, each).await?;
    }
    Ok(())
}

/// A short form of a text; never 0. Two texts may share it, once in billions of billions.
fn short(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first) | 1
}
