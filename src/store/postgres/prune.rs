//! Deletes finished jobs past their retention, and rejects past theirs, one small batch at a call.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{Name, State};
use longshore_actors::ledger::{LedgerError, Pruned, Retention};
use tokio_postgres::types::Type;

use crate::store::bounds::REJECTS_MAX;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Tx;
use crate::store::postgres::tally;
use crate::store::postgres::work::Work;
use crate::store::tally::Tally;

/// One node prunes at a time: two that count the same jobs too many would each take as many away.
const ALONE: &str = "SELECT pg_try_advisory_xact_lock(1819242099, 2)";

/// The oldest jobs of one final state up to a time. One that still holds its key for a time stays until that is over,
/// or a second job with the key could come in. A family stays together while its parent or a child has not ended; the
/// parent is looked up row by row, so that no plan reads all parents there are.
pub(super) const OLDEST: &str = "
SELECT id, domain, kind, state, bytes, finished_at FROM jobs
WHERE state = $1 AND finished_at IS NOT NULL AND finished_at <= $2
    AND NOT (unique_held AND coalesce(unique_until, 0) > $3)
    AND children_open = 0
    AND coalesce((SELECT parents.finished_at IS NOT NULL FROM jobs AS parents WHERE parents.id = jobs.parent), true)
ORDER BY finished_at LIMIT $4 FOR UPDATE OF jobs SKIP LOCKED";

const DELETE: [&str; 3] = [
    "DELETE FROM jobs WHERE id = ANY($1)",
    "DELETE FROM job_attempts WHERE job = ANY($1)",
    "DELETE FROM snapshot_keys WHERE job = ANY($1)",
];

/// Of the oldest rejects (their numbers grow with time), those that are past their time or too many.
const PRUNE_REJECTS: &str = "
DELETE FROM rejected_records
WHERE id IN (SELECT id FROM rejected_records ORDER BY id LIMIT $1)
    AND (at <= $2 OR id <= (SELECT max(id) FROM rejected_records) - $3)";

const COMPLETED: &[State] = &[State::Completed];
const FAILED: &[State] = &[State::Failed, State::Cancelled];

struct Finished {
    id: i64,
    domain: Name,
    kind: Name,
    state: State,
    bytes: i64,
    finished_at: i64,
}

#[derive(Debug)]
pub struct Prune {
    pub retention: Retention,
    pub now: Timestamp,
}

impl Work for Prune {
    type Answer = Pruned;

    async fn run(&self, tx: &Tx<'_>, _: &mut Effects) -> OpResult<Pruned> {
        let Retention { completed_for, completed_max, failed_for, failed_max, bytes_max, batch } = self.retention;
        let (batch, now) = (batch.max(1), self.now);
        let alone = tx.query_opt(ALONE, &[]).await?;
        if !alone.map(|row| row.try_get::<_, bool>(0)).transpose()?.unwrap_or(false) {
            return Ok(Pruned::default());
        }
        let mut tally = tally::of(&tx.query(tally::SUMS, &[]).await?)?;
        let mut jobs = 0;
        let kept = [
            (COMPLETED, completed_for, completed_max),
            // Somebody may want to run a cancelled job after all, as they may a failed one: they count as one.
            (FAILED, failed_for, failed_max),
        ];
        for (states, age, max) in kept {
            let old = oldest(tx, states, now.minus(age), now, batch - jobs).await?;
            jobs += delete(tx, &mut tally, &old).await?;
            let total: i64 = states.iter().map(|state| tally.total(*state)).sum();
            let excess = total - i64::try_from(max).unwrap_or(i64::MAX);
            let excess = usize::try_from(excess).unwrap_or(0).min(batch - jobs);
            let many = oldest(tx, states, Timestamp(i64::MAX), now, excess).await?;
            jobs += delete(tx, &mut tally, &many).await?;
        }
        jobs += prune_bytes(tx, &mut tally, bytes_max, now, batch - jobs).await?;
        let limit = i64::try_from(batch).unwrap_or(i64::MAX);
        let before = now.minus(failed_for).0;
        let rejects = tx
            .execute(PRUNE_REJECTS, &[(&limit, Type::INT8), (&before, Type::INT8), (&REJECTS_MAX, Type::INT8)])
            .await?;
        Ok(Pruned { jobs: jobs as u64, more: jobs >= batch || rejects >= batch as u64 })
    }
}

/// Deletes the oldest of all states until the rest fits.
async fn prune_bytes(tx: &Tx<'_>, tally: &mut Tally, bytes_max: u64, now: Timestamp, room: usize) -> OpResult<usize> {
    let max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    if room == 0 || tally.finished_bytes <= max {
        return Ok(0);
    }
    let mut jobs = oldest(tx, &[COMPLETED, FAILED].concat(), Timestamp(i64::MAX), now, room).await?;
    let mut left = tally.finished_bytes;
    let enough = jobs.iter().position(|job| {
        let fits = left <= max;
        left -= job.bytes;
        fits
    });
    jobs.truncate(enough.unwrap_or(jobs.len()));
    delete(tx, tally, &jobs).await
}

/// The oldest of these states together.
async fn oldest(
    tx: &Tx<'_>,
    states: &[State],
    until: Timestamp,
    now: Timestamp,
    max: usize,
) -> OpResult<Vec<Finished>> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    for state in states {
        let rows = tx
            .query(
                OLDEST,
                &[(&state.as_str(), Type::TEXT), (&until.0, Type::INT8), (&now.0, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        for row in rows {
            let word: &str = row.try_get(3)?;
            found.push(Finished {
                id: row.try_get(0)?,
                domain: row.try_get::<_, &str>(1)?.into(),
                kind: row.try_get::<_, &str>(2)?.into(),
                state: State::parse(word).ok_or_else(|| LedgerError::Broken(format!("unknown state {word:?}")))?,
                bytes: row.try_get(4)?,
                finished_at: row.try_get(5)?,
            });
        }
    }
    found.sort_by_key(|job| (job.finished_at, job.id));
    found.truncate(max);
    Ok(found)
}

async fn delete(tx: &Tx<'_>, tally: &mut Tally, jobs: &[Finished]) -> OpResult<usize> {
    if jobs.is_empty() {
        return Ok(0);
    }
    let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
    for sql in DELETE {
        tx.execute(sql, &[(&ids, Type::INT8_ARRAY)]).await?;
    }
    for job in jobs {
        tally.add(&job.domain, &job.kind, job.state, -1);
        tally.finished_bytes -= job.bytes;
    }
    Ok(jobs.len())
}
