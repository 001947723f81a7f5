//! The model: what the ledger must hold after each call, written down as plainly as can be.
//!
//! Nothing is kept that can be worked out: children, counts and holders of keys are looked up among all jobs each
//! time, and parents end by looking for those that can until there are none left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{JobId, State};
use crate::testing::model::{End, Shape};

/// The span of the third key.
pub(super) const KEY_SPAN: Duration = Duration::from_millis(51);
/// How long ended jobs stay; longer than the span of a key.
pub(super) const COMPLETED_FOR: Duration = Duration::from_millis(101);
pub(super) const FAILED_FOR: Duration = Duration::from_millis(201);
/// The part numbers of a commit: the plan, pages, and this one.
pub(super) const CLOSING: u8 = 5;

#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) shape: Shape,
    pub(super) parent: Option<JobId>,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) crashes: u32,
    pub(super) owner: Option<usize>,
    pub(super) until: Timestamp,
    /// Of the present try; the ledger chooses it, the model only sees it grow.
    pub(super) fence: i64,
    pub(super) run_at: Timestamp,
    pub(super) enqueued_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) parts: BTreeSet<u8>,
    pub(super) inserted: u64,
    pub(super) child_failed: bool,
    /// It has its key, as far as the state decides.
    keyed: bool,
    pub(super) pruned: bool,
    /// It was run again after its children had: the trait does not say what its counts are then.
    pub(super) muddled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<JobId, Expected>,
    pub(super) stale: u64,
}

/// How a retry by hand must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Refused,
    Missing,
    /// The trait leaves it open; the step is not taken.
    Open,
}

impl Model {
    pub(super) fn job(&mut self, id: JobId) -> &mut Expected {
        self.jobs.get_mut(&id).expect("the run only names jobs that the ledger has answered")
    }

    pub(super) fn children(&self, id: JobId) -> impl Iterator<Item = (&JobId, &Expected)> {
        self.jobs.iter().filter(move |(_, job)| job.parent == Some(id))
    }

    pub(super) fn holder(&self, key: usize, now: Timestamp) -> Option<JobId> {
        let holds = |job: &Expected| match key {
            2 => now < job.enqueued_at.plus(KEY_SPAN),
            _ => job.keyed,
        };
        let mut jobs = self.jobs.iter().filter(|(_, job)| job.shape.key == Some(key) && !job.pruned);
        jobs.find(|(_, job)| holds(job)).map(|(id, _)| *id)
    }

    pub(super) fn put(&mut self, id: JobId, shape: &Shape, parent: Option<JobId>, now: Timestamp) {
        let run_at = now.plus(Duration::from_millis(shape.delay.unwrap_or(0).unsigned_abs()));
        let job = Expected {
            shape: shape.clone(),
            parent,
            state: if run_at > now { State::Delayed } else { State::Waiting },
            attempt: 0,
            crashes: 0,
            owner: None,
            until: now,
            fence: 0,
            run_at,
            enqueued_at: now,
            finished_at: None,
            parts: BTreeSet::new(),
            inserted: 0,
            child_failed: false,
            keyed: shape.key.is_some(),
            pruned: false,
            muddled: false,
        };
        self.jobs.insert(id, job);
    }

    /// The jobs that a claim must answer, in order.
    pub(super) fn claimable(&self, domain: usize, max: usize, room: [usize; 2]) -> Vec<JobId> {
        let mut waiting: Vec<_> = (self.jobs.iter())
            .filter(|(_, job)| !job.pruned && job.state == State::Waiting && job.shape.domain == domain)
            .map(|(id, job)| (job.shape.priority, *id, job.shape.kind))
            .collect();
        waiting.sort_unstable();
        let mut room = room;
        waiting.retain(|(_, _, kind)| {
            let fits = room[*kind] > 0;
            room[*kind] = room[*kind].saturating_sub(1);
            fits
        });
        waiting.into_iter().map(|(_, id, _)| id).take(max).collect()
    }

    pub(super) fn claim(&mut self, id: JobId, owner: usize, until: Timestamp, fence: i64) {
        let job = self.job(id);
        job.state = State::Active;
        job.attempt += 1;
        job.owner = Some(owner);
        job.until = until;
        job.fence = fence;
        if job.shape.key == Some(0) {
            job.keyed = false;
        }
    }

    pub(super) fn is_held(&self, id: JobId, fence: i64) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.pruned && job.owner.is_some() && job.fence == fence)
    }

    pub(super) fn record(&mut self, id: JobId, end: End, now: Timestamp) {
        let later = |millis: i64| now.plus(Duration::from_millis(millis.unsigned_abs()));
        let job = self.job(id);
        job.owner = None;
        match end {
            End::Completed => {}
            End::Retry(millis) => (job.state, job.run_at) = (State::Delayed, later(millis)),
            End::Snoozed(millis) => {
                (job.state, job.run_at) = (State::Delayed, later(millis));
                job.attempt -= 1;
            }
            End::Interrupted => {
                job.state = State::Waiting;
                job.attempt -= 1;
            }
            End::Failed => self.finish(id, State::Failed, now),
            End::Cancelled => self.finish(id, State::Cancelled, now),
        }
        self.settle(now);
    }

    fn finish(&mut self, id: JobId, state: State, now: Timestamp) {
        let job = self.job(id);
        job.state = state;
        job.owner = None;
        job.finished_at = Some(now);
        job.keyed = false;
        job.child_failed = false;
    }

    /// Ends every parent that waits for its children (active without an owner) and has none that is open.
    fn settle(&mut self, now: Timestamp) {
        let ready = |model: &Model| {
            let mut parents = model.jobs.iter().filter(|(_, job)| job.state == State::Active && job.owner.is_none());
            parents.find(|(id, _)| model.children(**id).all(|(_, child)| child.state.is_final())).map(|(id, _)| *id)
        };
        while let Some(id) = ready(self) {
            let minds = self.job(id).shape.minds_children;
            let failed = minds && self.children(id).any(|(_, child)| child.state == State::Failed);
            self.finish(id, if failed { State::Failed } else { State::Completed }, now);
            self.job(id).child_failed = failed;
        }
    }

    pub(super) fn release(&mut self, now: Timestamp) -> (u64, Option<Timestamp>) {
        let mut count = 0;
        for job in self.jobs.values_mut().filter(|job| job.state == State::Delayed && job.run_at <= now) {
            job.state = State::Waiting;
            count += 1;
        }
        let left = self.jobs.values().filter(|job| job.state == State::Delayed);
        (count, left.map(|job| job.run_at).min())
    }

    pub(super) fn rescue(&mut self, lost: impl Fn(&Expected, usize) -> bool) -> u64 {
        let mut count = 0;
        for job in self.jobs.values_mut() {
            if job.owner.is_some_and(|owner| lost(job, owner)) {
                job.state = State::Waiting;
                job.owner = None;
                job.attempt -= 1;
                count += 1;
            }
        }
        count
    }

    pub(super) fn retry(&mut self, id: JobId, now: Timestamp) -> Verdict {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.pruned) else { return Verdict::Missing };
        if matches!(job.state, State::Waiting | State::Active) {
            return Verdict::Refused;
        }
        let holder = job.shape.key.and_then(|key| self.holder(key, now)).filter(|holder| *holder != id);
        if let Some(holder) = holder {
            // A key for a span may be held by a job that has ended, and "live" does not say whether that counts.
            return if self.job(holder).state.is_final() { Verdict::Open } else { Verdict::Refused };
        }
        let parental = self.children(id).next().is_some();
        let job = self.job(id);
        if job.state == State::Completed {
            job.parts.clear();
            job.inserted = 0;
        } else if job.state.is_final() {
            job.parts.remove(&0);
        }
        job.state = State::Waiting;
        (job.attempt, job.crashes, job.finished_at, job.child_failed) = (0, 0, None, false);
        job.keyed = job.shape.key.is_some();
        job.muddled |= parental;
        Verdict::Done
    }

    pub(super) fn cancel(&mut self, id: JobId, now: Timestamp) -> Verdict {
        match self.jobs.get(&id) {
            Some(job) if job.pruned => return Verdict::Missing,
            None => return Verdict::Missing,
            Some(job) if job.state.is_final() => return Verdict::Refused,
            Some(_) => {}
        }
        let mut family = BTreeSet::from([id]);
        // Children have higher ids than their parents, so one pass upwards finds them all.
        for (child, job) in &self.jobs {
            if job.parent.is_some_and(|parent| family.contains(&parent)) {
                family.insert(*child);
            }
        }
        for member in family {
            if !self.job(member).state.is_final() {
                self.finish(member, State::Cancelled, now);
            }
        }
        self.settle(now);
        Verdict::Done
    }

    pub(super) fn prune(&mut self, now: Timestamp) -> u64 {
        let old: Vec<JobId> = (self.jobs.iter())
            .filter(|(id, job)| {
                let span = if job.state == State::Completed { COMPLETED_FOR } else { FAILED_FOR };
                let parent = job.parent.and_then(|parent| self.jobs.get(&parent));
                !job.pruned
                    && job.finished_at.is_some_and(|at| at.plus(span) < now)
                    && parent.is_none_or(|parent| parent.state.is_final())
                    && self.children(**id).all(|(_, child)| child.state.is_final())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &old {
            self.job(*id).pruned = true;
        }
        old.len() as u64
    }

    /// Its own counts and its children's, where the trait says it all: every child has ended and none has children.
    pub(super) fn inserted(&self, id: JobId) -> Option<u64> {
        let job = self.jobs.get(&id)?;
        let settled = |child: &JobId, job: &Expected| job.state.is_final() && self.children(*child).next().is_none();
        let told = !job.muddled && self.children(id).all(|(child, job)| settled(child, job));
        told.then(|| job.inserted + self.children(id).map(|(_, child)| child.inserted).sum::<u64>())
    }
}
