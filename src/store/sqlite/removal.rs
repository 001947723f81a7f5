//! What a snapshot ends with: marks the rows that vanished from it.
//!
//! Only if the snapshot is complete, and never more than the guard allows. Nothing is deleted.

use std::borrow::Cow;
use std::collections::HashSet;

use longshore_actors::job::JobId;
use longshore_actors::ledger::Reject;
use rusqlite::{Connection, Statement, params, params_from_iter};

use crate::store::batch::{Batch, Removal};
use crate::store::head;
pub use crate::store::removal::Removed;
use crate::store::removal::{self, Facts, Foresight};
use crate::store::sqlite::tx::{OpResult, Tx};
use crate::store::table::Table;
use crate::store::text;

/// One row a page: a row a key would cost as much as looking the record up.
const SEE: &str = "INSERT INTO snapshot_keys (job, keys) VALUES (?1, ?2)";

const NAMELESS: &str = "SELECT count(*) FROM rejected_records WHERE job = ?1 AND key IS NULL";

/// Keeps the keys that a page of the job's snapshot has shown.
pub fn see(tx: &Tx<'_>, job: JobId, keys: &[String]) -> OpResult<()> {
    if !keys.is_empty() {
        let keys: Vec<Cow<'_, str>> = keys.iter().map(|key| text::clean(key)).collect();
        tx.execute(SEE, params![job.0, head::json_text(&keys)?])?;
    }
    Ok(())
}

pub fn forget(tx: &Tx<'_>, job: JobId) -> OpResult<()> {
    tx.execute("DELETE FROM snapshot_keys WHERE job = ?1", [job.0])?;
    Ok(())
}

/// `nameless` are rejected records without a readable key that are not yet among the job's.
pub fn remove(tx: &Tx<'_>, removal: &Removal, job: JobId, nameless: u64, at: &str) -> OpResult<Removed> {
    if let Some(nothing) = removal::incomplete(removal) {
        return Ok(nothing);
    }
    let Removal { table, scope: (column, value), key, missing: _, guard: _, orphans, named_by: _, owned } = removal;
    let (name, value) = (table.name, &text::clean(value));
    let live =
        count(tx, &format!("SELECT count(*) FROM {name} WHERE {column} = ?1 AND removed_at IS NULL"), params![value])?;
    let mut vanished = vanished(tx, table, column, key, params![value, job.0])?;
    if let Some(naming) = naming(removal) {
        let mut naming = tx.prepare(&naming)?;
        let named = names(&mut naming)?;
        vanished.retain(|key| !named.contains(key));
    }
    let nameless = nameless + count(tx, NAMELESS, params![job.0])?;
    if let Some(nothing) = removal::decide(removal, Facts { live, gone: vanished.len() as u64, nameless })? {
        return Ok(nothing);
    }
    let mark = format!(
        "UPDATE {name} SET removed_at = ?1, changed_at = ?1 WHERE {column} = ?2 AND {key} = ?3 AND removed_at IS NULL"
    );
    let mut statement = tx.prepare(&mark)?;
    let mut removed = 0;
    for key in &vanished {
        let marked = statement.execute(params![at, value, key])? as u64;
        removed += if table.link { 0 } else { marked };
    }
    if let Some((orphan, orphan_key)) = orphans
        && !vanished.is_empty()
    {
        removed += remove_orphans(tx, orphan, orphan_key, (table, key), &vanished, at)?;
    }
    for (owned, owner) in *owned {
        removed += remove_owned(tx, owned, owner, &vanished, at)?;
    }
    Ok(Removed::Rows(removed))
}

/// What the removals of a page would do once its rows are in, by reading alone.
pub fn preview(conn: &Connection, batch: &Batch, rejects: &[Reject]) -> OpResult<(u64, Option<String>)> {
    let mut foresight = Foresight::new(batch, rejects);
    for removal in &batch.removals {
        let held = held(conn, removal, &foresight)?;
        let named = match naming(removal) {
            Some(naming) => names(&mut conn.prepare(&naming)?)?,
            None => HashSet::new(),
        };
        let Some(gone) = foresight.gone(removal, held, &named)? else { continue };
        for (owned, owner) in removal.owned {
            let sql = format!(
                "SELECT count(*) FROM {} WHERE {owner} IN (SELECT value FROM json_each(?1)) AND removed_at IS NULL",
                owned.name
            );
            let rows: i64 = conn.query_row(&sql, [head::json_text(&gone)?], |row| row.get(0))?;
            foresight.mark(owned, owner, gone.clone(), u64::try_from(rows).unwrap_or(0));
        }
        let rows = gone.len() as u64;
        foresight.mark(removal.table, removal.key, gone, rows);
    }
    Ok(foresight.told())
}

/// Keys of the scope that are live, but for those that an earlier removal of the same page would mark.
fn held(conn: &Connection, removal: &Removal, foresight: &Foresight<'_>) -> OpResult<Vec<String>> {
    let Removal { table, scope: (column, value), key, .. } = removal;
    let mut sql = format!("SELECT {key} FROM {} WHERE {column} = ? AND removed_at IS NULL", table.name);
    let mut values = vec![text::clean(value).into_owned()];
    for mark in foresight.marks_of(table) {
        sql.push_str(&format!(" AND {} NOT IN (SELECT value FROM json_each(?))", mark.column));
        values.push(head::json_text(&mark.keys)?);
    }
    let mut statement = conn.prepare(&sql)?;
    let keys = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

/// Asks for the keys that are kept because a live row names them.
fn naming(removal: &Removal) -> Option<String> {
    let (namer, column) = removal.named_by?;
    Some(format!("SELECT DISTINCT {column} FROM {} WHERE removed_at IS NULL", namer.name))
}

fn names(naming: &mut Statement<'_>) -> OpResult<HashSet<String>> {
    let names = naming.query_map([], |row| row.get::<_, Option<String>>(0))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn vanished(
    tx: &Tx<'_>,
    table: &Table,
    column: &str,
    key: &str,
    params: impl rusqlite::Params,
) -> OpResult<Vec<String>> {
    let sql = format!(
        "SELECT {key} FROM {} WHERE {column} = ?1 AND removed_at IS NULL
         AND {key} NOT IN (SELECT each.value FROM snapshot_keys AS seen, json_each(seen.keys) AS each WHERE seen.job = ?2)",
        table.name
    );
    let mut statement = tx.prepare(&sql)?;
    let keys = statement.query_map(params, |row| row.get(0))?;
    Ok(keys.collect::<rusqlite::Result<_>>()?)
}

/// Marks the rows whose key has just vanished and that no live row of `table` names any more.
fn remove_orphans(
    tx: &Tx<'_>,
    orphan: &Table,
    orphan_key: &str,
    (table, key): (&Table, &str),
    vanished: &[String],
    at: &str,
) -> OpResult<u64> {
    // The set of live names is made once: an index for this rare question would cost every insert.
    let sql = format!(
        "UPDATE {} SET removed_at = ?1, changed_at = ?1
         WHERE {orphan_key} IN (SELECT value FROM json_each(?2)) AND removed_at IS NULL
         AND {orphan_key} NOT IN (SELECT {key} FROM {} WHERE removed_at IS NULL)",
        orphan.name, table.name
    );
    let vanished = head::json_text(&vanished)?;
    Ok(tx.execute(&sql, params![at, vanished])? as u64)
}

/// Marks the rows of a table that belong to what has just vanished.
fn remove_owned(tx: &Tx<'_>, owned: &Table, owner: &str, vanished: &[String], at: &str) -> OpResult<u64> {
    if vanished.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "UPDATE {} SET removed_at = ?1, changed_at = ?1
         WHERE {owner} IN (SELECT value FROM json_each(?2)) AND removed_at IS NULL",
        owned.name
    );
    let marked = tx.execute(&sql, params![at, head::json_text(&vanished)?])? as u64;
    Ok(if owned.link { 0 } else { marked })
}

fn count(tx: &Tx<'_>, sql: &str, params: impl rusqlite::Params) -> OpResult<u64> {
    let count: i64 = tx.prepare(sql)?.query_row(params, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
