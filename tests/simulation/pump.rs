//! Time passes, and what happens in it.

use std::path::Path;
use std::time::Duration;

use outboxfs::journal::Hand;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::time::Instant;

use super::World;
use crate::disk::Synced;
use crate::promises::Promises;
use crate::remote::{SimRemote, Weather};
use crate::sink::SimSink;
use crate::story::Story;

/// Lets time pass: the journal writes when it is asked to, the weather changes, and all promises are
/// looked at after each step.
pub struct Pump<'a> {
    pub story: &'a Story,
    remote: &'a SimRemote,
    sink: &'a SimSink,
    promises: &'a mut Promises,
    conn: Connection,
    synced: &'a Mutex<Synced>,
    hand: &'a mut Hand,
    has_weather: bool,
    refuses: bool,
    idle: u64,
}

impl<'a> Pump<'a> {
    pub fn new(world: &'a mut World, hand: &'a mut Hand, has_weather: bool) -> Self {
        Self {
            story: &world.story,
            remote: &world.remote,
            sink: &world.sink,
            promises: &mut world.promises,
            conn: Connection::open(&world.journal).unwrap(),
            synced: &world.synced,
            hand,
            has_weather,
            refuses: false,
            idle: 1,
        }
    }

    pub async fn run_until(&mut self, is_over: impl Fn() -> bool) {
        while !is_over() && !self.story.is_broken() {
            self.step().await;
        }
    }

    pub async fn run_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.run_until(|| Instant::now() >= until).await;
    }

    /// From now on all is well.
    pub fn calm(&mut self) {
        self.has_weather = false;
        self.remote.state.lock().weather = Weather::Calm;
        *self.sink.is_flaky.lock() = false;
        self.refuse(false);
    }

    fn refuse(&mut self, refuses: bool) {
        if self.refuses != refuses {
            self.refuses = refuses;
            self.story
                .tell(format!("the journal cannot be written: {refuses}"));
            self.hand.refuse(refuses).unwrap();
        }
    }

    pub async fn step(&mut self) {
        let asked = self
            .hand
            .patience()
            .is_some_and(|patience| patience.is_zero());
        let wait = match asked {
            // A disk takes its time, and sometimes more.
            true if self.story.chance("disk", 2) => self.story.below("disk", 100),
            true => self.story.below("disk", 5),
            false => {
                self.idle = (self.idle * 2).min(16);
                self.idle
            }
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if !asked {
            return;
        }
        self.idle = 1;
        self.turn();
    }

    fn turn(&mut self) {
        self.hand.turn();
        if self.story.chance("disk", 1) || self.hand.checkpoint_is_due() {
            // What is in the database is synced, and the log's end with it.
            self.hand.checkpoint().unwrap();
            *self.synced.lock() = Synced::all(Path::new(self.conn.path().unwrap()));
        }
        self.promises.check(&self.conn);
        self.sink.check();
        if self.has_weather && self.story.chance("weather", 2) {
            let weather = *self.story.choose("weather", &Weather::ALL).unwrap();
            self.story.tell(format!("weather: {weather:?}"));
            self.remote.state.lock().weather = weather;
            *self.sink.is_flaky.lock() = self.story.chance("weather", 30);
        }
        if self.has_weather && self.story.chance("weather", 1) {
            self.refuse(!self.refuses);
        } else if self.refuses && self.story.chance("weather", 10) {
            self.refuse(false);
        }
    }
}
