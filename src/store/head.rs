//! What both dialects decide from a job's row: how it ends, and how its checkpoint and counts are read and written.
//!
//! Texts in, texts out; which statements read and write them is the dialect's part.

use longshore_actors::checkpoint::{Checkpoint, Counts};
use longshore_actors::job::{FailCause, OnChildFailed, State};
use longshore_actors::ledger::LedgerError;

/// How a job ends.
#[derive(Clone, Debug)]
pub enum End {
    Completed { note: Option<String> },
    Failed { cause: FailCause, reason: String },
    Cancelled { reason: String },
}

impl End {
    pub fn state(&self) -> State {
        match self {
            End::Completed { .. } => State::Completed,
            End::Failed { .. } => State::Failed,
            End::Cancelled { .. } => State::Cancelled,
        }
    }

    /// What the row says of it: the cause of a failure, and the last word.
    pub fn into_row(self) -> (Option<FailCause>, Option<String>) {
        match self {
            End::Completed { note } => (None, note),
            End::Failed { cause, reason } => (Some(cause), Some(reason)),
            End::Cancelled { reason } => (None, Some(reason)),
        }
    }
}

/// How a job ends whose own work is done and whose children have all ended.
pub fn end_after_children(on_child_failed: OnChildFailed, children_failed: i64, note: Option<&str>) -> End {
    match on_child_failed {
        OnChildFailed::Fail if children_failed > 0 => {
            let reason = match children_failed {
                1 => "a child failed".to_owned(),
                failed => format!("{failed} children failed"),
            };
            End::Failed { cause: FailCause::Child, reason }
        }
        OnChildFailed::Fail | OnChildFailed::Ignore => End::Completed { note: note.map(str::to_owned) },
    }
}

/// The word of the schema, which allows two alone.
pub fn on_child_failed(word: &str) -> OnChildFailed {
    if word == "fail" { OnChildFailed::Fail } else { OnChildFailed::Ignore }
}

/// NULL is the empty checkpoint.
pub fn checkpoint(text: Option<&str>) -> Result<Checkpoint, String> {
    match text {
        Some(text) => serde_json::from_str(text).map_err(|error| format!("its checkpoint cannot be read: {error}")),
        None => Ok(Checkpoint::default()),
    }
}

/// NULL is zero.
pub fn counts(text: Option<&str>) -> Result<Counts, String> {
    match text {
        Some(text) => serde_json::from_str(text).map_err(|error| format!("its counts cannot be read: {error}")),
        None => Ok(Counts::default()),
    }
}

pub fn counts_text(counts: &Counts) -> Result<Option<String>, LedgerError> {
    if counts.is_zero() { Ok(None) } else { json_text(counts).map(Some) }
}

pub fn json_text(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Broken(format!("cannot write as JSON: {error}")))
}
