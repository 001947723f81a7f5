//! New jobs on their way into the ledger.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Name, NewJob, OnChildFailed, State, Unique, UniqueScope};

use crate::store::text;

/// A new job with its params as text: made on the caller's thread, so that the one that writes does not. Its texts are
/// clean.
#[derive(Debug)]
pub struct Draft {
    pub domain: Name,
    pub kind: Name,
    pub params: String,
    pub priority: i32,
    pub unique: Option<Unique>,
    pub parent: Option<JobId>,
    run_at: Option<Timestamp>,
    on_child_failed: OnChildFailed,
}

impl From<NewJob> for Draft {
    fn from(job: NewJob) -> Self {
        let NewJob { domain, kind, params, priority, mut unique, parent, run_at, on_child_failed } = job;
        let clean = |name: Name| if name.contains('\0') { Name::from(&*text::clean(&name)) } else { name };
        let (domain, kind) = (clean(domain), clean(kind));
        if let Some(unique) = &mut unique {
            text::clean_text(&mut unique.key);
        }
        // A `Value` prints itself as JSON.
        Draft { domain, kind, params: params.to_string(), priority, unique, parent, run_at, on_child_failed }
    }
}

/// The drafts of a receipt's children.
pub fn drafts(children: &[NewJob]) -> Vec<Draft> {
    children.iter().cloned().map(Draft::from).collect()
}

impl Draft {
    /// The state it starts in, and when it is due.
    pub fn start(&self, now: Timestamp) -> (State, Timestamp) {
        let run_at = self.run_at.unwrap_or(now).max(now);
        (if run_at > now { State::Delayed } else { State::Waiting }, run_at)
    }

    pub fn on_child_failed(&self) -> &'static str {
        match self.on_child_failed {
            OnChildFailed::Ignore => "ignore",
            OnChildFailed::Fail => "fail",
        }
    }
}

/// The word of the schema for how long a key is held, and the end of a span that begins now.
pub fn key_span(scope: UniqueScope, now: Timestamp) -> (&'static str, Option<Timestamp>) {
    match scope {
        UniqueScope::UntilStarted => ("until_started", None),
        UniqueScope::UntilCompleted => ("until_completed", None),
        UniqueScope::For(span) => ("for", Some(now.plus(span))),
    }
}
