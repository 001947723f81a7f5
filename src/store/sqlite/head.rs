//! The part of a job's row that decisions are made from, and the two steps most of them share: is the lease the
//! present one, and what follows when a job ends.

use longshore_actors::checkpoint::{Checkpoint, Counts};
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{FailCause, JobId, Lease, Name, OnChildFailed, State};
use longshore_actors::ledger::LedgerError;
use rusqlite::{OptionalExtension, params};

use crate::store::bounds::ATTEMPTS_MAX;
use crate::store::head::{self, End};
use crate::store::sqlite::names;
use crate::store::sqlite::tx::{OpResult, Tx};

const SELECT: &str = "
SELECT domain, kind, state, fence, owner IS NOT NULL, attempt, crashes, parent, on_child_failed,
    children_open, children_failed, unique_key IS NOT NULL, checkpoint, child_counts, message,
    octet_length(params), bytes
FROM jobs WHERE id = ?1";

const FINISH: &str = "
UPDATE jobs SET state = ?2, finished_at = ?3, cause = ?4, message = ?5, bytes = ?6, owner = NULL, lease_until = NULL
WHERE id = ?1";

/// A key held for a time stays held whatever became of its job.
const FREE_KEY: &str = "UPDATE jobs SET unique_held = 0 WHERE id = ?1 AND unique_held = 1 AND unique_scope <> 'for'";

const CHILD_ENDED: &str = "
UPDATE jobs SET children_open = max(children_open - 1, 0),
    children_completed = children_completed + (?2 = 'completed'),
    children_failed = children_failed + (?2 = 'failed'),
    children_cancelled = children_cancelled + (?2 = 'cancelled'),
    child_counts = ?3
WHERE id = ?1";

const NOTE_ATTEMPT: &str = "
INSERT INTO job_attempts (job, n, attempt, at, outcome, reason)
SELECT ?1, coalesce(max(n), 0) + 1, ?2, ?3, ?4, ?5 FROM job_attempts WHERE job = ?1";

const FORGET_ATTEMPTS: &str = "
DELETE FROM job_attempts WHERE job = ?1 AND n <= (SELECT max(n) FROM job_attempts WHERE job = ?1) - ?2";

#[derive(Debug)]
pub struct Head {
    pub id: JobId,
    pub domain: Name,
    pub kind: Name,
    pub state: State,
    pub fence: i64,
    pub owned: bool,
    pub attempt: u32,
    pub crashes: u32,
    pub parent: Option<JobId>,
    pub on_child_failed: OnChildFailed,
    pub children_open: i64,
    pub children_failed: i64,
    pub has_key: bool,
    checkpoint: Option<String>,
    child_counts: Option<String>,
    pub message: Option<String>,
    params_bytes: i64,
    pub bytes: i64,
}

impl Head {
    pub fn find(tx: &mut Tx<'_>, id: JobId) -> OpResult<Option<Head>> {
        let mut statement = tx.prepare(SELECT)?;
        let names = &mut tx.memory.names;
        let head = statement.query_row([id.0], |row| {
            Ok(Head {
                id,
                domain: names.text(row, 0)?,
                kind: names.text(row, 1)?,
                state: names::state(row, 2)?,
                fence: row.get(3)?,
                owned: row.get(4)?,
                attempt: row.get(5)?,
                crashes: row.get(6)?,
                parent: row.get::<_, Option<i64>>(7)?.map(JobId),
                on_child_failed: head::on_child_failed(row.get_ref(8)?.as_str()?),
                children_open: row.get(9)?,
                children_failed: row.get(10)?,
                has_key: row.get(11)?,
                checkpoint: row.get(12)?,
                child_counts: row.get(13)?,
                message: row.get(14)?,
                params_bytes: row.get(15)?,
                bytes: row.get(16)?,
            })
        });
        Ok(head.optional()?)
    }

    /// The job of a lease, if that is its present one.
    pub fn leased(tx: &mut Tx<'_>, lease: Lease) -> OpResult<Head> {
        match Head::find(tx, lease.job)? {
            Some(head) if head.state == State::Active && head.owned && head.fence == lease.fence => Ok(head),
            Some(_) | None => Err(LedgerError::Stale(lease).into()),
        }
    }

    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    pub fn checkpoint(&self) -> OpResult<Checkpoint> {
        head::checkpoint(self.checkpoint.as_deref()).map_err(|reason| self.broken(&reason).into())
    }

    pub fn child_counts(&self) -> OpResult<Counts> {
        head::counts(self.child_counts.as_deref()).map_err(|reason| self.broken(&reason).into())
    }

    /// Its own and its ended descendants'.
    pub fn all_counts(&self) -> OpResult<Counts> {
        let mut all = self.child_counts()?;
        if self.has_checkpoint() {
            all.add(&self.checkpoint()?.counts);
        }
        Ok(all)
    }

    fn broken(&self, reason: &str) -> LedgerError {
        LedgerError::Broken(format!("job {}: {reason}", self.id))
    }

    /// Ends the job, and with it every ancestor that waited for nothing else.
    pub fn finish(self, tx: &mut Tx<'_>, end: End, now: Timestamp) -> OpResult<()> {
        let counts = if self.parent.is_some() { self.all_counts()? } else { Counts::default() };
        let (parent, state) = (self.parent, end.state());
        self.write_end(tx, end, now)?;
        match parent {
            Some(parent) => child_ended(tx, parent, state, counts, now),
            None => Ok(()),
        }
    }

    fn write_end(self, tx: &mut Tx<'_>, end: End, now: Timestamp) -> OpResult<()> {
        let state = end.state();
        let (cause, message) = end.into_row();
        let cause = cause.map(FailCause::as_str);
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len) as i64;
        let bytes = self.params_bytes + length(&self.checkpoint) + length(&message);
        tx.execute(FINISH, params![self.id.0, state.as_str(), now.0, cause, message, bytes])?;
        if self.has_key {
            tx.execute(FREE_KEY, [self.id.0])?;
        }
        // A failed or cancelled job keeps what its snapshot has shown: it may be told to go on from there.
        if state == State::Completed && self.checkpoint.is_some() {
            tx.execute("DELETE FROM snapshot_keys WHERE job = ?1", [self.id.0])?;
        }
        tx.effects.moved(&self.domain, &self.kind, self.state, state);
        tx.effects.tally.finished_bytes += bytes;
        Ok(())
    }

    /// Adds a try that did not end well to the job's history.
    pub fn note_attempt(&self, tx: &Tx<'_>, outcome: &str, reason: &str, at: Timestamp) -> OpResult<()> {
        note_attempt(tx, self.id, self.attempt, outcome, reason, at)
    }
}

pub fn note_attempt(tx: &Tx<'_>, job: JobId, attempt: u32, outcome: &str, reason: &str, at: Timestamp) -> OpResult<()> {
    tx.execute(NOTE_ATTEMPT, params![job.0, attempt, at.0, outcome, reason])?;
    tx.execute(FORGET_ATTEMPTS, params![job.0, ATTEMPTS_MAX])?;
    Ok(())
}

/// Counts an ended child in its parent; a parent that waited for this one alone ends too, and so on upwards.
fn child_ended(tx: &mut Tx<'_>, parent: JobId, state: State, counts: Counts, now: Timestamp) -> OpResult<()> {
    let (mut parent, mut state, mut counts) = (Some(parent), state, counts);
    while let Some(id) = parent {
        // A parent that is pruned already has nothing to be told.
        let Some(mut head) = Head::find(tx, id)? else { return Ok(()) };
        let mut total = head.child_counts()?;
        total.add(&counts);
        let text = head::counts_text(&total)?;
        tx.execute(CHILD_ENDED, params![id.0, state.as_str(), text])?;
        head.children_open = (head.children_open - 1).max(0);
        head.children_failed += i64::from(state == State::Failed);
        head.child_counts = text;
        if head.state != State::Active || head.owned || head.children_open > 0 {
            return Ok(());
        }
        let end = head.end_after_children();
        counts = head.all_counts()?;
        state = end.state();
        parent = head.parent;
        head.write_end(tx, end, now)?;
    }
    Ok(())
}

impl Head {
    /// How a job ends whose own work is done and whose children have all ended.
    pub fn end_after_children(&self) -> End {
        head::end_after_children(self.on_child_failed, self.children_failed, self.message.as_deref())
    }
}
