//! What people ask: listings of jobs, the state of syncs, rejects, counts of rows.

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{FailCause, JobId, State};
use longshore_actors::ledger::{Attempt, Children, Filter, JobRecord, KindStats, LedgerError};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Value;

use crate::store::batch::Batch;
use crate::store::bounds::{LIMIT, LIMIT_MAX};
use crate::store::head;
use crate::store::removal;
use crate::store::sqlite::tx::{OpError, OpResult};
use crate::store::sqlite::{self, names, rows};
use crate::store::table::Table;
use crate::store::{Committed, RejectedRecord, SyncState};

const JOB_COLUMNS: &str = "id, domain, kind, params, state, priority, unique_key, parent, attempt, crashes, run_at,
    enqueued_at, started_at, finished_at, fence, owner, checkpoint, child_counts, children_open, children_completed,
    children_failed, children_cancelled, message, cause";

const HISTORY: &str = "SELECT attempt, at, outcome, reason FROM job_attempts WHERE job = ?1 ORDER BY n";

const FAMILY: &str = "
WITH RECURSIVE family (id, domain, kind, state) AS (
    SELECT id, domain, kind, state FROM jobs WHERE parent = ?1
    UNION ALL
    SELECT jobs.id, jobs.domain, jobs.kind, jobs.state FROM jobs JOIN family ON jobs.parent = family.id
)
SELECT domain, kind, state, count(*) FROM family GROUP BY domain, kind, state ORDER BY domain, kind";

const SYNC_STATES: &str = "
SELECT provider, entity, last_success_at, last_error_at, last_error, last_job, counts FROM sync_state";

const REJECTS: &str = "SELECT id, domain, kind, key, reason, raw, job, at FROM rejected_records";

/// Jobs that pass the filter, newest first.
pub fn jobs(conn: &Connection, filter: &Filter) -> OpResult<Vec<JobRecord>> {
    let (sql, values) = jobs_sql(filter);
    let mut statement = conn.prepare(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut jobs = Vec::new();
    while let Some(row) = found.next()? {
        jobs.push(job_record(row)?);
    }
    if let ([_], [job]) = (filter.ids.as_slice(), jobs.as_mut_slice()) {
        job.history = history(conn, job.id)?;
    }
    Ok(jobs)
}

fn jobs_sql(filter: &Filter) -> (String, Vec<SqlValue>) {
    let Filter { ids, domain, kind, states, parent, before, limit } = filter;
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    let mut one_of = |column: &str, several: Vec<SqlValue>| {
        if !several.is_empty() {
            conditions.push(format!("{column} IN ({})", vec!["?"; several.len()].join(", ")));
            values.extend(several);
        }
    };
    one_of("id", ids.iter().map(|id| id.0.into()).collect());
    one_of("domain", domain.iter().map(|domain| domain.clone().into()).collect());
    one_of("kind", kind.iter().map(|kind| kind.clone().into()).collect());
    one_of("state", states.iter().map(|state| state.as_str().to_owned().into()).collect());
    one_of("parent", parent.iter().map(|parent| parent.0.into()).collect());
    if let Some(before) = before {
        conditions.push("id < ?".to_owned());
        values.push(before.0.into());
    }
    // The few that are active or delayed have an index of their own; the others are found on the way down.
    let index = match states.as_slice() {
        [State::Active] if ids.is_empty() => {
            conditions.push("state = 'active'".to_owned());
            "INDEXED BY jobs_active"
        }
        [State::Delayed] if ids.is_empty() => {
            conditions.push("state = 'delayed'".to_owned());
            "INDEXED BY jobs_due"
        }
        [State::Failed] | [State::Cancelled] if ids.is_empty() => {
            conditions.push("finished_at IS NOT NULL".to_owned());
            "INDEXED BY jobs_finished"
        }
        _ => "",
    };
    let condition = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let limit = if *limit == 0 { LIMIT } else { (*limit).min(LIMIT_MAX) };
    let sql = format!("SELECT {JOB_COLUMNS} FROM jobs {index} WHERE {condition} ORDER BY id DESC LIMIT {limit}");
    (sql, values)
}

fn job_record(row: &Row<'_>) -> OpResult<JobRecord> {
    let id = JobId(row.get(0)?);
    let broken = |reason: String| OpError::Ledger(LedgerError::Broken(format!("job {id}: {reason}")));
    let time = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    let count = |column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let params: String = row.get(3)?;
    let checkpoint: Option<String> = row.get(16)?;
    let checkpoint = head::checkpoint(checkpoint.as_deref()).map_err(broken)?;
    let child_counts: Option<String> = row.get(17)?;
    let mut counts = head::counts(child_counts.as_deref()).map_err(broken)?;
    counts.add(&checkpoint.counts);
    let cause: Option<String> = row.get(23)?;
    Ok(JobRecord {
        id,
        domain: row.get(1)?,
        kind: row.get(2)?,
        // What is no JSON is shown as it is: to hide the job would be worse.
        params: serde_json::from_str(&params).unwrap_or(Value::String(params)),
        state: names::state(row, 4)?,
        priority: row.get(5)?,
        unique_key: row.get(6)?,
        parent: row.get::<_, Option<i64>>(7)?.map(JobId),
        attempt: row.get(8)?,
        crashes: row.get(9)?,
        run_at: Timestamp(row.get(10)?),
        enqueued_at: Timestamp(row.get(11)?),
        started_at: time(12)?,
        finished_at: time(13)?,
        fence: row.get(14)?,
        owner: row.get(15)?,
        checkpoint,
        counts,
        children: Children { open: count(18)?, completed: count(19)?, failed: count(20)?, cancelled: count(21)? },
        message: row.get(22)?,
        cause: cause.as_deref().and_then(FailCause::parse),
        history: Vec::new(),
    })
}

/// See [`longshore_actors::ledger::Ledger::family`].
pub fn family(conn: &Connection, job: JobId) -> OpResult<Vec<KindStats>> {
    let mut statement = conn.prepare_cached(FAMILY)?;
    let mut found = statement.query([job.0])?;
    let mut kinds: Vec<KindStats> = Vec::new();
    while let Some(row) = found.next()? {
        let (domain, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let (state, count) = (names::state(row, 2)?, row.get::<_, i64>(3)?);
        // In the order of kinds, so a kind's states come one after the other.
        if kinds.last().is_none_or(|last| (&last.domain, &last.kind) != (&domain, &kind)) {
            kinds.push(KindStats { domain, kind, ..KindStats::default() });
        }
        if let Some(last) = kinds.last_mut() {
            last.add(state, u64::try_from(count).unwrap_or(0));
        }
    }
    Ok(kinds)
}

fn history(conn: &Connection, job: JobId) -> OpResult<Vec<Attempt>> {
    let mut statement = conn.prepare(HISTORY)?;
    let attempts = statement.query_map([job.0], |row| {
        Ok(Attempt { attempt: row.get(0)?, at: Timestamp(row.get(1)?), outcome: row.get(2)?, reason: row.get(3)? })
    })?;
    Ok(attempts.collect::<rusqlite::Result<_>>()?)
}

pub fn sync_state(conn: &Connection, provider: &str, entity: &str) -> OpResult<Option<SyncState>> {
    let sql = format!("{SYNC_STATES} WHERE provider = ?1 AND entity = ?2");
    Ok(conn.query_row(&sql, params![provider, entity], sync_row).optional()?)
}

pub fn sync_states(conn: &Connection) -> OpResult<Vec<SyncState>> {
    let mut statement = conn.prepare(&format!("{SYNC_STATES} ORDER BY provider, entity"))?;
    let states = statement.query_map([], sync_row)?;
    Ok(states.collect::<rusqlite::Result<_>>()?)
}

fn sync_row(row: &Row<'_>) -> rusqlite::Result<SyncState> {
    let counts: String = row.get(6)?;
    Ok(SyncState {
        provider: row.get(0)?,
        entity: row.get(1)?,
        last_success_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
        last_error_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        last_error: row.get(4)?,
        last_job: row.get::<_, Option<i64>>(5)?.map(JobId),
        counts: serde_json::from_str::<Counts>(&counts).unwrap_or_default(),
    })
}

pub fn rejects(conn: &Connection, domain: Option<&str>, limit: usize) -> OpResult<Vec<RejectedRecord>> {
    let limit = limit.min(LIMIT_MAX) as i64;
    let sql = match domain {
        Some(_) => format!("{REJECTS} WHERE domain = ?2 ORDER BY id DESC LIMIT ?1"),
        None => format!("{REJECTS} WHERE ?2 IS NULL ORDER BY id DESC LIMIT ?1"),
    };
    let mut statement = conn.prepare(&sql)?;
    let records = statement.query_map(params![limit, domain], |row| {
        Ok(RejectedRecord {
            id: row.get(0)?,
            domain: row.get(1)?,
            kind: row.get(2)?,
            key: row.get(3)?,
            reason: row.get(4)?,
            raw: row.get(5)?,
            job: JobId(row.get(6)?),
            at: Timestamp(row.get(7)?),
        })
    })?;
    Ok(records.collect::<rusqlite::Result<_>>()?)
}

pub fn last_fire(conn: &Connection, schedule: &str) -> OpResult<Option<Timestamp>> {
    let at: Option<i64> =
        conn.query_row("SELECT max(fire_at) FROM fires WHERE schedule = ?1", [schedule], |row| row.get(0))?;
    Ok(at.map(Timestamp))
}

/// What a commit would do to the rows.
pub fn preview(conn: &Connection, delivery: &Delivery<Batch>) -> OpResult<Committed> {
    let Delivery { batch, receipt, received } = delivery;
    let mut counts = Counts { received: *received, rejected: receipt.rejects.len() as u64, ..Counts::default() };
    for rows in &batch.rows {
        counts.add(&rows::compare(conn, rows)?);
    }
    if !removal::is_foreseen(receipt, batch) {
        return Ok(Committed { counts, note: batch.removals.first().map(removal::not_previewed) });
    }
    let (removed, note) = sqlite::removal::preview(conn, batch, &receipt.rejects)?;
    counts.removed += removed;
    Ok(Committed { counts, note })
}

/// Rows that are not removed.
pub fn count_rows(conn: &Connection, table: &Table) -> OpResult<u64> {
    let sql = format!("SELECT count(*) FROM {} WHERE removed_at IS NULL", table.name);
    let count: i64 = conn.query_row(&sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
