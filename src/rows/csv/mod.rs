//! Rows in a CSV file that people and shops use as well: `csv:/path/products.csv?per=picture`.
//! Columns and rows of theirs stay as they are; the file is replaced whole, once a batch.

mod dialect;
mod merge;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dialect::Dialect;
use merge::{FolderChange, merge};
use rustix::fs::{FlockOperation, flock};

use super::layout::{Layout, newest};
use super::{FolderRow, Options, Removed, RowError, RowSink, target};

/// How often to start again when somebody saves the file in the meantime.
const ATTEMPTS: usize = 5;

pub struct CsvSink {
    catalogue: Arc<Catalogue>,
}

struct Catalogue {
    path: PathBuf,
    layout: Layout,
}

impl CsvSink {
    pub fn open(url: &str, options: &Options) -> Result<Self, RowError> {
        let wrong = |why: String| target::wrong(url, &why, "csv:/path/products.csv?per=picture");
        let (path, mut query) = target::file(url).map_err(wrong)?;
        let per = query.per().map_err(wrong)?;
        query.finish().map_err(wrong)?;
        let layout = Layout::new(per, options)?;
        Ok(Self {
            catalogue: Arc::new(Catalogue { path, layout }),
        })
    }

    async fn apply(
        &self,
        changes: impl FnOnce(&Layout) -> Result<Vec<FolderChange>, RowError> + Send + 'static,
    ) -> Result<(), RowError> {
        let catalogue = self.catalogue.clone();
        tokio::task::spawn_blocking(move || catalogue.apply(&changes(&catalogue.layout)?))
            .await
            .unwrap_or_else(|error| {
                Err(RowError::transient(format!(
                    "writing rows was interrupted: {error}"
                )))
            })
    }
}

#[async_trait]
impl RowSink for CsvSink {
    fn describe(&self) -> String {
        format!("csv:{}", self.catalogue.path.display())
    }

    /// Also writes the columns that are missing.
    async fn probe(&self) -> Result<(), RowError> {
        self.apply(|_| Ok(Vec::new())).await
    }

    async fn upsert(&self, rows: &[FolderRow]) -> Result<(), RowError> {
        let rows = rows.to_vec();
        self.apply(move |layout| {
            newest(&rows)
                .into_iter()
                .map(|row| FolderChange::row(row, layout))
                .collect()
        })
        .await
    }

    async fn remove(&self, folders: &[Removed]) -> Result<(), RowError> {
        let changes: Vec<FolderChange> = folders.iter().map(FolderChange::removal).collect();
        self.apply(|_| Ok(changes)).await
    }
}

impl Catalogue {
    fn apply(&self, changes: &[FolderChange]) -> Result<(), RowError> {
        // A link stays a link, and what it names is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        for _ in 0..ATTEMPTS {
            let locked = Locked::open(&path).map_err(|error| self.io(error))?;
            let content = fs::read(&path).map_err(|error| self.io(error))?;
            let new = self.changed(&content, changes)?;
            if new == content
                || locked
                    .replace(&path, &new)
                    .map_err(|error| self.io(error))?
            {
                return Ok(());
            }
        }
        Err(RowError::transient(format!(
            "{} is being changed by somebody else all the time",
            self.path.display()
        )))
    }

    fn changed(&self, content: &[u8], changes: &[FolderChange]) -> Result<Vec<u8>, RowError> {
        let wrong = |why: String| {
            RowError::permanent(format!(
                "cannot keep rows in {}: {why}",
                self.path.display()
            ))
        };
        let (dialect, text) = Dialect::read(content).map_err(wrong)?;
        let text = merge(&text, &dialect, &self.layout, changes).map_err(wrong)?;
        dialect.encode(text).map_err(wrong)
    }

    fn io(&self, error: io::Error) -> RowError {
        RowError::transient(format!(
            "cannot keep rows in {}: {error}",
            self.path.display()
        ))
    }
}

/// The file, locked against other daemons until dropped, and as it was when it was locked.
struct Locked {
    file: File,
    state: State,
}

/// Tells whether somebody has replaced or changed a file: device, inode, size, and change time in
/// seconds and nanoseconds.
type State = (u64, u64, u64, i64, i64);

fn state(metadata: &fs::Metadata) -> State {
    let ctime = (metadata.ctime(), metadata.ctime_nsec());
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        ctime.0,
        ctime.1,
    )
}

impl Locked {
    /// Creates the file, empty, if there is none.
    fn open(path: &Path) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            let state = state(&file.metadata()?);
            // Whoever had the lock before has put a new file in its place.
            if fs::metadata(path).is_ok_and(|there| self::state(&there) == state) {
                return Ok(Self { file, state });
            }
        }
    }

    /// Puts a file with this content in its place; false if somebody changed it meanwhile.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        let mut name = b".".to_vec();
        name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        name.extend_from_slice(b".outboxfs-new");
        let temporary = path.with_file_name(std::ffi::OsStr::from_bytes(&name));
        let written = self.write(&temporary, path, content);
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write(&self, temporary: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
        // What lies there is left from a daemon that died, or a link that somebody laid for us.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(temporary)?;
        file.write_all(content)?;
        let metadata = self.file.metadata()?;
        file.set_permissions(metadata.permissions())?;
        // Only root can keep another owner; for everybody else the file becomes theirs.
        let _ = std::os::unix::fs::fchown(&file, Some(metadata.uid()), Some(metadata.gid()));
        file.sync_all()?;
        if !fs::metadata(path).is_ok_and(|there| state(&there) == self.state) {
            return Ok(false);
        }
        fs::rename(temporary, path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()?;
        Ok(true)
    }
}
