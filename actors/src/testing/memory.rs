//! A ledger in memory: one table under one lock.
//!
//! ```text
//! call ──▶ fault injected? ──▶ lock ──▶ Table: check, then change ──▶ unlock, wake-ups given
//! ```
//!
//! Each call takes the lock once and awaits nothing, so calls are atomic and their order is all there is to know: the
//! same calls give the same table. It is the ledger of the runtime's tests.
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
    Change, Claim, Enqueued, Entity, Filter, JobRecord, KindStats, Ledger, LedgerError, Pruned, Receipt, Record,
    Reject, Released, Rescue, Retention, Stats, Wake,
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
    Family,
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

    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError> {
        self.enter(Op::Family, |table| Ok(table.family(job)))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::checkpoint::Part;
    use crate::job::{FailCause, Outcome};
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_000);

    async fn start(ledger: &MemoryLedger) -> Lease {
        ledger.enqueue(vec![NewJob::new("alpha", "one", json!({}))], NOW).await.unwrap();
        let kinds = vec![("one".into(), 1)];
        let claim =
            Claim { domain: "alpha".into(), owner: "me".into(), max: 1, kinds, now: NOW, until: Timestamp(9_000) };
        ledger.claim(claim).await.unwrap()[0].lease
    }

    #[tokio::test]
    async fn an_injected_fault_is_met_once_and_changes_nothing() {
        let ledger = MemoryLedger::new();
        let job = || vec![NewJob::new("alpha", "one", json!({}))];
        let full = LedgerError::Unavailable("disk full".to_owned());
        ledger.fail_next(Op::Enqueue, full.clone());
        assert_eq!(ledger.enqueue(job(), NOW).await, Err(full));
        assert!(ledger.jobs(Filter::default()).await.unwrap().is_empty());
        assert_eq!(ledger.enqueue(job(), NOW).await, Ok(vec![Enqueued::New(JobId(1))]));

        ledger.cut("unplugged");
        assert_eq!(ledger.release(NOW).await, Err(LedgerError::Unavailable("unplugged".to_owned())));
        ledger.mend();
        assert_eq!(ledger.release(NOW).await, Ok(Released::default()));
        assert_eq!((ledger.calls(Op::Enqueue), ledger.calls(Op::Release), ledger.calls(Op::Claim)), (2, 2, 0));
    }

    #[tokio::test]
    async fn rejects_and_sync_state_can_be_read() {
        let ledger = MemoryLedger::new();
        let entity = || Some(Entity { provider: "p".to_owned(), entity: "e".to_owned() });
        let first = start(&ledger).await;
        let reject = Reject { key: None, reason: "bad".to_owned(), raw: "{}".to_owned() };
        let receipt = Receipt { rejects: vec![reject.clone()], ..Receipt::new(first, Part::Page(0)) };
        let counts = Counts { received: 1, rejected: 1, ..Counts::default() };
        ledger.commit(receipt.clone(), counts, NOW).await.unwrap();
        ledger.commit(receipt, counts, NOW).await.unwrap();
        assert_eq!(ledger.rejects(), [(first.job, reject)]);

        assert_eq!(ledger.sync_state("p", "e"), None);
        let outcome = Outcome::Completed { note: None };
        ledger.record(Record { lease: first, outcome, entity: entity() }, Timestamp(2_000)).await.unwrap();
        let second = start(&ledger).await;
        let outcome = Outcome::Failed { cause: FailCause::Permanent, reason: "gone".to_owned() };
        ledger.record(Record { lease: second, outcome, entity: entity() }, Timestamp(3_000)).await.unwrap();
        let expected = Synced {
            last_success_at: Some(Timestamp(2_000)),
            last_error_at: Some(Timestamp(3_000)),
            last_error: Some("gone".to_owned()),
            last_job: Some(second.job),
            counts,
        };
        assert_eq!(ledger.sync_state("p", "e"), Some(expected));
    }
}
