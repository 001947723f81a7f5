//! The rows that decisions are made from: read under their lock, changed in memory, written back in one statement.
//!
//! ```text
//! ids ──▶ Heads::hold ── SELECT … ORDER BY id DESC FOR UPDATE ──▶ end, give back, reopen … ──▶ Heads::write ── UPDATE
//!            └─ and their ancestors, which may end with them
//! ```
//!
//! - Rows of a family are locked from the highest number down. A child is always younger than its parent, so whoever
//!   locks a child and then its parent, and whoever locks a whole family, go the same way and never wait in a circle.
//! - However many tries end together, it is one read and a handful of writes.

use std::collections::HashMap;

use longshore_actors::checkpoint::{Checkpoint, Counts};
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Lease, Name, OnChildFailed, State};
use longshore_actors::ledger::LedgerError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::store::head::{self, End};
use crate::store::postgres::attempts::Attempts;
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::session::Tx;

/// By number, with every ancestor.
const HOLD: &str = "
WITH RECURSIVE family AS (
    SELECT id, parent FROM jobs WHERE id = ANY($1)
    UNION SELECT jobs.id, jobs.parent FROM jobs JOIN family ON jobs.id = family.parent
)
SELECT COLUMNS FROM jobs WHERE id IN (SELECT id FROM family) ORDER BY id DESC FOR UPDATE";

/// By number, with every descendant that has not ended, also below one that has, and with every ancestor of all these.
const HOLD_FAMILY: &str = "
WITH RECURSIVE below AS (
    SELECT id, parent, state FROM jobs WHERE id = ANY($1)
    UNION SELECT jobs.id, jobs.parent, jobs.state FROM jobs JOIN below ON jobs.parent = below.id
), family AS (
    SELECT id, parent FROM below WHERE id = ANY($1) OR state IN ('waiting', 'delayed', 'active')
    UNION SELECT jobs.id, jobs.parent FROM jobs JOIN family ON jobs.id = family.parent
)
SELECT COLUMNS FROM jobs WHERE id IN (SELECT id FROM family) ORDER BY id DESC FOR UPDATE";

/// One row, with or without its lock.
const LOOK: &str = "SELECT COLUMNS FROM jobs WHERE id = $1";

const COLUMNS: &str = "id, domain, state, run_at, attempt, crashes, ran_ms, fence, owner IS NOT NULL, started_at,
    finished_at, parent, on_child_failed, children_open, children_completed, children_failed, children_cancelled,
    unique_key, unique_scope, unique_until, unique_held, checkpoint, child_counts, message, cause,
    octet_length(params)::bigint, bytes";

/// The columns are those that a decision can change; an owner is only ever taken away here.
const WRITE: &str = "
UPDATE jobs SET state = new.state, run_at = new.run_at, attempt = new.attempt, crashes = new.crashes,
    ran_ms = new.ran_ms, fence = new.fence,
    owner = CASE WHEN new.owned THEN jobs.owner END, lease_until = CASE WHEN new.owned THEN jobs.lease_until END,
    finished_at = new.finished_at, children_open = new.children_open, children_completed = new.children_completed,
    children_failed = new.children_failed, children_cancelled = new.children_cancelled,
    unique_held = new.unique_held, child_counts = new.child_counts, message = new.message, cause = new.cause,
    bytes = new.bytes
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::bigint[], $8::boolean[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[], $15::text[],
        $16::text[], $17::text[], $18::bigint[])
    AS new(id, state, run_at, attempt, crashes, ran_ms, fence, owned, finished_at, children_open, children_completed,
        children_failed, children_cancelled, unique_held, child_counts, message, cause, bytes)
WHERE jobs.id = new.id";

/// A job that failed or was cancelled keeps what its snapshot has shown: it may be told to go on from there.
const FORGET_KEYS: &str = "DELETE FROM snapshot_keys WHERE job = ANY($1)";

/// How a job's children stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Family {
    pub open: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
}

impl Family {
    /// The count of children that ended so; an open child is in none.
    fn ended(&mut self, state: State) -> Option<&mut i64> {
        match state {
            State::Completed => Some(&mut self.completed),
            State::Failed => Some(&mut self.failed),
            State::Cancelled => Some(&mut self.cancelled),
            State::Waiting | State::Delayed | State::Active => None,
        }
    }
}

#[derive(Debug)]
pub struct Head {
    pub id: JobId,
    pub domain: Name,
    pub state: State,
    pub run_at: i64,
    pub attempt: i32,
    pub crashes: i32,
    pub ran_ms: i64,
    pub fence: i64,
    pub owned: bool,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub parent: Option<JobId>,
    on_child_failed: OnChildFailed,
    pub children: Family,
    pub unique_key: Option<String>,
    unique_scope: Option<String>,
    pub unique_until: Option<i64>,
    pub unique_held: bool,
    checkpoint: Option<String>,
    child_counts: Option<String>,
    pub message: Option<String>,
    pub cause: Option<String>,
    params_bytes: i64,
    pub bytes: i64,
    changed: bool,
}

impl Head {
    fn of(row: &Row) -> OpResult<Head> {
        let id = JobId(row.try_get(0)?);
        let state: &str = row.try_get(2)?;
        let state = State::parse(state)
            .ok_or_else(|| LedgerError::Broken(format!("job {id} stands in the unknown state {state:?}")))?;
        Ok(Head {
            id,
            domain: row.try_get::<_, &str>(1)?.into(),
            state,
            run_at: row.try_get(3)?,
            attempt: row.try_get(4)?,
            crashes: row.try_get(5)?,
            ran_ms: row.try_get(6)?,
            fence: row.try_get(7)?,
            owned: row.try_get(8)?,
            started_at: row.try_get(9)?,
            finished_at: row.try_get(10)?,
            parent: row.try_get::<_, Option<i64>>(11)?.map(JobId),
            on_child_failed: head::on_child_failed(row.try_get(12)?),
            children: Family {
                open: row.try_get(13)?,
                completed: row.try_get(14)?,
                failed: row.try_get(15)?,
                cancelled: row.try_get(16)?,
            },
            unique_key: row.try_get(17)?,
            unique_scope: row.try_get(18)?,
            unique_until: row.try_get(19)?,
            unique_held: row.try_get(20)?,
            checkpoint: row.try_get(21)?,
            child_counts: row.try_get(22)?,
            message: row.try_get(23)?,
            cause: row.try_get(24)?,
            params_bytes: row.try_get(25)?,
            bytes: row.try_get(26)?,
            changed: false,
        })
    }

    /// A row as it stands, without its lock.
    pub async fn look(tx: &Tx<'_>, id: JobId) -> OpResult<Option<Head>> {
        let sql = LOOK.replace("COLUMNS", COLUMNS);
        tx.query_opt(&sql, &[(&id.0, Type::INT8)]).await?.as_ref().map(Head::of).transpose()
    }

    /// Whether `lease` is the present one.
    pub fn holds(&self, lease: Lease) -> bool {
        self.state == State::Active && self.owned && self.fence == lease.fence
    }

    pub fn checkpoint(&self) -> OpResult<Checkpoint> {
        head::checkpoint(self.checkpoint.as_deref()).map_err(|reason| self.broken(&reason))
    }

    fn child_counts(&self) -> OpResult<Counts> {
        head::counts(self.child_counts.as_deref()).map_err(|reason| self.broken(&reason))
    }

    /// Its own and its ended descendants'.
    pub fn all_counts(&self) -> OpResult<Counts> {
        let mut all = self.child_counts()?;
        if self.checkpoint.is_some() {
            all.add(&self.checkpoint()?.counts);
        }
        Ok(all)
    }

    pub fn set_child_counts(&mut self, counts: &Counts) -> OpResult<()> {
        self.child_counts = head::counts_text(counts)?;
        Ok(())
    }

    fn broken(&self, reason: &str) -> OpError {
        LedgerError::Broken(format!("job {}: {reason}", self.id)).into()
    }

    /// How it ends once its own work is done and its children have all ended.
    pub fn end_after_children(&self) -> End {
        head::end_after_children(self.on_child_failed, self.children.failed, self.message.as_deref())
    }

    /// Nobody may write to it any more.
    pub fn disown(&mut self) {
        self.owned = false;
    }

    fn end(&mut self, end: End, now: Timestamp) {
        self.state = end.state();
        let (cause, message) = end.into_row();
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len) as i64;
        self.bytes = self.params_bytes + length(&self.checkpoint) + length(&message);
        self.cause = cause.map(|cause| cause.as_str().to_owned());
        self.message = message;
        self.finished_at = Some(now.0);
        self.owned = false;
        // A key held for a time stays held whatever became of its job.
        self.unique_held &= self.unique_scope.as_deref() == Some("for");
        self.changed = true;
    }
}

/// Rows under their lock, until the transaction ends.
#[derive(Debug, Default)]
pub struct Heads {
    heads: HashMap<JobId, Head>,
}

impl Heads {
    /// Locks these jobs and their ancestors.
    pub async fn hold(tx: &Tx<'_>, ids: &[i64]) -> OpResult<Heads> {
        let mut heads = Heads::default();
        heads.take(tx, HOLD, ids).await?;
        Ok(heads)
    }

    /// Locks a job, its ancestors, and all of its descendants that have not ended.
    pub async fn hold_family(tx: &Tx<'_>, id: JobId) -> OpResult<Heads> {
        let mut heads = Heads::default();
        // A commit that was under way may have added children before its job was locked here; once it is, none can.
        while heads.take(tx, HOLD_FAMILY, &[id.0]).await? {}
        Ok(heads)
    }

    /// Whether there were any that are not held yet.
    async fn take(&mut self, tx: &Tx<'_>, sql: &str, ids: &[i64]) -> OpResult<bool> {
        let before = self.heads.len();
        let sql = sql.replace("COLUMNS", COLUMNS);
        for row in tx.query(&sql, &[(&ids, Type::INT8_ARRAY)]).await? {
            let head = Head::of(&row)?;
            self.heads.insert(head.id, head);
        }
        Ok(self.heads.len() > before)
    }

    pub fn get(&self, id: JobId) -> Option<&Head> {
        self.heads.get(&id)
    }

    /// The row, to be written back.
    pub fn change(&mut self, id: JobId) -> Option<&mut Head> {
        let head = self.heads.get_mut(&id)?;
        head.changed = true;
        Some(head)
    }

    /// The job of a lease, if that is its present one.
    pub fn leased(&self, lease: Lease) -> OpResult<&Head> {
        let held = self.get(lease.job).filter(|head| head.holds(lease));
        held.ok_or_else(|| LedgerError::Stale(lease).into())
    }

    /// Those that have this parent, oldest first.
    pub fn children(&self, parent: JobId) -> Vec<JobId> {
        let has_it = |head: &&Head| head.parent == Some(parent);
        let mut ids: Vec<JobId> = self.heads.values().filter(has_it).map(|head| head.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Ends a job, and with it every ancestor that waited for nothing else.
    pub fn finish(&mut self, id: JobId, end: End, now: Timestamp) -> OpResult<()> {
        let (mut id, mut end) = (id, end);
        // An ancestor that is pruned already has nothing to be told.
        while let Some(head) = self.heads.get_mut(&id) {
            let (parent, state, counts) = (head.parent, end.state(), head.all_counts()?);
            head.end(end, now);
            let Some(above) = parent.and_then(|parent| self.heads.get_mut(&parent)) else { return Ok(()) };
            let mut total = above.child_counts()?;
            total.add(&counts);
            above.set_child_counts(&total)?;
            above.children.open = (above.children.open - 1).max(0);
            if let Some(count) = above.children.ended(state) {
                *count += 1;
            }
            above.changed = true;
            if above.state != State::Active || above.owned || above.children.open > 0 {
                return Ok(());
            }
            (id, end) = (above.id, above.end_after_children());
        }
        Ok(())
    }

    /// Takes an ended child back out of its parent's sums; the parent's own state stays what it is.
    pub fn reopen_child(&mut self, child: JobId) -> OpResult<()> {
        let Some(head) = self.heads.get(&child) else { return Ok(()) };
        let (was, counts) = (head.state, head.all_counts()?);
        let Some(above) = head.parent.and_then(|parent| self.heads.get_mut(&parent)) else { return Ok(()) };
        above.children.open += 1;
        if let Some(count) = above.children.ended(was) {
            *count = (*count - 1).max(0);
        }
        let mut total = above.child_counts()?;
        total.subtract(&counts);
        above.set_child_counts(&total)?;
        above.changed = true;
        Ok(())
    }

    /// Writes what was changed, and the tries that did not end well.
    pub async fn write(&self, tx: &Tx<'_>, attempts: &Attempts) -> OpResult<()> {
        let mut changed: Vec<&Head> = self.heads.values().filter(|head| head.changed).collect();
        changed.sort_unstable_by_key(|head| std::cmp::Reverse(head.id));
        if !changed.is_empty() {
            write(tx, &changed).await?;
        }
        let completed = |head: &&&Head| head.state == State::Completed && head.checkpoint.is_some();
        let completed: Vec<i64> = changed.iter().filter(completed).map(|head| head.id.0).collect();
        if !completed.is_empty() {
            tx.execute(FORGET_KEYS, &[(&completed, Type::INT8_ARRAY)]).await?;
        }
        attempts.write(tx).await
    }
}

async fn write(tx: &Tx<'_>, heads: &[&Head]) -> OpResult<()> {
    fn column<'a, T>(heads: &[&'a Head], of: impl Fn(&'a Head) -> T) -> Vec<T> {
        heads.iter().map(|head| of(head)).collect()
    }
    tx.execute(
        WRITE,
        &[
            (&column(heads, |head| head.id.0), Type::INT8_ARRAY),
            (&column(heads, |head| head.state.as_str()), Type::TEXT_ARRAY),
            (&column(heads, |head| head.run_at), Type::INT8_ARRAY),
            (&column(heads, |head| head.attempt), Type::INT4_ARRAY),
            (&column(heads, |head| head.crashes), Type::INT4_ARRAY),
            (&column(heads, |head| head.ran_ms), Type::INT8_ARRAY),
            (&column(heads, |head| head.fence), Type::INT8_ARRAY),
            (&column(heads, |head| head.owned), Type::BOOL_ARRAY),
            (&column(heads, |head| head.finished_at), Type::INT8_ARRAY),
            (&column(heads, |head| head.children.open), Type::INT8_ARRAY),
            (&column(heads, |head| head.children.completed), Type::INT8_ARRAY),
            (&column(heads, |head| head.children.failed), Type::INT8_ARRAY),
            (&column(heads, |head| head.children.cancelled), Type::INT8_ARRAY),
            (&column(heads, |head| head.unique_held), Type::BOOL_ARRAY),
            (&column(heads, |head| head.child_counts.as_deref()), Type::TEXT_ARRAY),
            (&column(heads, |head| head.message.as_deref()), Type::TEXT_ARRAY),
            (&column(heads, |head| head.cause.as_deref()), Type::TEXT_ARRAY),
            (&column(heads, |head| head.bytes), Type::INT8_ARRAY),
        ],
    )
    .await?;
    Ok(())
}
