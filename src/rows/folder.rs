//! From a folder's delivered files to its row. A pure function: what is read from the journal and
//! from disk comes in as [`FolderFiles`].

use super::{FileRef, FolderRow, TestStatus};
use crate::derive::content_hash;
use crate::derive::stats::{self, StatsRules};
use crate::derive::thumbnail::ThumbnailState;
use crate::path::RelPath;
use crate::remote::{Artifact, Key, Proof, path_text};

/// A folder as delivery knows it once its files are at the remote.
pub struct FolderFiles<'a> {
    pub folder: &'a RelPath,
    /// Raised by each change in the folder.
    pub version: i64,
    /// Files at the remote, in any order; those of folders below are not among them.
    pub files: &'a [DeliveredFile],
    /// The content of the folder's file of statistics, as it was delivered.
    pub stats: StatsFile<'a>,
    pub stats_rules: &'a StatsRules,
    /// Name of the machine.
    pub host: &'a str,
    pub mount_id: &'a str,
    /// Where a reader finds an artifact: [`Proof::url`].
    pub url: &'a Url<'a>,
}

/// Of an artifact of the file at this path, with its proof.
type Url<'a> = dyn Fn(Artifact, &RelPath, &Proof) -> Option<String> + Sync + 'a;

/// A file that is at the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredFile {
    /// Its name in the folder, as on disk.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    pub hash: blake3::Hash,
    pub picture: bool,
    /// Width and height in pixels as shown (upright); `None` if not known or not a picture.
    pub dimensions: Option<(u32, u32)>,
    pub thumbnail: ThumbnailState,
    /// Milliseconds since 1970-01-01 UTC.
    pub delivered_at: i64,
    pub proof: Proof,
}

/// A folder's file of statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsFile<'a> {
    Absent,
    Content(&'a [u8]),
    /// More than [`stats::MAX_STATS_BYTES`]: its size, bytes.
    TooLarge(u64),
    /// Why it could not be read, one sentence.
    Unreadable(&'a str),
}

/// The folder's row; `None` if it holds neither a picture nor statistics.
pub fn build(folder: &FolderFiles) -> Option<FolderRow> {
    let mut files: Vec<&DeliveredFile> = folder.files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let makes_row = |file: &&DeliveredFile| file.picture || folder.stats_rules.is_stats(&file.name);
    if !files.iter().any(makes_row) {
        return None;
    }
    let (test_status, stats, stats_error) = read_stats(folder);
    Some(FolderRow {
        folder: text_or_dot(folder.folder),
        name: text_or_dot(&last_component(folder.folder)),
        test_status,
        stats,
        stats_error,
        pictures: file_refs(folder, &files, true),
        other_files: file_refs(folder, &files, false),
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        hash: content_hash(files.iter().map(|file| (file.name.as_slice(), &file.hash)))
            .to_hex()
            .to_string(),
        host: folder.host.to_owned(),
        mount_id: folder.mount_id.to_owned(),
        version: folder.version,
        first_delivered_at: files.iter().map(|file| file.delivered_at).min()?,
        last_delivered_at: files.iter().map(|file| file.delivered_at).max()?,
        outboxfs_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn text_or_dot(path: &RelPath) -> String {
    if path.is_root() {
        ".".to_owned()
    } else {
        path_text(path)
    }
}

fn last_component(path: &RelPath) -> RelPath {
    if path.is_root() {
        RelPath::root()
    } else {
        RelPath::root().join(path.name())
    }
}

fn read_stats(folder: &FolderFiles) -> (Option<TestStatus>, Option<String>, Option<String>) {
    let parsed = match folder.stats {
        StatsFile::Absent => return (None, None, None),
        StatsFile::Content(content) => stats::parse(content, folder.stats_rules),
        StatsFile::TooLarge(bytes) => Err(stats::too_large(bytes, folder.stats_rules)),
        StatsFile::Unreadable(why) => Err(why.to_owned()),
    };
    match parsed {
        Ok(stats) => (Some(stats.test_status), Some(stats.json), None),
        Err(error) => (Some(TestStatus::Unknown), None, Some(error)),
    }
}

fn file_refs(folder: &FolderFiles, files: &[&DeliveredFile], pictures: bool) -> Vec<FileRef> {
    files
        .iter()
        .filter(|file| file.picture == pictures)
        .map(|file| file_ref(folder, file))
        .collect()
}

fn file_ref(folder: &FolderFiles, file: &DeliveredFile) -> FileRef {
    let path = folder.folder.join(&file.name);
    let url = |artifact| {
        let url = (folder.url)(artifact, &path, &file.proof);
        url.unwrap_or_else(|| Key::new(artifact, &path).to_string())
    };
    let (thumbnail_url, thumbnail_error) = match &file.thumbnail {
        ThumbnailState::None => (None, None),
        ThumbnailState::Delivered => (Some(url(Artifact::Thumbnail)), None),
        ThumbnailState::Failed(why) => (None, Some(why.clone())),
    };
    FileRef {
        name: path_text(&RelPath::root().join(&file.name)),
        url: url(Artifact::Original),
        thumbnail_url,
        thumbnail_error,
        bytes: file.size,
        width: file.dimensions.map(|(width, _)| width),
        height: file.dimensions.map(|(_, height)| height),
        hash: file.hash.to_hex().to_string(),
        delivered_at: file.delivered_at,
        object_id: file.proof.id.clone(),
        object_version: file.proof.version.clone(),
        etag: file.proof.etag.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row for tests that care only for its version.
    pub fn any_row(version: i64) -> FolderRow {
        let mut row = row(b"x", &[file("a.jpg", true, 1)], StatsFile::Absent).unwrap();
        row.version = version;
        row
    }

    fn file(name: &str, picture: bool, at: i64) -> DeliveredFile {
        DeliveredFile {
            name: name.into(),
            size: 10,
            hash: blake3::hash(name.as_bytes()),
            picture,
            dimensions: picture.then_some((4, 3)),
            thumbnail: ThumbnailState::None,
            delivered_at: at,
            proof: Proof::default(),
        }
    }

    fn row(folder: &[u8], files: &[DeliveredFile], stats: StatsFile) -> Option<FolderRow> {
        build(&FolderFiles {
            folder: &RelPath::parse(folder).unwrap(),
            version: 7,
            files,
            stats,
            stats_rules: &StatsRules::default(),
            host: "rig-1",
            mount_id: "m1",
            url: &|artifact, path, proof| {
                let made = proof.url.clone().filter(|_| artifact == Artifact::Original);
                made.or_else(|| Some(format!("https://x/{}", Key::new(artifact, path))))
            },
        })
    }

    #[test]
    fn a_folder_without_pictures_and_stats_has_no_row() {
        assert_eq!(row(b"a", &[], StatsFile::Absent), None);
        let notes = [file("notes.txt", false, 1)];
        assert_eq!(row(b"a", &notes, StatsFile::Absent), None);
    }

    #[test]
    fn a_row_counts_all_files_and_shows_the_pictures_by_name() {
        let mut broken = file("a.jpg", true, 30);
        broken.thumbnail = ThumbnailState::Failed("it is cut off".into());
        let mut whole = file("b.jpg", true, 20);
        whole.thumbnail = ThumbnailState::Delivered;
        let files = [whole, file("stats.json", false, 10), broken];
        let row = row(b"x/S1", &files, StatsFile::Content(b"{\"ok\":true}")).unwrap();

        assert_eq!((row.folder.as_str(), row.name.as_str()), ("x/S1", "S1"));
        assert_eq!((row.files, row.bytes), (3, 30));
        assert_eq!((row.first_delivered_at, row.last_delivered_at), (10, 30));
        assert_eq!(row.test_status, Some(TestStatus::Pass));
        assert_eq!(row.stats.as_deref(), Some("{\"ok\":true}"));
        let [a, b] = &row.pictures[..] else {
            panic!("{:?}", row.pictures)
        };
        assert_eq!(a.url, "https://x/original/x/S1/a.jpg");
        assert_eq!(a.thumbnail_url, None);
        assert_eq!(a.thumbnail_error.as_deref(), Some("it is cut off"));
        assert_eq!(
            b.thumbnail_url.as_deref(),
            Some("https://x/thumbnail/x/S1/b.jpg")
        );
        assert_eq!((b.width, b.height), (Some(4), Some(3)));
        assert_eq!(row.other_files.len(), 1);
        assert_eq!(row.other_files[0].url, "https://x/original/x/S1/stats.json");
    }

    #[test]
    fn what_the_service_said_of_a_file_is_in_its_row() {
        let mut made = file("a.jpg", true, 1);
        made.proof = Proof {
            etag: Some("e".into()),
            id: Some("x/a".into()),
            version: Some("17".into()),
            url: Some("https://made/x/a".into()),
            ..Proof::default()
        };
        let row = row(b"x", &[made], StatsFile::Absent).unwrap();
        let shown = &row.pictures[0];
        assert_eq!(shown.url, "https://made/x/a");
        assert_eq!(shown.object_id.as_deref(), Some("x/a"));
        assert_eq!(shown.object_version.as_deref(), Some("17"));
        assert_eq!(shown.etag.as_deref(), Some("e"));
    }

    #[test]
    fn stats_that_cannot_be_used_leave_the_row_and_say_why() {
        let files = [file("stats.json", false, 1)];
        for stats in [
            StatsFile::Content(b"[]"),
            StatsFile::TooLarge(100_000_000),
            StatsFile::Unreadable("stats.json could not be read: Permission denied"),
        ] {
            let row = row(b"a", &files, stats).unwrap();
            assert_eq!(row.test_status, Some(TestStatus::Unknown));
            assert_eq!(row.stats, None);
            assert!(row.stats_error.unwrap().starts_with("stats.json "));
        }
    }

    #[test]
    fn the_root_is_a_dot_and_odd_names_are_those_of_keys() {
        let files = [file("a.jpg", true, 1)];
        let root = row(b"", &files, StatsFile::Absent).unwrap();
        assert_eq!((root.folder.as_str(), root.name.as_str()), (".", "."));
        assert_eq!(root.pictures[0].url, "https://x/original/a.jpg");
        let odd = row(b"x/\xff", &files, StatsFile::Absent).unwrap();
        assert_eq!((odd.folder.as_str(), odd.name.as_str()), ("x/%FF", "%FF"));
    }

    #[test]
    fn the_hash_follows_names_and_content_and_not_their_order() {
        let (a, b) = (file("a.jpg", true, 1), file("b.jpg", true, 2));
        let hash = |files: &[DeliveredFile]| row(b"x", files, StatsFile::Absent).unwrap().hash;
        let both = hash(&[a.clone(), b.clone()]);
        assert_eq!(both, hash(&[b.clone(), a.clone()]));
        let mut changed = b.clone();
        changed.hash = blake3::hash(b"other");
        assert_ne!(both, hash(&[a.clone(), changed]));
        let mut renamed = b;
        renamed.name = b"c.jpg".to_vec();
        assert_ne!(both, hash(&[a, renamed]));
    }

    #[test]
    fn the_hash_is_what_b3sum_says() {
        // printf a.jpg > a.jpg; LC_ALL=C b3sum * | tr '\n' '\0' | b3sum
        let line = format!("{}  a.jpg\0", blake3::hash(b"a.jpg").to_hex());
        let row = row(b"x", &[file("a.jpg", true, 1)], StatsFile::Absent).unwrap();
        assert_eq!(row.hash, blake3::hash(line.as_bytes()).to_hex().as_str());
    }
}
