//! An operator's word on one job.

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Change, LedgerError};
use rusqlite::params;

use crate::store::head::{self, End};
use crate::store::sqlite::commit;
use crate::store::sqlite::enqueue;
use crate::store::sqlite::head::Head;
use crate::store::sqlite::record;
use crate::store::sqlite::tx::{OpResult, Tx};

const RUN_AGAIN: &str = "
UPDATE jobs SET state = 'waiting', run_at = ?2, attempt = 0, crashes = 0, ran_ms = 0, finished_at = NULL, cause = NULL,
    message = NULL, bytes = 0, unique_held = (unique_key IS NOT NULL AND coalesce(unique_until > ?2, 1))
WHERE id = ?1";

/// A completed job that runs again starts from its first page. The children it has had stay its children, and are
/// counted as such.
const START_AFRESH: &str = "UPDATE jobs SET checkpoint = NULL WHERE id = ?1";

const CHILD_REOPENED: &str = "
UPDATE jobs SET children_open = children_open + 1,
    children_completed = max(children_completed - (?2 = 'completed'), 0),
    children_failed = max(children_failed - (?2 = 'failed'), 0),
    children_cancelled = max(children_cancelled - (?2 = 'cancelled'), 0)
WHERE id = ?1";

/// Ended ones too: a child that failed may have left children that run on.
pub(super) const CHILDREN: &str = "SELECT id FROM jobs WHERE parent = ?1";

pub fn change(tx: &mut Tx<'_>, job: JobId, change: &Change, now: Timestamp) -> OpResult<()> {
    let head = Head::find(tx, job)?.ok_or(LedgerError::Missing(job))?;
    match change {
        Change::Retry => retry(tx, head, now),
        Change::Cancel { reason } => cancel(tx, head, reason, now),
    }
}

/// The children of a job that failed or was cancelled ended with it, or may have; its plan asks for them anew.
fn ask_for_children_again(tx: &mut Tx<'_>, head: &Head) -> OpResult<()> {
    let mut checkpoint = head.checkpoint()?;
    if checkpoint.planned {
        checkpoint.planned = false;
        tx.execute(commit::CHECKPOINT, params![head.id.0, head::json_text(&checkpoint)?])?;
    }
    Ok(())
}

fn retry(tx: &mut Tx<'_>, head: Head, now: Timestamp) -> OpResult<()> {
    let id = head.id;
    match head.state {
        State::Completed | State::Failed | State::Cancelled | State::Delayed => {}
        State::Waiting | State::Active => {
            return Err(LedgerError::Refused(format!("job {id} is {} already", head.state)).into());
        }
    }
    if head.has_key {
        let key: String =
            tx.prepare("SELECT unique_key FROM jobs WHERE id = ?1")?.query_row([id.0], |row| row.get(0))?;
        if let Some(holder) = enqueue::holder(tx, &key, now)?
            && holder != id
        {
            let reason = format!("job {holder} holds the unique key {key:?} of job {id}");
            return Err(LedgerError::Refused(reason).into());
        }
    }
    if head.state.is_final()
        && let Some(parent) = head.parent
    {
        reopen_child(tx, parent, head.state, &head.all_counts()?)?;
    }
    tx.execute(RUN_AGAIN, params![id.0, now.0])?;
    if head.state == State::Completed {
        tx.execute(START_AFRESH, [id.0])?;
    } else if head.state.is_final() {
        ask_for_children_again(tx, &head)?;
    }
    tx.effects.moved(&head.domain, &head.kind, head.state, State::Waiting);
    tx.effects.tally.finished_bytes -= head.bytes;
    Ok(())
}

/// Takes an ended child back out of its parent's sums; the parent's own state stays what it is.
fn reopen_child(tx: &mut Tx<'_>, parent: JobId, was: State, counts: &Counts) -> OpResult<()> {
    let Some(head) = Head::find(tx, parent)? else { return Ok(()) };
    tx.execute(CHILD_REOPENED, params![parent.0, was.as_str()])?;
    let mut total = head.child_counts()?;
    total.subtract(counts);
    record::set_child_counts(tx, parent, &total)
}

/// Cancels a job and all of its descendants that have not ended.
fn cancel(tx: &mut Tx<'_>, head: Head, reason: &str, now: Timestamp) -> OpResult<()> {
    if head.state.is_final() {
        return Err(LedgerError::Refused(format!("job {} is {} already", head.id, head.state)).into());
    }
    let parent = head.id;
    cancel_one(tx, head, reason, now)?;
    // The parent is final by now, so that the end of its children does not end it a second time.
    let because = format!("job {parent} was cancelled: {reason}");
    let mut parents = vec![parent];
    while let Some(parent) = parents.pop() {
        for child in children(tx, parent)? {
            if let Some(head) = Head::find(tx, child)? {
                if !head.state.is_final() {
                    cancel_one(tx, head, &because, now)?;
                }
                parents.push(child);
            }
        }
    }
    Ok(())
}

fn cancel_one(tx: &mut Tx<'_>, head: Head, reason: &str, now: Timestamp) -> OpResult<()> {
    head.note_attempt(tx, "cancelled", reason, now)?;
    if head.owned {
        tx.effects.revoke(&head.domain);
    }
    head.finish(tx, End::Cancelled { reason: reason.to_owned() }, now)
}

fn children(tx: &Tx<'_>, parent: JobId) -> OpResult<Vec<JobId>> {
    let mut statement = tx.prepare(CHILDREN)?;
    let ids = statement.query_map([parent.0], |row| row.get(0).map(JobId))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}
