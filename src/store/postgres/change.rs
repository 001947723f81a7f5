//! An operator's word on one job.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Change, LedgerError};
use tokio_postgres::types::Type;

use crate::store::head::{self, End};
use crate::store::postgres::attempts::Attempts;
use crate::store::postgres::commit;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::enqueue;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::head::{Head, Heads};
use crate::store::postgres::session::Tx;
use crate::store::postgres::work::Work;

/// A completed job that runs again starts from its first page. The children it has had stay its children, and are
/// counted as such.
const START_AFRESH: &str = "UPDATE jobs SET checkpoint = NULL WHERE id = $1";

#[derive(Debug)]
pub struct Word {
    pub job: JobId,
    pub change: Change,
    pub now: Timestamp,
}

impl Work for Word {
    type Answer = ();

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<()> {
        let Word { job, change, now } = self;
        match change {
            Change::Retry => retry(tx, *job, *now, effects).await,
            Change::Cancel { reason } => cancel(tx, *job, reason, *now, effects).await,
        }
    }
}

async fn retry(tx: &Tx<'_>, id: JobId, now: Timestamp, effects: &mut Effects) -> OpResult<()> {
    let mut heads = Heads::hold(tx, &[id.0]).await?;
    let head = heads.get(id).ok_or(LedgerError::Missing(id))?;
    let was = head.state;
    match was {
        State::Completed | State::Failed | State::Cancelled | State::Delayed => {}
        State::Waiting | State::Active => {
            return Err(LedgerError::Refused(format!("job {id} is {was} already")).into());
        }
    }
    if let Some(key) = &head.unique_key
        && let Some(holder) = enqueue::holder(tx, key, now).await?
        && holder != id
    {
        let reason = format!("job {holder} holds the unique key {key:?} of job {id}");
        return Err(LedgerError::Refused(reason).into());
    }
    if was == State::Completed {
        tx.execute(START_AFRESH, &[(&id.0, Type::INT8)]).await?;
    } else if was.is_final() {
        ask_for_children_again(tx, head).await?;
    }
    if was.is_final() {
        heads.reopen_child(id)?;
    }
    if let Some(head) = heads.change(id) {
        run_again(head, now);
        effects.work(&head.domain);
    }
    match heads.write(tx, &Attempts::default()).await {
        Err(error) if error.is_unique_violation() => {
            // It was put in between the look and the write.
            Err(LedgerError::Refused(format!("another job holds the unique key of job {id}")).into())
        }
        written => written,
    }
}

fn run_again(head: &mut Head, now: Timestamp) {
    head.state = State::Waiting;
    head.run_at = now.0;
    (head.attempt, head.crashes, head.ran_ms, head.bytes) = (0, 0, 0, 0);
    (head.finished_at, head.cause, head.message) = (None, None, None);
    head.unique_held = head.unique_key.is_some() && head.unique_until.is_none_or(|until| until > now.0);
}

/// The children of a job that failed or was cancelled ended with it, or may have; its plan asks for them anew.
async fn ask_for_children_again(tx: &Tx<'_>, head: &Head) -> OpResult<()> {
    let mut checkpoint = head.checkpoint()?;
    if checkpoint.planned {
        checkpoint.planned = false;
        let text = head::json_text(&checkpoint)?;
        tx.execute(commit::CHECKPOINT, &[(&head.id.0, Type::INT8), (&text, Type::TEXT)]).await?;
    }
    Ok(())
}

/// Cancels a job and all of its descendants that have not ended.
async fn cancel(tx: &Tx<'_>, id: JobId, reason: &str, now: Timestamp, effects: &mut Effects) -> OpResult<()> {
    let mut heads = Heads::hold_family(tx, id).await?;
    let head = heads.get(id).ok_or(LedgerError::Missing(id))?;
    if head.state.is_final() {
        return Err(LedgerError::Refused(format!("job {id} is {} already", head.state)).into());
    }
    let mut attempts = Attempts::default();
    cancel_one(&mut heads, &mut attempts, id, reason, now, effects)?;
    // The parent is final by now, so that the end of its children does not end it a second time.
    let because = format!("job {id} was cancelled: {reason}");
    let mut parents = vec![id];
    while let Some(parent) = parents.pop() {
        for child in heads.children(parent) {
            if heads.get(child).is_some_and(|head| !head.state.is_final()) {
                cancel_one(&mut heads, &mut attempts, child, &because, now, effects)?;
            }
            parents.push(child);
        }
    }
    heads.write(tx, &attempts).await
}

fn cancel_one(
    heads: &mut Heads,
    attempts: &mut Attempts,
    id: JobId,
    reason: &str,
    now: Timestamp,
    effects: &mut Effects,
) -> OpResult<()> {
    let Some(head) = heads.get(id) else { return Ok(()) };
    attempts.note(id, head.attempt, "cancelled", reason, now);
    if head.owned {
        effects.revoke(&head.domain);
    }
    heads.finish(id, End::Cancelled { reason: reason.to_owned() }, now)
}
