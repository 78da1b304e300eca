use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{
    Bytes, ConfigError, MaxRetries, MetricsAddress, Places, RemoteUrl, RowsUrl, Settings, SettleMs,
    Span, Workers, pictures,
};
use crate::beneath::Links;
use crate::delivery::{self, Limits, SpreadLimits};
use crate::derive::stats::StatsRules;
use crate::derive::thumbnail;
use crate::filter::Filter;
use crate::glob::Globs;
use crate::journal::BatchLimits;
use crate::mount::Restriction;
use crate::notify::Hooks;
use crate::rows::{FolderPattern, PromotedColumn, RowError};

const MOST_WORKERS: usize = 256;
const SETTLE: SettleMs = SettleMs::new(500);
const MAX_RETRIES: MaxRetries = MaxRetries::new(8);
const RETRY_DELAY: Span = Span::new(Duration::from_secs(1));
const MAX_RETRY_DELAY: Span = Span::new(Duration::from_secs(300));
/// The rows of a remote that is a directory lie in it, beside `original` and `thumbnail`.
const ROWS_FILE: &str = "rows.db";

/// Everything that a mount has to know, checked, with absolute paths.
#[derive(Debug, Clone)]
pub struct MountSettings {
    /// The backing directory; canonical.
    pub directory: PathBuf,
    /// Where it is mounted; canonical; equal to `directory` if it is mounted over itself.
    pub mountpoint: PathBuf,
    pub remote: Url,
    /// Nobody named it.
    pub default_remote: bool,
    /// Where the remote's secrets are, beside the environment; absolute, as all paths here.
    pub env_file: Option<PathBuf>,
    /// What the remote's certificate may be signed by, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Secrets may go over http:// beyond this machine.
    pub insecure: bool,
    /// What is sent gzip-encoded.
    pub compress: Globs,
    /// For [`crate::rows::open`]; empty if no rows are wanted.
    pub rows: Vec<String>,
    pub row_columns: Vec<PromotedColumn>,
    pub folder_pattern: Option<FolderPattern>,
    /// Which file tells of its folder, and how.
    pub stats: StatsRules,
    pub journal: PathBuf,
    pub limits: Limits,
    /// How uploads are spread over folders.
    pub spread: SpreadLimits,
    /// One file after the other.
    pub sequential: bool,
    /// What is taken.
    pub filter: Filter,
    /// What becomes of symbolic links.
    pub links: Links,
    /// How long a change rests before it is delivered.
    pub settle: Duration,
    /// Attempts after the first one.
    pub max_retries: u32,
    /// The first pause between two attempts, and the longest.
    pub retry_delay: Duration,
    pub max_retry_delay: Duration,
    /// How much is delivered in one go.
    pub batches: BatchLimits,
    /// Whether what is deleted here is deleted at the remote.
    pub sync_deletes: bool,
    /// What is delivered first.
    pub priority: Globs,
    /// What is made of pictures, the main one first; empty for nothing.
    pub thumbnails: Vec<thumbnail::Options>,
    /// What a picture may cost.
    pub picture_limits: thumbnail::Limits,
    /// Whether the kernel may read and write the backing files by itself, where it can.
    pub passthrough: bool,
    pub allow_other: bool,
    /// Whether `.upload` is listed in the root, and what files say of themselves among their attributes.
    pub show_upload_dir: bool,
    pub list_xattrs: bool,
    /// Where metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Who is told of batches and failures.
    pub hooks: Hooks,
    /// Whether umount(8) waits for the end of delivery.
    pub flush: bool,
    /// How /etc/fstab names the mount, if it does, and what it forbids there.
    pub source: Option<String>,
    pub restrictions: Vec<Restriction>,
    /// The device, where somebody else has mounted it.
    pub device: Option<Arc<OwnedFd>>,
}

impl MountSettings {
    /// The directory of journal and log.
    pub fn state_dir(&self) -> &Path {
        self.journal.parent().unwrap_or(Path::new("/"))
    }

    /// The log of a daemon in the background.
    pub fn log_file(&self) -> PathBuf {
        self.state_dir().join("daemon.log")
    }

    /// Folders at the remote of all thumbnails but the main ones.
    pub fn further_thumbnail_folders(&self) -> Vec<String> {
        let further = thumbnail::folders(&self.thumbnails).skip(1);
        further.collect()
    }

    /// Makes [`Self::state_dir`], for its owner only: file names are nobody else's business. A
    /// directory that is there already is left as it is.
    pub fn create_state_dir(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.state_dir())
    }
}

/// Fills in what `settings` leave open for `directory`, mounted on `mountpoint` (both canonical),
/// and refuses what cannot work. Looks at the file system and changes nothing on it.
pub fn resolve(
    settings: Settings,
    directory: PathBuf,
    mountpoint: PathBuf,
    places: &Places,
) -> Result<MountSettings, ConfigError> {
    let limits = limits(&settings)?;
    let filter = Filter::new(
        settings.include.as_deref().unwrap_or_default(),
        settings.exclude.as_deref().unwrap_or_default(),
        settings.max_size.map(Bytes::get),
    );
    let picture_limits = pictures::limits(&settings)?;
    let journal = match settings.journal {
        Some(journal) => journal_file(&journal)?,
        None => real_path(&places.journal(&directory)),
    };
    let default_remote = settings.remote.is_none();
    let remote = match settings.remote {
        Some(remote) => remote,
        None => usual_remote(&directory, places)?,
    };
    let remote_directory = remote.directory().map(|path| real_path(&path));
    let beside_remote = || RowsUrl::from_database(&remote_directory.as_ref()?.join(ROWS_FILE));
    let rows = settings
        .rows
        .unwrap_or_else(|| beside_remote().into_iter().collect());

    let thumbnails = pictures::thumbnails(settings.thumbnail, settings.no_thumbnails)?;
    let inside = Inside {
        directory: &directory,
        mountpoint: &mountpoint,
    };
    inside.refuse(&journal, "journal", "--journal PATH")?;
    if let Some(remote) = &remote_directory {
        inside.refuse(remote, "remote", "--remote URL")?;
        inside.refuse_within_remote(remote, &thumbnails)?;
    }
    for file in rows.iter().filter_map(RowsUrl::file) {
        inside.refuse(&real_path(&file), "rows database", "--rows URL")?;
    }
    let stats = stats_rules(
        settings.stats_file,
        settings.status_fields,
        settings.pass_words,
        settings.fail_words,
    );
    let compress = Globs::new(&settings.compress.unwrap_or_default()).map_err(ConfigError)?;
    if !compress.is_empty() && remote.directory().is_some() {
        return Err(ConfigError(
            "--compress is for S3 remotes, whose objects say how they are encoded; the files of a \
             directory do not"
                .to_owned(),
        ));
    }
    let columns = settings.columns.unwrap_or_default();
    let columns = columns
        .iter()
        .map(|(name, spec)| PromotedColumn::parse(name, spec));
    let of_rows = |error: RowError| ConfigError(error.message);

    Ok(MountSettings {
        rows: rows.iter().map(|rows| rows.as_url().to_string()).collect(),
        row_columns: columns.collect::<Result<_, _>>().map_err(of_rows)?,
        folder_pattern: settings
            .folder_pattern
            .map(|pattern| FolderPattern::parse(&pattern))
            .transpose()
            .map_err(of_rows)?,
        stats: stats.map_err(ConfigError)?,
        remote: remote.as_url().clone(),
        default_remote,
        env_file: settings.env_file.as_deref().map(real_path),
        ca_file: settings.ca_file.as_deref().map(real_path),
        insecure: settings.insecure.unwrap_or(false),
        compress,
        journal,
        limits,
        spread: SpreadLimits {
            folders: settings.folder_workers.map(count),
            files: settings.file_workers.map(count),
        },
        sequential: settings.sequential.unwrap_or(false),
        filter: filter.map_err(ConfigError)?,
        links: match settings.follow_symlinks.unwrap_or(false) {
            true => Links::Followed,
            false => Links::Refused,
        },
        settle: Duration::from_millis(settings.settle.unwrap_or(SETTLE).get() as u64),
        max_retries: settings.max_retries.unwrap_or(MAX_RETRIES).get() as u32,
        retry_delay: settings.retry_delay.unwrap_or(RETRY_DELAY).get(),
        max_retry_delay: settings.max_retry_delay.unwrap_or(MAX_RETRY_DELAY).get(),
        batches: BatchLimits {
            folders: settings.batch_size.map(|size| size.get() as usize),
            pause: settings.batch_delay.map(Span::get).unwrap_or_default(),
        },
        sync_deletes: settings.sync_deletes.unwrap_or(false),
        thumbnails,
        picture_limits,
        priority: Globs::new(&settings.priority.unwrap_or_default()).map_err(ConfigError)?,
        passthrough: !settings.no_passthrough.unwrap_or(false),
        allow_other: settings.allow_other.unwrap_or(false),
        show_upload_dir: settings.show_upload_dir.unwrap_or(false),
        list_xattrs: settings.list_xattrs.unwrap_or(false),
        metrics_listen: settings.metrics_listen.map(MetricsAddress::get),
        hooks: Hooks {
            on_batch: settings.on_batch,
            on_failure: settings.on_failure,
            desktop: settings.notify.unwrap_or(false),
        },
        flush: settings.flush.unwrap_or(false),
        source: None,
        restrictions: Vec::new(),
        device: None,
        directory,
        mountpoint,
    })
}

fn count(workers: Workers) -> usize {
    workers.get() as usize
}

/// What of the settings may change while delivery goes on.
pub fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    Ok(Limits {
        workers: workers(settings),
        bwlimit: bwlimit(settings.bwlimit)?,
        tps_limit: settings.tps_limit.map(|limit| limit.get().unsigned_abs()),
        upload_hours: settings.upload_hours,
    })
}

/// Uploads at a time, 1 to 256; `None` if nothing is said of them.
fn workers(settings: &Settings) -> Option<usize> {
    let of_both = match (settings.folder_workers, settings.file_workers) {
        (Some(folders), Some(files)) => Some(count(folders) * count(files)),
        (Some(one), None) | (None, Some(one)) => Some(delivery::WORKERS.max(count(one))),
        (None, None) => None,
    };
    match settings.sequential {
        Some(true) => Some(1),
        _ => settings
            .workers
            .map(count)
            .or(of_both.map(|workers| workers.min(MOST_WORKERS))),
    }
}

fn stats_rules(
    file: Option<String>,
    fields: Option<Vec<String>>,
    pass: Option<Vec<String>>,
    fail: Option<Vec<String>>,
) -> Result<StatsRules, String> {
    let mut rules = StatsRules::default();
    if let Some(file) = file {
        rules = rules.with_file(&file)?;
    }
    if let Some(fields) = fields {
        rules = rules.with_fields(&fields)?;
    }
    rules.with_words(pass, fail)
}

fn bwlimit(limit: Option<Bytes>) -> Result<Option<u64>, ConfigError> {
    match limit.map(Bytes::get) {
        Some(0) => Err(ConfigError(
            "--bwlimit 0 would send nothing; leave it out for no limit, or use 'outboxfs pause'"
                .to_owned(),
        )),
        limit => Ok(limit),
    }
}

fn journal_file(path: &Path) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Err(ConfigError(format!(
            "the journal has to be a file, and '{}' is none; give --journal PATH/journal.db",
            path.display()
        )));
    }
    Ok(real_path(path))
}

fn usual_remote(directory: &Path, places: &Places) -> Result<RemoteUrl, ConfigError> {
    let path = real_path(&places.remote(directory));
    RemoteUrl::from_directory(&path).ok_or_else(|| {
        ConfigError(format!(
            "{} cannot be written as a URL; give --remote URL",
            path.display()
        ))
    })
}

/// What must not lie within what is mounted: the daemon would wait for itself, or deliver its own
/// doings.
struct Inside<'a> {
    directory: &'a Path,
    mountpoint: &'a Path,
}

impl Inside<'_> {
    fn refuse(&self, path: &Path, what: &str, flag: &str) -> Result<(), ConfigError> {
        for mounted in [self.directory, self.mountpoint] {
            if path.starts_with(mounted) {
                return Err(ConfigError(format!(
                    "the {what} {} would lie inside {}, which is to be delivered; put it elsewhere \
                     with {flag}",
                    path.display(),
                    mounted.display()
                )));
            }
        }
        Ok(())
    }

    fn refuse_within_remote(
        &self,
        remote: &Path,
        thumbnails: &[thumbnail::Options],
    ) -> Result<(), ConfigError> {
        use crate::remote::Artifact::{Original, Thumbnail};
        let artifacts = [Original, Thumbnail].map(|artifact| artifact.folder().to_owned());
        let further = thumbnail::folders(thumbnails).skip(1);
        for folder in artifacts.into_iter().chain(further) {
            let folder = remote.join(folder);
            if self.directory.starts_with(&folder) || self.mountpoint.starts_with(&folder) {
                return Err(ConfigError(format!(
                    "{} lies inside the remote's {}, where files are delivered to; give another \
                     --remote URL",
                    self.directory.display(),
                    folder.display()
                )));
            }
        }
        Ok(())
    }
}

/// The path with its links resolved, as far as it exists already.
fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing: Vec<OsString> = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(mut real) = ancestor.canonicalize() {
            for name in missing.iter().rev() {
                // What does not exist is no link: its `..` is what it looks like.
                if name == ".." {
                    real.pop();
                } else {
                    real.push(name);
                }
            }
            return real;
        }
        if let Some(name) = ancestor.components().next_back() {
            missing.push(name.as_os_str().to_owned());
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A directory to mount and the places of its user, in a temporary directory.
    struct World {
        root: tempfile::TempDir,
        dir: PathBuf,
        places: Places,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let base = root.path().canonicalize().unwrap();
            let dir = base.join("pictures");
            std::fs::create_dir(&dir).unwrap();
            let places = Places::for_tests(base.join("state"), base.join("data"));
            Self { root, dir, places }
        }

        fn resolve(&self, toml: &str) -> Result<MountSettings, ConfigError> {
            let settings = toml::from_str(toml).unwrap();
            resolve(settings, self.dir.clone(), self.dir.clone(), &self.places)
        }

        fn refusal(&self, toml: &str) -> String {
            self.resolve(toml).unwrap_err().to_string()
        }
    }

    #[test]
    fn nothing_given_gives_a_working_mount() {
        let world = World::new();
        let settings = world.resolve("").unwrap();
        let base = world.root.path().canonicalize().unwrap();
        assert!(settings.journal.starts_with(base.join("state")));
        let remote = settings.remote.to_file_path().unwrap();
        assert!(remote.starts_with(base.join("data")));
        assert_eq!(
            settings.rows,
            [format!("sqlite:{}/rows.db", remote.display())]
        );
        assert_eq!(settings.limits.workers, None);
        assert_eq!(settings.settle, Duration::from_millis(500));
        assert_eq!(settings.max_retries, 8);
        assert!(settings.passthrough && !settings.allow_other);
        assert!(!base.join("state").exists() && !base.join("data").exists());
    }

    #[test]
    fn workers_are_those_of_folders_and_their_files() {
        let world = World::new();
        for (toml, workers) in [
            ("", None),
            ("folder-workers = 4\nfile-workers = 5", Some(20)),
            ("folder-workers = 40\nfile-workers = 50", Some(256)),
            ("file-workers = 2", Some(8)),
            ("folder-workers = 20", Some(20)),
            ("folder-workers = 4\nfile-workers = 5\nworkers = 6", Some(6)),
            ("workers = 6\nsequential = true", Some(1)),
        ] {
            let limits = world.resolve(toml).unwrap().limits;
            assert_eq!(limits.workers, workers, "{toml}");
        }
    }

    #[test]
    fn an_s3_remote_has_no_rows_unless_given() {
        let world = World::new();
        assert!(
            world
                .resolve("remote = 's3://b/p'")
                .unwrap()
                .rows
                .is_empty()
        );
        let rows = "remote = 's3://b/p'\nrows = 'sqlite:/r/rows.db'";
        let settings = world.resolve(rows).unwrap();
        assert_eq!(settings.rows, ["sqlite:/r/rows.db"]);
        let rows = "remote = 's3://b/p'\nrows = ['jsonl:/r/rows', 'postgres://rig@db/lab']";
        assert_eq!(world.resolve(rows).unwrap().rows.len(), 2);
    }

    #[test]
    fn statistics_have_the_name_and_words_that_are_given() {
        let world = World::new();
        let stats = world
            .resolve("stats-file = 'r.json'\npass-words = 'gut'")
            .unwrap()
            .stats;
        assert!(stats.is_stats(b"r.json") && !stats.is_stats(b"stats.json"));
        for (toml, why) in [
            ("stats-file = 'a/r.json'", "a name without a path"),
            ("status-fields = ['$.a..b']", "a name is empty"),
            (
                "pass-words = ['x', 'failed']",
                "'failed' cannot mean pass and fail",
            ),
            ("fail-words = ''", "is empty"),
        ] {
            let error = world.refusal(toml);
            assert!(error.contains(why), "{toml}: {error}");
        }
    }

    #[test]
    fn what_would_lie_inside_the_mount_is_refused() {
        let world = World::new();
        let dir = world.dir.display();
        for (toml, what) in [
            (format!("journal = '{dir}/new/j.db'"), "the journal"),
            (
                format!("journal = '{dir}/../gone/../pictures/j.db'"),
                "the journal",
            ),
            (format!("remote = 'file://{dir}/sent'"), "the remote"),
            (format!("remote = 'file://{dir}'"), "the remote"),
            (
                format!("rows = 'sqlite:{dir}/rows.db'"),
                "the rows database",
            ),
        ] {
            let error = world.refusal(&toml);
            assert!(error.starts_with(what), "{toml}: {error}");
            assert!(error.contains("inside") && error.contains("--"), "{error}");
        }
    }

    #[test]
    fn a_link_into_the_mount_is_seen_through() {
        let world = World::new();
        let link = world.root.path().join("link");
        symlink(&world.dir, &link).unwrap();
        let error = world.refusal(&format!("journal = '{}/j.db'", link.display()));
        assert!(error.contains("would lie inside"), "{error}");
    }

    #[test]
    fn a_neighbour_with_a_longer_name_is_not_inside() {
        let world = World::new();
        let journal = format!("journal = '{}-state/j.db'", world.dir.display());
        assert!(world.resolve(&journal).is_ok());
    }

    #[test]
    fn the_remote_cannot_be_mounted() {
        let world = World::new();
        let mounted = world.dir.join("original");
        std::fs::create_dir(&mounted).unwrap();
        let settings = Settings {
            remote: RemoteUrl::from_directory(&world.dir),
            ..Settings::default()
        };
        let error = resolve(settings, mounted.clone(), mounted, &world.places).unwrap_err();
        assert!(error.to_string().contains("inside the remote"), "{error}");
    }

    #[test]
    fn a_directory_is_no_journal() {
        let world = World::new();
        let parent = world.root.path().display();
        let error = world.refusal(&format!("journal = '{parent}'"));
        assert!(error.contains("has to be a file"), "{error}");
    }

    #[test]
    fn the_state_directory_is_its_owners() {
        let world = World::new();
        let settings = world.resolve("").unwrap();
        settings.create_state_dir().unwrap();
        let mode = settings
            .state_dir()
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        settings.create_state_dir().unwrap();
    }
}
