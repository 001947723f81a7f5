//! Deletes finished jobs past their retention, and rejects past theirs, one small batch at a call.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Name, State};
use longshore_actors::ledger::{Pruned, Retention};
use rusqlite::params;

use crate::store::bounds::REJECTS_MAX;
use crate::store::sqlite::names;
use crate::store::sqlite::tx::{OpResult, Tx};

/// The oldest jobs of one final state up to a time. One that still holds its key for a time stays until that is over,
/// or a second job with the key could come in. A family stays together while its parent or a child has not ended.
pub(super) const OLDEST: &str = "
SELECT id, domain, kind, state, bytes, finished_at FROM jobs
WHERE state = ?1 AND finished_at IS NOT NULL AND finished_at <= ?2
    AND NOT (unique_held = 1 AND coalesce(unique_until, 0) > ?3)
    AND children_open = 0
    AND NOT EXISTS (SELECT 1 FROM jobs AS parents WHERE parents.id = jobs.parent AND parents.finished_at IS NULL)
ORDER BY finished_at LIMIT ?4";

/// Of the oldest rejects (their numbers grow with time), those that are past their time or too many.
const PRUNE_REJECTS: &str = "
DELETE FROM rejected_records
WHERE id IN (SELECT id FROM rejected_records ORDER BY id LIMIT ?1)
    AND (at <= ?2 OR id <= (SELECT max(id) FROM rejected_records) - ?3)";

const REMEMBER_LAST: &str = "
INSERT INTO meta (key, value) VALUES ('last_job', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

const COMPLETED: &[State] = &[State::Completed];
const FAILED: &[State] = &[State::Failed, State::Cancelled];

struct Finished {
    id: JobId,
    domain: Name,
    kind: Name,
    state: State,
    bytes: i64,
    finished_at: i64,
}

pub fn prune(tx: &mut Tx<'_>, retention: &Retention, now: Timestamp) -> OpResult<Pruned> {
    let Retention { completed_for, completed_max, failed_for, failed_max, bytes_max, batch } = *retention;
    let batch = batch.max(1);
    let mut jobs = 0;
    let kept = [
        (COMPLETED, completed_for, completed_max),
        // Somebody may want to run a cancelled job after all, as they may a failed one: they count as one.
        (FAILED, failed_for, failed_max),
    ];
    for (states, age, max) in kept {
        for job in oldest(tx, states, now.minus(age), now, batch - jobs)? {
            delete(tx, job)?;
            jobs += 1;
        }
        let total: i64 = states.iter().map(|state| tx.total(*state)).sum();
        let excess = total - i64::try_from(max).unwrap_or(i64::MAX);
        let excess = usize::try_from(excess).unwrap_or(0).min(batch - jobs);
        for job in oldest(tx, states, Timestamp(i64::MAX), now, excess)? {
            delete(tx, job)?;
            jobs += 1;
        }
    }
    jobs += prune_bytes(tx, bytes_max, now, batch - jobs)?;
    if jobs > 0 {
        // Numbers are not handed out twice, also after a restart on an emptied table.
        tx.execute(REMEMBER_LAST, [(tx.memory.next_id - 1).to_string()])?;
    }
    let rejects = tx.execute(
        PRUNE_REJECTS,
        params![i64::try_from(batch).unwrap_or(i64::MAX), now.minus(failed_for).0, REJECTS_MAX],
    )?;
    Ok(Pruned { jobs: jobs as u64, more: jobs >= batch || rejects >= batch })
}

/// Deletes the oldest of all states until the rest fits.
fn prune_bytes(tx: &mut Tx<'_>, bytes_max: u64, now: Timestamp, room: usize) -> OpResult<usize> {
    let max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    if room == 0 || tx.finished_bytes() <= max {
        return Ok(0);
    }
    let mut deleted = 0;
    for job in oldest(tx, &[COMPLETED, FAILED].concat(), Timestamp(i64::MAX), now, room)? {
        if tx.finished_bytes() <= max {
            break;
        }
        delete(tx, job)?;
        deleted += 1;
    }
    Ok(deleted)
}

/// The oldest of these states together.
fn oldest(tx: &mut Tx<'_>, states: &[State], until: Timestamp, now: Timestamp, max: usize) -> OpResult<Vec<Finished>> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for state in states {
        let mut statement = tx.prepare(OLDEST)?;
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![state.as_str(), until.0, now.0, limit])?;
        while let Some(row) = rows.next()? {
            found.push(Finished {
                id: JobId(row.get(0)?),
                domain: tx.memory.names.text(row, 1)?,
                kind: tx.memory.names.text(row, 2)?,
                state: names::state(row, 3)?,
                bytes: row.get(4)?,
                finished_at: row.get(5)?,
            });
        }
    }
    found.sort_by_key(|job| (job.finished_at, job.id));
    found.truncate(max);
    Ok(found)
}

fn delete(tx: &mut Tx<'_>, job: Finished) -> OpResult<()> {
    tx.execute("DELETE FROM jobs WHERE id = ?1", [job.id.0])?;
    tx.execute("DELETE FROM job_attempts WHERE job = ?1", [job.id.0])?;
    tx.execute("DELETE FROM snapshot_keys WHERE job = ?1", [job.id.0])?;
    tx.effects.tally.add(&job.domain, &job.kind, job.state, -1);
    tx.effects.tally.finished_bytes -= job.bytes;
    Ok(())
}
