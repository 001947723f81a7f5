//! The circuit breaker of one dependency: a host, a store.
//!
//! ```text
//!          failures in a row            open_for is over
//! Closed ───────────────────▶ Open ───────────────────────▶ HalfOpen
//!    ▲                          ▲                              │
//!    │                          └── the probe failed ──────────┤  open_for doubles, up to open_max
//!    └───────────────────────────── the probe succeeded ───────┘
//! ```
//!
//! Who wants to call asks for a [`Pass`] and reports on it. A pass that is dropped without a report says nothing of
//! the dependency; it only gives its place back.
//!
//! Invariants: half-open is a matter of time alone, so the state is right also when nobody called; a report on a call
//! that began before the last change of state changes nothing; no lock is held across an await.
//!
//! It does not retry and does not look at errors: the client that saw the answer decides what is a failure.

mod core;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::breaker::core::{Change, Core};
use crate::events::{Event, Events};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

impl std::fmt::Display for BreakerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; 0 counts as 1.
    pub failures: u32,
    /// How long it stays open the first time. Doubles with every probe that fails.
    pub open_for: Duration,
    /// It never stays open for longer.
    pub open_max: Duration,
    /// Calls at a time while half-open; 0 counts as 1.
    pub half_open_max: u32,
}

impl Default for BreakerPolicy {
    /// Five in a row is no coincidence; ten seconds let a service restart; five minutes are as often as upkeep probes.
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(10), open_max: Duration::from_secs(300), half_open_max: 1 }
    }
}

impl BreakerPolicy {
    /// How long it stays open when this is the `trip`-th time (1 or more) without a success in between.
    fn open_for(&self, trip: u32) -> Duration {
        let doublings = trip.saturating_sub(1).min(31);
        self.open_for.saturating_mul(1 << doublings).min(self.open_max.max(self.open_for))
    }
}

/// Why there is no pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// After this it is worth asking again: what is left of `open_for`; zero when another call is the probe.
    pub retry_in: Duration,
    pub reason: String,
}

/// A breaker as its status shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerStatus {
    pub name: String,
    pub state: BreakerState,
    /// What is left of `open_for`.
    pub retry_in: Option<Duration>,
    pub failures_in_row: u32,
    pub last_failure: Option<String>,
    pub counts: BreakerCounts,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BreakerCounts {
    /// Times it opened, again after a failed probe included.
    pub opened: u64,
    pub passed: u64,
    pub refused: u64,
    pub succeeded: u64,
    pub failed: u64,
}

/// One dependency's breaker; shared by `Arc`.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    events: Option<Events>,
    inner: Mutex<Inner>,
    /// Counts the changes that somebody may wait for.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    /// The state that was told last, and its generation. Half-open comes by time, and is told by whoever notices it
    /// first.
    told: (u64, BreakerState),
}

impl Breaker {
    pub fn new(name: impl Into<String>, policy: BreakerPolicy) -> Self {
        Self {
            name: name.into(),
            events: None,
            inner: Mutex::new(Inner { core: Core::new(policy), told: (0, BreakerState::Closed) }),
            changes: watch::Sender::new(0),
        }
    }

    /// Tells every change of state as [`Event::BreakerChanged`].
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = Some(events);
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn state(&self) -> BreakerState {
        self.look(Instant::now(), |_| ()).0
    }

    /// When it becomes half-open, if it is open now.
    pub fn retry_at(&self) -> Option<Instant> {
        let now = Instant::now();
        self.look(now, |core| core.open_until.filter(|until| now < *until)).1
    }

    /// A pass, or the reason why not.
    ///
    /// # Errors
    /// [`Refusal`] while it is open, and while it is half-open and all probes are out.
    pub fn try_pass(self: &Arc<Self>, now: Instant) -> Result<Pass, Refusal> {
        let generation = self.look(now, |core| core.try_pass(now)).1?;
        Ok(Pass { breaker: Some(self.clone()), generation })
    }

    /// Like [`Breaker::try_pass`], but while another call is the probe it waits for what that finds out, so that one
    /// good probe lets all go on who came meanwhile. Bound it: a probe lasts as long as a call may.
    ///
    /// # Errors
    /// [`Refusal`] while it is open.
    pub async fn pass(self: &Arc<Self>) -> Result<Pass, Refusal> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let now = Instant::now();
            let refusal = match self.try_pass(now) {
                Ok(pass) => return Ok(pass),
                Err(refusal) => refusal,
            };
            match self.look(now, |_| ()).0 {
                BreakerState::Open => return Err(refusal),
                BreakerState::Closed | BreakerState::HalfOpen => wait_for_change(&mut changes).await,
            }
        }
    }

    /// Says no without taking a place: for those who would have to wait for something else before they can call.
    ///
    /// # Errors
    /// [`Refusal`] while it is open.
    pub fn check(&self, now: Instant) -> Result<(), Refusal> {
        self.look(now, |core| match core.state(now) {
            BreakerState::Open => Err(core.refuse(now)),
            BreakerState::Closed | BreakerState::HalfOpen => Ok(()),
        })
        .1
    }

    /// Completes when the state is another than at the first poll. A loop that looks at the state and then waits
    /// uses [`Breaker::left`], which cannot miss what happens in between.
    pub async fn changed(&self) -> BreakerState {
        self.left(self.state()).await
    }

    /// Completes once the state is another than `state`, and says which.
    pub async fn left(&self, state: BreakerState) -> BreakerState {
        self.until(|now| now != state).await
    }

    /// Completes once it is worth trying: closed or half-open.
    pub async fn ready(&self) {
        self.until(|now| now != BreakerState::Open).await;
    }

    async fn until(&self, wanted: impl Fn(BreakerState) -> bool) -> BreakerState {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let now = Instant::now();
            let (state, half_open_at) = self.look(now, |core| core.open_until.filter(|until| now < *until));
            if wanted(state) {
                return state;
            }
            match half_open_at {
                None => wait_for_change(&mut changes).await,
                Some(at) => {
                    // Whichever it was, the state is looked at again.
                    let _ = tokio::time::timeout_at(at, wait_for_change(&mut changes)).await;
                }
            }
        }
    }

    pub fn status(&self) -> BreakerStatus {
        let now = Instant::now();
        let (_, status) = self.look(now, |core| BreakerStatus {
            name: self.name.clone(),
            state: core.state(now),
            retry_in: core.open_until.map(|until| until - now).filter(|left| !left.is_zero()),
            failures_in_row: core.failures_in_row,
            last_failure: core.last_failure.clone(),
            counts: core.counts,
        });
        status
    }

    /// Every access goes through here: it notices that the time has come for half-open, and tells it once.
    fn look<T>(&self, now: Instant, read: impl FnOnce(&mut Core) -> T) -> (BreakerState, T) {
        let mut inner = self.inner();
        let read = read(&mut inner.core);
        let state = inner.core.state(now);
        let (generation, told) = inner.told;
        // A caller whose `now` is a moment older would still see it open; what has been told stays told.
        let behind = generation == inner.core.generation && told == BreakerState::HalfOpen;
        if told != state && !behind {
            inner.told = (inner.core.generation, state);
            // Under the lock, so that events stand in the order of the changes; telling never waits.
            self.tell(state);
        }
        (state, read)
    }

    fn report(&self, now: Instant, report: impl FnOnce(&mut Core) -> Change) {
        let (_, (change, failures, reason)) = self.look(now, |core| {
            let change = report(core);
            (change, core.failures_in_row, core.last_failure.clone())
        });
        match change {
            Change::None => {}
            Change::Freed => self.changes.send_modify(|count| *count += 1),
            Change::Closed => tracing::info!(breaker = self.name, "breaker closed: calls go through again"),
            Change::Opened(open_for) => {
                let reason = reason.unwrap_or_default();
                tracing::warn!(breaker = self.name, reason, failures, ?open_for, "breaker opened: calls are refused");
            }
        }
    }

    fn tell(&self, state: BreakerState) {
        self.changes.send_modify(|count| *count += 1);
        if let Some(events) = &self.events {
            events.tell(|| Event::BreakerChanged { name: self.name.clone(), state });
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_for_change(changes: &mut watch::Receiver<u64>) {
    // The sender is in the breaker, which the waiting future borrows: waiting cannot fail.
    let _ = changes.changed().await;
}

/// The right to one call. Report on it; dropped without a report it only gives its place back.
#[derive(Debug)]
#[must_use = "a pass that is dropped at once reports nothing"]
pub struct Pass {
    /// Taken by the report.
    breaker: Option<Arc<Breaker>>,
    generation: u64,
}

impl Pass {
    /// The dependency answered.
    pub fn succeeded(mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.report(Instant::now(), |core| core.succeeded(self.generation));
        }
    }

    /// The dependency is in trouble. `reason` is shown to operators: no secrets.
    pub fn failed(mut self, reason: &str) {
        if let Some(breaker) = self.breaker.take() {
            let now = Instant::now();
            breaker.report(now, |core| core.failed(self.generation, now, reason));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.report(Instant::now(), |core| core.dropped(self.generation));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;

    use super::*;
    use crate::events::Heard;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(failures: u32) -> BreakerPolicy {
        BreakerPolicy { failures, open_for: SECOND, open_max: 5 * SECOND, half_open_max: 1 }
    }

    fn breaker(failures: u32) -> Arc<Breaker> {
        Arc::new(Breaker::new("host", policy(failures)))
    }

    /// One step at an instant in milliseconds, and the state after it.
    enum Step {
        Pass,
        Refused,
        /// Reports on the pass of this number, in the order they were given.
        Good(usize),
        Bad(usize),
        Dropped(usize),
        Look,
    }

    fn run(policy: BreakerPolicy, steps: &[(u64, Step, BreakerState)]) -> Core {
        let start = Instant::now();
        let mut core = Core::new(policy);
        let mut passes = Vec::new();
        for (number, (at, step, expected)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*at);
            match step {
                Step::Pass => passes.push(core.try_pass(now).unwrap_or_else(|no| panic!("step {number}: {no:?}"))),
                Step::Refused => assert!(core.try_pass(now).is_err(), "step {number} was let through"),
                Step::Good(pass) => drop(core.succeeded(passes[*pass])),
                Step::Bad(pass) => drop(core.failed(passes[*pass], now, "down")),
                Step::Dropped(pass) => drop(core.dropped(passes[*pass])),
                Step::Look => {}
            }
            assert_eq!(core.state(now), *expected, "after step {number}");
        }
        core
    }

    use BreakerState::{Closed, HalfOpen, Open};
    use Step::{Bad, Dropped, Good, Look, Pass as Go, Refused};

    #[test]
    fn only_failures_in_a_row_open_it() {
        let core = run(
            policy(2),
            &[
                (0, Go, Closed),
                (0, Bad(0), Closed),
                (0, Go, Closed),
                (0, Good(1), Closed),
                (0, Go, Closed),
                (0, Bad(2), Closed),
                (0, Go, Closed),
                (0, Dropped(3), Closed),
                (0, Go, Closed),
                (0, Bad(4), Open),
                (999, Refused, Open),
                (1000, Look, HalfOpen),
            ],
        );
        let expected = BreakerCounts { opened: 1, passed: 5, refused: 1, succeeded: 1, failed: 3 };
        assert_eq!(core.counts, expected);
    }

    #[test]
    fn half_open_lets_one_through_and_its_report_decides() {
        let closed_again = [
            (0, Go, Closed),
            (0, Bad(0), Open),
            (1000, Go, HalfOpen),
            (1000, Refused, HalfOpen),
            (1001, Good(1), Closed),
            (1001, Go, Closed),
            // A fresh start: the next outage is open for one second again.
            (1001, Bad(2), Open),
            (2001, Look, HalfOpen),
        ];
        run(policy(1), &closed_again);
        let dropped = [
            (0, Go, Closed),
            (0, Bad(0), Open),
            (1000, Go, HalfOpen),
            (1000, Dropped(1), HalfOpen),
            (1000, Go, HalfOpen),
            (1000, Refused, HalfOpen),
        ];
        run(policy(1), &dropped);
        let two = BreakerPolicy { half_open_max: 2, ..policy(1) };
        run(
            two,
            &[
                (0, Go, Closed),
                (0, Bad(0), Open),
                (1000, Go, HalfOpen),
                (1000, Go, HalfOpen),
                (1000, Refused, HalfOpen),
                (1000, Dropped(1), HalfOpen),
                (1000, Go, HalfOpen),
            ],
        );
    }

    #[test]
    fn failed_probes_double_the_time_up_to_the_most() {
        let core = run(
            policy(1),
            &[
                (0, Go, Closed),
                (0, Bad(0), Open),
                (1000, Go, HalfOpen),
                (1000, Bad(1), Open),
                (2999, Look, Open),
                (3000, Go, HalfOpen),
                (3000, Bad(2), Open),
                (6999, Look, Open),
                (7000, Go, HalfOpen),
                // 8 s by doubling, 5 s at most.
                (7000, Bad(3), Open),
                (11_999, Look, Open),
                (12_000, Look, HalfOpen),
            ],
        );
        assert_eq!(core.counts.opened, 4);
        assert_eq!(policy(1).open_for(u32::MAX), 5 * SECOND);
    }

    #[test]
    fn a_report_from_before_the_last_change_has_no_say() {
        run(
            policy(1),
            &[
                (0, Go, Closed),
                (0, Go, Closed),
                (0, Go, Closed),
                (0, Go, Closed),
                (0, Bad(0), Open),
                // These calls began while it was closed.
                (10, Good(1), Open),
                (10, Bad(2), Open),
                (1000, Go, HalfOpen),
                (1000, Dropped(3), HalfOpen),
                // The place of the probe is still taken.
                (1000, Refused, HalfOpen),
                (1100, Good(4), Closed),
            ],
        );
    }

    #[test]
    fn a_refusal_says_why_and_for_how_long() {
        let start = Instant::now();
        let mut core = Core::new(policy(1));
        let pass = core.try_pass(start).unwrap();
        let _ = core.failed(pass, start, "500 Internal Server Error");
        let refusal = core.try_pass(start + SECOND / 4).unwrap_err();
        assert_eq!(refusal.retry_in, SECOND * 3 / 4);
        assert_eq!(refusal.reason, "breaker open after: 500 Internal Server Error");
        core.try_pass(start + SECOND).unwrap();
        let refusal = core.try_pass(start + SECOND).unwrap_err();
        assert_eq!((refusal.retry_in, refusal.reason.contains("being probed")), (Duration::ZERO, true));
    }

    #[tokio::test(start_paused = true)]
    async fn ready_and_changed_wait_for_the_time_to_try() {
        let breaker = breaker(1);
        breaker.ready().await;
        let changed = breaker.changed();
        let fail = async { breaker.try_pass(Instant::now()).unwrap().failed("refused") };
        assert_eq!(futures::join!(changed, fail).0, Open);

        let start = Instant::now();
        assert_eq!(breaker.retry_at(), Some(start + SECOND));
        assert!(breaker.check(start).is_err());
        breaker.ready().await;
        assert!(start.elapsed() >= SECOND);
        assert_eq!((breaker.state(), breaker.retry_at()), (HalfOpen, None));
        assert!(breaker.check(Instant::now()).is_ok());
        assert_eq!(breaker.left(Open).await, HalfOpen);

        let probe = breaker.try_pass(Instant::now()).unwrap();
        let closes = breaker.left(HalfOpen);
        assert_eq!(futures::join!(closes, async { probe.succeeded() }).0, Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_probe_goes_on_with_what_it_found() {
        let breaker = breaker(1);
        breaker.try_pass(Instant::now()).unwrap().failed("refused");
        assert!(breaker.pass().await.is_err(), "an open breaker is not waited for");
        breaker.ready().await;

        let probe = breaker.pass().await.unwrap();
        let mut waits = Box::pin(breaker.pass());
        assert!((&mut waits).now_or_never().is_none());
        drop(probe);
        let next_probe = waits.await.unwrap();

        let mut waits = Box::pin(breaker.pass());
        assert!((&mut waits).now_or_never().is_none());
        next_probe.failed("still refused");
        assert_eq!(waits.await.unwrap_err().retry_in, 2 * SECOND);
        breaker.ready().await;

        let probe = breaker.pass().await.unwrap();
        let all = futures::future::join_all((0..10).map(|_| breaker.pass()));
        let (passes, ()) = futures::join!(all, async { probe.succeeded() });
        assert!(passes.into_iter().all(|pass| pass.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_is_told_once_also_the_one_by_time() {
        let events = Events::new(16);
        let mut listener = events.listen();
        let breaker = Arc::new(Breaker::new("host", policy(1)).with_events(events.clone()));
        breaker.try_pass(Instant::now()).unwrap().failed("refused");
        breaker.ready().await;
        assert_eq!((breaker.state(), breaker.state()), (HalfOpen, HalfOpen));
        breaker.try_pass(Instant::now()).unwrap().succeeded();
        breaker.try_pass(Instant::now()).unwrap().succeeded();
        let status = breaker.status();
        assert_eq!((status.state, status.failures_in_row, status.retry_in), (Closed, 0, None));
        assert_eq!(status.counts, BreakerCounts { opened: 1, passed: 3, refused: 0, succeeded: 2, failed: 1 });
        drop((breaker, events));

        let mut told = Vec::new();
        while let Some(Heard::Event(event)) = listener.next().await {
            match &*event {
                Event::BreakerChanged { name, state } if name == "host" => told.push(*state),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(told, [Open, HalfOpen, Closed]);
    }

    #[test]
    fn the_written_form_of_a_state_is_its_name() {
        for state in [Closed, Open, HalfOpen] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
