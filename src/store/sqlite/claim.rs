//! Moves jobs between `waiting` and `active`: claim, renew, release, rescue.

use std::time::Duration;

use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{Job, JobId, Lease, State};
use longshore_actors::ledger::{Claim, Released, Rescue};
use rusqlite::{Row, params};
use serde_json::Value;

use crate::store::bounds::{RELEASE_MAX, RESCUE_ROUND};
use crate::store::head;
use crate::store::sqlite::head::note_attempt;
use crate::store::sqlite::names::Names;
use crate::store::sqlite::tx::{OpResult, Tx};

/// Reads no more of the ready index than its kind has room for.
pub(super) const READY: &str = "
SELECT id, priority FROM jobs WHERE state = 'waiting' AND domain = ?1 AND kind = ?2 ORDER BY priority, id LIMIT ?3";

const LOOK: &str = "
SELECT kind, params, parent, attempt + 1, crashes, fence + 1, checkpoint, enqueued_at, ran_ms FROM jobs WHERE id = ?1";

const START: &str = "
UPDATE jobs SET state = 'active', attempt = attempt + 1, fence = fence + 1, owner = ?2, lease_until = ?3,
    started_at = ?4, unique_held = CASE WHEN unique_scope = 'until_started' THEN 0 ELSE unique_held END
WHERE id = ?1";

pub(super) const RENEW: &str = "
UPDATE jobs SET lease_until = ?3 WHERE id = ?1 AND state = 'active' AND owner IS NOT NULL AND fence = ?2";

pub(super) const RELEASE: &str = "
UPDATE jobs SET state = 'waiting'
WHERE id IN (SELECT id FROM jobs WHERE state = 'delayed' AND run_at <= ?1 ORDER BY run_at LIMIT ?2)
RETURNING domain, kind";

pub(super) const NEXT_DUE: &str = "SELECT min(run_at) FROM jobs WHERE state = 'delayed'";

/// The fence grows here too, so that the dead owner's lease is stale from now on and not only from the next claim.
pub(super) const GIVE_BACK: &str = "
UPDATE jobs SET state = 'waiting', attempt = max(attempt - 1, 0), fence = fence + 1, owner = NULL, lease_until = NULL
WHERE id IN (SELECT id FROM jobs WHERE state = 'active' AND owner IS NOT NULL AND CONDITION LIMIT 1000)
RETURNING domain, kind, id, attempt + 1, started_at";

/// Up to `claim.max` jobs, best first.
///
/// Three plain statements, the last two for each job, and not one `UPDATE … IN (SELECT …) RETURNING`: that builds
/// four temporary tables a call, which is dear when few jobs are claimed at a time and saves little when many are.
pub fn claim(tx: &mut Tx<'_>, claim: &Claim) -> OpResult<Vec<Job>> {
    let mut best = Vec::new();
    let mut ready = tx.prepare(READY)?;
    for (kind, room) in &claim.kinds {
        let room = i64::try_from((*room).min(claim.max)).unwrap_or(i64::MAX);
        let mut rows = ready.query(params![&*claim.domain, &**kind, room])?;
        while let Some(row) = rows.next()? {
            best.push((row.get::<_, i64>(1)?, row.get::<_, i64>(0)?));
        }
    }
    best.sort_unstable();
    best.dedup();
    best.truncate(claim.max);
    let (mut look, mut start) = (tx.prepare(LOOK)?, tx.prepare(START)?);
    let mut jobs = Vec::with_capacity(best.len());
    for (_, id) in best {
        let names = &mut tx.memory.names;
        let job = look.query_row([id], |row| claimed_job(row, JobId(id), names, claim))?;
        start.execute(params![id, &*claim.owner, claim.until.0, claim.now.0])?;
        tx.effects.moved(&job.domain, &job.kind, State::Waiting, State::Active);
        jobs.push(job);
    }
    Ok(jobs)
}

/// The job as it is once the claim has gone through.
fn claimed_job(row: &Row<'_>, id: JobId, names: &mut Names, claim: &Claim) -> rusqlite::Result<Job> {
    let params = row.get_ref(1)?.as_str()?;
    let checkpoint = match row.get_ref(6)?.as_str_or_null()? {
        None => Checkpoint::default(),
        Some(text) => head::checkpoint(Some(text)).unwrap_or_else(|reason| {
            tracing::warn!(job_id = id.0, reason, "the job starts from its first page");
            Checkpoint::default()
        }),
    };
    Ok(Job {
        id,
        domain: claim.domain.clone(),
        kind: names.text(row, 0)?,
        // One damaged row must not keep the others from being claimed: its domain will refuse what is no object.
        params: serde_json::from_str(params).unwrap_or_else(|_| Value::String(params.to_owned())),
        parent: row.get::<_, Option<i64>>(2)?.map(JobId),
        attempt: row.get(3)?,
        crashes: row.get(4)?,
        lease: Lease { job: id, fence: row.get(5)? },
        checkpoint,
        enqueued_at: Timestamp(row.get(7)?),
        ran: Duration::from_millis(u64::try_from(row.get::<_, i64>(8)?).unwrap_or(0)),
    })
}

/// Answers the leases that are no longer held.
pub fn renew(tx: &Tx<'_>, leases: &[Lease], until: Timestamp) -> OpResult<Vec<Lease>> {
    let mut statement = tx.prepare(RENEW)?;
    let mut lost = Vec::new();
    for lease in leases {
        if statement.execute(params![lease.job.0, lease.fence, until.0])? == 0 {
            lost.push(*lease);
        }
    }
    Ok(lost)
}

pub fn release(tx: &mut Tx<'_>, now: Timestamp) -> OpResult<Released> {
    let mut statement = tx.prepare(RELEASE)?;
    let mut rows = statement.query(params![now.0, RELEASE_MAX])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (domain, kind) = (tx.memory.names.text(row, 0)?, tx.memory.names.text(row, 1)?);
        tx.effects.moved(&domain, &kind, State::Delayed, State::Waiting);
        count += 1;
    }
    let next_due: Option<i64> = tx.prepare(NEXT_DUE)?.query_row([], |row| row.get(0))?;
    let next_due = next_due.map(Timestamp);
    tx.effects.next_due = Some(next_due);
    Ok(Released { count, next_due })
}

pub fn rescue(tx: &mut Tx<'_>, rescue: &Rescue) -> OpResult<u64> {
    match rescue {
        Rescue::Domain { domain, but } => {
            let sql = GIVE_BACK.replace("CONDITION", "domain = ?1 AND owner <> ?2");
            give_back(tx, &sql, &[&&**domain, &&**but], "its owner is gone", None)
        }
        Rescue::Lapsed { now } => {
            let sql = GIVE_BACK.replace("CONDITION", "lease_until < ?1");
            give_back(tx, &sql, &[&now.0], "its lease ran out", Some(*now))
        }
    }
}

/// Everything that has an owner: at open, when the lock proves that all of them are gone.
pub fn rescue_all(tx: &mut Tx<'_>, now: Timestamp) -> OpResult<u64> {
    let sql = GIVE_BACK.replace("CONDITION", "1");
    give_back(tx, &sql, &[], "the process that had it ended", Some(now))
}

/// Without `now` a try is noted at the instant it started, the last one that is known of it.
fn give_back(
    tx: &mut Tx<'_>,
    sql: &str,
    params: &[&dyn rusqlite::ToSql],
    reason: &str,
    now: Option<Timestamp>,
) -> OpResult<u64> {
    let mut count = 0;
    loop {
        let round = give_back_round(tx, sql, params)?;
        for (job, attempt, started_at) in &round {
            let at = now.or(*started_at).unwrap_or_default();
            note_attempt(tx, *job, *attempt, "rescued", reason, at)?;
        }
        count += round.len() as u64;
        if round.len() < RESCUE_ROUND {
            return Ok(count);
        }
    }
}

type GivenBack = (JobId, u32, Option<Timestamp>);

fn give_back_round(tx: &mut Tx<'_>, sql: &str, params: &[&dyn rusqlite::ToSql]) -> OpResult<Vec<GivenBack>> {
    let mut statement = tx.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut round = Vec::new();
    while let Some(row) = rows.next()? {
        let (domain, kind) = (tx.memory.names.text(row, 0)?, tx.memory.names.text(row, 1)?);
        tx.effects.moved(&domain, &kind, State::Active, State::Waiting);
        round.push((JobId(row.get(2)?), row.get(3)?, row.get::<_, Option<i64>>(4)?.map(Timestamp)));
    }
    Ok(round)
}
