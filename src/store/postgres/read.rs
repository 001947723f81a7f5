//! What people ask of the rows' half of the store: the state of syncs, rejects, counts, what a commit would do.

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::JobId;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::store::batch::Batch;
use crate::store::bounds::LIMIT_MAX;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::postgres::{self, rows};
use crate::store::removal;
use crate::store::table::Table;
use crate::store::{Committed, RejectedRecord, SyncState};

const SYNC_STATE: &str = "
SELECT provider, entity, last_success_at, last_error_at, last_error, last_job, counts FROM sync_state
WHERE provider = $1 AND entity = $2";

const SYNC_STATES: &str = "
SELECT provider, entity, last_success_at, last_error_at, last_error, last_job, counts FROM sync_state
ORDER BY provider COLLATE \"C\", entity COLLATE \"C\"";

const REJECTS: &str = "
SELECT id, domain, kind, key, reason, raw, job, at FROM rejected_records ORDER BY id DESC LIMIT $1";

const REJECTS_OF: &str = "
SELECT id, domain, kind, key, reason, raw, job, at FROM rejected_records WHERE domain = $2 ORDER BY id DESC LIMIT $1";

pub async fn sync_state(session: &Session, provider: &str, entity: &str) -> OpResult<Option<SyncState>> {
    let row = session.query_opt(SYNC_STATE, &[(&provider, Type::TEXT), (&entity, Type::TEXT)]).await?;
    row.as_ref().map(sync_row).transpose()
}

pub async fn sync_states(session: &Session) -> OpResult<Vec<SyncState>> {
    session.query(SYNC_STATES, &[]).await?.iter().map(sync_row).collect()
}

fn sync_row(row: &Row) -> OpResult<SyncState> {
    let counts: &str = row.try_get(6)?;
    Ok(SyncState {
        provider: row.try_get(0)?,
        entity: row.try_get(1)?,
        last_success_at: row.try_get::<_, Option<i64>>(2)?.map(Timestamp),
        last_error_at: row.try_get::<_, Option<i64>>(3)?.map(Timestamp),
        last_error: row.try_get(4)?,
        last_job: row.try_get::<_, Option<i64>>(5)?.map(JobId),
        counts: serde_json::from_str::<Counts>(counts).unwrap_or_default(),
    })
}

/// Records that were put aside, newest first.
pub async fn rejects(session: &Session, domain: Option<&str>, limit: usize) -> OpResult<Vec<RejectedRecord>> {
    let limit = limit.min(LIMIT_MAX) as i64;
    let rows = match domain {
        Some(domain) => session.query(REJECTS_OF, &[(&limit, Type::INT8), (&domain, Type::TEXT)]).await?,
        None => session.query(REJECTS, &[(&limit, Type::INT8)]).await?,
    };
    rows.iter().map(reject_row).collect()
}

fn reject_row(row: &Row) -> OpResult<RejectedRecord> {
    Ok(RejectedRecord {
        id: row.try_get(0)?,
        domain: row.try_get(1)?,
        kind: row.try_get(2)?,
        key: row.try_get(3)?,
        reason: row.try_get(4)?,
        raw: row.try_get(5)?,
        job: JobId(row.try_get(6)?),
        at: Timestamp(row.try_get(7)?),
    })
}

/// Rows that are not removed.
pub async fn count_rows(session: &Session, table: &Table) -> OpResult<u64> {
    let sql = format!("SELECT count(*) FROM {} WHERE removed_at IS NULL", table.name);
    let row = session.query_opt(&sql, &[]).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What a commit would do to the rows.
pub async fn preview(session: &Session, delivery: &Delivery<Batch>) -> OpResult<Committed> {
    let Delivery { batch, receipt, received } = delivery;
    let mut counts = Counts { received: *received, rejected: receipt.rejects.len() as u64, ..Counts::default() };
    for rows in &batch.rows {
        counts.add(&rows::compare(session, rows).await?);
    }
    if !removal::is_foreseen(receipt, batch) {
        return Ok(Committed { counts, note: batch.removals.first().map(removal::not_previewed) });
    }
    let (removed, note) = postgres::removal::preview(session, batch, &receipt.rejects).await?;
    counts.removed += removed;
    Ok(Committed { counts, note })
}
