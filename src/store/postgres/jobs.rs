//! Listings of jobs, for people.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{FailCause, JobId, State};
use longshore_actors::ledger::{Attempt, Children, Filter, JobRecord, KindStats, LedgerError};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::store::bounds::{LIMIT, LIMIT_MAX};
use crate::store::head;
use crate::store::postgres::claim::count;
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::session::{Param, Session};
use crate::store::text;

const JOB_COLUMNS: &str = "id, domain, kind, params, state, priority, unique_key, parent, attempt, crashes, run_at,
    enqueued_at, started_at, finished_at, fence, owner, checkpoint, child_counts, children_open, children_completed,
    children_failed, children_cancelled, message, cause";

const HISTORY: &str = "SELECT attempt, at, outcome, reason FROM job_attempts WHERE job = $1 ORDER BY n";

const FAMILY: &str = "
WITH RECURSIVE family (id, domain, kind, state) AS (
    SELECT id, domain, kind, state FROM jobs WHERE parent = $1
    UNION ALL
    SELECT jobs.id, jobs.domain, jobs.kind, jobs.state FROM jobs JOIN family ON jobs.parent = family.id
)
SELECT domain, kind, state, count(*) FROM family GROUP BY domain, kind, state ORDER BY domain, kind";

/// See [`longshore_actors::ledger::Ledger::family`].
pub async fn family(session: &Session, job: JobId) -> OpResult<Vec<KindStats>> {
    let mut kinds: Vec<KindStats> = Vec::new();
    for row in session.query(FAMILY, &[(&job.0, Type::INT8)]).await? {
        let (domain, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        // In the order of kinds, so a kind's states come one after the other.
        if kinds.last().is_none_or(|last| (&last.domain, &last.kind) != (&domain, &kind)) {
            kinds.push(KindStats { domain, kind, ..KindStats::default() });
        }
        let state: &str = row.try_get(2)?;
        if let (Some(last), Some(state)) = (kinds.last_mut(), State::parse(state)) {
            last.add(state, u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0));
        }
    }
    Ok(kinds)
}

/// Jobs that pass the filter, newest first.
pub async fn jobs(session: &Session, filter: &Filter) -> OpResult<Vec<JobRecord>> {
    let (sql, values) = jobs_sql(filter);
    let params: Vec<Param<'_>> =
        values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
    let rows = session.query(&sql, &params).await?;
    let mut jobs = rows.iter().map(job_record).collect::<OpResult<Vec<_>>>()?;
    if let ([_], [job]) = (filter.ids.as_slice(), jobs.as_mut_slice()) {
        job.history = history(session, job.id).await?;
    }
    Ok(jobs)
}

/// A value and its type, to be bound to a statement.
type Bound = (Box<dyn ToSql + Sync + Send>, Type);

/// States are written out, since the indexes are each made for the rows of some states, and a plan must see which.
pub(super) fn jobs_sql(filter: &Filter) -> (String, Vec<Bound>) {
    let Filter { ids, domain, kind, states, parent, before, limit } = filter;
    let mut conditions = Vec::new();
    let mut values: Vec<Bound> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn ToSql + Sync + Send>, kind: Type| {
        values.push((value, kind));
        conditions.push(condition.replace('?', &format!("${}", values.len())));
    };
    if !ids.is_empty() {
        add("id = ANY(?)", Box::new(ids.iter().map(|id| id.0).collect::<Vec<i64>>()), Type::INT8_ARRAY);
    }
    if let Some(domain) = domain {
        add("domain = ?", Box::new(text::clean(domain).into_owned()), Type::TEXT);
    }
    if let Some(kind) = kind {
        add("kind = ?", Box::new(text::clean(kind).into_owned()), Type::TEXT);
    }
    if let Some(parent) = parent {
        add("parent = ?", Box::new(parent.0), Type::INT8);
    }
    if let Some(before) = before {
        add("id < ?", Box::new(before.0), Type::INT8);
    }
    match states.as_slice() {
        [] => {}
        [state] => conditions.push(format!("state = '{state}'")),
        [..] => {
            let words: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
            conditions.push(format!("state IN ({})", words.join(", ")));
        }
    }
    if !states.is_empty() && states.iter().all(|state| state.is_final()) {
        conditions.push("finished_at IS NOT NULL".to_owned());
    }
    let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let limit = if *limit == 0 { LIMIT } else { (*limit).min(LIMIT_MAX) };
    let sql = format!("SELECT {JOB_COLUMNS} FROM jobs WHERE {condition} ORDER BY id DESC LIMIT {limit}");
    (sql, values)
}

fn job_record(row: &Row) -> OpResult<JobRecord> {
    let id = JobId(row.try_get(0)?);
    let broken = |reason: String| OpError::Refused(LedgerError::Broken(format!("job {id}: {reason}")));
    let time = |column: usize| row.try_get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    let children = |column: usize| row.try_get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let params: String = row.try_get(3)?;
    let state: &str = row.try_get(4)?;
    let checkpoint = head::checkpoint(row.try_get(16)?).map_err(broken)?;
    let mut counts = head::counts(row.try_get(17)?).map_err(broken)?;
    counts.add(&checkpoint.counts);
    let cause: Option<&str> = row.try_get(23)?;
    Ok(JobRecord {
        id,
        domain: row.try_get(1)?,
        kind: row.try_get(2)?,
        // What is no JSON is shown as it is: to hide the job would be worse.
        params: serde_json::from_str(&params).unwrap_or(Value::String(params)),
        state: State::parse(state).ok_or_else(|| broken(format!("it stands in the unknown state {state:?}")))?,
        priority: row.try_get(5)?,
        unique_key: row.try_get(6)?,
        parent: row.try_get::<_, Option<i64>>(7)?.map(JobId),
        attempt: count(row.try_get(8)?),
        crashes: count(row.try_get(9)?),
        run_at: Timestamp(row.try_get(10)?),
        enqueued_at: Timestamp(row.try_get(11)?),
        started_at: time(12)?,
        finished_at: time(13)?,
        fence: row.try_get(14)?,
        owner: row.try_get(15)?,
        checkpoint,
        counts,
        children: Children {
            open: children(18)?,
            completed: children(19)?,
            failed: children(20)?,
            cancelled: children(21)?,
        },
        message: row.try_get(22)?,
        cause: cause.and_then(FailCause::parse),
        history: Vec::new(),
    })
}

async fn history(session: &Session, job: JobId) -> OpResult<Vec<Attempt>> {
    let rows = session.query(HISTORY, &[(&job.0, Type::INT8)]).await?;
    let attempt = |row: &Row| {
        Ok(Attempt {
            attempt: count(row.try_get(0)?),
            at: Timestamp(row.try_get(1)?),
            outcome: row.try_get(2)?,
            reason: row.try_get(3)?,
        })
    };
    rows.iter().map(attempt).collect()
}
