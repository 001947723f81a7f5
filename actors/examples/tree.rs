//! A whole tree in memory, on one screen: three jobs of three pages each, and a worker that panics once.
//!
//! `cargo run -p longshore-actors --features testing --example tree`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_actors::breaker::Breaker;
use longshore_actors::checkpoint::Counts;
use longshore_actors::child::DomainChild;
use longshore_actors::clock::Clock;
use longshore_actors::domain::{Delivery, Domain, Fetched, Plan, Settled, Transformed, Uploaded};
use longshore_actors::events::{Event, Heard};
use longshore_actors::job::{Fault, Job, NewJob};
use longshore_actors::ledger::Ledger;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::DomainSettings;
use longshore_actors::stage::Stage;
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::MemoryLedger;
use longshore_actors::threads::Threads;

struct Numbers;

impl Domain for Numbers {
    type Request = u64;
    type Answer = u64;
    type Batch = u64;
    type Fetch = Fetch;
    type Transform = Square;
    type Upload = Print;

    fn name(&self) -> &'static str {
        "numbers"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["numbers.square"]
    }

    fn fetch(&self) {}
    fn transform(&self) {}
    fn upload(&self) {}

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        Vec::new()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<u64>, Fault> {
        let from = job.params["from"].as_u64().ok_or_else(|| Fault::fail("params.from is not a number"))?;
        Ok(Plan::pages(vec![from, from + 1, from + 2]))
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

    async fn run(&mut self, number: Arc<u64>) -> Result<Self::Output, Fault> {
        Ok(Fetched::new(*number))
    }
}

struct Square;

impl Stage for Square {
    type Settings = ();
    type Input = u64;
    type Output = Transformed<u64>;

    async fn open(_: &()) -> Result<Self, Fault> {
        Ok(Square)
    }

    async fn run(&mut self, number: Arc<u64>) -> Result<Self::Output, Fault> {
        static DIED: AtomicBool = AtomicBool::new(false);
        assert!(*number != 11 || DIED.swap(true, Ordering::Relaxed), "eleven is too much at first");
        Ok(Transformed::new(*number * *number, 1))
    }
}

struct Print;

impl Stage for Print {
    type Settings = ();
    type Input = Delivery<u64>;
    type Output = Uploaded;

    async fn open(_: &()) -> Result<Self, Fault> {
        Ok(Print)
    }

    async fn run(&mut self, delivery: Arc<Delivery<u64>>) -> Result<Uploaded, Fault> {
        println!("  job {} wrote {}", delivery.receipt.lease.job, delivery.batch);
        let counts = Counts { inserted: 1, ..Counts::default() };
        Ok(Uploaded { counts, settled: Settled::Separately, note: None })
    }
}

#[actix::main]
async fn main() {
    let clock = Clock::system();
    let ledger = Arc::new(MemoryLedger::new());
    let runtime = Runtime::new(ledger.clone(), clock.clone(), Threads::Present);
    let mut heard = runtime.events.listen();
    let jobs = [1, 10, 100].map(|from| NewJob::new("numbers", "numbers.square", serde_json::json!({ "from": from })));
    ledger.enqueue(jobs.into(), clock.now()).await.expect("the ledger in memory takes every job");

    let tree = Tree::start(runtime, vec![Box::new(DomainChild::new(Numbers, DomainSettings::default()))]);

    let mut ended = 0;
    while ended < 3
        && let Some(heard) = heard.next().await
    {
        let Heard::Event(event) = heard else { continue };
        match &*event {
            Event::JobEnded { job, outcome, counts, .. } => {
                println!("job {job} {outcome}: {} inserted", counts.inserted);
                ended += 1;
            }
            Event::Restarted { child, reason, .. } => println!("restarted {child}: {reason}"),
            _ => {}
        }
    }
    for status in tree.runtime().board.statuses() {
        println!("{:<24} {:?}, {} done, {} restarts", status.name, status.state, status.done, status.restarts);
    }
    let ending = tree.shutdown(Duration::from_secs(5)).await;
    println!("ended: {ending:?}");
}
