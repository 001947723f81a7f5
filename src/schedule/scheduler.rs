//! The scheduler: makes the fires that are due, and sleeps until the next one.
//!
//! ```text
//!          ┌────────────── last_fire ──────────────┐
//!          ▼                                       │
//! look ─▶ due? ─▶ fire(schedule, instant, job) ─▶ store        one transaction: the row of the fire, and its job
//!  ▲                                               │
//!  └── sleep until the next instant ◀──────────────┘           or a new list of schedules, or Quiet
//! ```
//!
//! Invariants:
//! - A fire happens once: its row is unique, whoever asks and however often.
//! - A fire is never chained: the next instant follows from the expression and the clock, not from the fire before.
//! - A schedule seen for the first time, or with a changed expression, fires nothing for the time before.
//! - A store that is down is waited for; what was due meanwhile is then up to the policy for missed fires.
//!
//! What it does not do: run jobs, or know whether one ended. A schedule with a `unique` scope leaves that to the
//! ledger.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_actors::backoff::{Backoff, chance};
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::job::{Name, NewJob, UniqueScope};
use longshore_actors::ledger::{Enqueued, LedgerError};
use longshore_actors::shutdown::{Phase, Phases};
use longshore_actors::status::{Part, PartState};
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::schedule::missed::{self, Missed, ON_TIME};
use crate::schedule::when::When;
use crate::store::Store;

/// The wall clock can jump while a timer sleeps, so it is looked at this often. Shorter than [`ON_TIME`].
const SLEEP_MAX: Duration = Duration::from_secs(30);

const STORE_BACKOFF: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30));

/// Which job is to be put in, and when.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What its fires are remembered by: another name is another schedule.
    pub name: String,
    pub domain: Name,
    pub kind: Name,
    pub params: Value,
    pub priority: i32,
    pub when: When,
    pub missed: Missed,
    /// The job of a fire starts up to this much later, the same for the same fire.
    pub jitter: Duration,
    /// Keeps a second job of this schedule out while the first one stands.
    pub unique: Option<UniqueScope>,
}

impl Schedule {
    pub fn new(name: impl Into<String>, domain: impl Into<Name>, kind: impl Into<Name>, when: When) -> Self {
        Self {
            name: name.into(),
            domain: domain.into(),
            kind: kind.into(),
            params: Value::Object(serde_json::Map::new()),
            priority: 0,
            when,
            missed: Missed::default(),
            jitter: Duration::ZERO,
            unique: Some(UniqueScope::UntilCompleted),
        }
    }

    fn job(&self, at: Timestamp, now: Timestamp) -> NewJob {
        let mut job = NewJob::new(self.domain.clone(), self.kind.clone(), self.params.clone()).priority(self.priority);
        let run_at = at.plus(self.delay(at));
        if run_at > now {
            job = job.run_at(run_at);
        }
        match self.unique {
            Some(scope) => job.unique(format!("schedule:{}", self.name), scope),
            None => job,
        }
    }

    /// From name and instant, so that a fire asked for again after a crash is the same fire.
    fn delay(&self, at: Timestamp) -> Duration {
        let jitter = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if jitter == 0 {
            return Duration::ZERO;
        }
        let hash = blake3::hash(format!("{} {}", self.name, at.0).as_bytes());
        let mut bits = [0; 8];
        bits.copy_from_slice(&hash.as_bytes()[..8]);
        Duration::from_millis(u64::from_le_bytes(bits) % jitter)
    }
}

/// The list of schedules, as others see and replace it while the scheduler runs.
#[derive(Clone, Debug)]
pub struct SchedulesHandle {
    sender: watch::Sender<Arc<Vec<Schedule>>>,
}

impl SchedulesHandle {
    pub fn list(&self) -> Arc<Vec<Schedule>> {
        self.sender.borrow().clone()
    }

    /// Takes effect at once. What has the same name and the same instants goes on where it was.
    pub fn replace(&self, schedules: Vec<Schedule>) {
        self.sender.send_replace(Arc::new(schedules));
    }
}

pub struct Scheduler {
    schedules: SchedulesHandle,
    store: Arc<dyn Store>,
    clock: Clock,
    /// By the name of the schedule: its instants, and up to where they are decided. Kept over a restart of the part.
    considered: Mutex<HashMap<String, (When, Timestamp)>>,
}

impl Scheduler {
    pub fn new(schedules: Vec<Schedule>, store: Arc<dyn Store>, clock: Clock) -> Self {
        let schedules = SchedulesHandle { sender: watch::Sender::new(Arc::new(schedules)) };
        Self { schedules, store, clock, considered: Mutex::default() }
    }

    pub fn handle(&self) -> SchedulesHandle {
        self.schedules.clone()
    }

    /// Runs until `Quiet`. May be called again should it have panicked.
    pub async fn run(&self, phases: Phases, part: Arc<Part>) {
        let mut changes = self.schedules.sender.subscribe();
        let mut failures = 0;
        loop {
            let schedules = changes.borrow_and_update().clone();
            let look = tokio::select! {
                biased;
                // A fire that is cut off here is asked for again after the next start, and its row says what became
                // of it.
                () = phases.reached(Phase::Quiet) => break,
                look = self.look(&schedules, &part) => look,
            };
            let sleep = match look {
                Ok(next) => {
                    failures = 0;
                    part.set(PartState::Idle);
                    part.set_next_wake(next);
                    next.map_or(SLEEP_MAX, |next| next.since(self.clock.now()))
                }
                Err(error) => {
                    failures += 1;
                    let wait = STORE_BACKOFF.after(failures, chance());
                    part.failed.fetch_add(1, Ordering::Relaxed);
                    part.set(PartState::Waiting);
                    part.say(error.to_string());
                    part.set_next_wake(Some(self.clock.now().plus(wait)));
                    warn!(%error, ?wait, failures, "cannot make the fires that are due");
                    wait
                }
            };
            tokio::select! {
                biased;
                () = phases.reached(Phase::Quiet) => break,
                // The sender lives as long as `self`, so this ends only with a new list.
                _ = changes.changed() => {}
                () = tokio::time::sleep(sleep.min(SLEEP_MAX)) => {}
            }
        }
        part.set_next_wake(None);
        part.set(PartState::Stopped);
    }

    /// Makes what is due and answers the next instant of any schedule. One schedule that cannot be fired does not
    /// keep the others from it; the last error is the answer.
    async fn look(&self, schedules: &[Schedule], part: &Part) -> Result<Option<Timestamp>, LedgerError> {
        let now = self.clock.now();
        self.considered().retain(|name, _| schedules.iter().any(|schedule| schedule.name == *name));
        let mut failed = None;
        for schedule in schedules {
            if let Err(error) = self.catch_up(schedule, now, part).await {
                failed = Some(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(schedules.iter().filter_map(|schedule| schedule.when.next_after(now)).min()),
        }
    }

    async fn catch_up(&self, schedule: &Schedule, now: Timestamp, part: &Part) -> Result<(), LedgerError> {
        let considered = self.considered_until(schedule, now).await?;
        let fires = missed::due(considered, now, &schedule.when, schedule.missed);
        if fires.is_empty() && schedule.when.last_until(now).is_some_and(|at| at > considered) {
            warn!(schedule = schedule.name, "skipped a fire that was missed, as its policy says");
        }
        for at in fires {
            self.fire(schedule, at, now, part).await?;
            self.consider(schedule, at);
        }
        self.consider(schedule, now);
        Ok(())
    }

    async fn considered_until(&self, schedule: &Schedule, now: Timestamp) -> Result<Timestamp, LedgerError> {
        let known = self.considered().get(&schedule.name).cloned();
        let until = match known {
            Some((when, until)) if when == schedule.when => until,
            Some(_) | None => self.store.schedule_since(&schedule.name, &schedule.when.to_string(), now).await?,
        };
        // Kept before anything is fired, so that a store that fails does not move the beginning.
        self.consider(schedule, until);
        Ok(until)
    }

    async fn fire(&self, schedule: &Schedule, at: Timestamp, now: Timestamp, part: &Part) -> Result<(), LedgerError> {
        part.set(PartState::Busy);
        let late = now.since(at);
        let (name, kind) = (&schedule.name, &schedule.kind);
        match self.store.fire(name, at, schedule.job(at, now), now).await? {
            Some(Enqueued::New(job)) => {
                part.done.fetch_add(1, Ordering::Relaxed);
                part.say(format!("{name} fired: job {job}"));
                match late > ON_TIME {
                    true => {
                        warn!(schedule = name, job_id = job.0, %kind, ?late, "fired late, for a fire that was missed")
                    }
                    false => info!(schedule = name, job_id = job.0, %kind, "fired"),
                }
            }
            Some(Enqueued::Existing(job)) => {
                part.say(format!("{name} fired: job {job} stands already"));
                info!(schedule = name, job_id = job.0, %kind, "fired, but its last job has not ended: none put in");
            }
            // Another node was first, or this is the second time after a crash or a clock that went back.
            None => {}
        }
        Ok(())
    }

    fn consider(&self, schedule: &Schedule, until: Timestamp) {
        self.considered().insert(schedule.name.clone(), (schedule.when.clone(), until));
    }

    fn considered(&self) -> MutexGuard<'_, HashMap<String, (When, Timestamp)>> {
        self.considered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::schedule::fake::FakeStore;
    use longshore_actors::job::{JobId, State};
    use longshore_actors::status::{Board, PartKind};
    use tokio::time::sleep;

    /// 2026-03-01 00:00:00 UTC.
    const START: Timestamp = Timestamp(1_772_323_200_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn five_minutes(name: &str) -> Schedule {
        Schedule::new(name, "catalog", "catalog.full", When::cron("*/5 * * * *", "UTC").unwrap())
    }

    struct Running {
        store: FakeStore,
        handle: SchedulesHandle,
        part: Arc<Part>,
        phases: Phases,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(store: &FakeStore, clock: Clock, schedules: Vec<Schedule>) -> Running {
        let part = Board::new(clock.clone()).part("scheduler", PartKind::Service);
        let phases = Phases::default();
        let scheduler = Scheduler::new(schedules, Arc::new(store.clone()), clock);
        let handle = scheduler.handle();
        let (running_phases, running_part) = (phases.clone(), part.clone());
        let task = tokio::spawn(async move { scheduler.run(running_phases, running_part).await });
        Running { store: store.clone(), handle, part, phases, task }
    }

    impl Running {
        async fn stop(self) {
            self.phases.enter(Phase::Quiet);
            self.task.await.unwrap();
            assert_eq!(self.part.status().state, PartState::Stopped);
        }

        /// Minutes after the start at which this schedule fired.
        fn fired(&self, schedule: &str) -> Vec<u64> {
            self.store.fired(schedule).iter().map(|at| at.since(START).as_secs() / 60).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fires_at_its_instants_and_not_for_the_past() {
        let clock = Clock::following_tokio(START.plus(MINUTE));
        let mut schedule = five_minutes("full");
        schedule.unique = None;
        let running = start(&FakeStore::default(), clock, vec![schedule]);
        sleep(MINUTE).await;
        assert_eq!(running.fired("full"), Vec::<u64>::new());
        assert_eq!(running.part.status().next_wake, Some(START.plus(5 * MINUTE)));
        sleep(15 * MINUTE).await;
        assert_eq!(running.fired("full"), [5, 10, 15]);
        assert_eq!(running.store.rows().jobs.len(), 3);
        assert_eq!(running.part.status().done, 3);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_makes_up_by_policy_and_doubles_nothing() {
        let policies = [
            (Missed::Skip, vec![5, 25]),
            (Missed::Once, vec![5, 20, 25]),
            (Missed::All { max: 2 }, vec![5, 15, 20, 25]),
            (Missed::All { max: 9 }, vec![5, 10, 15, 20, 25]),
        ];
        for (missed, expected) in policies {
            let clock = Clock::following_tokio(START);
            let schedule = Schedule { missed, unique: None, ..five_minutes("full") };
            let running = start(&FakeStore::default(), clock.clone(), vec![schedule.clone()]);
            sleep(6 * MINUTE).await;
            let store = running.store.clone();
            running.stop().await;
            sleep(17 * MINUTE).await;
            let running = start(&store, clock, vec![schedule]);
            sleep(4 * MINUTE).await;
            assert_eq!(running.fired("full"), expected, "{missed:?}");
            assert_eq!(store.rows().jobs.len(), expected.len());
            running.stop().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_back_fires_nothing_twice_and_goes_on() {
        let store = FakeStore::default();
        let schedule = Schedule { unique: None, ..five_minutes("full") };
        let running = start(&store, Clock::following_tokio(START.plus(58 * MINUTE)), vec![schedule.clone()]);
        sleep(8 * MINUTE).await;
        assert_eq!(running.fired("full"), [60, 65]);
        running.stop().await;
        let running = start(&store, Clock::following_tokio(START.plus(52 * MINUTE)), vec![schedule]);
        sleep(20 * MINUTE).await;
        assert_eq!(running.fired("full"), [55, 60, 65, 70]);
        assert_eq!(store.rows().jobs.len(), 4);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_down_is_waited_for() {
        let running = start(&FakeStore::default(), Clock::following_tokio(START), vec![five_minutes("full")]);
        sleep(MINUTE).await;
        running.store.set_down(Some("disk full"));
        sleep(6 * MINUTE).await;
        let status = running.part.status();
        assert_eq!(status.state, PartState::Waiting);
        assert!(status.last.unwrap().contains("disk full"));
        running.store.set_down(None);
        sleep(MINUTE).await;
        assert_eq!(running.fired("full"), [5]);
        assert_eq!(running.part.status().state, PartState::Idle);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn schedules_are_replaced_while_it_runs() {
        let free = |schedule: Schedule| Schedule { unique: None, ..schedule };
        let running = start(&FakeStore::default(), Clock::following_tokio(START), vec![free(five_minutes("full"))]);
        sleep(6 * MINUTE).await;
        let often =
            Schedule { when: When::every(MINUTE).unwrap(), missed: Missed::All { max: 100 }, ..five_minutes("full") };
        running.handle.replace(vec![free(often), free(five_minutes("other"))]);
        sleep(4 * MINUTE + MINUTE / 2).await;
        assert_eq!(running.fired("full"), [5, 7, 8, 9, 10], "nothing for the time before the change");
        assert_eq!(running.fired("other"), [10]);
        running.handle.replace(Vec::new());
        sleep(10 * MINUTE).await;
        assert_eq!(running.fired("full").last(), Some(&10));
        assert_eq!(running.part.status().next_wake, None);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_unique_schedule_does_not_pile_up() {
        let running = start(&FakeStore::default(), Clock::following_tokio(START), vec![five_minutes("full")]);
        sleep(11 * MINUTE).await;
        assert_eq!(running.fired("full"), [5, 10]);
        assert_eq!(running.store.rows().jobs.len(), 1);
        running.store.set_state(JobId(1), State::Completed);
        sleep(5 * MINUTE).await;
        assert_eq!(running.store.rows().jobs.len(), 2);
        running.stop().await;
    }

    #[test]
    fn jitter_delays_the_job_the_same_every_time() {
        let schedule = Schedule { jitter: MINUTE, ..five_minutes("full") };
        let job = schedule.job(START, START);
        let delay = job.run_at.unwrap().since(START);
        assert!(delay > Duration::ZERO && delay < MINUTE);
        assert_eq!(schedule.job(START, START), job);
        assert_eq!(schedule.job(START, START.plus(MINUTE)).run_at, None, "late already");
    }
}
