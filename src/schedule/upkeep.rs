//! Upkeep: what the ledger needs done by the clock, and a look at what the service leans on.
//!
//! ```text
//! release  ── due() or the next due instant ──▶ delayed jobs are waiting again
//! rescue   ── every lease_check ─────────────▶ jobs with lapsed leases are waiting again; starved domains are named
//! prune    ── every prune_every ─────────────▶ finished jobs past their retention go, a small batch at a time
//! probe    ── every probe_every ─────────────▶ status of each upstream; one log line when it changes
//! report   ── every stats_every ─────────────▶ one INFO line of queue statistics
//! ```
//!
//! The five run side by side in one task, so a probe that hangs holds up no release. All end at Quiet: what is due
//! then is released by the next start.
//!
//! What it does not do: decide over single jobs (the coordinator does), or restart anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use longshore_actors::backoff::{Backoff, chance};
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::job::State;
use longshore_actors::ledger::{Ledger, LedgerError, Rescue, Retention, Stats};
use longshore_actors::shutdown::{Phase, Phases};
use longshore_actors::status::{Board, Part, PartKind, PartState};
use tokio::sync::watch;
use tracing::{info, warn};

/// The wall clock can jump while a timer sleeps, so the ledger is asked at least this often for due jobs.
const RELEASE_SLEEP_MAX: Duration = Duration::from_secs(60);

/// Between two batches of pruning, so that claims and commits get their turn at the writer.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// A probe has its own deadlines; this one is for a probe that forgot.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

const STORE_BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(30));

#[derive(Clone, Copy, Debug)]
pub struct UpkeepSettings {
    pub lease_check: Duration,
    pub retention: Retention,
    pub prune_every: Duration,
    pub probe_every: Duration,
    pub stats_every: Duration,
    /// A domain with waiting jobs that has nothing active and ends nothing for this long is warned of.
    pub starved_after: Duration,
}

/// Asks something outside whether it is well.
pub trait HealthProbe: Send + Sync + 'static {
    /// Its place in the status is `health/<name>`.
    fn name(&self) -> &str;

    /// What is worth saying of it when it is well, or what is wrong.
    fn probe(&self) -> BoxFuture<'_, Result<String, String>>;
}

pub struct Upkeep {
    ledger: Arc<dyn Ledger>,
    settings: watch::Sender<UpkeepSettings>,
    probes: Vec<Box<dyn HealthProbe>>,
    board: Board,
    clock: Clock,
}

impl Upkeep {
    pub fn new(
        ledger: Arc<dyn Ledger>,
        settings: UpkeepSettings,
        probes: Vec<Box<dyn HealthProbe>>,
        board: Board,
    ) -> Self {
        let clock = board.clock().clone();
        Self { ledger, settings: watch::Sender::new(settings), probes, board, clock }
    }

    /// Changes the settings while it runs; a wait that is under way begins anew.
    pub fn set(&self, settings: UpkeepSettings) {
        self.settings.send_replace(settings);
    }

    async fn wait(&self, every: fn(&UpkeepSettings) -> Duration) {
        let mut settings = self.settings.subscribe();
        loop {
            let wait = every(&settings.borrow_and_update());
            tokio::select! {
                () = tokio::time::sleep(wait) => return,
                // The sender is ours, so this cannot fail.
                _ = settings.changed() => {}
            }
        }
    }

    fn settings(&self) -> UpkeepSettings {
        *self.settings.borrow()
    }

    /// Runs until `Quiet`. May be called again should it have panicked.
    pub async fn run(&self, phases: Phases, part: Arc<Part>) {
        part.set(PartState::Idle);
        let work = async {
            tokio::join!(self.release(&part), self.rescue(&part), self.prune(&part), self.probe(), self.report())
        };
        tokio::select! {
            biased;
            () = phases.reached(Phase::Quiet) => {}
            _ = work => {}
        }
        part.set_next_wake(None);
        part.set(PartState::Stopped);
    }

    /// Moves due jobs to waiting, as they fall due.
    async fn release(&self, part: &Part) {
        let due = self.ledger.due();
        let mut failures = 0;
        loop {
            let wait = match self.ledger.release(self.clock.now()).await {
                Ok(released) => {
                    if failures > 0 {
                        info!("the ledger is back");
                        part.say("the ledger is back");
                    }
                    failures = 0;
                    part.set(PartState::Idle);
                    part.done.fetch_add(released.count, Ordering::Relaxed);
                    part.set_next_wake(released.next_due);
                    let wait = released.next_due.map_or(RELEASE_SLEEP_MAX, |next| next.since(self.clock.now()));
                    // After a full batch more may be due already, and the next one follows at once. Nothing released
                    // though something seems due is a matter of rounding, and must not become a loop.
                    if released.count > 0 { wait } else { wait.max(Duration::from_millis(1)) }
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(%error, "cannot release due jobs; trying on");
                    }
                    part.failed.fetch_add(1, Ordering::Relaxed);
                    part.set(PartState::Waiting);
                    part.say(error.to_string());
                    STORE_BACKOFF.after(failures, chance())
                }
            };
            let sleep = tokio::time::sleep(wait.min(RELEASE_SLEEP_MAX));
            if failures > 0 {
                // A wake-up does not make a store answer: only time does.
                sleep.await;
                continue;
            }
            tokio::select! {
                () = due.work() => {}
                () = sleep => {}
            }
        }
    }

    /// Gives back lapsed leases, and looks for domains that ought to work and do not.
    async fn rescue(&self, part: &Part) {
        let mut watch = StarvationWatch::default();
        loop {
            self.wait(|settings| settings.lease_check).await;
            match self.ledger.rescue(Rescue::Lapsed { now: self.clock.now() }).await {
                Ok(0) => {}
                Ok(rescued) => {
                    warn!(rescued, "gave back jobs whose leases had lapsed");
                    part.say(format!("rescued {rescued} jobs whose leases had lapsed"));
                }
                Err(error) => note(&error, "rescue lapsed leases"),
            }
            match self.ledger.stats().await {
                Ok(stats) => self.name_starved(&mut watch, &stats),
                Err(error) => note(&error, "read queue statistics"),
            }
        }
    }

    fn name_starved(&self, watch: &mut StarvationWatch, stats: &Stats) {
        let now = self.clock.now();
        for (domain, waiting) in watch.look(stats, now, self.settings().starved_after) {
            let state = self.board.statuses().into_iter().find(|status| status.name == domain).map(|part| part.state);
            match state {
                // It says so itself, and loudly.
                Some(PartState::Parked | PartState::Waiting | PartState::Restarting | PartState::Draining) => {}
                Some(PartState::Starting | PartState::Idle | PartState::Busy | PartState::Stopped) | None => {
                    warn!(domain, waiting, after = ?self.settings().starved_after, "jobs are waiting and none is started");
                }
            }
        }
    }

    async fn prune(&self, part: &Part) {
        loop {
            let mut pruned = 0;
            loop {
                match self.ledger.prune(self.settings().retention, self.clock.now()).await {
                    Ok(batch) => {
                        pruned += batch.jobs;
                        if !batch.more {
                            break;
                        }
                    }
                    Err(error) => {
                        note(&error, "prune finished jobs");
                        break;
                    }
                }
                tokio::time::sleep(PRUNE_PAUSE).await;
            }
            if pruned > 0 {
                info!(pruned, "deleted finished jobs past their retention");
                part.say(format!("pruned {pruned} finished jobs"));
            }
            self.wait(|settings| settings.prune_every).await;
        }
    }

    /// Asks all probes at once, so that one that hangs delays no other's first answer by more than its deadline.
    async fn probe(&self) {
        let parts: Vec<Arc<Part>> = self
            .probes
            .iter()
            .map(|probe| self.board.part(&format!("health/{}", probe.name()), PartKind::Dependency))
            .collect();
        loop {
            let pairs = self.probes.iter().zip(&parts);
            join_all(pairs.map(|(probe, part)| self.probe_one(probe.as_ref(), part))).await;
            self.wait(|settings| settings.probe_every).await;
        }
    }

    async fn probe_one(&self, probe: &dyn HealthProbe, part: &Part) {
        let answer = match tokio::time::timeout(PROBE_DEADLINE, probe.probe()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {PROBE_DEADLINE:?}")),
        };
        let before = part.status().state;
        let (after, text) = match answer {
            Ok(text) => {
                part.done.fetch_add(1, Ordering::Relaxed);
                (PartState::Idle, text)
            }
            Err(reason) => {
                part.failed.fetch_add(1, Ordering::Relaxed);
                (PartState::Waiting, reason)
            }
        };
        if before != after {
            match after == PartState::Idle {
                true => info!(upstream = probe.name(), result = text, "healthy"),
                false => warn!(upstream = probe.name(), reason = text, "unhealthy"),
            }
        }
        part.set(after);
        part.say(text);
        part.set_next_wake(Some(self.clock.now().plus(self.settings().probe_every)));
    }

    async fn report(&self) {
        loop {
            self.wait(|settings| settings.stats_every).await;
            match self.ledger.stats().await {
                Ok(stats) => {
                    let total: u64 = State::ALL.into_iter().map(|state| stats.total(state)).sum();
                    info!(
                        waiting = stats.total(State::Waiting),
                        active = stats.total(State::Active),
                        completed = stats.total(State::Completed),
                        failed = stats.total(State::Failed),
                        delayed = stats.total(State::Delayed),
                        total,
                        "queue statistics"
                    );
                }
                Err(error) => note(&error, "read queue statistics"),
            }
        }
    }
}

/// The state of the ledger is told by `release`; here it explains why a step was left out.
fn note(error: &LedgerError, step: &str) {
    warn!(%error, "cannot {step}; trying again at the next round");
}

/// Since when each domain has had waiting jobs without starting or ending any.
#[derive(Debug, Default)]
struct StarvationWatch {
    still: BTreeMap<String, Still>,
}

#[derive(Debug)]
struct Still {
    since: Timestamp,
    /// Jobs that have ended or were put off: when it moves, the domain works.
    moved: u64,
    told: bool,
}

impl StarvationWatch {
    /// The domains that have stood still for `after` by now, each told once a standstill, with their waiting jobs.
    fn look(&mut self, stats: &Stats, now: Timestamp, after: Duration) -> Vec<(String, u64)> {
        let mut domains: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
        for kind in &stats.kinds {
            let (waiting, active, moved) = domains.entry(&kind.domain).or_default();
            *waiting += kind.waiting;
            *active += kind.active;
            *moved += kind.completed + kind.failed + kind.cancelled + kind.delayed;
        }
        self.still.retain(|domain, _| domains.contains_key(domain.as_str()));
        let mut starved = Vec::new();
        for (domain, (waiting, active, moved)) in domains {
            if waiting == 0 || active > 0 {
                self.still.remove(domain);
                continue;
            }
            let fresh = Still { since: now, moved, told: false };
            let still = self.still.entry(domain.to_owned()).or_insert(fresh);
            if still.moved != moved {
                *still = Still { since: now, moved, told: false };
            }
            if !still.told && now.since(still.since) >= after {
                still.told = true;
                starved.push((domain.to_owned(), waiting));
            }
        }
        starved
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::schedule::fake::FakeStore;
    use longshore_actors::job::NewJob;
    use longshore_actors::ledger::KindStats;
    use serde_json::json;
    use std::sync::Mutex;
    use tokio::time::sleep;

    const START: Timestamp = Timestamp(1_772_323_200_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn settings() -> UpkeepSettings {
        UpkeepSettings {
            lease_check: Duration::from_secs(10),
            retention: Retention {
                completed_for: 24 * 60 * MINUTE,
                completed_max: 1000,
                failed_for: 7 * 24 * 60 * MINUTE,
                failed_max: 1000,
                bytes_max: 1 << 20,
                batch: 100,
            },
            prune_every: 10 * MINUTE,
            probe_every: 5 * MINUTE,
            stats_every: 30 * MINUTE,
            starved_after: 10 * MINUTE,
        }
    }

    #[derive(Clone)]
    struct Probe {
        answer: Arc<Mutex<Option<Result<String, String>>>>,
    }

    impl HealthProbe for Probe {
        fn name(&self) -> &str {
            "esim-go"
        }

        fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
            let answer = self.answer.lock().unwrap().clone();
            Box::pin(async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        }
    }

    struct Running {
        store: FakeStore,
        board: Board,
        clock: Clock,
        part: Arc<Part>,
        phases: Phases,
        task: tokio::task::JoinHandle<()>,
    }

    fn start(probes: Vec<Box<dyn HealthProbe>>) -> Running {
        let clock = Clock::following_tokio(START);
        let (board, phases, store) = (Board::new(clock.clone()), Phases::default(), FakeStore::default());
        let part = board.part("upkeep", PartKind::Service);
        let upkeep = Upkeep::new(Arc::new(store.clone()), settings(), probes, board.clone());
        let (running_phases, running_part) = (phases.clone(), part.clone());
        let task = tokio::spawn(async move { upkeep.run(running_phases, running_part).await });
        Running { store, board, clock, part, phases, task }
    }

    impl Running {
        async fn stop(self) {
            self.phases.enter(Phase::Quiet);
            self.task.await.unwrap();
            assert_eq!(self.part.status().state, PartState::Stopped);
        }

        async fn delay(&self, wait: Duration) {
            let now = self.clock.now();
            let job = NewJob::new("catalog", "catalog.full", json!({})).run_at(now.plus(wait));
            self.store.enqueue(vec![job], now).await.unwrap();
            self.store.wake_due();
        }

        fn health(&self) -> longshore_actors::status::Status {
            self.board.statuses().into_iter().find(|status| status.name == "health/esim-go").unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_job_is_released_when_it_is_due() {
        let running = start(Vec::new());
        sleep(Duration::from_secs(1)).await;
        running.delay(Duration::from_secs(20)).await;
        running.delay(Duration::from_secs(5)).await;
        sleep(Duration::from_millis(5010)).await;
        assert_eq!(running.store.rows().released, 1);
        assert_eq!(running.part.status().next_wake, Some(START.plus(Duration::from_secs(21))));
        sleep(Duration::from_secs(15)).await;
        assert_eq!(running.store.rows().released, 2);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_is_down_is_waited_for() {
        let running = start(Vec::new());
        running.delay(MINUTE).await;
        running.store.set_down(Some("disk full"));
        sleep(5 * MINUTE).await;
        assert_eq!(running.part.status().state, PartState::Waiting);
        running.store.set_down(None);
        sleep(MINUTE).await;
        assert_eq!(running.part.status().state, PartState::Idle);
        assert_eq!(running.store.rows().released, 1);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_checked_and_finished_jobs_pruned_batch_by_batch() {
        let running = start(Vec::new());
        running.store.rows().prunable = 250;
        sleep(MINUTE).await;
        {
            let rows = running.store.rows();
            assert!((5..=6).contains(&rows.rescued.len()), "{:?}", rows.rescued);
            assert!(rows.rescued.iter().all(|rescue| rescue.starts_with("Lapsed")));
            assert_eq!((rows.prunable, rows.prunes), (0, 3));
        }
        sleep(10 * MINUTE).await;
        assert_eq!(running.store.rows().prunes, 4);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn health_shows_on_the_board_and_a_hanging_probe_holds_nothing_up() {
        let answer = Arc::new(Mutex::new(Some(Ok("7 groups".to_owned()))));
        let running = start(vec![Box::new(Probe { answer: answer.clone() })]);
        sleep(Duration::from_secs(1)).await;
        let health = running.health();
        assert_eq!((health.state, health.kind), (PartState::Idle, PartKind::Dependency));
        assert_eq!(health.last.as_deref(), Some("7 groups"));

        *answer.lock().unwrap() = Some(Err("401 Unauthorized".to_owned()));
        sleep(5 * MINUTE).await;
        assert_eq!(running.health().state, PartState::Waiting);

        *answer.lock().unwrap() = None;
        sleep(5 * MINUTE).await;
        running.delay(Duration::from_secs(2)).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(running.store.rows().released, 1, "while the probe hangs");
        sleep(2 * MINUTE).await;
        assert!(running.health().last.unwrap().contains("no answer"));
        assert_eq!((running.health().done, running.health().failed), (1, 2));
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_with_a_hanging_probe_and_a_dead_store() {
        let running = start(vec![Box::new(Probe { answer: Arc::default() })]);
        running.store.set_down(Some("gone"));
        sleep(2 * MINUTE).await;
        tokio::time::timeout(Duration::from_secs(1), running.stop()).await.unwrap();
    }

    #[test]
    fn a_standstill_is_told_once_and_only_when_nothing_moves() {
        let stats = |waiting, active, completed| Stats {
            kinds: vec![KindStats {
                domain: "catalog".into(),
                kind: "catalog.full".into(),
                waiting,
                delayed: 0,
                active,
                completed,
                failed: 0,
                cancelled: 0,
            }],
            stale_writes: 0,
        };
        let mut watch = StarvationWatch::default();
        let mut look = |minute: u32, stats: Stats| watch.look(&stats, START.plus(minute * MINUTE), 10 * MINUTE).len();
        assert_eq!(look(0, stats(3, 0, 0)), 0);
        assert_eq!(look(9, stats(3, 0, 0)), 0);
        assert_eq!(look(10, stats(3, 0, 0)), 1);
        assert_eq!(look(11, stats(3, 0, 0)), 0, "told already");
        assert_eq!(look(12, stats(3, 1, 0)), 0);
        assert_eq!(look(13, stats(3, 0, 0)), 0, "a new standstill");
        assert_eq!(look(22, stats(2, 0, 1)), 0, "one ended between two looks");
        assert_eq!(look(31, stats(2, 0, 1)), 0);
        assert_eq!(look(32, stats(2, 0, 1)), 1);
        assert_eq!(look(33, Stats::default()), 0);
    }
}
