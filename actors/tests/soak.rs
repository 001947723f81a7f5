//! Twenty thousand jobs of two domains on real threads, with panics and faults among them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::child::{Child, DomainChild};
use longshore_actors::clock::Clock;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Filter, JobRecord, Ledger, Retention};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::{DomainSettings, KindPolicy, PoolSettings};
use longshore_actors::shutdown::Ending;
use longshore_actors::stage::StageName;
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::MemoryLedger;
use longshore_actors::testing::scripted::{At, Do, Rows, Script};

use crate::support::{KIND, With, alpha, beta, on_threads, settings, upkeep};

/// Of each domain, in waves, since the ledger in memory looks at every job it holds at every call.
const JOBS: usize = 10_000;
const WAVE: usize = 500;

/// Of these many jobs one panics, at a stage that differs from job to job; as many meet a fault.
const ONE_IN: usize = 41;

fn script(number: usize) -> Script {
    let at = [At::Fetch, At::Transform, At::Upload][number / ONE_IN % 3];
    let script = Script { rows: 2, ..Script::found(1 + number as u32 % 2) };
    match number % ONE_IN {
        7 => script.on(at, 0, Some(1), Do::Panic),
        19 => script.on(at, 0, Some(1), Do::Retry { after_ms: None }),
        31 => script.on(at, 0, Some(1), Do::Unavailable { retry_in_ms: Some(5) }),
        _ => script,
    }
}

fn busy() -> DomainSettings {
    let kind = KindPolicy { backoff: Backoff::fixed(Duration::from_millis(5)), ..crate::support::policy() };
    let restart = RestartPolicy {
        max: 100_000,
        within: Duration::from_secs(60),
        backoff_min: Duration::from_micros(100),
        backoff_max: Duration::from_micros(100),
    };
    let settings = DomainSettings { restart, lease: Duration::from_secs(30), ..settings() };
    settings
        .with_kind(KIND, kind.clone())
        .with_kind("beta.job", kind)
        .with_pool(StageName::Fetch, 16, 8)
        .with_pool(StageName::Transform, 2, 32)
        .with_pool(StageName::Upload, 8, 8)
        .with_jobs(128, 4)
}

fn records(number: usize) -> u64 {
    2 * (1 + number as u64 % 2)
}

/// Waits for a wave to end, looks at each of its jobs, and lets the ledger forget them.
async fn check(runtime: &Runtime, wave: &[(usize, usize, JobId)]) {
    let ledger = &runtime.ledger;
    let mut events = runtime.events.listen();
    while ledger.stats().await.unwrap().total(State::Completed) < wave.len() as u64 {
        // Looking costs a pass over all jobs, so not after every event; at the end there are no more of them.
        let some = async {
            for _ in 0..100 {
                events.next().await.unwrap();
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(5), some).await;
    }
    let all = Filter { limit: 3 * WAVE, ..Filter::default() };
    let jobs = ledger.jobs(all).await.unwrap();
    let jobs: HashMap<JobId, JobRecord> = jobs.into_iter().map(|job| (job.id, job)).collect();
    for (_, number, id) in wave {
        let job = &jobs[id];
        let tries = match number % ONE_IN {
            7 => (1, 1),
            19 => (2, 0),
            _ => (1, 0),
        };
        assert_eq!((job.state, (job.attempt, job.crashes)), (State::Completed, tries), "job {id}: {:?}", job.history);
        assert_eq!(job.counts.inserted, records(*number), "job {id}");
    }
    let retention = Retention {
        completed_for: Duration::ZERO,
        completed_max: 0,
        failed_for: Duration::ZERO,
        failed_max: 0,
        bytes_max: 0,
        batch: 3 * WAVE,
    };
    ledger.prune(retention, runtime.clock.now()).await.unwrap();
}

#[test]
fn invariant_1_twenty_thousand_jobs_with_panics_and_faults_are_all_done_and_none_doubled() {
    on_threads(async |threads| {
        let memory = Arc::new(MemoryLedger::new());
        let runtime = Runtime::new(memory.clone(), Clock::system(), threads);
        let domains = [alpha().with_groups(4), beta()];
        let mut children: Vec<Box<dyn Child>> = vec![Box::new(upkeep(&runtime))];
        for domain in &domains {
            children.push(Box::new(DomainChild::new(domain.clone(), busy())));
        }
        let tree = Tree::start(runtime.clone(), children);
        let mut ids: Vec<(usize, usize, JobId)> = Vec::new();
        for wave in 0..JOBS / WAVE {
            let numbers = wave * WAVE..(wave + 1) * WAVE;
            let from = ids.len();
            for (which, domain) in domains.iter().enumerate() {
                let jobs = numbers.clone().map(|number| domain.job(&script(number))).collect();
                let enqueued = memory.enqueue(jobs, runtime.clock.now()).await.unwrap();
                ids.extend(numbers.clone().zip(enqueued).map(|(number, job)| (which, number, job.id())));
            }
            check(&runtime, &ids[from..]).await;
        }
        for (which, domain) in domains.iter().enumerate() {
            let mut written: HashMap<JobId, Rows> = HashMap::new();
            for write in domain.target().writes() {
                written.entry(write.job).or_default().extend(write.rows);
            }
            for &(_, number, id) in ids.iter().filter(|(of, ..)| *of == which) {
                let mut rows = written.remove(&id).unwrap_or_default();
                rows.sort_unstable();
                let expected: Rows = (0..records(number)).map(|value| (value as u32 / 2, value)).collect();
                assert_eq!(rows, expected, "job {id}: {:?}", script(number));
            }
        }
        let panics = (0..JOBS).filter(|number| number % ONE_IN == 7).count() as u64;
        for domain in ["alpha", "beta"] {
            let statuses = runtime.board.statuses();
            let of = |name: &str| statuses.iter().find(|status| status.name == format!("{domain}{name}")).unwrap();
            let restarts: u64 = ["/fetch", "/transform", "/upload"].iter().map(|pool| of(pool).restarts).sum();
            assert_eq!((restarts, of("").restarts), (panics, 0));
        }
        assert_eq!(memory.stats().await.unwrap().stale_writes, 0);
        assert_eq!(tree.shutdown(Duration::from_secs(10)).await, Ending::default());
    });
}

/// Pools and mailboxes change, the domain is restarted and parked, all while it works on real threads. An upload that
/// was cut off before its commit is done again, so the target may see a page twice; the ledger counts each once.
#[test]
fn invariant_2_resizes_restarts_and_parks_on_real_threads_lose_nothing() {
    on_threads(async |threads| {
        let memory = Arc::new(MemoryLedger::new());
        let runtime = Runtime::new(memory.clone(), Clock::system(), threads);
        let domain = alpha();
        let children: Vec<Box<dyn Child>> =
            vec![Box::new(upkeep(&runtime)), Box::new(DomainChild::new(domain.clone(), busy()))];
        let tree = Tree::start(runtime.clone(), children);
        let script = Script { rows: 2, ..Script::found(3) };
        let jobs = vec![domain.job(&script); 1_500];
        memory.enqueue(jobs, runtime.clock.now()).await.unwrap();
        let mut events = runtime.events.listen();
        for round in 1.. {
            if memory.stats().await.unwrap().total(State::Completed) == 1_500 {
                break;
            }
            for (number, stage) in StageName::ALL.into_iter().enumerate() {
                let size = PoolSettings { actors: 1 + (round + number) % 5, mailbox: 1 + round * 7 % 9 };
                tree.resize("alpha", stage, size).unwrap();
            }
            if round % 6 == 0 {
                tree.restart("alpha").await.unwrap();
            }
            if round % 10 == 0 {
                tree.park("alpha").await.unwrap();
                assert_eq!(memory.stats().await.unwrap().total(State::Active), 0, "all given back");
                tree.unpark("alpha").await.unwrap();
            }
            let some = async {
                for _ in 0..200 {
                    events.next().await.unwrap();
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(20), some).await;
        }
        let all = Filter { limit: 2_000, ..Filter::default() };
        for job in memory.jobs(all).await.unwrap() {
            let facts = (job.state, job.attempt, job.crashes, job.counts.inserted);
            assert_eq!(facts, (State::Completed, 1, 0, 6), "job {}: {:?}", job.id, job.history);
            let mut rows = domain.target().rows(job.id);
            rows.dedup();
            assert_eq!(rows.len(), 6, "job {}", job.id);
        }
        let restarts: u64 = runtime.board.statuses().iter().map(|status| status.restarts).sum();
        assert_eq!(restarts, 0, "an operator's word is no death");
        assert_eq!(tree.shutdown(Duration::from_secs(10)).await, Ending::default());
    });
}
