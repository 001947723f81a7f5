//! A transform that computes for ever: it cannot be cut off, so it is left behind with its thread.
//!
//! On real threads and real time, since the paused clock has but one thread. The computing ends when the test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use longshore_actors::breaker::Breaker;
use longshore_actors::child::DomainChild;
use longshore_actors::clock::Clock;
use longshore_actors::domain::{Delivery, Domain, Fetched, Plan, Settled, Transformed, Uploaded};
use longshore_actors::events::Event;
use longshore_actors::job::{Fault, Job, NewJob, State};
use longshore_actors::ledger::{Change, Ledger};
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::DomainSettings;
use longshore_actors::shutdown::Ending;
use longshore_actors::stage::{Stage, StageName};
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::MemoryLedger;

use crate::support::{With, heard, job, on_threads, settings};

/// Its transform computes until `stop` when the page is 1.
struct Spinning {
    stop: Arc<AtomicBool>,
    spins: Arc<AtomicU32>,
}

impl Domain for Spinning {
    type Request = u64;
    type Answer = u64;
    type Batch = u64;
    type Fetch = Fetch;
    type Transform = Spin;
    type Upload = Upload;

    fn name(&self) -> &'static str {
        "alpha"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["alpha.job"]
    }

    fn fetch(&self) {}

    fn transform(&self) -> (Arc<AtomicBool>, Arc<AtomicU32>) {
        (self.stop.clone(), self.spins.clone())
    }

    fn upload(&self) {}

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        Vec::new()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<u64>, Fault> {
        Ok(Plan::pages(vec![job.params.as_u64().unwrap()]))
    }
}

struct Fetch;

impl Stage for Fetch {
    type Settings = ();
    type Input = u64;
    type Output = Fetched<u64, u64>;

    async fn open(_: &()) -> Result<Self, Fault> {
        Ok(Fetch)
    }

    async fn run(&mut self, input: Arc<u64>) -> Result<Self::Output, Fault> {
        Ok(Fetched::new(*input))
    }
}

struct Spin(Arc<AtomicBool>, Arc<AtomicU32>);

impl Stage for Spin {
    type Settings = (Arc<AtomicBool>, Arc<AtomicU32>);
    type Input = u64;
    type Output = Transformed<u64>;

    async fn open((stop, spins): &Self::Settings) -> Result<Self, Fault> {
        Ok(Spin(stop.clone(), spins.clone()))
    }

    async fn run(&mut self, input: Arc<u64>) -> Result<Self::Output, Fault> {
        if *input == 1 {
            self.1.fetch_add(1, Ordering::SeqCst);
            while !self.0.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(Transformed::new(*input, 1))
    }
}

struct Upload;

impl Stage for Upload {
    type Settings = ();
    type Input = Delivery<u64>;
    type Output = Uploaded;

    async fn open(_: &()) -> Result<Self, Fault> {
        Ok(Upload)
    }

    async fn run(&mut self, _: Arc<Delivery<u64>>) -> Result<Uploaded, Fault> {
        Ok(Uploaded { counts: Default::default(), settled: Settled::Separately, note: None })
    }
}

#[test]
fn a_transform_that_computes_for_ever_is_left_behind_and_replaced() {
    on_threads(async |threads| {
        let ledger = Arc::new(MemoryLedger::new());
        let clock = Clock::system();
        let runtime = Runtime::new(ledger.clone(), clock.clone(), threads);
        let (stop, spins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let domain = Spinning { stop: stop.clone(), spins: spins.clone() };
        let settings = DomainSettings { lease: Duration::from_millis(600), ..settings() };
        let settings = settings.with_pool(StageName::Transform, 1, 2);
        let tree = Tree::start(runtime, vec![Box::new(DomainChild::new(domain, settings))]);
        let mut events = tree.runtime().events.listen();
        let new = |page: u64| vec![NewJob::new("alpha", "alpha.job", serde_json::json!(page))];
        let spinning = ledger.enqueue(new(1), clock.now()).await.unwrap()[0].id();
        heard(&mut events, |event| match event {
            Event::PageDone { stage: StageName::Fetch, .. } => Some(()),
            _ => None,
        })
        .await;
        while spins.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let cancel = Change::Cancel { reason: "it computes and computes".into() };
        ledger.change(spinning, cancel, clock.now()).await.unwrap();
        let next = ledger.enqueue(new(2), clock.now()).await.unwrap()[0].id();

        let restarted = heard(&mut events, |event| match event {
            Event::Restarted { child, reason, .. } => Some((child.clone(), reason.clone())),
            _ => None,
        });
        let (child, reason) = restarted.await;
        assert_eq!(child, "alpha/transform/0");
        assert_eq!(reason, "hung: it computed on for 10s after its caller gave up");
        heard(&mut events, |event| matches!(event, Event::JobEnded { job, .. } if *job == next).then_some(())).await;
        assert_eq!(job(&*ledger, next).await.state, State::Completed, "on a fresh thread");

        // The end does not wait for the thread that was left behind.
        assert_eq!(tree.shutdown(Duration::from_secs(5)).await, Ending::default());
        assert_eq!((spins.load(Ordering::SeqCst), job(&*ledger, spinning).await.state), (1, State::Cancelled));
        stop.store(true, Ordering::SeqCst);
    });
}
