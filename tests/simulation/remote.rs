//! A remote with weather: it is slow, fails, loses answers, is away. What it keeps is whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outboxfs::remote::{
    Body, Copy, Each, Key, Listed, ObjectInfo, Proof, Put, Remote, RemoteError, RemoteErrorKind,
    Sink,
};
use parking_lot::Mutex;

use crate::story::Story;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Calm,
    /// One call in three fails or loses its answer.
    Flaky,
    /// Nobody answers.
    Away,
    /// Seconds to minutes for each call.
    Slow,
    /// One call in three is asked to come later.
    Throttled,
    /// One file in ten is refused for good.
    Refusing,
}

impl Weather {
    pub const ALL: [Self; 6] = [
        Self::Calm,
        Self::Flaky,
        Self::Away,
        Self::Slow,
        Self::Throttled,
        Self::Refusing,
    ];
}

#[derive(Clone)]
pub struct Object {
    pub content: bytes::Bytes,
    pub hash: blake3::Hash,
    mtime_ns: Option<i64>,
}

/// Outlives daemons.
pub struct SimRemote {
    story: Arc<Story>,
    pub state: Mutex<State>,
}

pub struct State {
    pub weather: Weather,
    pub objects: BTreeMap<String, Object>,
    /// Contents that somebody has closed or synced, or that lay there when a daemon started; with a
    /// name for each.
    pub closed: HashMap<blake3::Hash, String>,
    /// Contents of files that a power cut or a bad disk has damaged, and those that they must not
    /// take the place of: what the same files held before.
    pub damaged: HashMap<blake3::Hash, BTreeSet<[u8; 32]>>,
    /// What is recorded as delivered, by key, and was not touched since.
    pub settled: BTreeMap<String, blake3::Hash>,
    /// Whether objects may be deleted at all.
    pub may_delete: bool,
    on_the_way: HashSet<String>,
}

impl SimRemote {
    pub fn new(story: Arc<Story>, may_delete: bool) -> Arc<Self> {
        Arc::new(Self {
            story,
            state: Mutex::new(State {
                weather: Weather::Calm,
                objects: BTreeMap::new(),
                closed: HashMap::new(),
                damaged: HashMap::new(),
                settled: BTreeMap::new(),
                may_delete,
                on_the_way: HashSet::new(),
            }),
        })
    }

    /// Half of the time that a call takes.
    async fn travel(&self) {
        let most = match self.state.lock().weather {
            Weather::Slow => 20_000,
            _ => 40,
        };
        let wait = Duration::from_millis(self.story.below("remote", most));
        tokio::time::sleep(wait).await;
    }

    /// What befalls a call before it does anything.
    fn refuses(&self, what: &str) -> Result<(), RemoteError> {
        let refusal = match self.state.lock().weather {
            Weather::Away => Some(RemoteError::unreachable("nobody answers")),
            Weather::Flaky if self.story.chance("remote", 20) => {
                Some(RemoteError::transient("internal error"))
            }
            Weather::Throttled if self.story.chance("remote", 33) => {
                let mut error = RemoteError::transient("slow down");
                error.throttled = true;
                if self.story.chance("remote", 50) {
                    error.retry_after = Some(Duration::from_secs(1));
                }
                Some(error)
            }
            Weather::Refusing if self.story.chance("remote", 10) => {
                Some(RemoteError::permanent("not this one"))
            }
            _ => None,
        };
        match refusal {
            Some(error) => {
                self.story.tell(format!("remote: {what}: {error}"));
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Whether the answer to what was done is lost.
    fn loses_answer(&self, what: &str) -> Result<(), RemoteError> {
        if self.state.lock().weather == Weather::Flaky && self.story.chance("remote", 15) {
            self.story
                .tell(format!("remote: {what}: done, and the answer is lost"));
            return Err(RemoteError::transient("the connection broke"));
        }
        Ok(())
    }

    /// The object is now this one.
    fn store(&self, key: &str, object: Object) {
        let mut state = self.state.lock();
        let State {
            objects,
            closed,
            damaged,
            settled,
            ..
        } = &mut *state;
        let was = objects.get(key).map(|object| object.hash);
        let name = closed.get(&object.hash).cloned();
        match &name {
            _ if was.is_some_and(|was| {
                let better = damaged.get(&object.hash);
                better.is_some_and(|better| better.contains(was.as_bytes()))
            }) =>
            {
                self.story.broken(format!(
                    "a damaged copy takes the place of a good object: {key}"
                ));
            }
            None if !damaged.contains_key(&object.hash) => {
                let head = String::from_utf8_lossy(&object.content[..object.content.len().min(24)])
                    .into_owned();
                self.story.broken(format!(
                    "what nobody has closed is delivered: {key} ({} bytes, {head:?})",
                    object.content.len()
                ));
            }
            _ => {}
        }
        if settled.get(key) == Some(&object.hash) && was == Some(object.hash) {
            self.story.broken(format!(
                "delivered twice, though the first was recorded: {key}"
            ));
        }
        settled.remove(key);
        let name = name.unwrap_or_else(|| "damaged".into());
        self.story.tell(format!("remote: {key} is {name}"));
        objects.insert(key.to_owned(), object);
    }

    /// Two at a time for one key could overtake each other.
    fn enter(self: &Arc<Self>, key: &str) -> OnTheWay {
        if !self.state.lock().on_the_way.insert(key.to_owned()) {
            self.story
                .broken(format!("two calls for one key at a time: {key}"));
        }
        OnTheWay(self.clone(), key.to_owned())
    }
}

struct OnTheWay(Arc<SimRemote>, String);

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.0.state.lock().on_the_way.remove(&self.1);
    }
}

/// What a daemon has of it.
pub struct Connection(pub Arc<SimRemote>);

#[async_trait]
impl Remote for Connection {
    fn describe(&self) -> String {
        "sim://".into()
    }

    async fn probe(&self) -> Result<(), RemoteError> {
        self.0.travel().await;
        match self.0.state.lock().weather {
            Weather::Away => Err(RemoteError::unreachable("nobody answers")),
            _ => Ok(()),
        }
    }

    async fn put(&self, put: Put) -> Result<Proof, RemoteError> {
        let remote = &self.0;
        let key = put.key.as_str();
        let _entered = remote.enter(key);
        remote.story.tell(format!("remote: put {key}"));
        remote.travel().await;
        remote.refuses(key)?;
        let Body::Bytes(content) = put.body else {
            return Err(RemoteError::permanent("too large for a simulation"));
        };
        if blake3::hash(&content) != put.hash {
            return Err(RemoteError::new(
                RemoteErrorKind::ContentChanged,
                "the content is not what it should be",
            ));
        }
        let mtime_ns = put.metadata.iter().find(|(name, _)| *name == "mtime");
        let object = Object {
            hash: put.hash,
            mtime_ns: mtime_ns.and_then(|(_, text)| text.replace('.', "").parse().ok()),
            content,
        };
        remote.store(key, object);
        remote.travel().await;
        remote.loses_answer(key)?;
        Ok(Proof::default())
    }

    async fn list(&self, prefix: &str, each: Each<'_>) -> Result<(), RemoteError> {
        let objects = self.0.state.lock().objects.clone();
        for (key, object) in objects {
            if key.starts_with(prefix) {
                each(Listed {
                    key,
                    size: object.content.len() as u64,
                    etag: None,
                });
            }
        }
        Ok(())
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, RemoteError> {
        self.0.travel().await;
        self.0.refuses(key.as_str())?;
        let state = self.0.state.lock();
        Ok(state.objects.get(key.as_str()).map(|object| ObjectInfo {
            size: object.content.len() as u64,
            blake3: Some(object.hash),
            mtime_ns: object.mtime_ns,
            ..ObjectInfo::default()
        }))
    }

    async fn get(&self, key: &Key, sink: Sink<'_>) -> Result<Option<u64>, RemoteError> {
        let object = self.0.state.lock().objects.get(key.as_str()).cloned();
        let Some(object) = object else {
            return Ok(None);
        };
        sink.write_all(&object.content)
            .map_err(|error| RemoteError::transient(error.to_string()))?;
        Ok(Some(object.content.len() as u64))
    }

    async fn copy(&self, copy: &Copy) -> Result<Option<Proof>, RemoteError> {
        let remote = &self.0;
        let (from, to) = (copy.from.as_str(), copy.to.as_str());
        let _entered = remote.enter(to);
        remote.story.tell(format!("remote: copy {from} to {to}"));
        remote.travel().await;
        remote.refuses(to)?;
        let object = remote.state.lock().objects.get(from).cloned();
        let Some(object) = object else {
            return Ok(None);
        };
        if copy.expected.1 != object.hash.to_hex().to_string() {
            return Ok(None);
        }
        remote.store(to, object);
        remote.travel().await;
        remote.loses_answer(to)?;
        Ok(Some(Proof::default()))
    }

    async fn delete(&self, key: &Key) -> Result<(), RemoteError> {
        let remote = &self.0;
        let key = key.as_str();
        let _entered = remote.enter(key);
        remote.travel().await;
        remote.refuses(key)?;
        {
            let mut state = remote.state.lock();
            if state.objects.remove(key).is_some() {
                remote.story.tell(format!("remote: {key} is deleted"));
                if !state.may_delete {
                    remote
                        .story
                        .broken(format!("deleted without --sync-deletes: {key}"));
                }
            }
            state.settled.remove(key);
        }
        remote.travel().await;
        remote.loses_answer(key)
    }

    fn url(&self, _: &Key) -> Option<String> {
        None
    }
}
