//! The table of the ledger in memory: every job by its id, and the state changes as plain functions.
//!
//! All changes of state go through `make_waiting`, `make_delayed` and `end`, so what belongs to one (the lease is gone,
//! somebody is woken, the parent is told) stands in one place.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{Checkpoint, Counts};
use crate::clock::Timestamp;
use crate::job::{FailCause, Job, JobId, Lease, NewJob, OnChildFailed, Outcome, State, Unique, UniqueScope};
use crate::ledger::{
    Attempt, Children, Claim, Enqueued, Entity, JobRecord, LedgerError, Receipt, Record, Reject, Released, Rescue,
    Wakes,
};
use crate::testing::memory::Synced;

/// Jobs released in one call.
const RELEASE_BATCH: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<JobId, Row>,
    last_id: i64,
    pub(super) rejects: Vec<(JobId, Reject)>,
    pub(super) synced: HashMap<Entity, Synced>,
    pub(super) stale_writes: u64,
    pub(super) wakes: Wakes,
}

#[derive(Debug)]
pub(super) struct Row {
    /// As people see it, but for `counts` and `children`, which are filled in when it is asked for.
    pub(super) job: JobRecord,
    pub(super) unique: Option<Unique>,
    /// It has its unique key, unless the scope is a span of time, which alone decides then.
    pub(super) keyed: bool,
    /// Set exactly while the job has an owner.
    lease_until: Option<Timestamp>,
    /// Of all ended tries.
    pub(super) ran: Duration,
    on_child_failed: OnChildFailed,
    /// Counts of ended children and theirs.
    below: Counts,
    /// Which counts of this job the parent's `below` holds.
    told: Counts,
}

impl Row {
    fn holds_key(&self, key: &str, now: Timestamp) -> bool {
        self.unique.as_ref().is_some_and(|unique| {
            unique.key == key
                && match unique.scope {
                    UniqueScope::UntilStarted | UniqueScope::UntilCompleted => self.keyed,
                    UniqueScope::For(span) => now < self.job.enqueued_at.plus(span),
                }
        })
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.job.checkpoint.counts;
        counts.add(&self.below);
        counts
    }

    /// Its own work is done and only its children keep it from ending.
    fn waits_for_children(&self) -> bool {
        self.job.state == State::Active && self.job.owner.is_none()
    }

    pub(super) fn give_up_lease(&mut self) {
        self.job.owner = None;
        self.lease_until = None;
    }

    pub(super) fn note(&mut self, outcome: &str, reason: &str, at: Timestamp) {
        let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
        self.job.history.push(Attempt { attempt: self.job.attempt, at, outcome, reason });
    }

    fn give_attempt_back(&mut self) {
        self.job.attempt = self.job.attempt.saturating_sub(1);
    }
}

impl Table {
    pub(super) fn row(&mut self, id: JobId) -> &mut Row {
        self.rows.get_mut(&id).expect("ids handed around inside one call are in the table")
    }

    /// The row of a job whose present lease this is.
    fn held(&mut self, lease: Lease) -> Result<&mut Row, LedgerError> {
        match self.rows.get_mut(&lease.job) {
            Some(row) if row.job.state == State::Active && row.job.fence == lease.fence => Ok(row),
            Some(_) | None => {
                self.stale_writes += 1;
                Err(LedgerError::Stale(lease))
            }
        }
    }

    pub(super) fn children(&self, parent: JobId) -> Children {
        let mut children = Children::default();
        for row in self.rows.values().filter(|row| row.job.parent == Some(parent)) {
            match row.job.state {
                State::Waiting | State::Delayed | State::Active => children.open += 1,
                State::Completed => children.completed += 1,
                State::Failed => children.failed += 1,
                State::Cancelled => children.cancelled += 1,
            }
        }
        children
    }

    pub(super) fn holder(&self, key: &str, now: Timestamp) -> Option<JobId> {
        self.rows.values().find(|row| row.holds_key(key, now)).map(|row| row.job.id)
    }

    pub(super) fn put(&mut self, job: NewJob, now: Timestamp) -> Enqueued {
        let holder = job.unique.as_ref().and_then(|unique| self.holder(&unique.key, now));
        if let Some(holder) = holder {
            return Enqueued::Existing(holder);
        }
        self.last_id += 1;
        let id = JobId(self.last_id);
        let later = job.run_at.filter(|at| *at > now);
        let row = Row {
            job: JobRecord {
                id,
                domain: job.domain.to_string(),
                kind: job.kind.to_string(),
                params: job.params,
                state: State::Waiting,
                priority: job.priority,
                unique_key: job.unique.as_ref().map(|unique| unique.key.clone()),
                parent: job.parent,
                attempt: 0,
                crashes: 0,
                run_at: now,
                enqueued_at: now,
                started_at: None,
                finished_at: None,
                fence: 0,
                owner: None,
                checkpoint: Checkpoint::default(),
                counts: Counts::default(),
                children: Children::default(),
                message: None,
                cause: None,
                history: Vec::new(),
            },
            keyed: job.unique.is_some(),
            unique: job.unique,
            lease_until: None,
            ran: Duration::ZERO,
            on_child_failed: job.on_child_failed,
            below: Counts::default(),
            told: Counts::default(),
        };
        self.rows.insert(id, row);
        match later {
            Some(at) => self.make_delayed(id, at),
            None => self.make_waiting(id),
        }
        Enqueued::New(id)
    }

    pub(super) fn claim(&mut self, claim: Claim) -> Vec<Job> {
        let mut waiting: Vec<(i32, JobId)> = self
            .rows
            .values()
            .filter(|row| row.job.state == State::Waiting && row.job.domain == *claim.domain)
            .map(|row| (row.job.priority, row.job.id))
            .collect();
        waiting.sort_unstable();
        let mut room = claim.kinds;
        let mut claimed = Vec::new();
        for (_, id) in waiting {
            if claimed.len() == claim.max {
                break;
            }
            let row = self.rows.get_mut(&id).expect("it was listed from the table just now");
            let Some((kind, left)) = room.iter_mut().find(|(kind, left)| **kind == *row.job.kind && *left > 0) else {
                continue;
            };
            *left -= 1;
            row.job.state = State::Active;
            row.job.attempt += 1;
            row.job.fence += 1;
            row.job.owner = Some(claim.owner.to_string());
            row.job.started_at = Some(claim.now);
            row.lease_until = Some(claim.until);
            if row.unique.as_ref().is_some_and(|unique| unique.scope == UniqueScope::UntilStarted) {
                row.keyed = false;
            }
            claimed.push(Job {
                id,
                domain: Arc::clone(&claim.domain),
                kind: Arc::clone(kind),
                params: row.job.params.clone(),
                parent: row.job.parent,
                attempt: row.job.attempt,
                crashes: row.job.crashes,
                lease: Lease { job: id, fence: row.job.fence },
                checkpoint: row.job.checkpoint.clone(),
                enqueued_at: row.job.enqueued_at,
                ran: row.ran,
            });
        }
        claimed
    }

    pub(super) fn renew(&mut self, leases: Vec<Lease>, until: Timestamp) -> Vec<Lease> {
        let mut lost = Vec::new();
        for lease in leases {
            match self.rows.get_mut(&lease.job) {
                Some(row) if row.job.state == State::Active && row.job.fence == lease.fence => {
                    row.lease_until = Some(until);
                }
                Some(_) | None => lost.push(lease),
            }
        }
        lost
    }

    pub(super) fn commit(&mut self, receipt: Receipt, counts: &Counts, now: Timestamp) -> Result<(), LedgerError> {
        let Receipt { lease, part, following, total, children, rejects } = receipt;
        let row = self.held(lease)?;
        if !row.job.checkpoint.merge(part, following, total, counts) {
            return Ok(());
        }
        for mut child in children {
            child.parent = Some(lease.job);
            self.put(child, now);
        }
        self.rejects.extend(rejects.into_iter().map(|reject| (lease.job, reject)));
        Ok(())
    }

    pub(super) fn record(&mut self, record: Record, now: Timestamp) -> Result<(), LedgerError> {
        let Record { lease, outcome, entity } = record;
        let id = lease.job;
        self.held(lease)?;
        if let Some(entity) = entity {
            self.sync(id, entity, &outcome, now);
        }
        let row = self.row(id);
        row.ran += row.job.started_at.map(|started| now.since(started)).unwrap_or_default();
        match outcome {
            Outcome::Completed { note } => {
                row.job.message = note;
                row.give_up_lease();
                row.job.fence += 1;
                self.complete(id, now);
            }
            Outcome::Retry { at, reason } => {
                row.note("retry", &reason, now);
                row.job.message = Some(reason);
                self.make_delayed(id, at);
            }
            Outcome::Snoozed { until, reason } => {
                row.note("snoozed", &reason, now);
                row.job.message = Some(reason);
                row.give_attempt_back();
                self.make_delayed(id, until);
            }
            Outcome::Failed { cause, reason } => {
                row.note("failed", &reason, now);
                self.end(id, State::Failed, Some(cause), Some(reason), now);
            }
            Outcome::Cancelled { reason } => {
                row.note("cancelled", &reason, now);
                self.end(id, State::Cancelled, None, Some(reason), now);
            }
            Outcome::Interrupted => {
                row.note("interrupted", "the service stopped", now);
                row.give_attempt_back();
                self.make_waiting(id);
            }
        }
        Ok(())
    }

    fn sync(&mut self, id: JobId, entity: Entity, outcome: &Outcome, now: Timestamp) {
        let counts = self.row(id).counts();
        let synced = self.synced.entry(entity);
        match outcome {
            Outcome::Completed { .. } => {
                let synced = synced.or_default();
                synced.last_success_at = Some(now);
                synced.last_job = Some(id);
                synced.counts = counts;
            }
            Outcome::Retry { reason, .. } | Outcome::Failed { reason, .. } => {
                let synced = synced.or_default();
                synced.last_error_at = Some(now);
                synced.last_error = Some(reason.clone());
                synced.last_job = Some(id);
            }
            Outcome::Snoozed { .. } | Outcome::Cancelled { .. } | Outcome::Interrupted => {}
        }
    }

    pub(super) fn record_crash(&mut self, lease: Lease, reason: String, now: Timestamp) -> Result<u32, LedgerError> {
        let row = self.held(lease)?;
        row.job.crashes += 1;
        row.note("crashed", &reason, now);
        row.job.message = Some(reason);
        Ok(row.job.crashes)
    }

    pub(super) fn release(&mut self, now: Timestamp) -> Released {
        let delayed = |table: &Table| -> Vec<(Timestamp, JobId)> {
            let rows = table.rows.values().filter(|row| row.job.state == State::Delayed);
            rows.map(|row| (row.job.run_at, row.job.id)).collect()
        };
        let mut due: Vec<_> = delayed(self).into_iter().filter(|(at, _)| *at <= now).collect();
        due.sort_unstable();
        due.truncate(RELEASE_BATCH);
        for (_, id) in &due {
            self.make_waiting(*id);
        }
        Released { count: due.len() as u64, next_due: delayed(self).into_iter().map(|(at, _)| at).min() }
    }

    pub(super) fn rescue(&mut self, rescue: &Rescue) -> u64 {
        let lost = |row: &Row| match (rescue, &row.job.owner) {
            (_, None) => false,
            (Rescue::Domain { domain, but }, Some(owner)) => *row.job.domain == **domain && **owner != **but,
            (Rescue::Lapsed { now }, Some(_)) => row.lease_until.is_some_and(|until| until < *now),
        };
        let lost: Vec<JobId> = self.rows.values().filter(|row| lost(row)).map(|row| row.job.id).collect();
        for id in &lost {
            let row = self.row(*id);
            // The call brings no instant when it comes from a start, so the try is dated by its own beginning.
            let at = row.job.started_at.unwrap_or_default();
            row.note("rescued", "its owner is gone", at);
            row.give_attempt_back();
            self.make_waiting(*id);
        }
        lost.len() as u64
    }

    pub(super) fn make_waiting(&mut self, id: JobId) {
        let row = self.row(id);
        row.job.state = State::Waiting;
        row.give_up_lease();
        let domain = row.job.domain.clone();
        self.wakes.work(&domain);
    }

    fn make_delayed(&mut self, id: JobId, at: Timestamp) {
        let delayed = self.rows.values().filter(|row| row.job.state == State::Delayed);
        let first = delayed.map(|row| row.job.run_at).min().is_none_or(|least| at < least);
        let row = self.row(id);
        row.job.state = State::Delayed;
        row.job.run_at = at;
        row.give_up_lease();
        if first {
            self.wakes.due().wake();
        }
    }

    /// Ends a job whose own work is done, if no child is open.
    fn complete(&mut self, id: JobId, now: Timestamp) {
        let children = self.children(id);
        if children.open > 0 {
            return;
        }
        let row = self.row(id);
        match row.on_child_failed {
            OnChildFailed::Fail if children.failed > 0 => {
                let reason = format!("{} of its children failed", children.failed);
                row.note("failed", &reason, now);
                self.end(id, State::Failed, Some(FailCause::Child), Some(reason), now);
            }
            OnChildFailed::Fail | OnChildFailed::Ignore => {
                let note = row.job.message.take();
                self.end(id, State::Completed, None, note, now);
            }
        }
    }

    fn end(&mut self, id: JobId, state: State, cause: Option<FailCause>, message: Option<String>, now: Timestamp) {
        self.finish(id, state, cause, message, now);
        self.tell_counts(id);
        self.settle_parent(id, now);
    }

    pub(super) fn finish(
        &mut self,
        id: JobId,
        state: State,
        cause: Option<FailCause>,
        message: Option<String>,
        now: Timestamp,
    ) {
        let row = self.row(id);
        row.job.state = state;
        row.job.cause = cause;
        row.job.message = message;
        row.job.finished_at = Some(now);
        row.keyed = false;
        row.give_up_lease();
    }

    /// Makes the parent's sum hold this job's counts if it has ended, and not if it has not; and so on upwards.
    pub(super) fn tell_counts(&mut self, id: JobId) {
        let row = self.row(id);
        let counts = if row.job.state.is_final() { row.counts() } else { Counts::default() };
        let told = mem::replace(&mut row.told, counts);
        let parent = row.job.parent;
        if let Some(above) = parent.and_then(|parent| self.rows.get_mut(&parent)) {
            above.below.subtract(&told);
            above.below.add(&counts);
            let above = above.job.id;
            self.tell_counts(above);
        }
    }

    pub(super) fn settle_parent(&mut self, id: JobId, now: Timestamp) {
        let parent = self.row(id).job.parent.and_then(|parent| self.rows.get(&parent));
        if let Some(parent) = parent.filter(|parent| parent.waits_for_children()).map(|parent| parent.job.id) {
            self.complete(parent, now);
        }
    }
}
