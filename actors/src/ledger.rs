//! The durable table of work: the narrow door that every ledger stands behind.
//!
//! ```text
//! enqueue ─▶ waiting ─claim─▶ active ─commit*─record─▶ completed | failed | cancelled
//!               ▲ release        │ rescue                        │ change (retry)
//!            delayed ◀───────────┘◀──────────────────────────────┘
//! ```
//!
//! Promises that every implementation keeps, and that the contract suite (`testing::contract`) checks:
//!
//! - What was acknowledged survives the death of the process.
//! - Every write to an active job names its [`Lease`]; one with a stale fence is refused with
//!   [`LedgerError::Stale`], counted, and changes nothing.
//! - Parts of one call change together or not at all.
//! - "Now" is an argument wherever it matters; an implementation never reads a clock.
//!
//! What it does not do: decide. Retry or fail, when, and whether a job is poison is the coordinator's decision.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use crate::checkpoint::{Checkpoint, Counts, Part};
use crate::clock::Timestamp;
use crate::job::{FailCause, Job, JobId, Lease, Name, NewJob, Outcome, State};

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Puts jobs in, all or none. A job whose unique key is taken is answered with the one that holds it.
    /// The answers are in the order of `jobs`.
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError>;

    /// Moves up to `claim.max` waiting jobs to `active`, best priority first, then oldest, no more of a kind than
    /// its room. Kinds that are not listed stay waiting.
    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, LedgerError>;

    /// Lengthens leases to `until`; answers those that are no longer held.
    async fn renew(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<Lease>, LedgerError>;

    /// Settles one part of an active job: checkpoint, children and rejects together. Told twice, it counts once.
    async fn commit(&self, receipt: Receipt, counts: Counts, now: Timestamp) -> Result<(), LedgerError>;

    /// Ends one try; what it ran is added up in [`Job::ran`] for the next. A parent whose last child this is ends with
    /// it, and so do its own parents.
    async fn record(&self, record: Record, now: Timestamp) -> Result<(), LedgerError>;

    /// Counts a worker that this job killed; answers how many there were by now.
    async fn record_crash(&self, lease: Lease, reason: String, now: Timestamp) -> Result<u32, LedgerError>;

    /// Moves due jobs from `delayed` to `waiting`, up to a batch of them.
    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError>;

    /// Gives back the active jobs whose owner is known to be dead, or whose lease has lapsed. No attempt is burnt.
    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError>;

    /// An operator's word on one job. `Err(Refused)` says why it cannot be.
    async fn change(&self, job: JobId, change: Change, now: Timestamp) -> Result<(), LedgerError>;

    /// Jobs, newest first.
    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError>;

    /// How the descendants of a job stand, by kind: its children, theirs, and so on, but for those that are pruned.
    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError>;

    /// How many jobs stand in which state, by domain and kind. Never scans the jobs.
    async fn stats(&self) -> Result<Stats, LedgerError>;

    /// Deletes finished jobs past their retention, one small batch; call again while `more`.
    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, LedgerError>;

    /// Keeps other programs that work on the same tables out, for as long as the answer is held; `key` is what they
    /// agree on. A ledger that one process owns has nobody to keep out, and always answers `Held`.
    async fn lock(&self, _key: &str) -> Result<Locked, LedgerError> {
        Ok(Locked::Held(LockGuard::default()))
    }

    /// The wake-ups of one domain. They carry no data: whoever is woken reads the ledger.
    fn wake(&self, domain: &str) -> Wake;

    /// Woken (as `work`) when a delayed job is due earlier than any was before: release again.
    fn due(&self) -> Wake;
}

/// Why the ledger did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// The lease is not the job's present one: somebody else has the job by now, or it has ended.
    Stale(Lease),
    /// There is no such job.
    Missing(JobId),
    /// The job's state does not allow it.
    Refused(String),
    /// A removal would pass the guard; nothing was written.
    Guard(String),
    /// The ledger cannot be reached or written now.
    Unavailable(String),
    /// A bug, or a damaged store.
    Broken(String),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Stale(lease) => {
                write!(f, "the lease {} of job {} is stale", lease.fence, lease.job)
            }
            LedgerError::Missing(job) => write!(f, "there is no job {job}"),
            LedgerError::Refused(reason) | LedgerError::Guard(reason) => f.write_str(reason),
            LedgerError::Unavailable(reason) => write!(f, "the ledger is unavailable: {reason}"),
            LedgerError::Broken(reason) => write!(f, "the ledger is broken: {reason}"),
        }
    }
}

impl std::error::Error for LedgerError {}

/// The answer to one enqueued job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enqueued {
    New(JobId),
    /// The unique key is taken by this one.
    Existing(JobId),
}

impl Enqueued {
    pub fn id(self) -> JobId {
        match self {
            Enqueued::New(id) | Enqueued::Existing(id) => id,
        }
    }
}

/// A request for work.
#[derive(Clone, Debug)]
pub struct Claim {
    pub domain: Name,
    /// Who claims: process and incarnation of the coordinator. Rescue goes by it.
    pub owner: Arc<str>,
    pub max: usize,
    /// Each kind that has a handler, with the room its concurrency leaves.
    pub kinds: Vec<(Name, usize)>,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// The ledger's half of a committed part: what goes into the same transaction as its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    pub lease: Lease,
    pub part: Part,
    /// The request after this page, when it is known.
    pub following: Option<Value>,
    pub total: Option<u64>,
    pub children: Vec<NewJob>,
    pub rejects: Vec<Reject>,
}

impl Receipt {
    pub fn new(lease: Lease, part: Part) -> Self {
        Self { lease, part, following: None, total: None, children: Vec::new(), rejects: Vec::new() }
    }
}

/// A record that failed validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// The record's key, when it could be read.
    pub key: Option<String>,
    pub reason: String,
    /// The record as it came.
    pub raw: String,
}

/// What a job keeps in step, for `sync_state`: last success, last error, counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entity {
    pub provider: String,
    pub entity: String,
}

/// The end of one try.
#[derive(Clone, Debug)]
pub struct Record {
    pub lease: Lease,
    pub outcome: Outcome,
    /// Written to `sync_state` in the same transaction: a success, or the error. A skipped sync names none.
    pub entity: Option<Entity>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub count: u64,
    /// When the next delayed job is due.
    pub next_due: Option<Timestamp>,
}

/// Whose work is to be given back.
#[derive(Clone, Debug)]
pub enum Rescue {
    /// Of this domain, every owner that is known to be dead. Where one process owns the ledger that is everyone but
    /// the one that starts now; where several nodes share it, also all whose node is alive are left alone.
    Domain { domain: Name, but: Arc<str> },
    /// Leases that ran out before `now`.
    Lapsed { now: Timestamp },
}

/// The answer to [`Ledger::lock`].
#[derive(Debug)]
pub enum Locked {
    Held(LockGuard),
    /// Another program has it: its name, as far as it can be told.
    Taken {
        by: String,
    },
}

/// Lets go when it is dropped, by dropping what it holds.
#[derive(Default)]
pub struct LockGuard(Option<Box<dyn Send>>);

impl LockGuard {
    pub fn new(held: impl Send + 'static) -> Self {
        Self(Some(Box::new(held)))
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.0.is_some()).finish()
    }
}

/// What an operator may do to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A final or delayed job runs again now, with fresh attempts and no crashes counted. A completed one starts from
    /// its first page; a failed or cancelled one goes on after its last and asks for its plan's children anew.
    Retry,
    /// A job that has not ended is cancelled; an active one loses its lease and its coordinator is woken.
    Cancel { reason: String },
}

/// Which jobs. Empty means all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    pub ids: Vec<JobId>,
    pub domain: Option<String>,
    pub kind: Option<String>,
    pub states: Vec<State>,
    pub parent: Option<JobId>,
    /// Only ids below this one: the next page of a listing.
    pub before: Option<JobId>,
    /// 0 means 50.
    pub limit: usize,
}

/// A job's row as it stands, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: JobId,
    pub domain: String,
    pub kind: String,
    pub params: Value,
    pub state: State,
    pub priority: i32,
    pub unique_key: Option<String>,
    pub parent: Option<JobId>,
    pub attempt: u32,
    pub crashes: u32,
    pub run_at: Timestamp,
    pub enqueued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub fence: i64,
    pub owner: Option<String>,
    pub checkpoint: Checkpoint,
    /// Counts of its own work and of all its ended descendants.
    pub counts: Counts,
    pub children: Children,
    /// The last error, or the note a completed job left.
    pub message: Option<String>,
    pub cause: Option<FailCause>,
    /// Tries that did not end well, oldest first; filled only when one job is asked for by its id.
    pub history: Vec<Attempt>,
}

/// How a job's children stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Children {
    pub open: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

/// A try that did not end well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub attempt: u32,
    pub at: Timestamp,
    /// `retry`, `snoozed`, `failed`, `crashed`, `rescued`, `interrupted` or `cancelled`.
    pub outcome: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    pub kinds: Vec<KindStats>,
    /// Writes refused for a stale lease since the process started.
    pub stale_writes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStats {
    pub domain: String,
    pub kind: String,
    pub waiting: u64,
    pub delayed: u64,
    pub active: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl KindStats {
    /// Of so many rows, each with a state and how often it occurs.
    pub fn add(&mut self, state: State, count: u64) {
        *match state {
            State::Waiting => &mut self.waiting,
            State::Delayed => &mut self.delayed,
            State::Active => &mut self.active,
            State::Completed => &mut self.completed,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        } += count;
    }

    pub fn total(&self) -> u64 {
        State::ALL.into_iter().map(|state| self.count(state)).sum()
    }

    pub fn count(&self, state: State) -> u64 {
        match state {
            State::Waiting => self.waiting,
            State::Delayed => self.delayed,
            State::Active => self.active,
            State::Completed => self.completed,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
        }
    }
}

impl Stats {
    pub fn total(&self, state: State) -> u64 {
        self.kinds.iter().map(|kind| kind.count(state)).sum()
    }
}

/// How long finished jobs stay, by age, by count and by bytes, whichever is reached first.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub completed_for: Duration,
    pub completed_max: u64,
    pub failed_for: Duration,
    pub failed_max: u64,
    /// Bytes of params, checkpoint and message of all finished jobs together.
    pub bytes_max: u64,
    /// Rows deleted in one call.
    pub batch: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub jobs: u64,
    pub more: bool,
}

/// The wake-ups of one domain. A wake-up that nobody waits for is kept, once.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    work: Arc<Notify>,
    revoked: Arc<Notify>,
}

impl Wake {
    /// Completes when there may be something to claim.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Completes when a lease may have been taken away: renew to learn which.
    pub async fn revoked(&self) {
        self.revoked.notified().await;
    }

    /// Says that there may be something to claim.
    pub fn wake(&self) {
        self.work.notify_one();
    }
}

/// The wake-ups of all domains: what a ledger implementation holds.
#[derive(Debug, Default)]
pub struct Wakes {
    domains: Mutex<HashMap<String, Wake>>,
    due: Wake,
}

impl Wakes {
    pub fn of(&self, domain: &str) -> Wake {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        match domains.get(domain) {
            Some(wake) => wake.clone(),
            None => domains.entry(domain.to_owned()).or_default().clone(),
        }
    }

    /// What [`Ledger::due`] answers; the implementation wakes it.
    pub fn due(&self) -> &Wake {
        &self.due
    }

    /// Work was put in or given back.
    pub fn work(&self, domain: &str) {
        self.of(domain).work.notify_one();
    }

    /// Something may have been put in, taken away or put off, and nobody can tell where: all look.
    pub fn everyone(&self) {
        for wake in self.domains.lock().unwrap_or_else(PoisonError::into_inner).values() {
            wake.work.notify_one();
            wake.revoked.notify_one();
        }
        self.due.wake();
    }

    /// A lease of this domain was taken away.
    pub fn revoked(&self, domain: &str) {
        self.of(domain).revoked.notify_one();
    }
}
