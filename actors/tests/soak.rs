//! Twenty thousand jobs of two domains on real threads, with panics and faults among them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::child::{Child, DomainChild};
use longshore_actors::clock::Clock;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Filter, Ledger};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::{DomainSettings, KindPolicy};
use longshore_actors::shutdown::Ending;
use longshore_actors::stage::StageName;
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::MemoryLedger;
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{KIND, With, alpha, beta, on_threads, settings, upkeep};

const JOBS: usize = 10_000;

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

#[test]
fn invariant_1_twenty_thousand_jobs_with_panics_and_faults_are_all_done_and_none_doubled() {
    on_threads(async |threads| {
        let memory = Arc::new(MemoryLedger::new());
        let runtime = Runtime::new(memory.clone(), Clock::system(), threads);
        let domains = [alpha(), beta()];
        let mut children: Vec<Box<dyn Child>> = vec![Box::new(upkeep(&runtime))];
        for domain in &domains {
            children.push(Box::new(DomainChild::new(domain.clone(), busy())));
        }
        let tree = Tree::start(runtime.clone(), children);
        let mut ids: Vec<(usize, usize, JobId)> = Vec::new();
        for (which, domain) in domains.iter().enumerate() {
            let jobs = (0..JOBS).map(|number| domain.job(&script(number))).collect();
            let enqueued = memory.enqueue(jobs, runtime.clock.now()).await.unwrap();
            ids.extend(enqueued.into_iter().enumerate().map(|(number, job)| (which, number, job.id())));
        }
        let mut events = runtime.events.listen();
        loop {
            let stats = memory.stats().await.unwrap();
            if stats.total(State::Completed) == 2 * JOBS as u64 {
                break;
            }
            assert_eq!(stats.total(State::Failed) + stats.total(State::Cancelled), 0);
            for _ in 0..256 {
                events.next().await.unwrap();
            }
        }
        let filter = Filter { limit: 3 * JOBS, ..Filter::default() };
        let jobs: HashMap<JobId, _> = memory.jobs(filter).await.unwrap().into_iter().map(|job| (job.id, job)).collect();
        let mut rows: [HashMap<JobId, Vec<(u32, u64)>>; 2] = Default::default();
        for (which, domain) in domains.iter().enumerate() {
            for write in domain.target().writes() {
                rows[which].entry(write.job).or_default().extend(write.rows);
            }
        }
        for (which, number, id) in ids {
            let (job, mut written) = (&jobs[&id], rows[which].remove(&id).unwrap_or_default());
            written.sort_unstable();
            let pages = 1 + number as u32 % 2;
            let expected: Vec<(u32, u64)> = (0..2 * pages).map(|value| (value / 2, u64::from(value))).collect();
            assert_eq!(written, expected, "job {id}: {:?}", script(number));
            let (attempts, crashes) = match number % ONE_IN {
                7 => (1, 1),
                19 => (2, 0),
                _ => (1, 0),
            };
            assert_eq!((job.attempt, job.crashes), (attempts, crashes), "job {id}");
            assert_eq!(job.counts.inserted, u64::from(2 * pages), "job {id}");
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
