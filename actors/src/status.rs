//! What every running part says of itself: one record, the same for all.
//!
//! A part holds its [`Part`] and writes to it as it goes; whoever wants to know asks the [`Board`]. Nobody reaches
//! into an actor, and an actor that hangs cannot keep its status from being read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Timestamp};
use crate::job::{Job, JobId, Lease, Name};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    Supervisor,
    Coordinator,
    Pool,
    Worker,
    /// A part of the service beside the domains: scheduler, upkeep, HTTP server.
    Service,
    /// Something outside that the service needs: an upstream, the store.
    Dependency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    Starting,
    Idle,
    Busy,
    /// Something it needs is down.
    Waiting,
    /// Died; started again after its backoff.
    Restarting,
    Draining,
    Parked,
    Stopped,
}

/// The one record. Written as it is in JSON, in `longshore domains` and over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Place in the tree: `catalog`, `catalog/fetch`, `catalog/fetch/1`.
    pub name: String,
    pub kind: PartKind,
    pub state: PartState,
    pub since: Timestamp,
    /// The job in hand.
    pub job: Option<JobId>,
    /// The last thing worth saying: an error, a result.
    pub last: Option<String>,
    pub next_wake: Option<Timestamp>,
    pub done: u64,
    pub failed: u64,
    pub restarts: u64,
    /// Work that stands in its mailbox or in its hands, and how much may.
    pub depth: u64,
    pub capacity: u64,
}

/// A part's own handle on its status.
#[derive(Debug)]
pub struct Part {
    name: String,
    kind: PartKind,
    clock: Clock,
    changing: Mutex<Changing>,
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub restarts: AtomicU64,
    pub depth: AtomicU64,
    pub capacity: AtomicU64,
}

#[derive(Debug)]
struct Changing {
    state: PartState,
    since: Timestamp,
    job: Option<JobId>,
    last: Option<String>,
    next_wake: Option<Timestamp>,
}

impl Part {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set(&self, state: PartState) {
        let now = self.clock.now();
        let mut changing = self.changing();
        if changing.state != state {
            changing.state = state;
            changing.since = now;
        }
    }

    /// Takes a job in hand, or lays it down.
    pub fn set_job(&self, job: Option<JobId>) {
        self.changing().job = job;
    }

    pub fn say(&self, last: impl Into<String>) {
        self.changing().last = Some(last.into());
    }

    pub fn set_next_wake(&self, at: Option<Timestamp>) {
        self.changing().next_wake = at;
    }

    pub fn status(&self) -> Status {
        let Changing { state, since, job, last, next_wake } = &*self.changing();
        let depth = self.depth.load(Ordering::Relaxed);
        // A pool does nothing itself: it is as busy as its mailbox.
        let state = match (self.kind, *state) {
            (PartKind::Pool, PartState::Idle) if depth > 0 => PartState::Busy,
            (_, state) => state,
        };
        Status {
            name: self.name.clone(),
            kind: self.kind,
            state,
            since: *since,
            job: *job,
            last: last.clone(),
            next_wake: *next_wake,
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            depth,
            capacity: self.capacity.load(Ordering::Relaxed),
        }
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a running job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `plan`, `pages`, `closing`, `record`.
    pub step: Cow<'static, str>,
    /// Pages committed, and pages known so far.
    pub completed: u64,
    pub total: u64,
    pub message: String,
}

/// A running job, for `jobs show` and over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub job: JobId,
    pub domain: Name,
    pub kind: Name,
    pub attempt: u32,
    pub since: Timestamp,
    pub progress: Progress,
}

/// All statuses of the service.
#[derive(Clone, Debug)]
pub struct Board {
    clock: Clock,
    parts: Arc<Mutex<BTreeMap<String, Arc<Part>>>>,
    /// Each with the lease of its try: the next one may begin before the last one's end is told.
    jobs: Arc<Mutex<BTreeMap<JobId, (Lease, Running)>>>,
}

impl Board {
    pub fn new(clock: Clock) -> Self {
        Self { clock, parts: Arc::default(), jobs: Arc::default() }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The part of this name, which keeps its counters over restarts.
    pub fn part(&self, name: &str, kind: PartKind) -> Arc<Part> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(name) {
            return part.clone();
        }
        let part = Arc::new(Part {
            name: name.to_owned(),
            kind,
            clock: self.clock.clone(),
            changing: Mutex::new(Changing {
                state: PartState::Starting,
                since: self.clock.now(),
                job: None,
                last: None,
                next_wake: None,
            }),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            depth: AtomicU64::new(0),
            capacity: AtomicU64::new(0),
        });
        parts.insert(name.to_owned(), part.clone());
        part
    }

    /// Forgets a part that is gone for good, such as the last worker of a pool that shrank; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// Every part, in the order of the tree.
    pub fn statuses(&self) -> Vec<Status> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.values().map(|part| part.status()).collect()
    }

    /// The jobs that run now, oldest first.
    pub fn running(&self) -> Vec<Running> {
        self.jobs().values().map(|(_, running)| running.clone()).collect()
    }

    pub fn running_job(&self, job: JobId) -> Option<Running> {
        self.jobs().get(&job).map(|(_, running)| running.clone())
    }

    pub(crate) fn job_started(&self, job: &Job, since: Timestamp) {
        let Job { id, domain, kind, attempt, .. } = job;
        let (domain, kind) = (domain.clone(), kind.clone());
        let running = Running { job: *id, domain, kind, attempt: *attempt, since, progress: Progress::default() };
        self.jobs().insert(*id, (job.lease, running));
    }

    pub(crate) fn job_ended(&self, lease: Lease) {
        let mut jobs = self.jobs();
        if jobs.get(&lease.job).is_some_and(|(of, _)| *of == lease) {
            jobs.remove(&lease.job);
        }
    }

    pub(crate) fn progress(&self, job: JobId, progress: impl FnOnce(&mut Progress)) {
        if let Some((_, running)) = self.jobs().get_mut(&job) {
            progress(&mut running.progress);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, (Lease, Running)>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
