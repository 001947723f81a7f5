//! A job, one try of it, and how a try can end.
//!
//! ```text
//! waiting ──claim──▶ active ──record──▶ completed | failed | cancelled
//!    ▲                 │
//!    └──release── delayed ◀── retry, snooze
//! ```
//!
//! A [`Fault`] is what a stage says went wrong, and is already a decision. An [`Outcome`] is what the coordinator
//! records of a try. Nobody above the stage looks at status codes or texts again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::clock::Timestamp;

/// The ledger's number of a job; grows in the order of enqueueing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a domain or of a job kind; shared, since every job carries two.
pub type Name = Arc<str>;

/// The six states, in the words of the schema, the metrics and the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Waiting,
    Delayed,
    Active,
    Completed,
    Failed,
    Cancelled,
}

impl State {
    pub const ALL: [State; 6] =
        [State::Waiting, State::Delayed, State::Active, State::Completed, State::Failed, State::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Delayed => "delayed",
            State::Active => "active",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Nothing more happens to the job by itself.
    pub fn is_final(self) -> bool {
        matches!(self, State::Completed | State::Failed | State::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long a unique key keeps a second job with the same key out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueScope {
    /// Until the first one is claimed.
    UntilStarted,
    /// Until the first one is in a final state.
    UntilCompleted,
    /// For this long after the first one was enqueued, whatever became of it.
    For(Duration),
}

/// At most one job with this key at a time; a second one is answered with the first one's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    pub key: String,
    pub scope: UniqueScope,
}

/// What a parent does when a child ends in `failed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChildFailed {
    /// The parent completes and reports how many failed.
    #[default]
    Ignore,
    /// The parent fails once all its children have ended.
    Fail,
}

/// A job that is to be put into the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    pub domain: Name,
    pub kind: Name,
    pub params: Value,
    /// Lower runs first; 0 is usual, negative is urgent.
    pub priority: i32,
    pub unique: Option<Unique>,
    pub parent: Option<JobId>,
    /// Not before this instant (`delayed` until then).
    pub run_at: Option<Timestamp>,
    pub on_child_failed: OnChildFailed,
}

impl NewJob {
    pub fn new(domain: impl Into<Name>, kind: impl Into<Name>, params: Value) -> Self {
        Self {
            domain: domain.into(),
            kind: kind.into(),
            params,
            priority: 0,
            unique: None,
            parent: None,
            run_at: None,
            on_child_failed: OnChildFailed::default(),
        }
    }

    pub fn unique(mut self, key: impl Into<String>, scope: UniqueScope) -> Self {
        self.unique = Some(Unique { key: key.into(), scope });
        self
    }

    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    pub fn run_at(mut self, run_at: Timestamp) -> Self {
        self.run_at = Some(run_at);
        self
    }
}

/// The right to write to one active job. `fence` grows with every claim of that job, so a writer that was given up
/// for dead cannot write over its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub job: JobId,
    pub fence: i64,
}

/// A claimed job, as the coordinator's driving function holds it.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub domain: Name,
    pub kind: Name,
    pub params: Value,
    pub parent: Option<JobId>,
    /// 1 on the first try. Rescue, snooze and interruption do not count.
    pub attempt: u32,
    /// How many workers this job has killed so far.
    pub crashes: u32,
    pub lease: Lease,
    pub checkpoint: Checkpoint,
    pub enqueued_at: Timestamp,
    /// How long its earlier tries ran, together; waits between them do not count, nor a try whose process died.
    pub ran: Duration,
}

/// What went wrong, as a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// May work another time; not before `after` when the other side said so. Burns an attempt.
    Retry { reason: String, after: Option<Duration> },
    /// The input itself is bad: put it among the rejects and go on with the rest of the job.
    Reject { reason: String },
    /// Will not work however often: fail the job.
    Fail { reason: String },
    /// The job or the service is being stopped.
    Cancelled,
    /// Something this needs is down. Burns no attempt; tried again after `retry_in`, or once its breaker lets it.
    Unavailable { what: String, reason: String, retry_in: Option<Duration> },
}

impl Fault {
    pub fn retry(reason: impl Into<String>) -> Self {
        Fault::Retry { reason: reason.into(), after: None }
    }

    pub fn fail(reason: impl Into<String>) -> Self {
        Fault::Fail { reason: reason.into() }
    }

    pub fn reject(reason: impl Into<String>) -> Self {
        Fault::Reject { reason: reason.into() }
    }

    pub fn unavailable(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault::Unavailable { what: what.into(), reason: reason.into(), retry_in: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Retry { reason, .. } | Fault::Fail { reason } => f.write_str(reason),
            Fault::Reject { reason } => write!(f, "rejected: {reason}"),
            Fault::Cancelled => f.write_str("cancelled"),
            Fault::Unavailable { what, reason, .. } => write!(f, "{what} is unavailable: {reason}"),
        }
    }
}

/// Why a job stands in the failed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailCause {
    /// A fault that no retry mends.
    Permanent,
    /// The attempts are used up.
    Exhausted,
    /// It killed its worker `crashes_max` times.
    Poison,
    /// A child failed and the parent was told to mind.
    Child,
}

impl FailCause {
    pub fn as_str(self) -> &'static str {
        match self {
            FailCause::Permanent => "permanent",
            FailCause::Exhausted => "exhausted",
            FailCause::Poison => "poison",
            FailCause::Child => "child",
        }
    }

    pub fn parse(text: &str) -> Option<FailCause> {
        [FailCause::Permanent, FailCause::Exhausted, FailCause::Poison, FailCause::Child]
            .into_iter()
            .find(|cause| cause.as_str() == text)
    }
}

/// How one try ended, as the ledger stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its own work is done. The ledger keeps it `active`, without a lease, while it has children that have not
    /// ended, and completes it together with the last of them.
    Completed {
        note: Option<String>,
    },
    /// Another attempt at `at`.
    Retry {
        at: Timestamp,
        reason: String,
    },
    /// Later, and this try does not count.
    Snoozed {
        until: Timestamp,
        reason: String,
    },
    Failed {
        cause: FailCause,
        reason: String,
    },
    Cancelled {
        reason: String,
    },
    /// The service stops: back to `waiting` at once, and this try does not count.
    Interrupted,
}

impl Outcome {
    /// The word for logs and counters.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Completed { .. } => "completed",
            Outcome::Retry { .. } => "retry",
            Outcome::Snoozed { .. } => "snoozed",
            Outcome::Failed { .. } => "failed",
            Outcome::Cancelled { .. } => "cancelled",
            Outcome::Interrupted => "interrupted",
        }
    }
}
