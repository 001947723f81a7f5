//! Domain rows: the SQL of a declared table, and the upsert that writes only what differs.
//!
//! For each row the hash that stands in the table is read by key; the same hash and not removed means that nothing is
//! written. Otherwise the row is put in or overwritten, and its details are replaced as a whole.

use std::sync::Arc;

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Statement, ToSql};

use crate::store::batch::{Cell, Row, Rows};
use crate::store::sqlite::tx::{OpResult, Tx};
use crate::store::table::{Column, Detail, Table};

/// The statements of one table, made once from its declaration. Names are the program's own and need no quoting.
#[derive(Debug)]
pub struct TableSql {
    find: String,
    upsert: String,
    details: Vec<DetailSql>,
}

#[derive(Debug)]
struct DetailSql {
    delete: String,
    insert: String,
}

impl TableSql {
    pub fn of(table: &Table) -> TableSql {
        let key = &table.columns[..table.key];
        let (names, count) = (list(table.columns), table.columns.len());
        let kept = ["content_hash", "changed_at"];
        let overwritten: Vec<String> = table.columns[table.key..]
            .iter()
            .map(|column| column.name)
            .chain(kept)
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        TableSql {
            find: find(table),
            upsert: format!(
                "INSERT INTO {} ({names}, content_hash, changed_at) VALUES ({}) \
                 ON CONFLICT ({}) DO UPDATE SET {}, removed_at = NULL",
                table.name,
                places(count + kept.len()),
                list(key),
                overwritten.join(", "),
            ),
            details: table.details.iter().map(DetailSql::of).collect(),
        }
    }
}

impl DetailSql {
    fn of(detail: &Detail) -> DetailSql {
        DetailSql {
            delete: format!("DELETE FROM {} WHERE {}", detail.name, by_key(&detail.columns[..detail.key])),
            insert: format!(
                "INSERT OR REPLACE INTO {} ({}) VALUES ({})",
                detail.name,
                list(detail.columns),
                places(detail.columns.len())
            ),
        }
    }
}

fn find(table: &Table) -> String {
    let key = by_key(&table.columns[..table.key]);
    format!("SELECT content_hash, removed_at IS NOT NULL FROM {} WHERE {key}", table.name)
}

fn list(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn by_key(key: &[Column]) -> String {
    key.iter().map(|column| format!("{} = ?", column.name)).collect::<Vec<_>>().join(" AND ")
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Cell::Text(value) | Cell::Json(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Cell::Int(value) => (*value).into(),
            Cell::Bool(value) => i64::from(*value).into(),
            Cell::Decimal(value) => value.to_string().into(),
            Cell::Time(value) => iso(*value).into(),
        })
    }
}

/// `2026-11-22T08:30:00.123Z`: sorts as text in the order of time.
pub fn iso(at: Timestamp) -> String {
    // Beyond jiff's years (±9999) the nearest it has stands for it.
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What a row is compared to.
enum Stands {
    Absent,
    Same,
    Different,
}

fn stands(find: &mut Statement<'_>, table: &Table, row: &Row) -> rusqlite::Result<Stands> {
    for (index, cell) in row.cells[..table.key].iter().enumerate() {
        find.raw_bind_parameter(index + 1, cell)?;
    }
    let mut rows = find.raw_query();
    let Some(found) = rows.next()? else { return Ok(Stands::Absent) };
    let same = found.get_ref(0)?.as_blob()? == row.hash && !found.get::<_, bool>(1)?;
    Ok(if same { Stands::Same } else { Stands::Different })
}

/// Writes the rows that differ from what stands.
pub fn write(tx: &mut Tx<'_>, rows: &Rows, changed_at: &str) -> OpResult<Counts> {
    let table = rows.table;
    let sql = tx.memory.tables.entry(table.name).or_insert_with(|| Arc::new(TableSql::of(table))).clone();
    let mut find = tx.prepare(&sql.find)?;
    let mut upsert = tx.prepare(&sql.upsert)?;
    let mut details = Vec::with_capacity(sql.details.len());
    for detail in &sql.details {
        details.push((tx.prepare(&detail.delete)?, tx.prepare(&detail.insert)?));
    }
    let mut counts = Counts { repeated: rows.duplicates(), ..Counts::default() };
    for row in &rows.rows {
        let fresh = match stands(&mut find, table, row)? {
            Stands::Same => {
                counts.unchanged += 1;
                continue;
            }
            Stands::Absent => {
                counts.inserted += 1;
                true
            }
            Stands::Different => {
                counts.updated += 1;
                false
            }
        };
        bind(&mut upsert, &row.cells)?;
        upsert.raw_bind_parameter(row.cells.len() + 1, row.hash.as_slice())?;
        upsert.raw_bind_parameter(row.cells.len() + 2, changed_at)?;
        upsert.raw_execute()?;
        for ((delete, insert), detail) in details.iter_mut().zip(&row.details) {
            replace_details(delete, insert, &row.cells[..table.key], detail, fresh)?;
        }
    }
    Ok(counted(table, counts))
}

fn replace_details(
    delete: &mut CachedStatement<'_>,
    insert: &mut CachedStatement<'_>,
    owner: &[Cell],
    rows: &[Vec<Cell>],
    fresh: bool,
) -> rusqlite::Result<()> {
    // Rows are never deleted, so an owner that was not there has no details either.
    if !fresh {
        bind(delete, owner)?;
        delete.raw_execute()?;
    }
    for row in rows {
        bind(insert, row)?;
        insert.raw_execute()?;
    }
    Ok(())
}

fn bind(statement: &mut Statement<'_>, cells: &[Cell]) -> rusqlite::Result<()> {
    for (index, cell) in cells.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, cell)?;
    }
    Ok(())
}

/// What [`write()`] would count, by reading alone.
pub fn compare(conn: &Connection, rows: &Rows) -> OpResult<Counts> {
    let mut statement = conn.prepare(&find(rows.table))?;
    let mut counts = Counts { repeated: rows.duplicates(), ..Counts::default() };
    for row in &rows.rows {
        match stands(&mut statement, rows.table, row)? {
            Stands::Absent => counts.inserted += 1,
            Stands::Different => counts.updated += 1,
            Stands::Same => counts.unchanged += 1,
        }
    }
    Ok(counted(rows.table, counts))
}

/// Rows that only tie others together are no records.
fn counted(table: &Table, counts: Counts) -> Counts {
    if table.link { Counts::default() } else { counts }
}
