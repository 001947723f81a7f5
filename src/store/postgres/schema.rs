//! Holds declared tables against what the migrations made.

use longshore_actors::ledger::LedgerError;
use tokio_postgres::types::Type;

use crate::store::postgres::cells;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::table::{Column, Table};

/// Name, type, whether it must have a value, and its place in the primary key from 1.
const DESCRIBE: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
FROM pg_attribute AS a
LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

/// Holds a declared table and its details against the schema; `Err` says the first difference.
pub async fn verify(session: &Session, table: &Table) -> Result<(), String> {
    let kept = [("content_hash", Type::BYTEA, true), ("changed_at", Type::TIMESTAMPTZ, true)];
    let kept = kept.into_iter().chain([("removed_at", Type::TIMESTAMPTZ, false)]);
    let kept: Vec<Found> = kept.map(|(name, kind, required)| Found::new(name, &kind, required, 0)).collect();
    verify_columns(session, table.name, table.key, table.columns, &kept).await?;
    for detail in table.details {
        if detail.key != table.key {
            return Err(format!("{}: its owner's key has {} columns, not {}", detail.name, table.key, detail.key));
        }
        verify_columns(session, detail.name, detail.key, detail.columns, &[]).await?;
    }
    Ok(())
}

/// A column as the database describes it, or as a declaration wants it. `key`: its place in the key, from 1.
#[derive(Debug, PartialEq)]
struct Found {
    name: String,
    kind: String,
    required: bool,
    key: usize,
}

impl Found {
    fn new(name: &str, kind: &Type, required: bool, key: usize) -> Self {
        Self { name: name.to_owned(), kind: spelled(kind).to_owned(), required, key }
    }
}

/// The type as the database writes it out.
fn spelled(kind: &Type) -> &str {
    match *kind {
        Type::INT8 => "bigint",
        Type::BOOL => "boolean",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        _ => kind.name(),
    }
}

async fn verify_columns(
    session: &Session,
    name: &str,
    key: usize,
    columns: &[Column],
    kept: &[Found],
) -> Result<(), String> {
    let found = describe(session, name).await.map_err(|error| format!("{name}: {}", LedgerError::from(error)))?;
    if found.is_empty() {
        return Err(format!("there is no table {name}"));
    }
    let is_detail = kept.is_empty();
    for (index, column) in columns.iter().enumerate() {
        let place = match found.get(index) {
            // A detail's own key goes on after its owner's.
            Some(found) if is_detail && index >= key => found.key,
            _ if index < key => index + 1,
            _ => 0,
        };
        let wanted = Found::new(column.name, &cells::kind(column.kind), !column.nullable, place);
        if found.get(index) != Some(&wanted) {
            return Err(format!("{name}: {wanted:?} is declared, the schema has {:?}", found.get(index)));
        }
    }
    if found[columns.len()..] != *kept {
        return Err(format!("{name}: after its columns the schema has {:?}", &found[columns.len()..]));
    }
    Ok(())
}

async fn describe(session: &Session, table: &str) -> OpResult<Vec<Found>> {
    let rows = session.query(DESCRIBE, &[(&table, Type::TEXT)]).await?;
    rows.iter()
        .map(|row| {
            let key: i32 = row.try_get(3)?;
            let (name, kind) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Found { name, kind, required: row.try_get(2)?, key: usize::try_from(key).unwrap_or(0) })
        })
        .collect()
}
