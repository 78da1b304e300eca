//! What dying leaves behind: of the journal, and of the files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::remote::SimRemote;
use crate::story::Story;
use crate::tree::{Tree, set_time, stat};

/// How far the write-ahead log is on the disk for sure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synced {
    /// Of the log that was begun with this salt.
    salt: [u8; 8],
    len: u64,
}

impl Synced {
    /// Everything that is in the log now.
    pub fn all(journal: &Path) -> Self {
        let log = fs::File::open(beside(journal, "-wal"));
        let mut synced = Self::default();
        if let Ok(log) = log {
            // https://sqlite.org/fileformat.html §4.1: the salts of a log change when it begins anew.
            let _ = log.read_exact_at(&mut synced.salt, 16);
            synced.len = log.metadata().map_or(0, |metadata| metadata.len());
        }
        synced
    }
}

pub fn beside(journal: &Path, suffix: &str) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Copies a journal as it is at this moment, which is what a killed daemon leaves.
pub fn copy_journal(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let copied = fs::copy(beside(from, suffix), beside(to, suffix));
        assert!(copied.is_ok() || suffix == "-wal", "{copied:?}");
    }
    let _ = fs::copy(from.with_extension("id"), to.with_extension("id"));
}

/// Cuts off of the log what was not synced, or a part of that; and lets the machine be another run.
pub fn cut_power(story: &Story, journal: &Path, synced: Synced) {
    let now = Synced::all(journal);
    if now.len > 0 {
        let kept = match now.salt == synced.salt {
            true => synced.len,
            false => 0,
        };
        let len = kept + story.below("disk", now.len - kept + 1);
        story.tell(format!("{len} bytes of the log are left of {}", now.len));
        let log = fs::File::options()
            .write(true)
            .open(beside(journal, "-wal"));
        log.unwrap().set_len(len).unwrap();
    }
    let conn = Connection::open(journal).unwrap();
    // A journal that was cut off before it was made has no tables.
    let _ = conn.execute(
        "UPDATE meta SET boot = 'another' WHERE boot IS NOT NULL",
        [],
    );
}

/// The names of the files that are recorded as delivered as they are.
pub fn delivered(journal: &Path) -> Vec<String> {
    let conn = Connection::open(journal).unwrap();
    let mut statement = conn
        .prepare(
            "WITH RECURSIVE place (id, path) AS (
                 SELECT id, '' FROM folder WHERE parent_id IS NULL
                 UNION ALL
                 SELECT folder.id, place.path || CAST(folder.name AS TEXT) || '/'
                 FROM folder JOIN place ON folder.parent_id = place.id)
             SELECT place.path || CAST(file.name AS TEXT) FROM file JOIN place ON place.id = file.folder_id
             WHERE file.delivered = file.version AND NOT file.opened
                 AND file.id NOT IN (SELECT file_id FROM work)
                 AND NOT EXISTS (SELECT 1 FROM arrival WHERE place.path || CAST(file.name AS TEXT)
                     IN (CAST(path AS TEXT), CAST(renamed_from AS TEXT)))
             ORDER BY 1",
        )
        .unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// Does to a file what power cuts and bad disks do.
pub fn damage(story: &Story, tree: &mut Tree, remote: &SimRemote, name: &str) {
    let path = tree.path(name);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let (before, content) = (stat(&file), fs::read(&path).unwrap());
    let how = match story.below("disk", 4) {
        0 => {
            file.set_len(0).unwrap();
            "is empty"
        }
        1 => {
            let len = story.below("disk", content.len().max(1) as u64);
            file.set_len(len).unwrap();
            "is shorter"
        }
        2 => {
            file.set_len(0).unwrap();
            file.set_len(content.len() as u64).unwrap();
            set_time(&file, before.mtime_ns);
            "is a hole"
        }
        _ => {
            file.write_all_at(&vec![0; content.len()], 0).unwrap();
            "is zeros"
        }
    };
    story.tell(format!("{name} {how}"));
    let now = blake3::hash(&fs::read(&path).unwrap());
    let mut state = remote.state.lock();
    if !state.closed.contains_key(&now) {
        let id = tree.at(name).unwrap();
        let node = tree.node(id);
        node.is_damaged = true;
        let better = node.contents.iter().copied();
        state.damaged.entry(now).or_default().extend(better);
    }
}
