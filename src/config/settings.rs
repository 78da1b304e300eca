use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use merge::Merge;
use serde::Deserialize;

use crate::derive::thumbnail;

use super::{
    BatchSize, Bytes, Hours, LogFormat, MaxPixels, MaxRetries, MetricsAddress, RemoteUrl, RowsUrl,
    SettleMs, Span, TpsLimit, Workers,
};

/// What help calls them.
pub const SETTINGS: &str = "Settings";

/// What can be set, and `None` where it is not. A field is the flag `--max-retries`, the variable
/// `OUTBOXFS_MAX_RETRIES` and the key `max-retries` in one.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize, Merge)]
#[merge(strategy = merge::option::overwrite_none)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = SETTINGS)]
pub struct Settings {
    /// Where files go: file:///path, s3://bucket/prefix?endpoint=URL&region=NAME,
    /// cloudinary://CLOUD/folder, supabase://PROJECT/BUCKET/folder or rails+https://host?api=NAME.
    /// Credentials come from the environment (the usual AWS chain, CLOUDINARY_URL, SUPABASE_KEY,
    /// OUTBOXFS_RAILS_EMAIL), never from the URL.
    /// [default: a directory below ~/.local/share/outboxfs, or /var/lib/outboxfs for root]
    #[arg(long, value_name = "URL", env = "OUTBOXFS_REMOTE", hide_env = true)]
    pub remote: Option<RemoteUrl>,

    /// A file of NAME=value lines (a `.env` file) with the secrets of remote and rows; what is in the environment
    /// goes before it.
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTBOXFS_ENV_FILE",
        hide_env = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub env_file: Option<PathBuf>,

    /// A PEM file with certificates that the remote is trusted by, beside the system's.
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTBOXFS_CA_FILE",
        hide_env = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub ca_file: Option<PathBuf>,

    /// Let secrets go over http://, where everybody on the way can read them. Without it that is
    /// refused, except to this machine. For Cloudinary, Supabase, Rails and PostgREST.
    #[arg(
        long,
        env = "OUTBOXFS_INSECURE",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub insecure: Option<bool>,

    /// Send what matches this glob (rules of .gitignore) gzip-encoded, if that makes it smaller; may
    /// be given several times. For S3.
    #[arg(long, value_name = "GLOB", env = "OUTBOXFS_COMPRESS", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub compress: Option<Vec<String>>,

    /// Where a row for each folder with pictures or a stats.json goes: sqlite:/path/rows.db,
    /// postgres://user@host/database, postgrest+https://host/rest/v1/table, csv:/path/rows.csv or
    /// jsonl:/path/rows.jsonl; may be given several times. The password for PostgreSQL comes from
    /// PGPASSWORD, the key for PostgREST from SUPABASE_KEY.
    /// [default: rows.db in the remote's directory; none for other remotes]
    #[arg(long, value_name = "URL", env = "OUTBOXFS_ROWS", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub rows: Option<Vec<RowsUrl>>,

    /// A regular expression with named groups, which become columns of the rows, filled from the
    /// folder's name: '(?P<sku>[^_]+)_(?P<colour>.+)'.
    #[arg(
        long,
        value_name = "REGEX",
        env = "OUTBOXFS_FOLDER_PATTERN",
        hide_env = true
    )]
    pub folder_pattern: Option<String>,

    /// The file in a folder that says what was measured there, a JSON object. [default: stats.json]
    #[arg(
        long,
        value_name = "NAME",
        env = "OUTBOXFS_STATS_FILE",
        hide_env = true
    )]
    pub stats_file: Option<String>,

    /// Where in it the outcome of the test stands: names of members, or paths such as
    /// $.summary.verdict, separated by commas; the first that says pass or fail decides.
    /// [default: status,test_status,result,passed,ok]
    #[arg(
        long,
        value_name = "NAMES",
        env = "OUTBOXFS_STATUS_FIELDS",
        hide_env = true,
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub status_fields: Option<Vec<String>>,

    /// Words that mean pass there, beside true, whatever their case.
    /// [default: pass,passed,ok,success,succeeded,true,yes]
    #[arg(
        long,
        value_name = "WORDS",
        env = "OUTBOXFS_PASS_WORDS",
        hide_env = true,
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub pass_words: Option<Vec<String>>,

    /// Words that mean fail there, beside false; all others mean unknown.
    /// [default: fail,failed,failure,error,nok,ng,false,no]
    #[arg(
        long,
        value_name = "WORDS",
        env = "OUTBOXFS_FAIL_WORDS",
        hide_env = true,
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub fail_words: Option<Vec<String>>,

    /// Members of stats.json that become columns, in the configuration file only:
    /// columns = { voltage = "$.power.voltage number" }.
    #[arg(skip)]
    pub columns: Option<BTreeMap<String, String>>,

    /// The database of what is still to be delivered; not inside the mounted directory.
    /// [default: below ~/.local/state/outboxfs, or /var/lib/outboxfs for root]
    #[arg(
        long,
        value_name = "PATH",
        env = "OUTBOXFS_JOURNAL",
        hide_env = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub journal: Option<PathBuf>,

    /// Uploads at a time, 1 to 256; fewer while the remote asks to slow down. [default: 8]
    #[arg(long, value_name = "N", env = "OUTBOXFS_WORKERS", hide_env = true)]
    pub workers: Option<Workers>,

    /// Folders delivered from at a time, 1 to 256. With --file-workers, --workers is their product
    /// unless it is given too. [default: as many as there are workers]
    #[arg(
        long,
        value_name = "N",
        env = "OUTBOXFS_FOLDER_WORKERS",
        hide_env = true
    )]
    pub folder_workers: Option<Workers>,

    /// Files of one folder delivered at a time, 1 to 256. [default: as many as there are workers]
    #[arg(long, value_name = "N", env = "OUTBOXFS_FILE_WORKERS", hide_env = true)]
    pub file_workers: Option<Workers>,

    /// One file after the other, whatever --workers says.
    #[arg(
        long,
        env = "OUTBOXFS_SEQUENTIAL",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub sequential: Option<bool>,

    /// Only files that match this glob (rules of .gitignore); may be given several times.
    #[arg(long, value_name = "GLOB", env = "OUTBOXFS_INCLUDE", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub include: Option<Vec<String>>,

    /// No files or folders that match this glob (rules of .gitignore); may be given several times.
    #[arg(long, value_name = "GLOB", env = "OUTBOXFS_EXCLUDE", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub exclude: Option<Vec<String>>,

    /// No files larger than this: 500K, 20M, 1.5G, 4GiB.
    #[arg(long, value_name = "SIZE", env = "OUTBOXFS_MAX_SIZE", hide_env = true)]
    pub max_size: Option<Bytes>,

    /// Deliver what symbolic links lead to, under the links' names, where that is in the directory
    /// too; folders as well, unless a link leads back to a folder that it is in.
    #[arg(
        long,
        env = "OUTBOXFS_FOLLOW_SYMLINKS",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub follow_symlinks: Option<bool>,

    /// Milliseconds that a file rests after its last change before it is sent, so that temporary
    /// names and quick rewrites are not. [default: 500]
    #[arg(long, value_name = "MS", env = "OUTBOXFS_SETTLE", hide_env = true)]
    pub settle: Option<SettleMs>,

    /// How often a failed upload is tried again, with growing pauses, before it is given up.
    /// [default: 8]
    #[arg(long, value_name = "N", env = "OUTBOXFS_MAX_RETRIES", hide_env = true)]
    pub max_retries: Option<MaxRetries>,

    /// The pause before a failed upload is tried again: up to this long the first time, twice as
    /// long each further time, chosen at random. [default: 1s]
    #[arg(
        long,
        value_name = "TIME",
        env = "OUTBOXFS_RETRY_DELAY",
        hide_env = true
    )]
    pub retry_delay: Option<Span>,

    /// The longest of these pauses. [default: 5m]
    #[arg(
        long,
        value_name = "TIME",
        env = "OUTBOXFS_MAX_RETRY_DELAY",
        hide_env = true
    )]
    pub max_retry_delay: Option<Span>,

    /// Bytes a second that are sent at most, by all uploads together: 500K, 10M, 1.5MiB.
    #[arg(long, value_name = "RATE", env = "OUTBOXFS_BWLIMIT", hide_env = true)]
    pub bwlimit: Option<Bytes>,

    /// Requests a second that are made at most.
    #[arg(long, value_name = "N", env = "OUTBOXFS_TPS_LIMIT", hide_env = true)]
    pub tps_limit: Option<TpsLimit>,

    /// Deliver in batches of so many folders: one ends when all that was begun in it has arrived or
    /// failed, and is kept in the history. Without it a batch ends when nothing is left.
    #[arg(long, value_name = "N", env = "OUTBOXFS_BATCH_SIZE", hide_env = true)]
    pub batch_size: Option<BatchSize>,

    /// A pause after each batch before the next one begins.
    #[arg(
        long,
        value_name = "TIME",
        env = "OUTBOXFS_BATCH_DELAY",
        hide_env = true
    )]
    pub batch_delay: Option<Span>,

    /// Deliver at these hours of the day only, local time: 22:00-06:00.
    #[arg(
        long,
        value_name = "HOURS",
        env = "OUTBOXFS_UPLOAD_HOURS",
        hide_env = true
    )]
    pub upload_hours: Option<Hours>,

    /// Delete at the remote what is deleted here, the old names of what is renamed, and the rows of
    /// folders that are gone. Without it the remote keeps everything.
    #[arg(
        long,
        env = "OUTBOXFS_SYNC_DELETES",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub sync_deletes: Option<bool>,

    /// Deliver what matches this glob (rules of .gitignore) before everything else; may be given
    /// several times.
    #[arg(long, value_name = "GLOB", env = "OUTBOXFS_PRIORITY", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub priority: Option<Vec<String>>,

    /// What is made of pictures: WIDTHxHEIGHT[,fit=cover|contain|inside][,quality=1..100]
    /// [,format=jpeg|webp|avif|png][,background=RRGGBB][,progressive][,linear]. May be given several
    /// times; the first is thumbnail/PATH at the remote, others are thumbnail-WIDTHxHEIGHT/PATH.
    /// [default: 200x300,fit=cover,quality=85,format=jpeg,background=ffffff]
    #[arg(long, value_name = "SIZE", env = "OUTBOXFS_THUMBNAIL", hide_env = true)]
    #[serde(deserialize_with = "one_or_several")]
    pub thumbnail: Option<Vec<thumbnail::Options>>,

    /// Make no thumbnails.
    #[arg(
        long,
        env = "OUTBOXFS_NO_THUMBNAILS",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub no_thumbnails: Option<bool>,

    /// Pictures with more pixels get no thumbnail. [default: 200000000]
    #[arg(long, value_name = "N", env = "OUTBOXFS_MAX_PIXELS", hide_env = true)]
    pub max_pixels: Option<MaxPixels>,

    /// Pictures that need more memory to be decoded get no thumbnail. [default: 1GiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "OUTBOXFS_MAX_PICTURE_MEMORY",
        hide_env = true
    )]
    pub max_picture_memory: Option<Bytes>,

    /// Pictures that take more processor time get no thumbnail. [default: 30s]
    #[arg(
        long,
        value_name = "TIME",
        env = "OUTBOXFS_MAX_PICTURE_TIME",
        hide_env = true
    )]
    pub max_picture_time: Option<Span>,

    /// Run this by the shell when a batch has ended; it reads JSON from standard input, and has a minute.
    #[arg(long, value_name = "CMD", env = "OUTBOXFS_ON_BATCH", hide_env = true)]
    pub on_batch: Option<String>,

    /// Run this by the shell when something has failed and is not tried again by itself; likewise.
    #[arg(long, value_name = "CMD", env = "OUTBOXFS_ON_FAILURE", hide_env = true)]
    pub on_failure: Option<String>,

    /// Tell the desktop when a batch has ended, if there is one and it has notify-send (Debian:
    /// libnotify-bin).
    #[arg(
        long,
        env = "OUTBOXFS_NOTIFY",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub notify: Option<bool>,

    /// Let umount(8) wait until everything is delivered, as 'outboxfs unmount' does: for mounts in
    /// /etc/fstab. Takes the helper umount.fuse.outboxfs, which the package installs.
    #[arg(
        long,
        env = "OUTBOXFS_FLUSH",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub flush: Option<bool>,

    /// Let reads and writes go through the daemon even where the kernel could do without it.
    #[arg(
        long,
        env = "OUTBOXFS_NO_PASSTHROUGH",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub no_passthrough: Option<bool>,

    /// Let other users into the mount (needs user_allow_other in /etc/fuse.conf, or root).
    #[arg(
        long,
        env = "OUTBOXFS_ALLOW_OTHER",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub allow_other: Option<bool>,

    /// List .upload in the mount's root; it is there anyway.
    #[arg(
        long,
        env = "OUTBOXFS_SHOW_UPLOAD_DIR",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub show_upload_dir: Option<bool>,

    /// List what files say of themselves (user.upload.*) among their extended attributes, so that
    /// getfattr -d shows it; cp -a and rsync -X would copy it then.
    #[arg(
        long,
        env = "OUTBOXFS_LIST_XATTRS",
        hide_env = true,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub list_xattrs: Option<bool>,

    /// Serve what .upload/metrics says at http://ADDRESS/metrics, a loopback address:
    /// 127.0.0.1:9469.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "OUTBOXFS_METRICS_LISTEN",
        hide_env = true
    )]
    pub metrics_listen: Option<MetricsAddress>,

    /// How log lines are written: text or json. [default: text; fields of the journal where
    /// standard error is systemd's]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "OUTBOXFS_LOG_FORMAT",
        hide_env = true,
        hide_possible_values = true
    )]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// These settings, and `weaker`'s where these say nothing.
    pub fn over(mut self, weaker: Self) -> Self {
        self.merge(weaker);
        self
    }
}

/// `rows = "URL"` and `rows = ["URL", "URL"]`.
fn one_or_several<'de, D, T>(value: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    struct OneOrSeveral<T>(PhantomData<T>);

    impl<'de, T: FromStr<Err: fmt::Display>> serde::de::Visitor<'de> for OneOrSeveral<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Self::Value, E> {
            one.parse().map(|one| vec![one]).map_err(E::custom)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut list: A,
        ) -> Result<Self::Value, A::Error> {
            let mut several = Vec::new();
            while let Some(one) = list.next_element::<String>()? {
                several.push(one.parse().map_err(serde::de::Error::custom)?);
            }
            Ok(several)
        }
    }

    value.deserialize_any(OneOrSeveral(PhantomData)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn flag_variable_and_key_share_a_name() {
        for argument in Only::command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| *flag != "help") else {
                continue;
            };
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert_eq!(
                variable,
                format!("OUTBOXFS_{}", flag.to_uppercase().replace('-', "_"))
            );
            let wrong_type = format!("{flag} = 1.5");
            let error = toml::from_str::<Settings>(&wrong_type).unwrap_err();
            assert!(
                !error.message().contains("unknown field"),
                "{flag} is not a key: {error}"
            );
        }
    }

    #[test]
    fn the_stronger_settings_win() {
        let flags = Only::parse_from(["outboxfs", "--workers", "4", "--no-passthrough"]).settings;
        let file: Settings =
            toml::from_str("workers = 2\nsettle = 0\nno-passthrough = false\n").unwrap();
        let merged = flags.over(file);
        assert_eq!(merged.workers, Some(Workers::new(4)));
        assert_eq!(merged.settle, Some(SettleMs::new(0)));
        assert_eq!(merged.no_passthrough, Some(true));
        assert_eq!(merged.remote, None);
    }
}
