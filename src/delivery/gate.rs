//! How many uploads go on at a time: as many as were asked for, fewer where the remote says that it
//! is too much, or shows it.
//!
//! Additive increase, multiplicative decrease, as TCP does it: each round of arrivals opens one place
//! more, a request to slow down halves the places. A remote whose small requests take several times
//! as long as they did is slowed down on too, but not to a standstill: the line may just be slow.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Two halvings have so much time between them at least: what was sent before the first one is no
/// news of what it did.
const ROUND: Duration = Duration::from_secs(1);
const SLOW_ROUND: Duration = Duration::from_secs(5);
/// The longest that a service can ask everybody to wait.
const LONGEST_REST: Duration = Duration::from_secs(120);
/// So many times the usual time is slow, if it is this long at least.
const SLOW: f64 = 4.0;
const SLOW_SECONDS: f64 = 0.5;

pub(super) struct Gate {
    state: Mutex<State>,
    /// A place is free, or there are more of them. One task waits.
    changed: Notify,
}

struct State {
    /// As many as were asked for.
    places: usize,
    limit: f64,
    busy: usize,
    rest_until: Option<Instant>,
    cut_at: Option<Instant>,
    /// Seconds that a small request takes: usually, and lately.
    usual: Option<f64>,
    lately: f64,
}

/// One upload's place; free again when this is dropped.
pub(super) struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().busy -= 1;
        self.0.changed.notify_one();
    }
}

/// A place that can be given back before the file is quite done.
pub(super) struct Held(Mutex<Option<Place>>);

impl Held {
    pub(super) fn new(place: Place) -> Self {
        Self(Mutex::new(Some(place)))
    }

    pub(super) fn give_back(&self) {
        self.0.lock().take();
    }
}

impl Gate {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                places,
                limit: places as f64,
                busy: 0,
                rest_until: None,
                cut_at: None,
                usual: None,
                lately: 0.0,
            }),
            changed: Notify::new(),
        })
    }

    /// Places for the next uploads: one at least, `most` at most.
    pub(super) async fn take(self: &Arc<Self>, most: usize) -> Vec<Place> {
        loop {
            let rest = {
                let mut state = self.state.lock();
                let now = Instant::now();
                match state.rest_until.filter(|until| *until > now) {
                    Some(until) => Some(until - now),
                    None => {
                        let free = (state.limit as usize).max(1).saturating_sub(state.busy);
                        if free > 0 {
                            let count = free.min(most);
                            state.busy += count;
                            return (0..count).map(|_| Place(self.clone())).collect();
                        }
                        None
                    }
                }
            };
            match rest {
                Some(rest) => tokio::time::sleep(rest).await,
                None => self.changed.notified().await,
            }
        }
    }

    /// So many are asked for from now on; who has a place keeps it.
    pub(super) fn set_places(&self, places: usize) {
        let mut state = self.state.lock();
        state.places = places;
        state.limit = places as f64;
        self.changed.notify_one();
    }

    /// Uploads that may go on at a time now.
    pub(super) fn limit(&self) -> usize {
        (self.state.lock().limit as usize).max(1)
    }

    /// Something arrived; `took` where that says something about the remote.
    pub(super) fn arrived(&self, took: Option<Duration>) {
        self.arrived_at(Instant::now(), took);
    }

    fn arrived_at(&self, now: Instant, took: Option<Duration>) {
        let mut state = self.state.lock();
        if let Some(took) = took {
            let took = took.as_secs_f64();
            let usual = state.usual.unwrap_or(took);
            state.lately += (took - state.lately) * 0.1;
            // Quickly down, slowly up: what is usual may change for good.
            let step = if state.lately < usual { 0.1 } else { 0.002 };
            state.usual = Some(usual + (state.lately.max(took.min(usual)) - usual) * step);
            if state.lately > SLOW_SECONDS && state.lately > usual * SLOW {
                let floor = (state.places as f64 / 4.0).max(1.0);
                self.cut(&mut state, now, SLOW_ROUND, floor);
                return;
            }
        }
        let limit = state.limit;
        state.limit = (limit + 1.0 / limit).min(state.places as f64);
        if state.limit as usize > limit as usize {
            self.changed.notify_one();
        }
    }

    /// The remote asks for less, and perhaps for a rest.
    pub(super) fn slow_down(&self, rest: Option<Duration>) {
        self.slow_down_at(Instant::now(), rest);
    }

    fn slow_down_at(&self, now: Instant, rest: Option<Duration>) {
        let mut state = self.state.lock();
        if let Some(rest) = rest {
            let until = now + rest.min(LONGEST_REST);
            state.rest_until = state.rest_until.max(Some(until));
        }
        self.cut(&mut state, now, ROUND, 1.0);
    }

    fn cut(&self, state: &mut State, now: Instant, round: Duration, floor: f64) {
        if state.cut_at.is_some_and(|cut| now < cut + round) {
            return;
        }
        state.cut_at = Some(now);
        let limit = (state.limit / 2.0).max(floor).min(state.limit);
        if limit < state.limit {
            tracing::info!(uploads = limit as usize, "fewer uploads at a time");
            state.limit = limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_of_arrivals_opens_a_place_and_a_slow_down_halves_them() {
        let gate = Gate::new(16);
        let now = Instant::now();
        gate.slow_down_at(now, None);
        assert_eq!(gate.limit(), 8);
        // All that was on its way is told the same.
        for _ in 0..7 {
            gate.slow_down_at(now + ROUND / 2, None);
        }
        assert_eq!(gate.limit(), 8);
        for _ in 0..9 {
            gate.arrived(None);
        }
        assert_eq!(gate.limit(), 9);
        for times in 2..20 {
            gate.slow_down_at(now + ROUND * times, None);
        }
        assert_eq!(gate.limit(), 1);
        for _ in 0..200 {
            gate.arrived(None);
        }
        assert_eq!(gate.limit(), 16);
    }

    #[test]
    fn a_remote_that_grows_slow_is_asked_for_less_but_not_for_nothing() {
        let gate = Gate::new(16);
        let now = Instant::now();
        for _ in 0..50 {
            gate.arrived_at(now, Some(Duration::from_millis(20)));
        }
        assert_eq!(gate.limit(), 16);
        for second in 0..60 {
            let now = now + Duration::from_secs(second);
            gate.arrived_at(now, Some(Duration::from_secs(3)));
        }
        assert_eq!(gate.limit(), 4);
        // That is how it is now.
        for _ in 0..3000 {
            gate.arrived_at(now, Some(Duration::from_secs(3)));
        }
        assert_eq!(gate.limit(), 16);
    }

    #[tokio::test]
    async fn places_are_as_many_as_the_limit() {
        let gate = Gate::new(3);
        let first = gate.take(2).await;
        assert_eq!(first.len(), 2);
        let second = gate.take(9).await;
        assert_eq!(second.len(), 1);
        let taken = tokio::time::timeout(Duration::from_millis(20), gate.take(1)).await;
        assert!(taken.is_err());
        drop(first);
        assert_eq!(gate.take(9).await.len(), 2);
    }

    #[tokio::test]
    async fn there_may_be_more_places_or_fewer() {
        let gate = Gate::new(1);
        let first = gate.take(1).await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.take(9).await }
        });
        tokio::task::yield_now().await;
        gate.set_places(3);
        let more = waiting.await.unwrap();
        assert_eq!(more.len(), 2);
        gate.set_places(2);
        drop(first);
        let taken = tokio::time::timeout(Duration::from_millis(20), gate.take(1)).await;
        assert!(taken.is_err(), "two are busy yet");
        drop(more);
        assert_eq!(gate.take(9).await.len(), 2);
    }
}
