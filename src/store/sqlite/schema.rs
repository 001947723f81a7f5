//! Runs the migrations on a SQLite database, and holds declared tables against what they made.

use longshore_actors::clock::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::store::migrations::{self, Applied, Migration, Mismatch};
use crate::store::table::{Column, ColumnKind, Table};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT";

#[derive(Debug)]
pub enum MigrateError {
    Mismatch(Mismatch),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        MigrateError::Sqlite(error)
    }
}

/// Runs what is missing, each migration in a transaction of its own together with the row that says so.
/// Answers how many ran.
pub fn migrate(conn: &mut Connection, known: &[Migration], now: Timestamp) -> Result<usize, MigrateError> {
    let applied = applied(conn)?;
    let pending = migrations::pending(known, &applied).map_err(MigrateError::Mismatch)?;
    if applied.is_empty() {
        conn.execute_batch(CREATE)?;
    }
    for migration in pending {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(migration.sql)?;
        tx.execute(
            "INSERT INTO migrations (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
            params![migration.version, migration.name, migration.checksum(), now.0],
        )?;
        tx.commit()?;
        tracing::debug!(version = migration.version, name = migration.name, "migration applied");
    }
    Ok(pending.len())
}

/// The migrations this database has, oldest first. A fresh database has none.
pub fn applied(conn: &Connection) -> rusqlite::Result<Vec<Applied>> {
    if !conn.table_exists(None, "migrations")? {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare("SELECT version, name, checksum, applied_at FROM migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| {
        Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)?, at: Timestamp(row.get(3)?) })
    })?;
    rows.collect()
}

/// Holds a declared table and its details against the schema; `Err` says the first difference.
pub fn verify(conn: &Connection, table: &Table) -> Result<(), String> {
    let kept = [("content_hash", "BLOB", true), ("changed_at", "TEXT", true), ("removed_at", "TEXT", false)];
    let kept = kept.map(|(name, kind, required)| Found { name: name.into(), kind: kind.into(), required, key: 0 });
    verify_columns(conn, table.name, table.key, table.columns, &kept)?;
    for detail in table.details {
        if detail.key != table.key {
            return Err(format!("{}: its owner's key has {} columns, not {}", detail.name, table.key, detail.key));
        }
        verify_columns(conn, detail.name, detail.key, detail.columns, &[])?;
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

fn verify_columns(conn: &Connection, name: &str, key: usize, columns: &[Column], kept: &[Found]) -> Result<(), String> {
    let found = describe(conn, name).map_err(|error| format!("{name}: {error}"))?;
    if found.is_empty() {
        return Err(format!("there is no table {name}"));
    }
    let is_detail = kept.is_empty();
    for (index, column) in columns.iter().enumerate() {
        let wanted = Found {
            name: column.name.to_owned(),
            kind: affinity(column.kind).to_owned(),
            required: !column.nullable,
            // A detail's own key goes on after its owner's.
            key: match found.get(index) {
                Some(found) if is_detail && index >= key => found.key,
                _ if index < key => index + 1,
                _ => 0,
            },
        };
        if found.get(index) != Some(&wanted) {
            return Err(format!("{name}: {wanted:?} is declared, the schema has {:?}", found.get(index)));
        }
    }
    if found[columns.len()..] != *kept {
        return Err(format!("{name}: after its columns the schema has {:?}", &found[columns.len()..]));
    }
    Ok(())
}

fn describe(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Found>> {
    let mut statement = conn.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let rows = statement.query_map([table], |row| {
        Ok(Found { name: row.get(0)?, kind: row.get(1)?, required: row.get(2)?, key: row.get::<_, i64>(3)? as usize })
    })?;
    rows.collect()
}

/// The type a kind of column has in the migrations.
fn affinity(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Text | ColumnKind::Decimal | ColumnKind::Json | ColumnKind::Time => "TEXT",
        ColumnKind::Int | ColumnKind::Bool => "INTEGER",
    }
}
