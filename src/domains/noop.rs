//! A domain that does nothing, for measuring: one page a job, through all three pools, and nothing to write.
//!
//! What is left is the cost of the service itself: claim, drive, three mailboxes, record.

use std::sync::Arc;

use longshore_actors::breaker::Breaker;
use longshore_actors::checkpoint::Counts;
use longshore_actors::domain::{Delivery, Domain, Fetched, Plan, Settled, Transformed, Uploaded};
use longshore_actors::job::{Fault, Job};
use longshore_actors::stage::Stage;

pub const DOMAIN: &str = "noop";
pub const KIND: &str = "noop.job";

/// Calls `started` with every job as it is planned, which is the instant that "started" means in the figures.
#[derive(Clone)]
pub struct Noop {
    pub started: Arc<dyn Fn(&Job) + Send + Sync>,
}

impl Domain for Noop {
    type Request = ();
    type Answer = ();
    type Batch = ();
    type Fetch = Nothing<(), Fetched<(), ()>>;
    type Transform = Nothing<(), Transformed<()>>;
    type Upload = Nothing<Delivery<()>, Uploaded>;

    fn name(&self) -> &'static str {
        DOMAIN
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND]
    }

    fn fetch(&self) -> fn() -> Fetched<(), ()> {
        || Fetched::new(())
    }

    fn transform(&self) -> fn() -> Transformed<()> {
        || Transformed::new((), 0)
    }

    fn upload(&self) -> fn() -> Uploaded {
        || Uploaded { counts: Counts::default(), settled: Settled::Separately, note: None }
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        Vec::new()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<()>, Fault> {
        (self.started)(job);
        Ok(Plan::pages(vec![()]))
    }
}

/// A stage that answers at once.
pub struct Nothing<I, O> {
    make: fn() -> O,
    _input: std::marker::PhantomData<fn(I)>,
}

impl<I: Send + Sync + 'static, O: Send + 'static> Stage for Nothing<I, O> {
    type Settings = fn() -> O;
    type Input = I;
    type Output = O;

    async fn open(make: &fn() -> O) -> Result<Self, Fault> {
        Ok(Self { make: *make, _input: std::marker::PhantomData })
    }

    async fn run(&mut self, _: Arc<I>) -> Result<O, Fault> {
        Ok((self.make)())
    }
}
