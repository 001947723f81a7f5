//! Ends one try of a job.

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Lease, Outcome, State};
use longshore_actors::ledger::{Entity, Record};
use rusqlite::params;

use crate::store::head::{self, End};
use crate::store::sqlite::head::Head;
use crate::store::sqlite::tx::{OpResult, Tx};

/// Most ends by far: of a job without family, key or checkpoint. One statement that checks and writes, where the
/// general way reads the row first.
const FINISH_PLAIN: &str = "
UPDATE jobs SET state = 'completed', finished_at = ?3, message = ?4, bytes = octet_length(params) + ?5,
    owner = NULL, lease_until = NULL
WHERE id = ?1 AND fence = ?2 AND state = 'active' AND owner IS NOT NULL AND parent IS NULL
    AND children_open = 0 AND children_failed = 0 AND unique_key IS NULL AND checkpoint IS NULL
RETURNING domain, kind, bytes";

/// Its own work is done; it stays active for its children, and nobody may write to it any more.
const AWAIT_CHILDREN: &str = "
UPDATE jobs SET owner = NULL, lease_until = NULL, fence = fence + 1, message = ?2 WHERE id = ?1";

const GIVE_BACK: &str = "
UPDATE jobs SET state = ?2, run_at = coalesce(?3, run_at), attempt = ?4, message = coalesce(?5, message),
    ran_ms = ran_ms + max(?6 - started_at, 0), owner = NULL, lease_until = NULL
WHERE id = ?1";

const SYNC_SUCCESS: &str = "
INSERT INTO sync_state (provider, entity, last_success_at, last_job, counts) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (provider, entity) DO UPDATE SET
    last_success_at = excluded.last_success_at, last_job = excluded.last_job, counts = excluded.counts";

const SYNC_ERROR: &str = "
INSERT INTO sync_state (provider, entity, last_error_at, last_job, last_error) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (provider, entity) DO UPDATE SET
    last_error_at = excluded.last_error_at, last_job = excluded.last_job, last_error = excluded.last_error";

pub fn record(tx: &mut Tx<'_>, record: &Record, now: Timestamp) -> OpResult<()> {
    if let Record { lease, outcome: Outcome::Completed { note }, entity: None } = record
        && finish_plain(tx, *lease, note.as_deref(), now)?
    {
        return Ok(());
    }
    let mut head = Head::leased(tx, record.lease)?;
    if let Some(entity) = &record.entity {
        sync(tx, &head, entity, &record.outcome, now)?;
    }
    match &record.outcome {
        Outcome::Completed { note } if head.children_open > 0 => {
            tx.execute(AWAIT_CHILDREN, params![head.id.0, note])?;
            Ok(())
        }
        Outcome::Completed { note } => {
            head.message = note.clone();
            let end = head.end_after_children();
            head.finish(tx, end, now)
        }
        Outcome::Failed { cause, reason } => {
            head.note_attempt(tx, "failed", reason, now)?;
            head.finish(tx, End::Failed { cause: *cause, reason: reason.clone() }, now)
        }
        Outcome::Cancelled { reason } => {
            head.note_attempt(tx, "cancelled", reason, now)?;
            head.finish(tx, End::Cancelled { reason: reason.clone() }, now)
        }
        Outcome::Retry { at, reason } => {
            give_back(tx, &head, Back { until: Some(*at), burnt: true, word: "retry", reason }, now)
        }
        Outcome::Snoozed { until, reason } => {
            give_back(tx, &head, Back { until: Some(*until), burnt: false, word: "snoozed", reason }, now)
        }
        Outcome::Interrupted => {
            let reason = "the service stopped";
            give_back(tx, &head, Back { until: None, burnt: false, word: "interrupted", reason }, now)
        }
    }
}

/// `false`: the job is not so plain, or the lease is stale; nothing was written.
fn finish_plain(tx: &mut Tx<'_>, lease: Lease, note: Option<&str>, now: Timestamp) -> OpResult<bool> {
    let note_bytes = note.map_or(0, str::len) as i64;
    let mut statement = tx.prepare(FINISH_PLAIN)?;
    let mut rows = statement.query(params![lease.job.0, lease.fence, now.0, note, note_bytes])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    let names = &mut tx.memory.names;
    let (domain, kind, bytes) = (names.text(row, 0)?, names.text(row, 1)?, row.get::<_, i64>(2)?);
    tx.effects.moved(&domain, &kind, State::Active, State::Completed);
    tx.effects.tally.finished_bytes += bytes;
    Ok(true)
}

/// How a job goes back: delayed or at once, with or without its attempt.
struct Back<'a> {
    until: Option<Timestamp>,
    burnt: bool,
    word: &'a str,
    reason: &'a str,
}

fn give_back(tx: &mut Tx<'_>, head: &Head, back: Back<'_>, now: Timestamp) -> OpResult<()> {
    let Back { until, burnt, word, reason } = back;
    head.note_attempt(tx, word, reason, now)?;
    let attempt = if burnt { head.attempt } else { head.attempt.saturating_sub(1) };
    let state = if until.is_some() { State::Delayed } else { State::Waiting };
    // An interruption says nothing about the job; a message it has from an earlier try stays.
    let message = until.map(|_| reason);
    tx.execute(GIVE_BACK, params![head.id.0, state.as_str(), until.map(|until| until.0), attempt, message, now.0])?;
    tx.effects.moved(&head.domain, &head.kind, State::Active, state);
    if let Some(until) = until {
        tx.effects.delayed(until);
    }
    Ok(())
}

fn sync(tx: &Tx<'_>, head: &Head, entity: &Entity, outcome: &Outcome, now: Timestamp) -> OpResult<()> {
    let Entity { provider, entity } = entity;
    match outcome {
        Outcome::Completed { .. } => {
            let counts = head::json_text(&head.all_counts()?)?;
            tx.execute(SYNC_SUCCESS, params![provider, entity, now.0, head.id.0, counts])?;
        }
        Outcome::Retry { reason, .. } | Outcome::Failed { reason, .. } => {
            tx.execute(SYNC_ERROR, params![provider, entity, now.0, head.id.0, reason])?;
        }
        Outcome::Snoozed { .. } | Outcome::Cancelled { .. } | Outcome::Interrupted => {}
    }
    Ok(())
}

/// Counts a worker that the job killed; answers how many there are by now.
pub fn record_crash(tx: &mut Tx<'_>, lease: Lease, reason: &str, now: Timestamp) -> OpResult<u32> {
    let head = Head::leased(tx, lease)?;
    head.note_attempt(tx, "crashed", reason, now)?;
    tx.execute("UPDATE jobs SET crashes = crashes + 1 WHERE id = ?1", [head.id.0])?;
    Ok(head.crashes + 1)
}

/// Writes back the counts of a parent's ended children.
pub fn set_child_counts(tx: &Tx<'_>, parent: JobId, counts: &Counts) -> OpResult<()> {
    let text = head::counts_text(counts)?;
    tx.execute("UPDATE jobs SET child_counts = ?2 WHERE id = ?1", params![parent.0, text])?;
    Ok(())
}
