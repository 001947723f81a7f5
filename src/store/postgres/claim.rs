//! Moves jobs between `waiting` and `active`: claim, renew, release, rescue.

use std::time::Duration;

use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{Job, JobId, Lease, Name};
use longshore_actors::ledger::{Claim, Released};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::store::bounds::{RELEASE_MAX, RESCUE_ROUND};
use crate::store::head;
use crate::store::postgres::attempts::Attempts;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::{Param, Session, Tx};
use crate::store::postgres::work::Work;

/// Of each kind no more of the ready index is read than it has room for, and of these the best are taken.
///
/// With several kinds more rows are locked than are taken, for the length of one statement. Another node that claims
/// meanwhile passes over them, as it passes over those that are taken. No job is left behind by that: who locks more
/// than it takes has taken as many as it asked for, and then claims again.
pub(super) const CLAIM: &str = "
WITH best AS MATERIALIZED (
    SELECT ready.id, ready.priority
    FROM unnest($2::text[], $3::bigint[]) AS asked(kind, room)
    CROSS JOIN LATERAL (
        SELECT jobs.id, jobs.priority FROM jobs
        WHERE jobs.state = 'waiting' AND jobs.domain = $1 AND jobs.kind = asked.kind
        ORDER BY jobs.priority, jobs.id LIMIT asked.room FOR UPDATE SKIP LOCKED
    ) AS ready
    ORDER BY ready.priority, ready.id LIMIT $4
)
UPDATE jobs SET state = 'active', attempt = attempt + 1, fence = fence + 1, owner = $5, lease_until = $6,
    started_at = $7, unique_held = unique_held AND unique_scope <> 'until_started'
FROM best WHERE jobs.id = best.id
RETURNING jobs.id, jobs.priority, kind, params, parent, attempt, crashes, fence, checkpoint, enqueued_at, ran_ms";

/// A row that is locked is being written by its job's own upload, or ended, or given back, and is not waited for: the
/// rest of the leases would wait with it. It counts as held, as it was when the statement began; if it is not any
/// more, the next renewal tells. For `|| ''` see [`crate::store::postgres::record`].
pub(super) const RENEW: &str = "
WITH asked AS (
    SELECT id, fence FROM unnest($1::bigint[], $2::bigint[]) AS asked(id, fence)
), free AS MATERIALIZED (
    SELECT jobs.id FROM jobs JOIN asked ON asked.id = jobs.id AND asked.fence = jobs.fence
    WHERE jobs.state || '' = 'active' AND jobs.owner IS NOT NULL
    FOR UPDATE OF jobs SKIP LOCKED
), renewed AS (
    UPDATE jobs SET lease_until = $3 FROM free WHERE jobs.id = free.id
)
SELECT asked.id, asked.fence FROM asked
WHERE NOT EXISTS (
    SELECT FROM jobs WHERE jobs.id = asked.id AND jobs.fence = asked.fence
        AND jobs.state || '' = 'active' AND jobs.owner IS NOT NULL)";

pub(super) const RELEASE: &str = "
WITH due AS MATERIALIZED (
    SELECT id FROM jobs WHERE state = 'delayed' AND run_at <= $1 ORDER BY run_at LIMIT $2 FOR UPDATE SKIP LOCKED
), released AS (
    UPDATE jobs SET state = 'waiting' FROM due WHERE jobs.id = due.id RETURNING jobs.domain
)
SELECT domain, count(*) FROM released GROUP BY domain";

pub(super) const NEXT_DUE: &str = "SELECT min(run_at) FROM jobs WHERE state = 'delayed'";

/// The fence grows here too, so that the dead owner's lease is stale from now on and not only from the next claim.
const GIVE_BACK: &str = "
WITH lost AS MATERIALIZED (
    SELECT id FROM jobs WHERE state = 'active' AND owner IS NOT NULL AND CONDITION
    ORDER BY id DESC LIMIT 1000 FOR UPDATE SKIPPING
)
UPDATE jobs SET state = 'waiting', attempt = greatest(attempt - 1, 0), fence = fence + 1, owner = NULL,
    lease_until = NULL
FROM lost WHERE jobs.id = lost.id
RETURNING domain, jobs.id, attempt + 1, started_at";

/// `process/incarnation`.
const PROCESS: &str = "split_part(owner, '/', 1)";

/// Who has a heartbeat that is not older than the lapse; both times are the database's.
const ALIVE: &str = "EXISTS (SELECT FROM nodes WHERE nodes.process = split_part(jobs.owner, '/', 1)
    AND nodes.heartbeat_at > now() - make_interval(secs => LAPSE::float8))";

/// A node that was heard of, and not lately.
const LAPSED: &str = "EXISTS (SELECT FROM nodes WHERE nodes.process = split_part(jobs.owner, '/', 1)
    AND nodes.heartbeat_at <= now() - make_interval(secs => LAPSE::float8))";

/// Up to `claim.max` jobs, best first.
pub async fn claim(session: &Session, claim: &Claim) -> OpResult<Vec<Job>> {
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let max = limit(claim.max);
    let kinds: Vec<&str> = claim.kinds.iter().map(|(kind, _)| &**kind).collect();
    let rooms: Vec<i64> = claim.kinds.iter().map(|(_, room)| limit(*room).min(max)).collect();
    let rows = session
        .query(
            CLAIM,
            &[
                (&&*claim.domain, Type::TEXT),
                (&kinds, Type::TEXT_ARRAY),
                (&rooms, Type::INT8_ARRAY),
                (&max, Type::INT8),
                (&&*claim.owner, Type::TEXT),
                (&claim.until.0, Type::INT8),
                (&claim.now.0, Type::INT8),
            ],
        )
        .await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let priority: i32 = row.try_get(1)?;
        jobs.push((priority, claimed_job(row, claim)?));
    }
    jobs.sort_unstable_by_key(|(priority, job)| (*priority, job.id));
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

fn claimed_job(row: &Row, claim: &Claim) -> OpResult<Job> {
    let id = JobId(row.try_get(0)?);
    let kind: &str = row.try_get(2)?;
    let known = claim.kinds.iter().find(|(known, _)| **known == *kind);
    let params: &str = row.try_get(3)?;
    let checkpoint = head::checkpoint(row.try_get(8)?).unwrap_or_else(|reason| {
        tracing::warn!(job_id = id.0, reason, "the job starts from its first page");
        Checkpoint::default()
    });
    Ok(Job {
        id,
        domain: claim.domain.clone(),
        kind: known.map_or_else(|| Name::from(kind), |(known, _)| known.clone()),
        // One damaged row must not keep the others from being claimed: its domain will refuse what is no object.
        params: serde_json::from_str(params).unwrap_or_else(|_| Value::String(params.to_owned())),
        parent: row.try_get::<_, Option<i64>>(4)?.map(JobId),
        attempt: count(row.try_get(5)?),
        crashes: count(row.try_get(6)?),
        lease: Lease { job: id, fence: row.try_get(7)? },
        checkpoint,
        enqueued_at: Timestamp(row.try_get(9)?),
        ran: Duration::from_millis(u64::try_from(row.try_get::<_, i64>(10)?).unwrap_or(0)),
    })
}

/// A number of the schema that is never negative.
pub fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Answers the leases that are no longer held.
pub async fn renew(session: &Session, leases: &[Lease], until: Timestamp) -> OpResult<Vec<Lease>> {
    let ids: Vec<i64> = leases.iter().map(|lease| lease.job.0).collect();
    let fences: Vec<i64> = leases.iter().map(|lease| lease.fence).collect();
    let params: [Param<'_>; 3] = [(&ids, Type::INT8_ARRAY), (&fences, Type::INT8_ARRAY), (&until.0, Type::INT8)];
    let lost = session.query(RENEW, &params).await?;
    lost.iter().map(|row| Ok(Lease { job: JobId(row.try_get(0)?), fence: row.try_get(1)? })).collect()
}

pub async fn release(session: &Session, now: Timestamp) -> OpResult<(Released, Effects)> {
    let mut effects = Effects::default();
    let mut released = 0;
    for row in session.query(RELEASE, &[(&now.0, Type::INT8), (&RELEASE_MAX, Type::INT8)]).await? {
        effects.work(&Name::from(row.try_get::<_, &str>(0)?));
        released += u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0);
    }
    let next_due = match session.query_opt(NEXT_DUE, &[]).await? {
        Some(row) => row.try_get::<_, Option<i64>>(0)?.map(Timestamp),
        None => None,
    };
    effects.next_due = Some(next_due);
    Ok((Released { count: released, next_due }, effects))
}

/// Whose jobs are given back, one round of them.
#[derive(Clone, Debug)]
pub enum Lost {
    /// Of a domain: other incarnations of the same process. The upload of one that is gone may still be writing, and
    /// is waited for: whoever asks claims next, and must find the job.
    Incarnation { domain: Name, but: String },
    /// Of a domain: processes that are not alive. One that died without a word may still hold locks, until the
    /// database finds out; those jobs are left to a later rescue.
    DeadProcess { domain: Name, but: String, lapse: Duration },
    /// Of a process that has started anew.
    Process { process: String },
    /// Leases that ran out, and processes whose heartbeat did.
    Lapsed { now: Timestamp, lapse: Duration },
}

impl Lost {
    pub(super) fn sql(&self) -> String {
        let (condition, skip) = match self {
            Lost::Incarnation { .. } => {
                (format!("domain = $1 AND owner <> $2 AND {PROCESS} = split_part($2, '/', 1)"), false)
            }
            Lost::DeadProcess { .. } => {
                let alive = ALIVE.replace("LAPSE", "$3");
                (format!("domain = $1 AND {PROCESS} <> split_part($2, '/', 1) AND NOT {alive}"), true)
            }
            Lost::Process { .. } => (format!("{PROCESS} = $1"), true),
            Lost::Lapsed { .. } => (format!("(lease_until < $1 OR {})", LAPSED.replace("LAPSE", "$2")), true),
        };
        // The lock is on the job alone, also where the condition looks at nodes.
        let skipping = if skip { "OF jobs SKIP LOCKED" } else { "OF jobs" };
        GIVE_BACK.replace("CONDITION", &condition).replace("SKIPPING", skipping)
    }

    fn reason(&self) -> &'static str {
        match self {
            Lost::Incarnation { .. } | Lost::DeadProcess { .. } => "its owner is gone",
            Lost::Process { .. } => "the process that had it ended",
            Lost::Lapsed { .. } => "its lease ran out",
        }
    }
}

impl Work for Lost {
    /// Whether there may be more.
    type Answer = (u64, bool);

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<(u64, bool)> {
        let sql = self.sql();
        let rows = match self {
            Lost::Incarnation { domain, but } => tx.query(&sql, &[(&&**domain, Type::TEXT), (but, Type::TEXT)]).await?,
            Lost::DeadProcess { domain, but, lapse } => {
                let lapse = lapse.as_secs_f64();
                tx.query(&sql, &[(&&**domain, Type::TEXT), (but, Type::TEXT), (&lapse, Type::FLOAT8)]).await?
            }
            Lost::Process { process } => tx.query(&sql, &[(process, Type::TEXT)]).await?,
            Lost::Lapsed { now, lapse } => {
                tx.query(&sql, &[(&now.0, Type::INT8), (&lapse.as_secs_f64(), Type::FLOAT8)]).await?
            }
        };
        let now = if let Lost::Lapsed { now, .. } = self { Some(*now) } else { None };
        let mut attempts = Attempts::default();
        for row in &rows {
            effects.work(&Name::from(row.try_get::<_, &str>(0)?));
            // Without a time of its own a try is noted at the instant it started, the last one that is known of it.
            let started_at = row.try_get::<_, Option<i64>>(3)?.map(Timestamp);
            let at = now.or(started_at).unwrap_or_default();
            attempts.note(JobId(row.try_get(1)?), row.try_get(2)?, "rescued", self.reason(), at);
        }
        attempts.write(tx).await?;
        Ok((rows.len() as u64, rows.len() >= RESCUE_ROUND))
    }
}
