//! What has to hold at every moment, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use crate::remote::SimRemote;
use crate::sink::SimSink;
use crate::story::Story;
use crate::tree::Tree;

/// What pictures begin with.
pub const JPEG: [u8; 4] = [0xff, 0xd8, 0xff, 0xe0];

/// `work.state` of a file that is suspect.
const SUSPECT: i64 = 3;

/// A file as the journal has it.
struct Recorded {
    path: String,
    size: u64,
    mtime_ns: i64,
    inode: u64,
    /// What the remote has under its key, where that is known for sure.
    hash: Option<blake3::Hash>,
    is_delivered: bool,
    /// As in `work`.
    state: Option<i64>,
    /// It was closed or renamed, and the tables do not show it yet.
    is_outdated: bool,
}

/// Work, by file: its state, when it is due, and whether it goes first.
type Queue = BTreeMap<i64, (i64, i64, bool)>;

pub struct Promises {
    story: Arc<Story>,
    remote: Arc<SimRemote>,
    queue: Queue,
    /// Whether claims are in the order of their age alone.
    pub is_in_order: bool,
    /// Keys of which a power cut has made the journal forget.
    forgotten: BTreeSet<String>,
}

fn open(journal: &Path) -> Connection {
    Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn recorded(conn: &Connection) -> Vec<Recorded> {
    let mut statement = conn
        .prepare_cached(
            "WITH RECURSIVE place (id, path) AS (
                 SELECT id, '' FROM folder WHERE parent_id IS NULL
                 UNION ALL
                 SELECT folder.id, place.path || CAST(folder.name AS TEXT) || '/'
                 FROM folder JOIN place ON folder.parent_id = place.id)
             SELECT place.path || CAST(file.name AS TEXT), file.size, mtime_ns, inode, hash,
                 delivered = version, work.state,
                 EXISTS (SELECT 1 FROM arrival WHERE place.path || CAST(file.name AS TEXT)
                     IN (CAST(arrival.path AS TEXT), CAST(renamed_from AS TEXT)))
             FROM file JOIN place ON place.id = file.folder_id LEFT JOIN work ON work.file_id = file.id",
        )
        .unwrap();
    let files = statement.query_map([], |row| {
        Ok(Recorded {
            path: row.get(0)?,
            size: row.get::<_, i64>(1)? as u64,
            mtime_ns: row.get(2)?,
            inode: row.get::<_, i64>(3)? as u64,
            hash: row
                .get::<_, Option<[u8; 32]>>(4)?
                .map(blake3::Hash::from_bytes),
            is_delivered: row.get(5)?,
            state: row.get(6)?,
            is_outdated: row.get(7)?,
        })
    });
    files.unwrap().map(Result::unwrap).collect()
}

impl Promises {
    pub fn new(story: Arc<Story>, remote: Arc<SimRemote>, is_in_order: bool) -> Self {
        Self {
            story,
            remote,
            queue: Queue::new(),
            is_in_order,
            forgotten: BTreeSet::new(),
        }
    }

    /// A journal was opened anew: whatever a close was answered for, it knows.
    pub fn opened(&mut self, journal: &Path, tree: &mut Tree) {
        self.queue.clear();
        let conn = open(journal);
        let recorded = recorded(&conn);
        let unheard = std::mem::take(&mut tree.unheard);
        for (name, id) in tree.names() {
            if unheard.contains(&name) {
                continue;
            }
            let node = tree.node(id);
            let Some(closed) = node.closed.filter(|_| node.unanswered == 0) else {
                continue;
            };
            let stat = closed.stat;
            // What is suspect under this name stays so when it is written under another one.
            let is_known = recorded.iter().any(|file| {
                let is_this = (file.size, file.mtime_ns, file.inode)
                    == (stat.size, stat.mtime_ns, stat.inode);
                let is_had = is_this && (file.is_delivered || file.state.is_some());
                file.path == name && (is_had || file.state == Some(SUSPECT))
            });
            if !is_known {
                self.story.broken(format!(
                    "the journal has forgotten {name}, which was closed"
                ));
            }
        }
        // The remote may be ahead of a journal that has lost its end.
        let state = self.remote.state.lock();
        let wrong = recorded.iter().filter(|file| {
            let object = state
                .objects
                .get(&key(&file.path))
                .map(|object| object.hash);
            file.hash.is_some() && file.hash != object
        });
        self.forgotten = wrong.map(|file| key(&file.path)).collect();
    }

    /// After a turn of the journal.
    pub fn check(&mut self, conn: &Connection) {
        self.check_beliefs(conn);
        self.check_totals(conn);
        self.check_order(conn);
    }

    /// The remote has what the journal says.
    fn check_beliefs(&mut self, conn: &Connection) {
        let mut state = self.remote.state.lock();
        for file in recorded(conn) {
            let key = key(&file.path);
            let object = state.objects.get(&key).map(|object| object.hash);
            let Some(hash) = file.hash else {
                self.forgotten.remove(&key);
                continue;
            };
            if Some(hash) == object {
                self.forgotten.remove(&key);
                if file.is_delivered && file.state.is_none() && !file.is_outdated {
                    state.settled.insert(key, hash);
                }
            } else if !self.forgotten.contains(&key) {
                let what = object.and_then(|hash| state.closed.get(&hash).cloned());
                let said = state.closed.get(&hash).cloned();
                self.story.broken(format!(
                    "the journal says that {key} is {said:?}, and it is {what:?}"
                ));
            }
        }
    }

    /// What triggers keep is what is there.
    fn check_totals(&self, conn: &Connection) {
        let differences: String = conn
            .prepare_cached(
                "WITH kept AS (SELECT * FROM folder WHERE id = 1)
                 SELECT coalesce(group_concat(name || ': ' || kept || ' instead of ' || counted), '') FROM (
                     SELECT 'files' AS name, files AS kept, (SELECT count(*) FROM file) AS counted FROM kept
                     UNION ALL SELECT 'bytes', bytes, (SELECT coalesce(sum(size), 0) FROM file) FROM kept
                     UNION ALL SELECT 'queued', queued_files, (SELECT count(*) FROM work WHERE state < 2) FROM kept
                     UNION ALL SELECT 'failed', failed_files, (SELECT count(*) FROM work WHERE state = 2) FROM kept
                     UNION ALL SELECT 'suspect', suspect_files, (SELECT count(*) FROM work WHERE state = 3) FROM kept
                     UNION ALL SELECT 'rows', queued_rows,
                         (SELECT count(*) FROM folder WHERE row_state IN (1, 3)) FROM kept
                     UNION ALL SELECT 'gone rows', queued_rows,
                         (SELECT count(*) FROM gone_row WHERE state < 2) FROM total
                     UNION ALL SELECT 'deletions', queued_deletions,
                         (SELECT count(*) FROM stray WHERE state < 2 AND file_id IS NULL AND folder_id IS NULL
                             AND gone_row_id IS NULL) FROM total)
                 WHERE kept <> counted",
            )
            .unwrap()
            .query_row([], |row| row.get(0))
            .unwrap();
        if !differences.is_empty() {
            self.story.broken(format!("totals: {differences}"));
        }
    }

    /// Of two that were due, the older one was claimed first, or that which goes first.
    fn check_order(&mut self, conn: &Connection) {
        let queue: Queue = conn
            .prepare_cached("SELECT file_id, state, due_at, priority FROM work")
            .unwrap()
            .query_map([], |row| {
                Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let waited = |id: &i64| self.queue.get(id).filter(|work| work.0 == 0);
        let claimed = queue.iter().filter(|(_, work)| work.0 == 1);
        // What was changed again may have been due earlier by then.
        let claimed = claimed.filter_map(|(id, work)| {
            let before = waited(id)?;
            Some((before.1.min(work.1), before.2 || work.2))
        });
        let left = queue.iter().filter(|(_, work)| work.0 == 0);
        let left: Vec<_> = left
            .filter_map(|(id, work)| waited(id).filter(|before| before.1 == work.1))
            .collect();
        if self.is_in_order {
            for (due, first) in claimed {
                let earlier =
                    |other: &&(i64, i64, bool)| other.1 < due && (other.2 == first || other.2);
                if let Some(other) = left.iter().copied().find(|other| earlier(other)) {
                    self.story.broken(format!(
                        "what was due at {due} was claimed before what was due at {}",
                        other.1
                    ));
                }
            }
        }
        self.queue = queue;
    }

    /// All is delivered: what the remote and the sink have is what is in the directory.
    pub fn all_arrived(&self, conn: &Connection, tree: &mut Tree, sink: &SimSink, deletes: bool) {
        let recorded = recorded(conn);
        let suspects: BTreeSet<&str> = recorded
            .iter()
            .filter(|file| file.state == Some(3))
            .map(|file| file.path.as_str())
            .collect();
        for file in &recorded {
            if matches!(file.state, Some(0..=2)) {
                self.story
                    .broken(format!("{} is left: {:?}", file.path, file.state));
            }
        }
        let mut delivered: BTreeMap<String, blake3::Hash> = BTreeMap::new();
        let mut with_rows: BTreeSet<String> = BTreeSet::new();
        for (name, id) in tree.names() {
            let content = fs::read(tree.path(&name)).unwrap();
            if content.starts_with(&JPEG) || name.ends_with("stats.json") {
                with_rows.insert(name.clone());
            }
            let content = blake3::hash(&content);
            let object = self.remote.state.lock().objects.get(&key(&name)).cloned();
            let is_misnamed = tree.misnamed.contains(&name);
            let node = tree.node(id);
            if suspects.contains(name.as_str()) {
                if !node.is_damaged && !node.is_doubtful && !is_misnamed {
                    self.story
                        .broken(format!("{name} is suspect, and nothing was wrong with it"));
                }
                continue;
            }
            if object.is_none_or(|object| object.hash != content) && !node.is_damaged {
                self.story
                    .broken(format!("{name} is not at the remote as it is here"));
            }
            delivered.insert(name, content);
        }
        let suspect_in = |folder: &str| suspects.iter().any(|name| parent(name) == folder);
        let folders: BTreeSet<&str> = with_rows.iter().map(|name| parent(name)).collect();
        for folder in folders {
            if !suspect_in(folder) {
                self.check_row(folder, &delivered, sink);
            }
        }
        // What the journal was not told of, it cannot have deleted.
        if deletes && tree.was_always_known {
            let kept = kept_for_suspects(conn);
            let state = self.remote.state.lock();
            for key in state.objects.keys() {
                let name = key.strip_prefix("original/").unwrap_or(key);
                let is_there = delivered.contains_key(name) || suspects.contains(name);
                // Of a folder with something suspect the row stays as it is, and what it shows.
                let is_shown = suspect_in(parent(name));
                if !is_there && !is_shown && !kept.contains(name) {
                    self.story.broken(format!("{key} was not deleted"));
                }
            }
        }
    }

    /// The row of a folder shows what is in it.
    fn check_row(&self, folder: &str, delivered: &BTreeMap<String, blake3::Hash>, sink: &SimSink) {
        let rows = sink.rows.lock();
        let called = if folder.is_empty() { "." } else { folder };
        let Some(row) = rows.get(called) else {
            return self.story.broken(format!("there is no row of {called}"));
        };
        // The row shows what the statistics say, and not the file.
        let is_file = |name: &str| !name.ends_with("stats.json");
        let files = row.pictures.iter().chain(&row.other_files);
        let shown: BTreeMap<String, String> = files
            .filter(|file| is_file(&file.url))
            .map(|file| (file.url.clone(), file.hash.clone()))
            .collect();
        let there: BTreeMap<String, String> = delivered
            .iter()
            .filter(|(name, _)| parent(name) == folder && is_file(name))
            .map(|(name, hash)| (key(name), hash.to_hex().to_string()))
            .collect();
        if shown != there {
            self.story.broken(format!(
                "the row of {called} shows {shown:?} instead of {there:?}"
            ));
        }
    }

    /// For a failure.
    pub fn what_is_left(&self, conn: &Connection) -> String {
        let mut all = Vec::new();
        for query in [
            "SELECT 'file ' || file_id || ' state ' || state || ' due ' || due_at || ' attempts ' || attempts
                 || ' ' || coalesce(error, '') FROM work",
            "SELECT 'row ' || CAST(name AS TEXT) || ' state ' || row_state || ' due ' || row_due || ' '
                 || coalesce(row_error, '') FROM folder WHERE row_state > 0",
            "SELECT 'gone row ' || CAST(path AS TEXT) || ' state ' || state FROM gone_row",
            "SELECT 'stray ' || CAST(path AS TEXT) || ' state ' || state || ' of '
                 || coalesce('file ' || file_id, 'folder ' || folder_id, 'row ' || gone_row_id, 'nobody')
                 FROM stray",
            "SELECT 'scan ' || CAST(path AS TEXT) FROM scan",
            "SELECT 'expansion of ' || CAST(path AS TEXT) FROM expansion",
        ] {
            let mut statement = conn.prepare(query).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            all.extend(rows.map(Result::unwrap));
        }
        all.join("; ")
    }
}

/// Where files were that are suspect under the names that they have now.
fn kept_for_suspects(conn: &Connection) -> BTreeSet<String> {
    let mut statement = conn
        .prepare(
            "SELECT CAST(path AS TEXT) FROM stray
             WHERE file_id IN (SELECT file_id FROM work WHERE state = ?)",
        )
        .unwrap();
    let paths = statement.query_map([SUSPECT], |row| row.get(0)).unwrap();
    paths.map(Result::unwrap).collect()
}

fn key(name: &str) -> String {
    format!("original/{name}")
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}
