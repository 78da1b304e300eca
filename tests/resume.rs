//! Large uploads over the death of the daemon: what the remote has already is not sent again, and what
//! nobody goes on with is given up.

#[path = "support/faults.rs"]
mod faults;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faults::{Fault, Proxy, is_part};
use rig::{Rig, eventually};
use tokio::runtime::Runtime;

const MIB: usize = 1 << 20;
/// Files of this size have [`PARTS`].
const LARGE: usize = 40 * MIB;
const PARTS: usize = 5;
/// Parts that get through before the line dies.
const THROUGH: usize = 2;

/// A mount that delivers to a real server through a line that can be cut.
struct Line {
    rig: Rig,
    server: s3::Server,
    proxy: Proxy,
    runtime: Runtime,
    cut: Arc<AtomicBool>,
    /// Parts that came to the server.
    parts: Arc<AtomicUsize>,
}

impl Line {
    /// A line that lets `through` parts pass, and then no more parts until it is mended. `None` where
    /// nothing can be mounted, or there is no server.
    fn new(through: usize) -> Option<Self> {
        let mut rig = Rig::new()?;
        let server = s3::Server::seaweedfs()?;
        rig.world
            .variables
            .retain(|(name, _)| !name.starts_with("AWS_"));
        rig.world.variables.extend([
            ("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY.to_owned()),
        ]);
        let runtime = Runtime::new().unwrap();
        let (cut, parts) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (is_cut, passed) = (cut.clone(), parts.clone());
        let plan = move |request: &_| {
            let counted = is_part(request) && {
                let before = passed.fetch_add(1, Ordering::Relaxed);
                before >= through && is_cut.load(Ordering::Relaxed)
            };
            if counted {
                passed.fetch_sub(1, Ordering::Relaxed);
            }
            counted.then_some(Fault::Reset)
        };
        let proxy = {
            let _in_runtime = runtime.enter();
            Proxy::start(&server.endpoint, Box::new(plan))
        };
        Some(Self {
            rig,
            server,
            proxy,
            runtime,
            cut,
            parts,
        })
    }

    fn mount(&self) {
        let url = format!("s3://{}/p?endpoint={}", s3::BUCKET, self.proxy.endpoint);
        self.rig.mount_to(&url, &[]);
    }

    /// From here on everything passes; returns how many parts did so far.
    fn mend(&self) -> usize {
        self.cut.store(false, Ordering::Relaxed);
        self.parts.load(Ordering::Relaxed)
    }

    /// Writes a large file, and waits until as much of it is noted as gets through.
    fn write_and_get_stuck(&self) -> Vec<u8> {
        let content = noise(1);
        fs::write(self.rig.pictures().join("film"), &content).unwrap();
        eventually("the parts that get through are noted", || {
            self.count("SELECT count(*) FROM upload_part") == THROUGH
        });
        content
    }

    fn count(&self, sql: &str) -> usize {
        let journal = rusqlite::Connection::open(self.rig.journal()).unwrap();
        let count = journal.query_row(sql, [], |row| row.get::<_, i64>(0));
        count.map_or(0, |count| count as usize)
    }

    /// Uploads that the server holds parts of.
    fn unfinished(&self) -> usize {
        let list = self
            .server
            .client()
            .list_multipart_uploads()
            .bucket(s3::BUCKET);
        let answer = self.runtime.block_on(list.send());
        answer.unwrap().uploads().len()
    }

    fn object(&self, name: &str) -> Option<Vec<u8>> {
        let get = self.server.client().get_object().bucket(s3::BUCKET);
        self.runtime.block_on(async {
            let answer = get.key(format!("p/original/{name}")).send().await.ok()?;
            Some(answer.body.collect().await.unwrap().to_vec())
        })
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LARGE];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn a_killed_daemon_goes_on_with_a_large_upload() {
    let Some(line) = Line::new(THROUGH) else {
        return;
    };
    line.mount();
    let content = line.write_and_get_stuck();
    line.rig.kill();
    let before = line.mend();
    assert_eq!(before, THROUGH);
    line.mount();
    line.rig.unmount();
    assert_eq!(line.parts.load(Ordering::Relaxed) - before, PARTS - THROUGH);
    assert!(line.object("film").unwrap() == content);
    assert_eq!(line.unfinished(), 0);
}

#[test]
fn an_upload_of_a_file_that_is_deleted_meanwhile_is_given_up() {
    let Some(line) = Line::new(THROUGH) else {
        return;
    };
    line.mount();
    line.write_and_get_stuck();
    line.rig.kill();
    line.rig.take_away();
    assert_eq!(line.unfinished(), 1);
    // Gone before the next start.
    fs::remove_file(line.rig.pictures().join("film")).unwrap();
    line.mount();
    eventually("the upload is given up", || line.unfinished() == 0);
    eventually("it is forgotten", || {
        line.count("SELECT count(*) FROM upload") == 0
    });
    line.rig.unmount();
    assert!(line.object("film").is_none());
}

#[test]
fn an_upload_of_a_file_that_is_changed_or_renamed_meanwhile_is_given_up() {
    let Some(line) = Line::new(THROUGH) else {
        return;
    };
    line.mount();
    line.write_and_get_stuck();
    line.rig.kill();
    line.mount();
    let film = line.rig.pictures().join("film");
    let content = noise(2);
    fs::write(&film, &content).unwrap();
    fs::rename(&film, line.rig.pictures().join("cut")).unwrap();
    let before = line.mend();
    eventually("it is delivered", || {
        line.object("cut").as_ref() == Some(&content)
    });
    eventually("the old upload is given up", || line.unfinished() == 0);
    eventually("it is forgotten", || {
        line.count("SELECT count(*) FROM upload") == 0
    });
    line.rig.unmount();
    assert!(line.parts.load(Ordering::Relaxed) - before >= PARTS);
}
