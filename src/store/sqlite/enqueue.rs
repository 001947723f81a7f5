//! Puts jobs in.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, State, Unique};
use longshore_actors::ledger::{Enqueued, LedgerError};
use rusqlite::{OptionalExtension, params};

use crate::store::draft::{self, Draft};
use crate::store::sqlite::tx::{OpResult, Tx};

const INSERT: &str = "
INSERT INTO jobs (id, domain, kind, params, priority, state, run_at, enqueued_at, parent, on_child_failed)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const HOLD_KEY: &str = "
UPDATE jobs SET unique_key = ?2, unique_scope = ?3, unique_until = ?4, unique_held = 1 WHERE id = ?1";

const ADD_OPEN: &str = "UPDATE jobs SET children_open = children_open + ?2 WHERE id = ?1";

pub(super) const HOLDER: &str = "SELECT id, unique_until FROM jobs WHERE unique_key = ?1 AND unique_held = 1";

pub fn enqueue(tx: &mut Tx<'_>, drafts: &[Draft], now: Timestamp) -> OpResult<Vec<Enqueued>> {
    let mut answers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let answer = put(tx, draft, draft.parent, now)?;
        if let (Some(parent), Enqueued::New(_)) = (draft.parent, answer) {
            add_open(tx, parent, 1)?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// The children that a part of `parent` asks for. One whose key is taken by another job stays out: that job is not
/// this parent's to wait for.
pub fn children(tx: &mut Tx<'_>, drafts: &[Draft], parent: JobId, now: Timestamp) -> OpResult<()> {
    let mut open = 0;
    for draft in drafts {
        if let Enqueued::New(_) = put(tx, draft, Some(parent), now)? {
            open += 1;
        }
    }
    if open > 0 { add_open(tx, parent, open) } else { Ok(()) }
}

fn add_open(tx: &Tx<'_>, parent: JobId, open: i64) -> OpResult<()> {
    match tx.execute(ADD_OPEN, [parent.0, open])? {
        0 => Err(LedgerError::Missing(parent).into()),
        _ => Ok(()),
    }
}

fn put(tx: &mut Tx<'_>, draft: &Draft, parent: Option<JobId>, now: Timestamp) -> OpResult<Enqueued> {
    if let Some(unique) = &draft.unique
        && let Some(holder) = holder(tx, &unique.key, now)?
    {
        return Ok(Enqueued::Existing(holder));
    }
    let id = tx.next_id();
    let (state, run_at) = draft.start(now);
    tx.prepare(INSERT)?.execute(params![
        id.0,
        &*draft.domain,
        &*draft.kind,
        draft.params,
        draft.priority,
        state.as_str(),
        run_at.0,
        now.0,
        parent.map(|parent| parent.0),
        draft.on_child_failed(),
    ])?;
    if let Some(Unique { key, scope }) = &draft.unique {
        let (scope, until) = draft::key_span(*scope, now);
        tx.execute(HOLD_KEY, params![id.0, key, scope, until.map(|until| until.0)])?;
    }
    tx.effects.tally.add(&draft.domain, &draft.kind, state, 1);
    if state == State::Delayed {
        tx.effects.delayed(run_at);
    } else {
        tx.effects.work(&draft.domain);
    }
    Ok(Enqueued::New(id))
}

/// The job that holds a key now. One that held it for a time that is over lets go of it here.
pub fn holder(tx: &Tx<'_>, key: &str, now: Timestamp) -> OpResult<Option<JobId>> {
    let found: Option<(i64, Option<i64>)> =
        tx.prepare(HOLDER)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match found {
        Some((id, Some(until))) if until <= now.0 => {
            tx.execute("UPDATE jobs SET unique_held = 0 WHERE id = ?1", [id])?;
            Ok(None)
        }
        Some((id, _)) => Ok(Some(JobId(id))),
        None => Ok(None),
    }
}
