//! What the tests share: a started tree, and ways to wait for what happens in it.

mod held;
mod log;

use std::sync::Arc;
use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::child::{Child, DomainChild, ServiceChild};
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::events::{Event, Heard, Listener};
use longshore_actors::job::{JobId, NewJob, State};
use longshore_actors::ledger::{Filter, JobRecord, Ledger, Stats};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::{DomainSettings, KindPolicy, PoolSettings, Pools};
use longshore_actors::shutdown::{Ending, Phase};
use longshore_actors::status::Status;
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::MemoryLedger;
use longshore_actors::testing::scripted::{Script, Scripted};
use longshore_actors::threads::Threads;

pub use held::HeldLedger;
pub use log::Log;

pub const SECOND: Duration = Duration::from_secs(1);
pub const KIND: &str = "alpha.job";

/// A test that waits for what never comes ends after this much of the paused clock's time.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// Runs a test on one thread with a paused clock.
pub fn paused(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix::System::with_tokio_rt(runtime).block_on(async {
        tokio::time::timeout(PATIENCE, test).await.expect("what the test waits for never came");
    });
}

/// Runs a test on real threads and in real time, and ends them all after it.
pub fn on_threads(test: impl AsyncFnOnce(Threads)) {
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = Arc::new(build());
    let own = runtime.clone();
    actix::System::with_tokio_rt(move || own).block_on(async {
        let test = tokio::time::timeout(Duration::from_secs(600), test(Threads::Own(runtime)));
        test.await.expect("it takes seconds, and on the busiest machine a minute");
    });
}

pub fn alpha() -> Scripted {
    Scripted::new("alpha", &[KIND])
}

pub fn beta() -> Scripted {
    Scripted::new("beta", &["beta.job"])
}

/// Small pools, short waits, no jitter where it matters.
pub fn settings() -> DomainSettings {
    let pool = |actors, mailbox| PoolSettings { actors, mailbox };
    DomainSettings {
        pools: Pools { fetch: pool(2, 2), transform: pool(1, 2), upload: pool(2, 1) },
        jobs_max: 4,
        pages_max: 3,
        restart: RestartPolicy { max: 5, within: 60 * SECOND, backoff_min: SECOND / 5, backoff_max: 10 * SECOND },
        ..DomainSettings::default()
    }
    .with_kind(KIND, policy())
    .with_kind("beta.job", policy())
}

pub fn policy() -> KindPolicy {
    KindPolicy {
        attempts: 3,
        backoff: Backoff::fixed(10 * SECOND),
        page_tries: 1,
        page_backoff: Backoff::fixed(SECOND),
        ..KindPolicy::default()
    }
}

pub trait With {
    fn with_kind(self, kind: &str, policy: KindPolicy) -> Self;
    fn with_pool(self, stage: longshore_actors::stage::StageName, actors: usize, mailbox: usize) -> Self;
    fn with_jobs(self, jobs_max: usize, pages_max: usize) -> Self;
}

impl With for DomainSettings {
    fn with_kind(mut self, kind: &str, policy: KindPolicy) -> Self {
        self.kinds.insert(kind.into(), policy);
        self
    }

    fn with_pool(mut self, stage: longshore_actors::stage::StageName, actors: usize, mailbox: usize) -> Self {
        self.pools.set(stage, PoolSettings { actors, mailbox });
        self
    }

    fn with_jobs(mut self, jobs_max: usize, pages_max: usize) -> Self {
        (self.jobs_max, self.pages_max) = (jobs_max, pages_max);
        self
    }
}

/// A started tree: the domains, and a loop that releases what is due.
pub struct Service {
    pub memory: Arc<MemoryLedger>,
    pub tree: Tree,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
}

impl Service {
    pub fn start(domain: &Scripted, settings: DomainSettings) -> Self {
        Self::start_all(vec![(domain.clone(), settings)])
    }

    pub fn start_all(domains: Vec<(Scripted, DomainSettings)>) -> Self {
        let memory = Arc::new(MemoryLedger::new());
        Self::start_on(memory.clone(), memory, domains)
    }

    /// On a ledger that stands before `memory`.
    pub fn start_on(
        memory: Arc<MemoryLedger>,
        ledger: Arc<dyn Ledger>,
        domains: Vec<(Scripted, DomainSettings)>,
    ) -> Self {
        let children = domains
            .into_iter()
            .map(|(domain, settings)| Box::new(DomainChild::new(domain, settings)) as Box<dyn Child>)
            .collect();
        Self::start_children(memory, ledger, children)
    }

    pub fn start_children(
        memory: Arc<MemoryLedger>,
        ledger: Arc<dyn Ledger>,
        mut children: Vec<Box<dyn Child>>,
    ) -> Self {
        let clock = Clock::following_tokio(Timestamp(1_000_000_000_000));
        let runtime = Runtime::new(ledger.clone(), clock.clone(), Threads::Present);
        children.push(Box::new(upkeep(&runtime)));
        let tree = Tree::start(runtime, children);
        Self { memory, tree, ledger, clock }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn listen(&self) -> Listener {
        self.tree.runtime().events.listen()
    }

    pub async fn enqueue(&self, domain: &Scripted, script: &Script) -> JobId {
        self.put(domain.job(script)).await
    }

    pub async fn put(&self, job: NewJob) -> JobId {
        self.memory.enqueue(vec![job], self.now()).await.unwrap()[0].id()
    }

    /// So many jobs with the same script, in one call.
    pub async fn enqueue_many(&self, domain: &Scripted, script: &Script, count: usize) -> Vec<JobId> {
        let jobs = vec![domain.job(script); count];
        self.memory.enqueue(jobs, self.now()).await.unwrap().into_iter().map(|job| job.id()).collect()
    }

    pub async fn job(&self, id: JobId) -> JobRecord {
        job(&*self.memory, id).await
    }

    pub async fn state(&self, id: JobId) -> State {
        self.job(id).await.state
    }

    pub async fn stats(&self) -> Stats {
        self.memory.stats().await.unwrap()
    }

    /// How many jobs stand in this state.
    pub async fn total(&self, state: State) -> u64 {
        self.stats().await.total(state)
    }

    /// Completes as soon as the condition holds; it is asked again after every event.
    pub async fn until(&self, condition: impl AsyncFn() -> bool) {
        let mut events = self.listen();
        while !condition().await {
            events.next().await.unwrap();
        }
    }

    /// Waits until the job is in a final state.
    pub async fn ended(&self, id: JobId) -> JobRecord {
        self.until(async || self.state(id).await.is_final()).await;
        self.job(id).await
    }

    /// Waits until every job there is is in a final state.
    pub async fn all_ended(&self) {
        self.until(async || {
            let stats = self.stats().await;
            [State::Waiting, State::Delayed, State::Active].iter().all(|state| stats.total(*state) == 0)
        })
        .await;
    }

    pub fn status(&self, name: &str) -> Status {
        let statuses = self.tree.runtime().board.statuses();
        statuses.into_iter().find(|status| status.name == name).unwrap_or_else(|| panic!("there is no part {name}"))
    }

    pub fn ledger(&self) -> &dyn Ledger {
        &*self.ledger
    }

    /// Ends the tree, which has nothing left to do.
    pub async fn stop(&self) {
        assert_eq!(self.tree.shutdown(10 * SECOND).await, Ending::default());
        assert!(self.tree.runtime().board.running().is_empty());
    }
}

pub async fn job(ledger: &dyn Ledger, id: JobId) -> JobRecord {
    let filter = Filter { ids: vec![id], ..Filter::default() };
    ledger.jobs(filter).await.unwrap().pop().unwrap()
}

/// The outcomes of a job's tries that did not end well.
pub fn tries(job: &JobRecord) -> Vec<&str> {
    job.history.iter().map(|attempt| &*attempt.outcome).collect()
}

/// The first event from here on that `pick` takes.
pub async fn heard<T>(events: &mut Listener, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        match events.next().await.unwrap() {
            Heard::Event(event) => {
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
            Heard::Missed(_) => {}
        }
    }
}

/// What else is in the events that have been told already.
pub async fn told(events: &mut Listener) -> Vec<Arc<Event>> {
    let mut told = Vec::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Heard::Event(event)) => told.push(event),
                Some(Heard::Missed(_)) => {}
                None => return told,
            },
            () = std::future::ready(()) => return told,
        }
    }
}

/// Lets everything that can run now run, without letting time pass.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Releases what is due, as the service's upkeep does.
pub fn upkeep(runtime: &Runtime) -> ServiceChild {
    let runtime = runtime.clone();
    ServiceChild::new("upkeep", RestartPolicy::default(), move |_| {
        let runtime = runtime.clone();
        Box::pin(async move {
            loop {
                let released = runtime.ledger.release(runtime.clock.now()).await;
                let next = match released {
                    Ok(released) => released.next_due,
                    Err(_) => Some(runtime.clock.now().plus(SECOND)),
                };
                let wait = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(runtime.clock.instant_at(at)).await,
                        None => std::future::pending().await,
                    }
                };
                let due = runtime.ledger.due();
                tokio::select! {
                    () = runtime.phases.reached(Phase::Stop) => return,
                    () = due.work() => {}
                    () = wait => {}
                }
            }
        })
    })
}
