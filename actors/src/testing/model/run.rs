//! Takes each step on the ledger and on the model, and compares.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::json;

use crate::checkpoint::{Checkpoint, Counts, Part};
use crate::clock::Timestamp;
use crate::job::{FailCause, JobId, Lease, NewJob, OnChildFailed, Outcome, State, UniqueScope};
use crate::ledger::{
    Change, Children, Claim, Enqueued, Filter, JobRecord, Ledger, LedgerError, Receipt, Record, Rescue, Retention,
};
use crate::testing::model::expected::{CLOSING, COMPLETED_FOR, Expected, FAILED_FOR, KEY_SPAN, Model, Verdict};
use crate::testing::model::{End, Shape, Step, pick_job};

const DOMAINS: [&str; 2] = ["alpha", "beta"];
const KINDS: [&str; 2] = ["one", "two"];
const OWNERS: [&str; 2] = ["process-1/1", "process-1/2"];
const KEYS: [(&str, UniqueScope); 3] = [
    ("started", UniqueScope::UntilStarted),
    ("completed", UniqueScope::UntilCompleted),
    ("span", UniqueScope::For(KEY_SPAN)),
];
const LEASE: Duration = Duration::from_millis(75);
/// More than a run makes.
const ALL: usize = 100_000;

const RETENTION: Retention = Retention {
    completed_for: COMPLETED_FOR,
    completed_max: 1_000_000,
    failed_for: FAILED_FOR,
    failed_max: 1_000_000,
    bytes_max: 1_000_000_000,
    batch: 1_000,
};

pub(super) struct Run<'a> {
    ledger: &'a dyn Ledger,
    model: Model,
    now: Timestamp,
    ids: Vec<JobId>,
    leases: Vec<Lease>,
}

impl<'a> Run<'a> {
    pub(super) fn new(ledger: &'a dyn Ledger) -> Self {
        let now = Timestamp(1_750_000_000_000);
        Self { ledger, model: Model::default(), now, ids: Vec::new(), leases: Vec::new() }
    }

    pub(super) async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Enqueue { job } => self.enqueue(job).await?,
            Step::Claim { domain, owner, max, room } => self.claim(*domain, *owner, *max, *room).await?,
            Step::Commit { lease, part, children, inserted } => {
                if let Some(lease) = self.lease(*lease) {
                    self.commit(lease, *part, children, *inserted).await?;
                }
            }
            Step::Record { lease, end } => {
                if let Some(lease) = self.lease(*lease) {
                    self.record(lease, *end).await?;
                }
            }
            Step::RecordCrash { lease } => {
                if let Some(lease) = self.lease(*lease) {
                    self.record_crash(lease).await?;
                }
            }
            Step::Renew { lease } => {
                if let Some(lease) = self.lease(*lease) {
                    self.renew(lease).await?;
                }
            }
            Step::Release => {
                let released = self.ledger.release(self.now).await.map_err(broken)?;
                same("released", (released.count, released.next_due), self.model.release(self.now))?;
            }
            Step::Rescue { domain, but } => self.rescue(*domain, *but).await?,
            Step::RescueLapsed => {
                let now = self.now;
                let rescued = self.ledger.rescue(Rescue::Lapsed { now }).await.map_err(broken)?;
                same("rescued", rescued, self.model.rescue(|job, _| job.until < now))?;
            }
            Step::Retry { job } => self.retry(pick_job(&self.ids, *job)).await?,
            Step::Cancel { job } => self.cancel(pick_job(&self.ids, *job)).await?,
            Step::Prune => {
                let pruned = self.ledger.prune(RETENTION, self.now).await.map_err(broken)?;
                same("pruned", (pruned.jobs, pruned.more), (self.model.prune(self.now), false))?;
            }
            Step::Advance { millis } => self.now = self.now.plus(Duration::from_millis(millis.unsigned_abs())),
        }
        self.compare().await
    }

    /// Gives every job what it needs to end, round by round; nothing may be left over.
    pub(super) async fn drive_home(&mut self) -> Result<(), String> {
        let open = |model: &Model| model.jobs.values().any(|job| !job.state.is_final());
        // Each round ends every job that is waiting by then, and only a commit makes more.
        for _ in 0..3 {
            self.now = self.now.plus(Duration::from_secs(10));
            self.step(&Step::RescueLapsed).await?;
            self.step(&Step::Release).await?;
            let held = self.leases.len();
            for domain in 0..DOMAINS.len() {
                self.step(&Step::Claim { domain, owner: 0, max: ALL, room: [ALL, ALL] }).await?;
            }
            for lease in held..self.leases.len() {
                self.step(&Step::Record { lease, end: End::Completed }).await?;
            }
            if !open(&self.model) {
                return Ok(());
            }
        }
        Err("some jobs never end".to_owned())
    }

    fn lease(&self, pick: usize) -> Option<Lease> {
        (!self.leases.is_empty()).then(|| self.leases[pick % self.leases.len()])
    }

    fn new_job(&self, shape: &Shape) -> NewJob {
        let mut job = NewJob::new(DOMAINS[shape.domain], KINDS[shape.kind], json!({})).priority(shape.priority);
        if let Some((key, scope)) = shape.key.map(|key| KEYS[key]) {
            job = job.unique(key, scope);
        }
        job.run_at = shape.delay.map(|millis| self.now.plus(Duration::from_millis(millis.unsigned_abs())));
        job.on_child_failed = if shape.minds_children { OnChildFailed::Fail } else { OnChildFailed::Ignore };
        job
    }

    async fn enqueue(&mut self, shape: &Shape) -> Result<(), String> {
        let answers = self.ledger.enqueue(vec![self.new_job(shape)], self.now).await.map_err(broken)?;
        match (answers.as_slice(), shape.key.and_then(|key| self.model.holder(key, self.now))) {
            ([Enqueued::Existing(id)], Some(holder)) => same("holder of the key", *id, holder),
            ([Enqueued::New(id)], None) => self.admit(*id, shape, None),
            (answers, holder) => Err(format!("enqueue answered {answers:?}, the key is held by {holder:?}")),
        }
    }

    fn admit(&mut self, id: JobId, shape: &Shape, parent: Option<JobId>) -> Result<(), String> {
        if let Some(last) = self.ids.last().filter(|last| **last >= id) {
            return Err(format!("the new id {id} does not grow from {last}"));
        }
        self.ids.push(id);
        self.model.put(id, shape, parent, self.now);
        Ok(())
    }

    async fn claim(&mut self, domain: usize, owner: usize, max: usize, room: [usize; 2]) -> Result<(), String> {
        let until = self.now.plus(LEASE);
        let claim = Claim {
            domain: DOMAINS[domain].into(),
            owner: OWNERS[owner].into(),
            max,
            kinds: KINDS.into_iter().zip(room).map(|(kind, room)| (kind.into(), room)).collect(),
            now: self.now,
            until,
        };
        let claimed = self.ledger.claim(claim).await.map_err(broken)?;
        let ids: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
        same("claimed", &ids, &self.model.claimable(domain, max, room))?;
        for job in claimed {
            let before = self.model.job(job.id).fence;
            if job.lease.job != job.id || job.lease.fence <= before {
                return Err(format!("the lease {:?} of job {} does not grow from {before}", job.lease, job.id));
            }
            self.model.claim(job.id, owner, until, job.lease.fence);
            let expected = self.model.job(job.id);
            same("attempt and crashes claimed", (job.attempt, job.crashes), (expected.attempt, expected.crashes))?;
            same("checkpoint claimed", &parts(&job.checkpoint), &expected.parts.iter().copied().collect())?;
            self.leases.push(job.lease);
        }
        Ok(())
    }

    /// Whether a write with this lease is to be taken; compares how the ledger answered.
    fn written<T: Debug>(&mut self, lease: Lease, answer: &Result<T, LedgerError>) -> Result<bool, String> {
        match (self.model.is_held(lease.job, lease.fence), answer) {
            (true, Ok(_)) => Ok(true),
            (false, Err(LedgerError::Stale(stale))) if *stale == lease => {
                self.model.stale += 1;
                Ok(false)
            }
            (held, answer) => Err(format!("a write with {lease:?} (held: {held}) answered {answer:?}")),
        }
    }

    async fn commit(&mut self, lease: Lease, part: u8, children: &[Shape], inserted: u64) -> Result<(), String> {
        let receipt = Receipt {
            children: children.iter().map(|shape| self.new_job(shape)).collect(),
            ..Receipt::new(lease, part_of(part))
        };
        let counts = Counts { received: inserted, inserted, ..Counts::default() };
        let answer = self.ledger.commit(receipt, counts, self.now).await;
        if !self.written(lease, &answer)? || !self.model.job(lease.job).parts.insert(part) {
            return Ok(());
        }
        self.model.job(lease.job).inserted += inserted;
        let newest = self.ids.last().copied().unwrap_or(JobId(i64::MIN));
        let filter = Filter { parent: Some(lease.job), limit: ALL, ..Filter::default() };
        let rows = self.ledger.jobs(filter).await.map_err(broken)?;
        let mut born = rows.iter().rev().map(|row| row.id).filter(|id| *id > newest);
        for shape in children {
            if shape.key.is_none_or(|key| self.model.holder(key, self.now).is_none()) {
                let id = born.next().ok_or(format!("no child was made for {shape:?}"))?;
                self.admit(id, shape, Some(lease.job))?;
            }
        }
        same("children that nobody asked for", born.next(), None)
    }

    async fn record(&mut self, lease: Lease, end: End) -> Result<(), String> {
        let reason = || "scripted".to_owned();
        let later = |millis: i64| self.now.plus(Duration::from_millis(millis.unsigned_abs()));
        let outcome = match end {
            End::Completed => Outcome::Completed { note: None },
            End::Retry(millis) => Outcome::Retry { at: later(millis), reason: reason() },
            End::Snoozed(millis) => Outcome::Snoozed { until: later(millis), reason: reason() },
            End::Failed => Outcome::Failed { cause: FailCause::Permanent, reason: reason() },
            End::Cancelled => Outcome::Cancelled { reason: reason() },
            End::Interrupted => Outcome::Interrupted,
        };
        let answer = self.ledger.record(Record { lease, outcome, entity: None }, self.now).await;
        if self.written(lease, &answer)? {
            self.model.record(lease.job, end, self.now);
        }
        Ok(())
    }

    async fn record_crash(&mut self, lease: Lease) -> Result<(), String> {
        let answer = self.ledger.record_crash(lease, "panic".to_owned(), self.now).await;
        if self.written(lease, &answer)? {
            let job = self.model.job(lease.job);
            job.crashes += 1;
            same("crashes", answer, Ok(job.crashes))?;
        }
        Ok(())
    }

    async fn renew(&mut self, lease: Lease) -> Result<(), String> {
        let until = self.now.plus(LEASE * 3);
        let lost = self.ledger.renew(vec![lease], until).await.map_err(broken)?;
        if self.model.is_held(lease.job, lease.fence) {
            self.model.job(lease.job).until = until;
            same("lost leases", lost, vec![])
        } else {
            same("lost leases", lost, vec![lease])
        }
    }

    async fn rescue(&mut self, domain: usize, but: usize) -> Result<(), String> {
        let rescue = Rescue::Domain { domain: DOMAINS[domain].into(), but: OWNERS[but].into() };
        let rescued = self.ledger.rescue(rescue).await.map_err(broken)?;
        same("rescued", rescued, self.model.rescue(|job, owner| job.shape.domain == domain && owner != but))
    }

    async fn retry(&mut self, id: JobId) -> Result<(), String> {
        match self.model.retry(id, self.now) {
            Verdict::Open => Ok(()),
            verdict => judge(id, verdict, self.ledger.change(id, Change::Retry, self.now).await),
        }
    }

    async fn cancel(&mut self, id: JobId) -> Result<(), String> {
        let verdict = self.model.cancel(id, self.now);
        let cancel = Change::Cancel { reason: "scripted".to_owned() };
        judge(id, verdict, self.ledger.change(id, cancel, self.now).await)
    }

    async fn compare(&mut self) -> Result<(), String> {
        let rows = self.ledger.jobs(Filter { limit: ALL, ..Filter::default() }).await.map_err(broken)?;
        let stats = self.ledger.stats().await.map_err(broken)?;
        let ids: Vec<JobId> = rows.iter().rev().map(|row| row.id).collect();
        let expected: Vec<JobId> = self.model.jobs.iter().filter(|(_, job)| !job.pruned).map(|(id, _)| *id).collect();
        same("jobs that there are", &ids, &expected)?;
        for row in &rows {
            self.compare_job(row).map_err(|difference| format!("job {}: {difference}", row.id))?;
        }
        for state in State::ALL {
            let standing = rows.iter().filter(|row| row.state == state).count() as u64;
            same(&format!("{state} in all in the stats"), stats.total(state), standing)?;
            for kind in &stats.kinds {
                let ours = |row: &&JobRecord| row.domain == kind.domain && row.kind == kind.kind && row.state == state;
                let standing = rows.iter().filter(ours).count() as u64;
                same(&format!("{state} of {} in the stats", kind.kind), kind.count(state), standing)?;
            }
        }
        same("stale writes", stats.stale_writes, self.model.stale)
    }

    fn compare_job(&mut self, row: &JobRecord) -> Result<(), String> {
        let expected = self.model.job(row.id).clone();
        let Expected { state, attempt, crashes, owner, fence, finished_at, child_failed, .. } = expected;
        same("state", row.state, state)?;
        same("attempt", row.attempt, attempt)?;
        same("crashes", row.crashes, crashes)?;
        same("owner", row.owner.as_deref(), owner.map(|owner| OWNERS[owner]))?;
        same("finished_at", row.finished_at, finished_at)?;
        same("parent", row.parent, expected.parent)?;
        same("checkpoint", parts(&row.checkpoint), expected.parts.iter().copied().collect())?;
        let cause = if child_failed { FailCause::Child } else { FailCause::Permanent };
        same("cause", row.cause, (state == State::Failed).then_some(cause))?;
        if owner.is_some() {
            same("fence", row.fence, fence)?;
        } else if row.fence < fence {
            return Err(format!("the fence fell from {fence} to {}", row.fence));
        }
        self.model.job(row.id).fence = row.fence;
        if state == State::Delayed {
            same("run_at", row.run_at, expected.run_at)?;
        }
        if let Some(inserted) = self.model.inserted(row.id) {
            same("counts", row.counts, Counts { received: inserted, inserted, ..Counts::default() })?;
        }
        let mut children = Children::default();
        for (_, child) in self.model.children(row.id) {
            match child.state {
                _ if child.pruned => return Ok(()),
                State::Waiting | State::Delayed | State::Active => children.open += 1,
                State::Completed => children.completed += 1,
                State::Failed => children.failed += 1,
                State::Cancelled => children.cancelled += 1,
            }
        }
        same("children", row.children, children)
    }
}

fn part_of(part: u8) -> Part {
    match part {
        0 => Part::Plan,
        CLOSING => Part::Closing,
        page => Part::Page(u32::from(page) - 1),
    }
}

/// The part numbers that a checkpoint holds.
fn parts(checkpoint: &Checkpoint) -> Vec<u8> {
    (0..=CLOSING).filter(|part| checkpoint.holds(part_of(*part))).collect()
}

fn judge(id: JobId, verdict: Verdict, answer: Result<(), LedgerError>) -> Result<(), String> {
    match (verdict, &answer) {
        (Verdict::Done, Ok(())) | (Verdict::Refused, Err(LedgerError::Refused(_))) => Ok(()),
        (Verdict::Missing, Err(LedgerError::Missing(missing))) if *missing == id => Ok(()),
        (verdict, answer) => Err(format!("a change of job {id} answered {answer:?}, it should be {verdict:?}")),
    }
}

fn same<T: PartialEq + Debug>(what: &str, ledger: T, model: T) -> Result<(), String> {
    if ledger == model { Ok(()) } else { Err(format!("{what}: the ledger says {ledger:?}, the model {model:?}")) }
}

fn broken(error: LedgerError) -> String {
    format!("the ledger answered: {error}")
}
