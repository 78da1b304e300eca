//! A directory, a journal and its daemons, one after the other: each works for a while and dies, of a
//! kill, a power cut, or in peace. The last one has to bring everything to its end.

#[path = "pump.rs"]
mod pump;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxfs::clock;
use outboxfs::delivery::{self, Backoff, Delivery, Drained, Limits, Pictures, SpreadLimits};
use outboxfs::derive::thumbnail;
use outboxfs::glob::Globs;
use outboxfs::journal::{self, BatchLimits, Hand, Journal, JournalError};
use outboxfs::path::RelPath;
use outboxfs::scan::{self, Scan};
use parking_lot::Mutex;
use pump::Pump;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::disk::{self, Synced};
use crate::promises::Promises;
use crate::remote::{self, SimRemote};
use crate::sink::{self, SimSink};
use crate::story::Story;
use crate::tree::Tree;
use crate::users::Users;

/// When all begins: 2033, so that whatever a file's real time is, it is before.
const BEGINNING: i64 = 2_000_000_000_000;
/// The last daemon is through with everything by then.
const LONGEST_END: Duration = Duration::from_secs(600);

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    PowerCut,
    /// Unmounted, and drained as far as that goes.
    Unmounted,
    /// All is well, and everything has to arrive.
    Last,
}

pub struct World {
    story: Arc<Story>,
    folder: TempDir,
    backing: PathBuf,
    journal: PathBuf,
    tree: Arc<Mutex<Tree>>,
    remote: Arc<SimRemote>,
    sink: Arc<SimSink>,
    promises: Promises,
    settings: Settings,
    lives: u32,
    synced: Arc<Mutex<Synced>>,
}

/// What stays the same in a world.
#[derive(Debug)]
struct Settings {
    settle: Duration,
    workers: usize,
    max_retries: u32,
    sync_deletes: bool,
    priority: Globs,
    batches: BatchLimits,
    spread: SpreadLimits,
}

impl Settings {
    fn throw(story: &Story) -> Self {
        let roll = |end| story.below("settings", end);
        Self {
            settle: Duration::from_millis([0, 100, 500, 500][roll(4) as usize]),
            workers: 1 + roll(4) as usize,
            max_retries: [1, 3, 1000][roll(3) as usize],
            sync_deletes: roll(2) == 0,
            priority: match roll(4) {
                0 => Globs::new(&["*.jpg".to_owned()]).unwrap(),
                _ => Globs::default(),
            },
            batches: match roll(4) {
                0 => BatchLimits {
                    folders: Some(1 + roll(2) as usize),
                    pause: Duration::from_millis(roll(2_000)),
                },
                _ => BatchLimits::default(),
            },
            spread: match roll(4) {
                0 => SpreadLimits {
                    folders: Some(1 + roll(2) as usize),
                    files: Some(1 + roll(2) as usize),
                },
                _ => SpreadLimits::default(),
            },
        }
    }
}

impl Settings {
    /// Where folders have limits, others may go first.
    fn claims_in_order(&self) -> bool {
        self.batches.folders.is_none() && self.spread == SpreadLimits::default()
    }
}

/// Plays a seed; what happened, as a hash, or which promise was not kept.
pub fn play(seed: u64) -> Result<blake3::Hash, String> {
    fastrand::seed(seed);
    let story = Arc::new(Story::new(seed));
    let mut world = World::new(story.clone());
    let lives = 1 + story.below("lives", 5);
    for life in 0..lives {
        let end = match story.below("lives", 4) {
            _ if life + 1 == lives => End::Last,
            0 => End::Unmounted,
            1 => End::PowerCut,
            _ => End::Killed,
        };
        world.live(end);
        if story.is_broken() {
            break;
        }
    }
    story.end()
}

/// Memory, where it can be had: a simulation should not wait for disks.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = tempfile::Builder::new()
        .prefix("outboxfs-sim-")
        .tempdir_in(memory);
    folder.or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    fn new(story: Arc<Story>) -> Self {
        let folder = folder();
        let backing = folder.path().join("pictures");
        fs::create_dir(&backing).unwrap();
        let settings = Settings::throw(&story);
        let remote = SimRemote::new(story.clone(), settings.sync_deletes);
        clock::hold(BEGINNING);
        story.tell(format!("{settings:?}"));
        Self {
            tree: Arc::new(Mutex::new(Tree::new(backing.clone()))),
            sink: SimSink::new(story.clone(), remote.clone()),
            promises: Promises::new(story.clone(), remote.clone(), settings.claims_in_order()),
            journal: folder.path().join("state-0/journal.db"),
            story,
            folder,
            backing,
            remote,
            settings,
            lives: 0,
            synced: Arc::default(),
        }
    }

    /// One daemon's life.
    fn live(&mut self, end: End) {
        let now = clock::now_ms();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let entered = runtime.enter();
        // Some time has passed.
        clock::simulate(now + 1 + self.story.below("lives", 20_000) as i64);
        self.story
            .tell(format!("a daemon starts; its end: {end:?}"));
        self.lives += 1;
        let (journal, mut hand) = match Journal::by_hand(self.journal_options()) {
            Ok(opened) => opened,
            Err(error) => return self.story.broken(format!("it cannot be opened: {error}")),
        };
        self.promises.opened(journal.path(), &mut self.tree.lock());
        runtime.block_on(self.life(&journal, &mut hand, end));
        let next = self
            .folder
            .path()
            .join(format!("state-{}/journal.db", self.lives));
        if end != End::Last {
            disk::copy_journal(&self.journal, &next);
        }
        self.story.tell(format!("the daemon has ended: {end:?}"));
        let now = clock::now_ms();
        clock::hold(now);
        drop(entered);
        // What was going on ends where it is.
        drop(runtime);
        drop((journal, hand));
        let _ = fs::remove_dir_all(self.journal.parent().unwrap());
        self.journal = next;
        match end {
            End::Last => return,
            End::Unmounted | End::Killed => self.after_death(),
            End::PowerCut => self.after_power_cut(),
        }
        self.between_lives();
    }

    async fn life(&mut self, journal: &Journal, hand: &mut Hand, end: End) {
        if let Err(error) = self.start(journal, hand) {
            return self.story.broken(format!("it cannot be started: {error}"));
        }
        let rows = Arc::new(sink::Connection(self.sink.clone()));
        let remote = Arc::new(remote::Connection(self.remote.clone()));
        let backing = File::open(&self.backing).unwrap().into();
        let delivery = Delivery::start(
            journal.clone(),
            backing,
            remote,
            Some(rows),
            self.delivery_options(),
        );
        let delivery = delivery.unwrap();
        if let Err(error) = self.scan(journal, hand) {
            return self.story.broken(format!("the scan failed: {error}"));
        }
        let users = Arc::new(Users {
            story: self.story.clone(),
            journal: journal.clone(),
            tree: self.tree.clone(),
            remote: self.remote.clone(),
            sync_deletes: self.settings.sync_deletes,
            synced: self.synced.clone(),
            go_home: AtomicBool::new(false),
        });
        let seconds = 1 + self.story.below("lives", 15);
        let until = Instant::now() + Duration::from_secs(seconds);
        let at_work: Vec<_> = (0..1 + self.story.below("lives", 3))
            .map(|_| tokio::spawn(users.clone().work()))
            .collect();
        let mut pump = Pump::new(self, hand, true);
        pump.run_until(|| Instant::now() >= until).await;
        if matches!(end, End::Killed | End::PowerCut) {
            return;
        }
        users.go_home.store(true, Ordering::Relaxed);
        if end == End::Last {
            pump.calm();
        }
        pump.run_until(|| at_work.iter().all(JoinHandle::is_finished))
            .await;
        // What was decided while the weather was bad is settled by then.
        pump.run_for(Duration::from_secs(3)).await;
        drop(users);
        journal.writing().all_end();
        let needs_scan = std::mem::take(&mut self.tree.lock().needs_scan);
        if end == End::Last && needs_scan {
            self.after_death();
            if let Err(error) = self.scan(journal, hand) {
                return self.story.broken(format!("the scan failed: {error}"));
            }
        }
        self.end(journal, hand, delivery, end).await;
    }

    /// What a daemon does before it delivers.
    fn start(&self, journal: &Journal, hand: &mut Hand) -> Result<(), JournalError> {
        by_hand(hand, || journal.mounted())?;
        *self.synced.lock() = Synced::all(&self.journal);
        Ok(())
    }

    /// What is not as it should be is found, as by the next mount.
    fn scan(&self, journal: &Journal, hand: &mut Hand) -> Result<(), JournalError> {
        let backing = File::open(&self.backing).unwrap().into();
        let scan = Scan::start(journal.clone(), backing, scan::Options::default())?;
        let handle = scan.handle();
        let since = Some(clock::now_ms() * 1_000_000);
        let scanned = by_hand(hand, || {
            let done = handle.tree(RelPath::root(), since)?;
            done.recv().unwrap_or(Err(JournalError::Closed))
        });
        scan.stop();
        scanned.map(drop)
    }

    /// The mount is gone: the daemon delivers the rest.
    async fn end(&mut self, journal: &Journal, hand: &mut Hand, delivery: Delivery, end: End) {
        if end == End::Last {
            let retried = by_hand(hand, || journal.retry(&RelPath::root()));
            self.story.tell(format!("tried again: {retried:?}"));
        }
        let patience = match end {
            End::Last => Duration::from_secs(120),
            _ => Duration::from_secs(30),
        };
        let mut drained = None;
        {
            let mut pump = Pump::new(self, hand, false);
            if end == End::Last {
                pump.calm();
            }
            let mut drain = std::pin::pin!(delivery.drain(patience));
            let began = Instant::now();
            while drained.is_none() && began.elapsed() < LONGEST_END && !pump.story.is_broken() {
                tokio::select! {
                    biased;
                    result = &mut drain => drained = Some(result),
                    () = pump.step() => {}
                }
            }
        }
        self.story.tell(format!("drained: {drained:?}"));
        match (end, drained) {
            (End::Last, Some(Ok(Drained::Empty))) => {
                let mut pump = Pump::new(self, hand, false);
                pump.run_for(Duration::from_secs(3)).await;
                let conn = Connection::open(&self.journal).unwrap();
                self.promises.all_arrived(
                    &conn,
                    &mut self.tree.lock(),
                    &self.sink,
                    self.settings.sync_deletes,
                );
            }
            (End::Last, drained) => {
                let conn = Connection::open(&self.journal).unwrap();
                let left = self.promises.what_is_left(&conn);
                self.story
                    .broken(format!("not all arrives: {drained:?}; {left}"));
            }
            _ => {
                let ended = by_hand(hand, || journal.ended());
                *self.synced.lock() = Synced::all(&self.journal);
                self.story.tell(format!("ended: {ended:?}"));
            }
        }
        let mut pump = Pump::new(self, hand, false);
        let mut stop = std::pin::pin!(delivery.stop(Duration::from_secs(5)));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = pump.step() => {}
            }
        }
    }

    /// What lies in the directory now is found by the next scan.
    fn after_death(&self) {
        let mut tree = self.tree.lock();
        tree.needs_scan = false;
        let is_known = std::mem::replace(&mut tree.is_known, true);
        tree.was_always_known &= is_known;
        // Suspicion stays with a name until somebody decides.
        let replaced = std::mem::take(&mut tree.replaced);
        tree.misnamed.extend(replaced);
        if !is_known {
            let names = tree.names();
            tree.misnamed
                .extend(names.into_iter().map(|(name, _)| name));
        }
        for (name, id) in tree.names() {
            let content = fs::read(tree.path(&name)).unwrap();
            let mut state = self.remote.state.lock();
            let hash = blake3::hash(&content);
            if !state.damaged.contains_key(&hash) {
                let called = format!("what {name} was left with");
                state.closed.entry(hash).or_insert(called);
            }
            drop(state);
            let node = tree.node(id);
            if node.is_open || node.unanswered > 0 || !is_known {
                node.closed = None;
            }
        }
        self.nobody_has_anything_open(&mut tree);
    }

    fn after_power_cut(&mut self) {
        let delivered = disk::delivered(&self.journal);
        disk::cut_power(&self.story, &self.journal, *self.synced.lock());
        let mut tree = self.tree.lock();
        for (name, id) in tree.names() {
            let node = tree.node(id);
            let is_synced = node.unanswered == 0
                && !node.is_open
                && node.closed.is_some_and(|closed| closed.synced);
            if is_synced {
                continue;
            }
            node.closed = None;
            node.is_doubtful = true;
            if !delivered.contains(&name)
                && node.names.len() == 1
                && self.story.chance("disk", 40)
                && !node.is_damaged
            {
                disk::damage(&self.story, &mut tree, &self.remote, &name);
            }
        }
        drop(tree);
        self.after_death();
    }

    fn nobody_has_anything_open(&self, tree: &mut Tree) {
        for id in tree.ids() {
            let node = tree.node(id);
            node.is_open = false;
            node.unanswered = 0;
        }
    }

    /// While nothing is mounted, files can go bad, and so can the weather.
    fn between_lives(&mut self) {
        self.remote.state.lock().settled.clear();
        if !self.story.chance("disk", 25) {
            return;
        }
        let delivered = disk::delivered(&self.journal);
        let Some(name) = self.story.choose("disk", &delivered) else {
            return;
        };
        let mut tree = self.tree.lock();
        let Some(id) = tree.at(name) else {
            return;
        };
        if tree.node(id).names.len() == 1 && !tree.node(id).is_damaged {
            disk::damage(&self.story, &mut tree, &self.remote, name);
            tree.node(id).closed = None;
        }
    }

    fn journal_options(&self) -> journal::Options {
        let metadata = fs::metadata(&self.backing).unwrap();
        let Settings {
            settle,
            sync_deletes,
            priority,
            batches,
            ..
        } = &self.settings;
        journal::Options {
            path: self.journal.clone(),
            directory: self.backing.clone(),
            device: metadata.dev(),
            inode: metadata.ino(),
            settle: *settle,
            has_rows: true,
            sync_deletes: *sync_deletes,
            priority: priority.clone(),
            thumbnails: Vec::new(),
            batches: *batches,
            remote: Some("sim://".into()),
        }
    }

    fn delivery_options(&self) -> delivery::Options {
        delivery::Options {
            limits: Limits {
                workers: Some(self.settings.workers),
                bwlimit: None,
                tps_limit: None,
                upload_hours: None,
            },
            sequential: false,
            spread: self.settings.spread,
            max_retries: self.settings.max_retries,
            backoff: Backoff {
                base: Duration::from_millis(200),
                cap: Duration::from_secs(20),
            },
            settle: self.settings.settle,
            pictures: Pictures {
                thumbnails: Vec::new(),
                limits: thumbnail::Limits::default(),
                program: PathBuf::new(),
            },
            compress: Globs::default(),
            sync_deletes: self.settings.sync_deletes,
            links: Default::default(),
            stats: Default::default(),
            host: "sim".into(),
            observer: None,
        }
    }
}

/// Does what blocks on the journal, while time stands still.
fn by_hand<T: Send>(hand: &mut Hand, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            hand.turn();
            std::thread::yield_now();
        }
        worker.join().unwrap()
    })
}
