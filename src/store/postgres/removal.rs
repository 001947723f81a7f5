//! What a snapshot ends with: marks the rows that vanished from it.
//!
//! Only if the snapshot is complete, and never more than the guard allows. Nothing is deleted.
//!
//! What it does not do: keep other writers out. A row that another job ties to an orphan at this very moment may be
//! marked nevertheless; the next sync that shows it brings it back.

use std::borrow::Cow;
use std::collections::HashSet;

use longshore_actors::clock::Timestamp;
use longshore_actors::job::JobId;
use longshore_actors::ledger::Reject;
use tokio_postgres::types::Type;

use crate::store::batch::{Batch, Removal};
use crate::store::postgres::cells::Instant;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::{Param, Session, Tx};
pub use crate::store::removal::Removed;
use crate::store::removal::{self, Facts, Foresight};
use crate::store::table::{ColumnKind, Table};
use crate::store::text;

/// One row a page: a row a key would cost as much as looking the record up.
const SEE: &str = "INSERT INTO snapshot_keys (job, keys) VALUES ($1, $2)";

const FORGET: &str = "DELETE FROM snapshot_keys WHERE job = $1";

const NAMELESS: &str = "SELECT count(*) FROM rejected_records WHERE job = $1 AND key IS NULL";

/// Keeps the keys that pages of the job's snapshot have shown.
pub async fn see(tx: &Tx<'_>, job: JobId, keys: &[impl AsRef<str> + Sync]) -> OpResult<()> {
    if !keys.is_empty() {
        let keys: Vec<Cow<'_, str>> = keys.iter().map(|key| text::clean(key.as_ref())).collect();
        let keys: Vec<&str> = keys.iter().map(Cow::as_ref).collect();
        tx.execute(SEE, &[(&job.0, Type::INT8), (&keys, Type::TEXT_ARRAY)]).await?;
    }
    Ok(())
}

pub async fn forget(tx: &Tx<'_>, job: JobId) -> OpResult<()> {
    tx.execute(FORGET, &[(&job.0, Type::INT8)]).await?;
    Ok(())
}

/// `nameless` are rejected records without a readable key that are not yet among the job's.
pub async fn remove(tx: &Tx<'_>, removal: &Removal, job: JobId, nameless: u64, at: Timestamp) -> OpResult<Removed> {
    if let Some(nothing) = removal::incomplete(removal) {
        return Ok(nothing);
    }
    let Removal { table, scope: (column, value), key, missing: _, guard: _, orphans, named_by, owned } = removal;
    let (name, scope) = (table.name, text::clean(value));
    let live = format!("SELECT count(*) FROM {name} WHERE {column} = $1 AND removed_at IS NULL");
    let live = count(tx, &live, &[(&scope, Type::TEXT)]).await?;
    let mut vanished = vanished(tx, removal, &scope, job).await?;
    if let Some((namer, naming)) = named_by {
        vanished = unnamed(tx, namer, naming, &vanished).await?;
    }
    let nameless = nameless + count(tx, NAMELESS, &[(&job.0, Type::INT8)]).await?;
    if let Some(nothing) = removal::decide(removal, Facts { live, gone: vanished.len() as u64, nameless })? {
        return Ok(nothing);
    }
    if vanished.is_empty() {
        return Ok(Removed::Rows(0));
    }
    let mark = Mark { tx, at: Instant(at) };
    let scoped = format!("AND {column} = $3");
    let mut removed = mark.rows(table, key, &vanished, &scoped, &[(&scope, Type::TEXT)]).await?;
    if let Some((orphan, orphan_key)) = orphans {
        let unnamed = unnamed(tx, table, key, &vanished).await?;
        removed += mark.rows(orphan, orphan_key, &unnamed, "", &[]).await?;
    }
    for (owned, owner) in *owned {
        removed += mark.rows(owned, owner, &vanished, "", &[]).await?;
    }
    Ok(Removed::Rows(removed))
}

/// Keys of live rows in the scope that the snapshot did not show.
async fn vanished(tx: &Tx<'_>, removal: &Removal, scope: &str, job: JobId) -> OpResult<Vec<String>> {
    let Removal { table, scope: (column, _), key, .. } = removal;
    // A full join can only be done by hashing or merging. For `NOT IN` and `NOT EXISTS` the planner may compare every
    // row with every key, when it believes that there are few.
    let sql = format!(
        "SELECT held.key FROM (SELECT {key}::text AS key FROM {} WHERE {column} = $1 AND removed_at IS NULL) AS held
         FULL JOIN (SELECT DISTINCT unnest(keys) AS key FROM snapshot_keys WHERE job = $2) AS seen USING (key)
         WHERE seen.key IS NULL",
        table.name
    );
    texts(tx, &sql, &[(&scope, Type::TEXT), (&job.0, Type::INT8)]).await
}

/// Those of the keys that no live row of `table` names any more.
async fn unnamed(tx: &Tx<'_>, table: &Table, key: &str, vanished: &[String]) -> OpResult<Vec<String>> {
    let sql = format!(
        "SELECT unnest($1::text[]) AS key EXCEPT SELECT {key}::text FROM {} WHERE removed_at IS NULL",
        table.name
    );
    texts(tx, &sql, &[(&vanished, Type::TEXT_ARRAY)]).await
}

/// What all rows are marked with.
struct Mark<'a> {
    tx: &'a Tx<'a>,
    at: Instant,
}

impl Mark<'_> {
    /// Marks the live rows whose `key` is one of `keys`; answers how many of them are records.
    async fn rows(
        &self,
        table: &Table,
        key: &str,
        keys: &[String],
        condition: &str,
        params: &[Param<'_>],
    ) -> OpResult<u64> {
        let sql = format!(
            "UPDATE {} SET removed_at = $1, changed_at = $1
             WHERE {key} = ANY ({}) AND removed_at IS NULL {condition}",
            table.name,
            keys_at(2, table, key)
        );
        let mut all: Vec<Param<'_>> = vec![(&self.at, Type::TIMESTAMPTZ), (&keys, Type::TEXT_ARRAY)];
        all.extend_from_slice(params);
        let marked = self.tx.execute_planned(&sql, &all).await?;
        Ok(if table.link { 0 } else { marked })
    }
}

/// What the removals of a page would do once its rows are in, by reading alone.
pub async fn preview(session: &Session, batch: &Batch, rejects: &[Reject]) -> OpResult<(u64, Option<String>)> {
    let mut foresight = Foresight::new(batch, rejects);
    for removal in &batch.removals {
        let (held, named) = (held(session, removal, &foresight).await?, named(session, removal).await?);
        let Some(gone) = foresight.gone(removal, held, &named)? else { continue };
        for (owned, owner) in removal.owned {
            let sql = format!(
                "SELECT count(*) FROM {} WHERE {owner} = ANY ({}) AND removed_at IS NULL",
                owned.name,
                keys_at(1, owned, owner)
            );
            let rows = session.query_planned(&sql, &[(&gone, Type::TEXT_ARRAY)]).await?;
            let rows: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
            foresight.mark(owned, owner, gone.clone(), u64::try_from(rows).unwrap_or(0));
        }
        let rows = gone.len() as u64;
        foresight.mark(removal.table, removal.key, gone, rows);
    }
    Ok(foresight.told())
}

/// Keys of the scope that are live, but for those that an earlier removal of the same page would mark.
async fn held(session: &Session, removal: &Removal, foresight: &Foresight<'_>) -> OpResult<Vec<String>> {
    let Removal { table, scope: (column, value), key, .. } = removal;
    let value = text::clean(value);
    let mut sql = format!("SELECT {key}::text FROM {} WHERE {column} = $1 AND removed_at IS NULL", table.name);
    let mut params: Vec<Param<'_>> = vec![(&value, Type::TEXT)];
    for mark in foresight.marks_of(table) {
        params.push((&mark.keys, Type::TEXT_ARRAY));
        sql.push_str(&format!(" AND NOT {} = ANY ({})", mark.column, keys_at(params.len(), table, mark.column)));
    }
    let rows = session.query_planned(&sql, &params).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Keys that are kept because a live row names them.
async fn named(session: &Session, removal: &Removal) -> OpResult<HashSet<String>> {
    let Some((namer, naming)) = removal.named_by else { return Ok(HashSet::new()) };
    let sql = format!("SELECT DISTINCT {naming}::text FROM {} WHERE removed_at IS NULL", namer.name);
    let rows = session.query_planned(&sql, &[]).await?;
    let names: Vec<Option<String>> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(names.into_iter().flatten().collect())
}

/// A parameter of keys. They are told as texts; a column of numbers is asked for numbers, so that its index serves.
fn keys_at(place: usize, table: &Table, key: &str) -> String {
    let numbers = table.columns.iter().any(|column| column.name == key && column.kind == ColumnKind::Int);
    format!("${place}::text[]{}", if numbers { "::bigint[]" } else { "" })
}

async fn texts(tx: &Tx<'_>, sql: &str, params: &[Param<'_>]) -> OpResult<Vec<String>> {
    let rows = tx.query_planned(sql, params).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn count(tx: &Tx<'_>, sql: &str, params: &[Param<'_>]) -> OpResult<u64> {
    let row = tx.query_opt(sql, params).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
