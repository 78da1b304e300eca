//! What all parts of a simulated world share: where it is random, what has happened in it so far, and
//! what was promised and not kept.

use std::collections::{BTreeMap, VecDeque};

use outboxfs::clock;
use parking_lot::Mutex;

/// What a failure shows of what was before it.
const LAST: usize = 80;

/// One seed's story.
pub struct Story {
    seed: u64,
    shows_all: bool,
    state: Mutex<State>,
}

struct State {
    random: BTreeMap<&'static str, fastrand::Rng>,
    began_at: Option<i64>,
    hash: blake3::Hasher,
    last: VecDeque<String>,
    broken: Option<String>,
}

impl Story {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shows_all: std::env::var_os("OUTBOXFS_SIM_TRACE").is_some(),
            state: Mutex::new(State {
                random: BTreeMap::new(),
                began_at: None,
                hash: blake3::Hasher::new(),
                last: VecDeque::new(),
                broken: None,
            }),
        }
    }

    /// A number below `end`. Who asks has dice of his own, so that one's asking more often does not
    /// change what happens to the others.
    pub fn below(&self, who: &'static str, end: u64) -> u64 {
        let mut state = self.state.lock();
        let dice = state.random.entry(who).or_insert_with(|| {
            let of_his_own = blake3::hash(who.as_bytes());
            let (first, _) = of_his_own.as_bytes().split_at(8);
            let salt = first
                .iter()
                .fold(0, |salt, byte| salt << 8 | u64::from(*byte));
            fastrand::Rng::with_seed(self.seed ^ salt)
        });
        dice.u64(..end)
    }

    /// Whether what happens `percent` times in a hundred does.
    pub fn chance(&self, who: &'static str, percent: u64) -> bool {
        self.below(who, 100) < percent
    }

    pub fn choose<'a, T>(&self, who: &'static str, among: &'a [T]) -> Option<&'a T> {
        match among.len() {
            0 => None,
            len => among.get(self.below(who, len as u64) as usize),
        }
    }

    /// Something has happened.
    pub fn tell(&self, what: impl AsRef<str>) {
        let mut state = self.state.lock();
        let now = clock::now_ms();
        let began_at = *state.began_at.get_or_insert(now);
        let line = format!("{:>8} ms  {}", now - began_at, what.as_ref());
        if self.shows_all {
            eprintln!("{line}");
        }
        state.hash.update(line.as_bytes());
        if state.last.len() == LAST {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// A promise was not kept; the first one counts.
    pub fn broken(&self, what: impl AsRef<str>) {
        self.tell(format!("BROKEN: {}", what.as_ref()));
        let mut state = self.state.lock();
        state.broken.get_or_insert_with(|| what.as_ref().to_owned());
    }

    pub fn is_broken(&self) -> bool {
        self.state.lock().broken.is_some()
    }

    /// The hash of all that has happened, or what was broken and what came before that.
    pub fn end(&self) -> Result<blake3::Hash, String> {
        let state = self.state.lock();
        match &state.broken {
            None => Ok(state.hash.finalize()),
            Some(broken) => {
                let last: Vec<&str> = state.last.iter().map(String::as_str).collect();
                Err(format!("seed {}: {broken}\n{}", self.seed, last.join("\n")))
            }
        }
    }
}
