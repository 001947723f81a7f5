//! A ledger in memory: one table under one lock.
//!
//! ```text
//! call ──▶ fault injected? ──▶ lock ──▶ Table: check, then change ──▶ unlock, wake-ups given
//! ```
//!
//! Each call takes the lock once and awaits nothing, so calls are atomic and their order is all there is to know: the
//! same calls give the same table. It is the ledger of the runtime's tests and of a dry run.
//!
//! What it does not do: last (it dies with the process), or be fast (most calls look at every job; so does `stats`).

mod change;
mod listing;
mod retention;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::checkpoint::Counts;
use crate::clock::Timestamp;
use crate::job::{Job, JobId, Lease, NewJob};
use crate::ledger::{
    Change, Claim, Enqueued, Entity, Filter, JobRecord, Ledger, LedgerError, Pruned, Receipt, Record, Reject, Released,
    Rescue, Retention, Stats, Wake,
};
use crate::testing::memory::table::Table;

/// The calls of a ledger, as faults are injected into them and as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Enqueue,
    Claim,
    Renew,
    Commit,
    Record,
    RecordCrash,
    Release,
    Rescue,
    Change,
    Jobs,
    Stats,
    Prune,
}

/// What the ledger knows of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    pub last_success_at: Option<Timestamp>,
    pub last_error_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub last_job: Option<JobId>,
    /// Of the last success.
    pub counts: Counts,
}

#[derive(Debug, Default)]
pub struct MemoryLedger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    /// Errors that the next calls answer, oldest first.
    faults: BTreeMap<Op, VecDeque<LedgerError>>,
    down: Option<String>,
    calls: BTreeMap<Op, u64>,
}

impl MemoryLedger {
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of `op` answers `error` and changes nothing. Several are answered one after the other.
    pub fn fail_next(&self, op: Op, error: LedgerError) {
        self.lock().faults.entry(op).or_default().push_back(error);
    }

    /// Every call answers `Unavailable` with this reason, until [`MemoryLedger::mend`].
    pub fn cut(&self, reason: impl Into<String>) {
        self.lock().down = Some(reason.into());
    }

    /// Takes back [`MemoryLedger::cut`] and every fault that has not been met.
    pub fn mend(&self) {
        let mut inner = self.lock();
        inner.down = None;
        inner.faults.clear();
    }

    /// How often `op` was called, failed calls included.
    pub fn calls(&self, op: Op) -> u64 {
        self.lock().calls.get(&op).copied().unwrap_or(0)
    }

    /// The records that were put aside, in the order in which they came.
    pub fn rejects(&self) -> Vec<(JobId, Reject)> {
        self.lock().table.rejects.clone()
    }

    /// What `sync_state` says of one entity.
    pub fn sync_state(&self, provider: &str, entity: &str) -> Option<Synced> {
        let entity = Entity { provider: provider.to_owned(), entity: entity.to_owned() };
        self.lock().table.synced.get(&entity).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one way in for calls that can fail.
    fn enter<T>(&self, op: Op, call: impl FnOnce(&mut Table) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut inner = self.lock();
        *inner.calls.entry(op).or_default() += 1;
        if let Some(reason) = &inner.down {
            return Err(LedgerError::Unavailable(reason.clone()));
        }
        if let Some(error) = inner.faults.get_mut(&op).and_then(VecDeque::pop_front) {
            return Err(error);
        }
        call(&mut inner.table)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        self.enter(Op::Enqueue, |table| Ok(jobs.into_iter().map(|job| table.put(job, now)).collect()))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, LedgerError> {
        self.enter(Op::Claim, |table| Ok(table.claim(claim)))
    }

    async fn renew(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<Lease>, LedgerError> {
        self.enter(Op::Renew, |table| Ok(table.renew(leases, until)))
    }

    async fn commit(&self, receipt: Receipt, counts: Counts, now: Timestamp) -> Result<(), LedgerError> {
        self.enter(Op::Commit, |table| table.commit(receipt, &counts, now))
    }

    async fn record(&self, record: Record, now: Timestamp) -> Result<(), LedgerError> {
        self.enter(Op::Record, |table| table.record(record, now))
    }

    async fn record_crash(&self, lease: Lease, reason: String, now: Timestamp) -> Result<u32, LedgerError> {
        self.enter(Op::RecordCrash, |table| table.record_crash(lease, reason, now))
    }

    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError> {
        self.enter(Op::Release, |table| Ok(table.release(now)))
    }

    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError> {
        self.enter(Op::Rescue, |table| Ok(table.rescue(&rescue)))
    }

    async fn change(&self, job: JobId, change: Change, now: Timestamp) -> Result<(), LedgerError> {
        self.enter(Op::Change, |table| table.change(job, change, now))
    }

    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError> {
        self.enter(Op::Jobs, |table| Ok(table.jobs(&filter)))
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        self.enter(Op::Stats, |table| Ok(table.stats()))
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, LedgerError> {
        self.enter(Op::Prune, |table| Ok(table.prune(&retention, now)))
    }

    fn wake(&self, domain: &str) -> Wake {
        self.lock().table.wakes.of(domain)
    }

    fn due(&self) -> Wake {
        self.lock().table.wakes.due().clone()
    }
}
