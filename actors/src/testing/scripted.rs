//! A domain whose jobs say themselves what happens: at which step, on which page, which time.
//!
//! ```text
//! Script (params of the job) ──▶ plan ──▶ fetch ──▶ transform ──▶ upload ──▶ Target
//!                                 └────────┴──────────┴────────────┴── at each: count, then what the script says
//! ```
//!
//! A page carries `(page, value)` pairs that no other page carries, so the target shows what was lost or doubled. The
//! test holds a clone of the [`Scripted`] domain: it reads the counters, opens gates, blocks the target.
//!
//! What it does not do: sleep. What is slow waits at a gate until the test opens it.

mod script;
mod stages;
mod target;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::breaker::Breaker;
use crate::checkpoint::Checkpoint;
use crate::domain::{Domain, Plan};
use crate::job::{Fault, Job, JobId, NewJob};
use crate::stage::StageName;

pub use script::{Act, At, Do, Script};
pub use stages::{ScriptedFetch, ScriptedTransform, ScriptedUpload};
pub use target::{Target, Write};

/// More permits than any test has pages: an open gate.
const OPEN: usize = 1_000_000;

/// What one page holds: its number, and a value that no other record of the job has.
pub type Rows = Vec<(u32, u64)>;

/// A page of a job, as it is asked for and as it stands in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    pub job: JobId,
    pub page: u32,
}

/// The domain, and the test's hold on it; clones share everything.
#[derive(Clone)]
pub struct Scripted {
    name: &'static str,
    kinds: &'static [&'static str],
    breakers: Vec<Arc<Breaker>>,
    shared: Arc<Shared>,
}

/// What stages and test share.
#[derive(Debug)]
pub struct Shared {
    counters: [Counter; 3],
    gates: [Semaphore; 3],
    /// What the next openings of a stage do; an opening without one succeeds.
    openings: [Mutex<VecDeque<Do>>; 3],
    scripts: Mutex<HashMap<JobId, Arc<Script>>>,
    /// How often each step has begun.
    begun: Mutex<HashMap<(JobId, At, u32), u32>>,
    target: Target,
    /// Uploads of one job that are done together, at most.
    group_max: AtomicUsize,
    /// The pages of each upload that has begun, together or alone.
    groups: Mutex<Vec<(JobId, Vec<u32>)>>,
    /// Changes with every count, so that a test can wait for one.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Counter {
    opens: AtomicUsize,
    runs: AtomicUsize,
    running: AtomicUsize,
    running_max: AtomicUsize,
}

impl Scripted {
    /// A domain by this name; `kinds` holds at least one, each in full (`name.kind`).
    pub fn new(name: &'static str, kinds: &'static [&'static str]) -> Self {
        let shared = Shared {
            counters: Default::default(),
            gates: std::array::from_fn(|_| Semaphore::new(0)),
            openings: Default::default(),
            scripts: Mutex::default(),
            begun: Mutex::default(),
            target: Target::default(),
            group_max: AtomicUsize::new(1),
            groups: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        Self { name, kinds, breakers: Vec::new(), shared: Arc::new(shared) }
    }

    pub fn with_breakers(mut self, breakers: Vec<Arc<Breaker>>) -> Self {
        self.breakers = breakers;
        self
    }

    /// So many uploads of one job are done together, if they wait.
    pub fn with_groups(self, max: usize) -> Self {
        self.shared.group_max.store(max, Ordering::SeqCst);
        self
    }

    /// The pages of each upload that has begun, together or alone, in their order.
    pub fn groups(&self) -> Vec<(JobId, Vec<u32>)> {
        lock(&self.shared.groups).clone()
    }

    /// A job of the first kind that follows this script.
    pub fn job(&self, script: &Script) -> NewJob {
        NewJob::new(self.name, self.kinds[0], script.params())
    }

    /// How often a stage was opened, openings that failed included.
    pub fn opens(&self, stage: StageName) -> usize {
        self.shared.counter(stage).opens.load(Ordering::SeqCst)
    }

    /// How often a stage began to run a piece of work.
    pub fn runs(&self, stage: StageName) -> usize {
        self.shared.counter(stage).runs.load(Ordering::SeqCst)
    }

    /// How many pieces of work a stage has in hand now.
    pub fn running(&self, stage: StageName) -> usize {
        self.shared.counter(stage).running.load(Ordering::SeqCst)
    }

    /// The most that a stage ever had in hand at the same time.
    pub fn running_max(&self, stage: StageName) -> usize {
        self.shared.counter(stage).running_max.load(Ordering::SeqCst)
    }

    /// How often a step of a job has begun; for [`At::Plan`] the page is 0.
    pub fn begun(&self, job: JobId, at: At, page: u32) -> u32 {
        lock(&self.shared.begun).get(&(job, at, page)).copied().unwrap_or(0)
    }

    /// Lets `n` pieces of work pass the gate of a stage ([`Do::Wait`]), now or when they come.
    pub fn let_through(&self, stage: StageName, n: usize) {
        self.shared.gates[stage as usize].add_permits(n);
    }

    /// Opens the gate of a stage for good.
    pub fn open_gate(&self, stage: StageName) {
        self.let_through(stage, OPEN);
    }

    /// What the next opening of a stage does; several are done one after the other.
    pub fn at_next_open(&self, stage: StageName, what: Do) {
        lock(&self.shared.openings[stage as usize]).push_back(what);
    }

    /// Completes as soon as the condition holds; it is asked again after every count, opening and write.
    pub async fn until(&self, condition: impl Fn(&Scripted) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        changes.wait_for(|_| condition(self)).await.expect("the sender is shared with this very domain");
    }

    pub fn target(&self) -> &Target {
        &self.shared.target
    }
}

impl Shared {
    fn counter(&self, stage: StageName) -> &Counter {
        &self.counters[stage as usize]
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The script of a job; its plan has put it there, since no page comes before the plan.
    fn script(&self, job: JobId) -> Arc<Script> {
        lock(&self.scripts).get(&job).cloned().unwrap_or_default()
    }

    /// Counts that a step begins and answers what the script wants of it this time.
    fn begin(&self, job: JobId, at: At, page: u32) -> Option<Do> {
        let time = {
            let mut begun = lock(&self.begun);
            let time = begun.entry((job, at, page)).or_default();
            *time += 1;
            *time
        };
        self.changed();
        self.script(job).act(at, page, time)
    }
}

impl Domain for Scripted {
    type Request = PageRequest;
    type Answer = PageRequest;
    type Batch = Rows;
    type Fetch = ScriptedFetch;
    type Transform = ScriptedTransform;
    type Upload = ScriptedUpload;

    fn name(&self) -> &'static str {
        self.name
    }

    fn kinds(&self) -> &'static [&'static str] {
        self.kinds
    }

    fn fetch(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn transform(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn upload(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        self.breakers.clone()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<PageRequest>, Fault> {
        let script = Script::parse(&job.params).map_err(Fault::fail)?;
        let script = Arc::new(script);
        lock(&self.shared.scripts).insert(job.id, Arc::clone(&script));
        if let Some(what) = self.shared.begin(job.id, At::Plan, 0) {
            // A plan has no gate of its own: it waits at that of the fetches it leads to.
            what.perform(&self.shared.gates[StageName::Fetch as usize]).await?;
        }
        let requests = (0..script.planned()).map(|page| PageRequest { job: job.id, page }).collect();
        let children = script.children.clone();
        Ok(Plan { requests, children, entity: script.entity.clone(), note: script.note.clone() })
    }

    fn close(&self, job: &Job, _checkpoint: &Checkpoint) -> Option<Rows> {
        self.shared.script(job.id).close.then(Rows::new)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::checkpoint::Part;
    use crate::clock::Timestamp;
    use crate::domain::Delivery;
    use crate::job::Lease;
    use crate::ledger::{Entity, Receipt};
    use crate::stage::Stage;
    use futures::FutureExt;
    use std::panic::AssertUnwindSafe;

    fn scripted() -> Scripted {
        Scripted::new("scripted", &["scripted.job"])
    }

    fn claimed(scripted: &Scripted, script: &Script) -> Job {
        let NewJob { domain, kind, params, .. } = scripted.job(script);
        let id = JobId(7);
        Job {
            id,
            domain,
            kind,
            params,
            parent: None,
            attempt: 1,
            crashes: 0,
            lease: Lease { job: id, fence: 1 },
            checkpoint: Checkpoint::default(),
            enqueued_at: Timestamp(0),
            ran: std::time::Duration::ZERO,
        }
    }

    /// Drives a job through all its pages, one after the other.
    async fn drive(scripted: &Scripted, script: &Script) -> Result<Plan<PageRequest>, Fault> {
        let job = claimed(scripted, script);
        let mut plan = scripted.plan(&job).await?;
        let mut pages: VecDeque<PageRequest> = plan.requests.drain(..).collect();
        let mut fetch = ScriptedFetch::open(&scripted.fetch()).await?;
        let mut transform = ScriptedTransform::open(&scripted.transform()).await?;
        let mut upload = ScriptedUpload::open(&scripted.upload()).await?;
        while let Some(request) = pages.pop_front() {
            let part = Part::Page(request.page);
            let last = pages.is_empty();
            let fetched = fetch.run(Arc::new(request)).await?;
            pages.extend(fetched.more.into_iter().filter(|_| last));
            let page = transform.run(Arc::new(fetched.answer)).await?;
            let receipt = Receipt { rejects: page.rejects, ..Receipt::new(job.lease, part) };
            let delivery = Delivery { batch: page.batch, receipt, received: page.received };
            let uploaded = upload.run(Arc::new(delivery)).await?;
            assert_eq!(uploaded.counts.received, uploaded.counts.inserted + uploaded.counts.rejected);
        }
        Ok(plan)
    }

    #[tokio::test]
    async fn pages_are_planned_found_or_chained() {
        let scripts = [Script::pages(4), Script::found(4), Script::cursor(4)];
        for script in scripts {
            let scripted = scripted();
            let script = Script { rows: 2, rejects: 1, ..script };
            drive(&scripted, &script).await.unwrap();
            let expected: Rows = (0..8).map(|value| (value / 2, u64::from(value))).collect();
            assert_eq!(scripted.target().rows(JobId(7)), expected, "{script:?}");
            for stage in StageName::ALL {
                assert_eq!((scripted.opens(stage), scripted.runs(stage), scripted.running(stage)), (1, 4, 0));
                assert_eq!(scripted.running_max(stage), 1);
            }
        }
    }

    #[tokio::test]
    async fn a_fault_comes_where_and_when_the_script_says() {
        let faults = [
            (Do::Retry { after_ms: Some(5) }, "scripted"),
            (Do::Reject, "rejected: scripted"),
            (Do::Fail, "scripted"),
            (Do::Cancelled, "cancelled"),
            (Do::Unavailable { retry_in_ms: None }, "scripted upstream is unavailable: scripted"),
        ];
        for (what, text) in faults {
            for at in [At::Plan, At::Fetch, At::Transform, At::Upload] {
                let scripted = scripted();
                let script = Script::pages(1).on(at, 0, Some(2), what.clone());
                drive(&scripted, &script).await.unwrap();
                let fault = drive(&scripted, &script).await.unwrap_err();
                assert_eq!(fault.to_string(), text, "{at:?}");
                drive(&scripted, &script).await.unwrap();
                assert_eq!((scripted.begun(JobId(7), at, 0), scripted.target().writes().len()), (3, 2));
            }
        }
    }

    #[tokio::test]
    async fn a_panic_a_hang_and_a_gate_leave_the_counters_right() {
        let scripted = scripted();
        let panics = Script::pages(1).once(At::Transform, Do::Panic);
        assert!(AssertUnwindSafe(drive(&scripted, &panics)).catch_unwind().await.is_err());
        assert_eq!((scripted.running(StageName::Transform), scripted.runs(StageName::Transform)), (0, 1));

        let hangs = Script::pages(1).always(At::Fetch, Do::Hang);
        assert!(drive(&scripted, &hangs).now_or_never().is_none());
        assert_eq!(scripted.running(StageName::Fetch), 0, "it was dropped");

        let waits = Script::pages(2).always(At::Upload, Do::Wait);
        let test = async {
            scripted.until(|scripted| scripted.running(StageName::Upload) == 1).await;
            assert_eq!(scripted.target().writes().len(), 0);
            scripted.let_through(StageName::Upload, 1);
            scripted.until(|scripted| scripted.target().writes().len() == 1).await;
            scripted.open_gate(StageName::Upload);
        };
        let (driven, ()) = futures::join!(drive(&scripted, &waits), test);
        driven.unwrap();
        assert_eq!(scripted.target().writes().len(), 2);
    }

    #[tokio::test]
    async fn the_target_blocks_and_fails() {
        let scripted = scripted();
        scripted.target().block();
        assert!(drive(&scripted, &Script::pages(1)).now_or_never().is_none());
        scripted.target().unblock();
        scripted.target().fail_next(Fault::fail("full"));
        assert_eq!(drive(&scripted, &Script::pages(1)).await.unwrap_err(), Fault::fail("full"));
        drive(&scripted, &Script::pages(1)).await.unwrap();
        assert_eq!(scripted.target().rows(JobId(7)), [(0, 0)]);

        scripted.at_next_open(StageName::Fetch, Do::Fail);
        assert!(drive(&scripted, &Script::pages(1)).await.is_err());
        assert!(drive(&scripted, &Script::pages(1)).await.is_ok());
    }

    #[tokio::test]
    async fn a_plan_hands_on_what_the_script_asks_for() {
        let scripted = scripted();
        let entity = Entity { provider: "p".to_owned(), entity: "e".to_owned() };
        let child = scripted.job(&Script::pages(1));
        let script = Script {
            children: vec![child.clone()],
            entity: Some(entity.clone()),
            note: Some("n".to_owned()),
            close: true,
            ..Script::default()
        };
        let plan = drive(&scripted, &script).await.unwrap();
        assert_eq!((plan.children, plan.entity, plan.note), (vec![child], Some(entity), Some("n".to_owned())));
        let mut job = claimed(&scripted, &script);
        assert_eq!(scripted.close(&job, &Checkpoint::default()), Some(Rows::new()));
        job.params = serde_json::json!({"pagse": 1});
        let fault = scripted.plan(&job).await.unwrap_err();
        assert!(matches!(fault, Fault::Fail { .. }), "{fault}");
    }
}
