//! A ledger whose answers can be held back, or be a panic: the call is carried out, and its caller waits or unwinds.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{Job, JobId, Lease, NewJob};
use longshore_actors::ledger::{
    Change, Claim, Enqueued, Filter, JobRecord, KindStats, Ledger, LedgerError, Pruned, Receipt, Record, Released,
    Rescue, Retention, Stats, Wake,
};
use longshore_actors::testing::memory::{MemoryLedger, Op};
use tokio::sync::watch;

pub struct HeldLedger {
    memory: Arc<MemoryLedger>,
    held: watch::Sender<Vec<Op>>,
    /// Answers that are held back now.
    waiting: watch::Sender<Vec<Op>>,
    /// What the next answer of this call is instead.
    panics: watch::Sender<Option<Op>>,
}

impl HeldLedger {
    pub fn new(memory: Arc<MemoryLedger>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            held: watch::Sender::default(),
            waiting: watch::Sender::default(),
            panics: watch::Sender::default(),
        })
    }

    pub fn hold(&self, op: Op) {
        self.held.send_modify(|held| held.push(op));
    }

    pub fn let_go(&self, op: Op) {
        self.held.send_modify(|held| held.retain(|other| *other != op));
    }

    /// Completes once an answer of `op` is held back.
    pub async fn is_held(&self, op: Op) {
        self.waiting.subscribe().wait_for(|waiting| waiting.contains(&op)).await.unwrap();
    }

    /// The next answer of `op` is a panic.
    pub fn panic_next(&self, op: Op) {
        self.panics.send_replace(Some(op));
    }

    /// How many answers of `op` are held back now.
    pub fn count_held(&self, op: Op) -> usize {
        self.waiting.borrow().iter().filter(|other| **other == op).count()
    }

    async fn answer(&self, op: Op) {
        let panics = self.panics.send_if_modified(|panics| panics.take_if(|panics| *panics == op).is_some());
        assert!(!panics, "the ledger is full of bugs");
        self.waiting.send_modify(|waiting| waiting.push(op));
        let _waiting = Waiting(&self.waiting, op);
        self.held.subscribe().wait_for(|held| !held.contains(&op)).await.unwrap();
    }
}

/// An answer that is held back, until it is given or nobody waits for it any more.
struct Waiting<'a>(&'a watch::Sender<Vec<Op>>, Op);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| {
            let at = waiting.iter().position(|other| *other == self.1).unwrap();
            waiting.remove(at);
        });
    }
}

#[async_trait]
impl Ledger for HeldLedger {
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        self.memory.enqueue(jobs, now).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, LedgerError> {
        let claimed = self.memory.claim(claim).await;
        self.answer(Op::Claim).await;
        claimed
    }

    async fn renew(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<Lease>, LedgerError> {
        let renewed = self.memory.renew(leases, until).await;
        self.answer(Op::Renew).await;
        renewed
    }

    async fn commit(&self, receipt: Receipt, counts: Counts, now: Timestamp) -> Result<(), LedgerError> {
        let committed = self.memory.commit(receipt, counts, now).await;
        self.answer(Op::Commit).await;
        committed
    }

    async fn record(&self, record: Record, now: Timestamp) -> Result<(), LedgerError> {
        let recorded = self.memory.record(record, now).await;
        self.answer(Op::Record).await;
        recorded
    }

    async fn record_crash(&self, lease: Lease, reason: String, now: Timestamp) -> Result<u32, LedgerError> {
        self.memory.record_crash(lease, reason, now).await
    }

    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError> {
        self.memory.release(now).await
    }

    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError> {
        let rescued = self.memory.rescue(rescue).await;
        self.answer(Op::Rescue).await;
        rescued
    }

    async fn change(&self, job: JobId, change: Change, now: Timestamp) -> Result<(), LedgerError> {
        self.memory.change(job, change, now).await
    }

    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError> {
        self.memory.jobs(filter).await
    }

    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError> {
        self.memory.family(job).await
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        self.memory.stats().await
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, LedgerError> {
        self.memory.prune(retention, now).await
    }

    fn wake(&self, domain: &str) -> Wake {
        self.memory.wake(domain)
    }

    fn due(&self) -> Wake {
        self.memory.due()
    }
}
