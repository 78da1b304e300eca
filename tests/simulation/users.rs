//! People at work: each does one thing after the other, as the mount would do it for them, with pauses
//! in which everybody else has his turn.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxfs::clock;
use outboxfs::journal::{Change, Durability, Entry, Journal, JournalError};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::disk::Synced;
use crate::remote::SimRemote;
use crate::story::Story;
use crate::tree::{Closed, FOLDERS, Tree, rel, set_time, stat};

/// A close that takes longer than this has waited for somebody. The journal of the simulation takes up
/// to a quarter of that.
const LONGEST: Duration = Duration::from_millis(500);

pub struct Users {
    pub story: Arc<Story>,
    pub journal: Journal,
    pub tree: Arc<Mutex<Tree>>,
    pub remote: Arc<SimRemote>,
    pub sync_deletes: bool,
    pub synced: Arc<Mutex<Synced>>,
    /// They go home when they have done what they are at.
    pub go_home: AtomicBool,
}

type Answer = oneshot::Receiver<Result<(), JournalError>>;

impl Users {
    /// Works until it is told to go, or dropped.
    pub async fn work(self: Arc<Self>) {
        while !self.go_home.load(Ordering::Relaxed) {
            let pause = match self.story.below("users", 10) {
                0 => 4_000,
                1..4 => 400,
                _ => 40,
            };
            self.pause(pause).await;
            self.one_thing().await;
        }
    }

    async fn pause(&self, most: u64) {
        let pause = self.story.below("users", most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn one_thing(&self) {
        let places = Tree::places();
        let Some(place) = self.story.choose("users", &places) else {
            return;
        };
        match self.story.below("users", 100) {
            0..50 => drop(self.write(place).await),
            50..62 => self.write_and_rename(place).await,
            62..72 => self.rename(place).await,
            72..80 => self.remove(place).await,
            80..85 => self.link(place).await,
            85..90 => self.exchange(place).await,
            90..96 => self.rename_folder().await,
            _ => self.remove_folder().await,
        }
    }

    /// Opens for writing, writes in two pieces, closes; perhaps syncs in between.
    async fn write(&self, name: &str) -> Option<u64> {
        let (id, file, is_new) = self.open(name)?;
        let before = stat(&file);
        let inode = before.inode;
        let closed = (!is_new).then_some(&before);
        self.journal.writing().begins(inode, closed);
        if !is_new && !self.announce(id).await {
            self.journal.writing().ends(inode);
            self.tree.lock().node(id).is_open = false;
            return None;
        }
        let size = match self.story.below("users", 8) {
            0 => 90_000,
            _ => self.story.below("users", 3_000) as usize,
        };
        let (called, content) = self.tree.lock().content(name, size);
        let (first, second) = content.split_at(content.len() / 2);
        let mut writer = &file;
        file.set_len(0).unwrap();
        writer.seek(SeekFrom::Start(0)).unwrap();
        self.tree.lock().node(id).closed = None;
        self.write_piece(&file, first);
        self.pause(80).await;
        if self.story.chance("users", 10) {
            self.tell_journal(id, &file, &format!("half of {called}"), Durability::Synced)
                .await;
            self.pause(1_500).await;
        }
        self.write_piece(&file, second);
        let durability = match self.story.chance("users", 20) {
            true => Durability::Synced,
            false => Durability::Committed,
        };
        let closed = self.tell_journal(id, &file, &called, durability).await;
        if !closed {
            // The release tells it once more.
            self.tell_journal(id, &file, &called, Durability::Committed)
                .await;
        }
        self.journal.writing().ends(inode);
        let mut tree = self.tree.lock();
        let node = tree.node(id);
        node.is_open = false;
        Some(id)
    }

    fn open(&self, name: &str) -> Option<(u64, File, bool)> {
        let _names = self.journal.names().read();
        let mut tree = self.tree.lock();
        let path = tree.path(name);
        if let Some(id) = tree.at(name) {
            if tree.node(id).is_open {
                return None;
            }
            let file = File::options().read(true).write(true).open(path).ok()?;
            tree.node(id).is_open = true;
            return Some((id, file, false));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .ok()?;
        let id = tree.add(name);
        tree.node(id).is_open = true;
        Some((id, file, true))
    }

    fn write_piece(&self, file: &File, piece: &[u8]) {
        let mut writer = file;
        writer.write_all(piece).unwrap();
        let time = self.tree.lock().next_time(clock::now_ms());
        set_time(file, time);
    }

    /// Tells the journal that the file is about to be written; whether it may be.
    async fn announce(&self, id: u64) -> bool {
        let answer = {
            let _names = self.journal.names().read();
            let Some(name) = self.tree.lock().name_of(id) else {
                return true;
            };
            let path = rel(&name);
            self.record(Change::Opening { path }, Durability::Committed)
        };
        self.answered("open", answer).await
    }

    /// What close and fsync do: the file is now what it holds.
    async fn tell_journal(
        &self,
        id: u64,
        file: &File,
        called: &str,
        durability: Durability,
    ) -> bool {
        let content = {
            let mut content = Vec::new();
            let mut reader = file;
            reader.seek(SeekFrom::Start(0)).unwrap();
            std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
            content
        };
        let its_stat = stat(file);
        let hash = blake3::hash(&content);
        let (answer, name) = {
            let _names = self.journal.names().read();
            let mut tree = self.tree.lock();
            self.remote.state.lock().closed.insert(hash, called.into());
            let name = tree.name_of(id);
            self.journal.writing().closed(&its_stat);
            let change = match &name {
                Some(name) => Change::Written {
                    path: rel(name),
                    stat: its_stat,
                },
                None if its_stat.links > 0 => Change::WrittenElsewhere { stat: its_stat },
                None => return true,
            };
            let node = tree.node(id);
            node.unanswered += 1;
            node.contents.insert(*hash.as_bytes());
            (self.record(change, durability), name)
        };
        let what = match durability {
            Durability::Committed => "close",
            Durability::Synced => "fsync",
        };
        let name = name.unwrap_or_default();
        self.story
            .tell(format!("{what} {name}: {called}, {} bytes", content.len()));
        let went_well = self.answered(what, answer).await;
        self.story
            .tell(format!("{what} {name} returned: {went_well}"));
        let mut tree = self.tree.lock();
        let node = tree.node(id);
        node.unanswered -= 1;
        node.closed = None;
        if went_well {
            let synced = durability == Durability::Synced;
            if synced {
                *self.synced.lock() = Synced::all(self.journal.path());
            }
            node.closed = Some(Closed {
                stat: its_stat,
                synced,
            });
            node.is_damaged = false;
        }
        // What was refused is the writer's error; the journal knows nothing of it, and may take it for damage.
        node.is_doubtful = !went_well;
        let names = node.names.clone();
        match went_well {
            true => drop(tree.unheard.remove(&name)),
            false => tree.unheard.extend(names),
        }
        went_well
    }

    fn record(&self, change: Change, durability: Durability) -> Answer {
        let (done, answer) = oneshot::channel();
        self.journal.record(change, durability, move |result| {
            let _ = done.send(result);
        });
        answer
    }

    async fn answered(&self, what: &str, answer: Answer) -> bool {
        let since = Instant::now();
        let answer = answer.await.unwrap_or(Err(JournalError::Closed));
        if since.elapsed() > LONGEST {
            self.story
                .broken(format!("{what} took {:?}", since.elapsed()));
        }
        self.tree.lock().needs_scan |= answer.is_err();
        answer.is_ok()
    }

    /// As rsync does it.
    async fn write_and_rename(&self, name: &str) {
        let temporary = format!("{name}.part");
        if self.write(&temporary).await.is_some() {
            self.pause(30).await;
            self.move_to(&temporary, name).await;
        }
    }

    async fn rename(&self, to: &str) {
        let names = self.tree.lock().names();
        if let Some((from, _)) = self.story.choose("users", &names) {
            self.move_to(from, to).await;
        }
    }

    async fn move_to(&self, from: &str, to: &str) {
        let (answer, id) = {
            let _names = self.journal.names().write();
            let mut tree = self.tree.lock();
            let Some(id) = tree.at(from).filter(|id| !tree.node(*id).is_damaged) else {
                return;
            };
            // Two names of one file: rename(2) does nothing.
            if tree.at(to) == Some(id) || fs::rename(tree.path(from), tree.path(to)).is_err() {
                return;
            }
            self.story.tell(format!("rename {from} to {to}"));
            if let Some(over) = tree.at(to).map(|id| tree.node(id))
                && (over.is_damaged || over.is_doubtful)
            {
                tree.replaced.insert(to.to_owned());
            }
            tree.rename(from, to);
            self.unsettle(&[from, to]);
            let file = File::open(tree.path(to)).unwrap();
            let change = Change::Renamed {
                from: rel(from),
                to: rel(to),
                entry: Entry::File(stat(&file)),
            };
            tree.node(id).unanswered += 1;
            (self.record(change, Durability::Committed), id)
        };
        self.named(&[id], answer).await;
        self.tree.lock().replaced.remove(to);
    }

    /// What was delivered under these names is no longer these files'.
    fn unsettle(&self, names: &[&str]) {
        let mut state = self.remote.state.lock();
        state.settled.retain(|key, _| {
            let path = key.strip_prefix("original/").unwrap_or(key);
            !names
                .iter()
                .any(|name| path == *name || path.starts_with(&format!("{name}/")))
        });
    }

    /// Waits for the answer to a change of names. After a failure the journal has them otherwise.
    async fn named(&self, ids: &[u64], answer: Answer) {
        let went_well = self.answered("rename", answer).await;
        let mut tree = self.tree.lock();
        tree.is_known &= went_well;
        for id in ids {
            let node = tree.node(*id);
            node.unanswered -= 1;
            if let Some(closed) = &mut node.closed {
                // Under the name that it has now it is not synced.
                closed.synced = false;
            }
            if !went_well {
                self.story.tell("a change of names failed");
            }
        }
    }

    async fn remove(&self, name: &str) {
        let answer = {
            let _names = self.journal.names().write();
            let mut tree = self.tree.lock();
            if fs::remove_file(tree.path(name)).is_err() {
                return;
            }
            self.story.tell(format!("remove {name}"));
            tree.unlink(name);
            self.unsettle(&[name]);
            self.record(Change::Removed { path: rel(name) }, Durability::Committed)
        };
        self.removed("unlink", answer).await;
    }

    async fn link(&self, to: &str) {
        let names = self.tree.lock().names();
        let Some((from, id)) = self.story.choose("users", &names) else {
            return;
        };
        let answer = {
            let _names = self.journal.names().read();
            let mut tree = self.tree.lock();
            let node = tree.node(*id);
            if node.is_open || node.is_damaged || tree.at(from) != Some(*id) {
                return;
            }
            if fs::hard_link(tree.path(from), tree.path(to)).is_err() {
                return;
            }
            self.story.tell(format!("link {from} to {to}"));
            tree.link(*id, to);
            tree.node(*id).unanswered += 1;
            let change = Change::Added {
                path: rel(to),
                stat: stat(&File::open(tree.path(to)).unwrap()),
            };
            self.record(change, Durability::Committed)
        };
        self.named(&[*id], answer).await;
    }

    async fn exchange(&self, a: &str) {
        let names = self.tree.lock().names();
        let Some((b, _)) = self.story.choose("users", &names) else {
            return;
        };
        let (answer, ids) = {
            let _names = self.journal.names().write();
            let mut tree = self.tree.lock();
            let (Some(id_a), Some(id_b)) = (tree.at(a), tree.at(b)) else {
                return;
            };
            if id_a == id_b || tree.node(id_a).is_damaged || tree.node(id_b).is_damaged {
                return;
            }
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, tree.path(a), cwd, tree.path(b), flags).unwrap();
            self.story.tell(format!("exchange {a} and {b}"));
            tree.exchange(a, b);
            self.unsettle(&[a, b]);
            let entry = |name: &str| Entry::File(stat(&File::open(tree.path(name)).unwrap()));
            let change = Change::Exchanged {
                a: (rel(a), entry(a)),
                b: (rel(b), entry(b)),
            };
            let ids = [id_a, id_b];
            for id in ids {
                tree.node(id).unanswered += 1;
            }
            (self.record(change, Durability::Committed), ids)
        };
        self.named(&ids, answer).await;
    }

    async fn rename_folder(&self) {
        let among = [
            ("a", "d"),
            ("d", "a"),
            ("b", "d"),
            ("a/c", "c"),
            ("c", "a/c"),
            ("d", "b"),
        ];
        let Some((from, to)) = self.story.choose("users", &among) else {
            return;
        };
        let (answer, ids) = {
            let _names = self.journal.names().write();
            let mut tree = self.tree.lock();
            let ids = tree.below(from);
            if ids.iter().any(|id| tree.node(*id).is_damaged) {
                return;
            }
            if fs::rename(tree.path(from), tree.path(to)).is_err() {
                return;
            }
            self.story.tell(format!("rename folder {from} to {to}"));
            tree.rename(from, to);
            self.unsettle(&[from, to]);
            let change = Change::Renamed {
                from: rel(from),
                to: rel(to),
                entry: Entry::Folder,
            };
            for id in &ids {
                tree.node(*id).unanswered += 1;
            }
            (self.record(change, Durability::Committed), ids)
        };
        self.named(&ids, answer).await;
    }

    /// Removes an empty folder, or makes one that is missing.
    async fn remove_folder(&self) {
        let folders: Vec<&str> = FOLDERS[1..].iter().chain(&["c", "d"]).copied().collect();
        let Some(folder) = self.story.choose("users", &folders) else {
            return;
        };
        let answer = {
            let _names = self.journal.names().write();
            let tree = self.tree.lock();
            let path = tree.path(folder);
            if fs::remove_dir(&path).is_err() {
                let _ = fs::create_dir(&path);
                return;
            }
            self.story.tell(format!("remove folder {folder}"));
            let path = rel(folder);
            self.record(Change::FolderRemoved { path }, Durability::Committed)
        };
        self.removed("rmdir", answer).await;
    }

    /// Without `--sync-deletes` nobody waits for it.
    async fn removed(&self, what: &str, answer: Answer) {
        if self.sync_deletes {
            let went_well = self.answered(what, answer).await;
            self.tree.lock().is_known &= went_well;
            return;
        }
        let tree = self.tree.clone();
        tokio::spawn(async move {
            let went_well = matches!(answer.await, Ok(Ok(())));
            let mut tree = tree.lock();
            tree.is_known &= went_well;
            tree.needs_scan |= !went_well;
        });
    }
}
