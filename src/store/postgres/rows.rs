//! Domain rows: the upsert that writes only what differs.
//!
//! ```text
//! batch ──one SELECT by key──┬─ same hash, not removed: nothing is written, not even to the write-ahead log
//!    │                       ├─ absent, many: COPY into the table, details after them
//!    │                       └─ absent, few, or different: INSERT … ON CONFLICT in slices, their details anew
//!    └─ after a batch that was absent as a whole, as in a first sync: COPY at once, and the SELECT if one was there
//! ```
//!
//! Measured by `cargo bench --bench rows`: thousands of rows a second on one connection and two cores, of 15 columns,
//! with `fsync`; a plain COPY of all rows into the same table with its key made 480 to 570 in the same runs.
//!
//! | rows a batch | empty table | all new, between others | nothing changed | 1 % changed | all changed |
//! | --- | --- | --- | --- | --- | --- |
//! | 200 | 139 | 134 | 322 | 213 | 82 |
//! | 2,000 | 271 | 235 | 661 | 536 | 96 |
//! | 20,000 | 331 | 274 | 613 | 578 | 106 |
//!
//! Rejected, by shorter runs of batches of 2,000 on a busier machine, to be compared only with the figure beside them:
//!
//! - Absent rows as arrays too: 57 where COPY made 122 to 162. For 20 and 50 rows there was no difference.
//! - Different rows by COPY into a temporary table: 119 against 106. It needs a session of its own, which a pooler
//!   does not keep, and a second path for a tenth.
//! - Different rows by `UPDATE … FROM unnest`: 59 when a plain COPY made 384 (0.15 of it), against 106 at 560 (0.19);
//!   and it locks in whatever order the join takes.
//! - Slices of 500, 1,000 and 2,000: 118, 103 and 106, within the noise.
//!
//! Invariants:
//!
//! - Rows are locked in the order of their key, so that writers of the same rows wait for each other and do not lock
//!   each other out. What little is left of that is [`crate::store::postgres::error::OpError::is_conflict`].
//! - The details of an owner are written by who has locked its row.
//! - Another writer that comes first with a new key is no failure: what it wrote is compared where it stands.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::JobId;
use tokio_postgres::Row as Answer;
use tokio_postgres::types::Type;

use crate::store::batch::{Cell, Row, Rows};
use crate::store::postgres::cells::{self, Column, Hashes, Instant};
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::{Param, Session, Tx};
use crate::store::postgres::{copy, statements};
use crate::store::table::{self, Detail, Table};

/// Absent rows from which on they are copied: from some hundred the gain shows, and there it is soon twofold.
const COPY_MIN: usize = 100;

/// Rows of one statement that carries them as arrays.
const SLICE: usize = 1_000;

/// Never released: one of the same name hides it, and the transaction ends soon.
const SAVEPOINT: &str = "SAVEPOINT absent_rows";
const ROLL_BACK: &str = "ROLLBACK TO SAVEPOINT absent_rows";

/// Tables whose last batch, as far as one writer knows, was absent as a whole: the next of the same job is expected to
/// be so as well. A first sync saves the look by it, and is faster by 15 % (`longshore bench rows`).
#[derive(Debug, Default)]
pub struct Expected(Mutex<Absent>);

#[derive(Debug, Default)]
struct Absent {
    job: Option<JobId>,
    tables: HashSet<&'static str>,
}

impl Expected {
    /// What was expected of another job's rows is no longer.
    pub fn of(&self, job: JobId) -> &Self {
        let mut absent = self.absent();
        if absent.job != Some(job) {
            *absent = Absent { job: Some(job), tables: HashSet::new() };
        }
        self
    }

    fn is_absent(&self, table: &Table) -> bool {
        self.absent().tables.contains(table.name)
    }

    fn note(&self, table: &Table, is_absent: bool) {
        let tables = &mut self.absent().tables;
        if is_absent {
            tables.insert(table.name);
        } else {
            tables.remove(table.name);
        }
    }

    fn absent(&self) -> MutexGuard<'_, Absent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the rows of one table that differ from what stands. Of two with the same key the last one wins.
pub async fn write(
    tx: &Tx<'_>,
    table: &'static Table,
    batches: &[&Rows],
    expected: &Expected,
    at: Timestamp,
) -> OpResult<Counts> {
    let (rows, repeated) = by_key(table, batches);
    let mut counts = Counts { repeated, ..Counts::default() };
    if rows.len() >= COPY_MIN && expected.is_absent(table) && copy_absent(tx, table, &rows, at).await? {
        counts.inserted = rows.len() as u64;
        return Ok(counted(table, counts));
    }
    let look = Look::at(table, &rows);
    let Found { absent, different: mut rest } = look.found(tx.query_planned(&look.sql, &look.params()).await?)?;
    counts.unchanged = (rows.len() - absent.len() - rest.len()) as u64;
    let copied = absent.len() >= COPY_MIN && copy_absent(tx, table, &absent, at).await?;
    expected.note(table, copied && absent.len() == rows.len());
    if copied {
        counts.inserted = absent.len() as u64;
    } else {
        rest.extend(absent);
        rest.sort_by(|a, b| a.cells[..table.key].cmp(&b.cells[..table.key]));
    }
    for slice in rest.chunks(SLICE) {
        let (inserted, updated) = upsert(tx, table, slice, at).await?;
        counts.inserted += inserted;
        counts.updated += updated;
        // Since the look another writer wrote the same.
        counts.unchanged += slice.len() as u64 - inserted - updated;
    }
    Ok(counted(table, counts))
}

/// What [`write()`] would count, by reading alone.
pub async fn compare(session: &Session, rows: &Rows) -> OpResult<Counts> {
    let (sorted, repeated) = by_key(rows.table, &[rows]);
    let look = Look::at(rows.table, &sorted);
    let Found { absent, different } = look.found(session.query_planned(&look.sql, &look.params()).await?)?;
    let (inserted, updated) = (absent.len() as u64, different.len() as u64);
    let unchanged = sorted.len() as u64 - inserted - updated;
    let counts = Counts { inserted, updated, unchanged, repeated, ..Counts::default() };
    Ok(counted(rows.table, counts))
}

/// All rows in the order of their key, each key once, and how many gave way to a later one with theirs.
fn by_key<'a>(table: &Table, batches: &[&'a Rows]) -> (Vec<&'a Row>, u64) {
    let key = table.key;
    let mut rows: Vec<&Row> = batches.iter().flat_map(|batch| &batch.rows).collect();
    let all = rows.len();
    // Stable: of equal keys the order in which they came tells which one wins.
    rows.sort_by(|a, b| a.cells[..key].cmp(&b.cells[..key]));
    rows.dedup_by(|later, earlier| {
        let same = later.cells[..key] == earlier.cells[..key];
        if same {
            *earlier = *later;
        }
        same
    });
    let repeated = batches.iter().map(|batch| batch.duplicates()).sum::<u64>() + (all - rows.len()) as u64;
    (rows, repeated)
}

/// Rows that only tie others together are no records.
fn counted(table: &Table, counts: Counts) -> Counts {
    if table.link { Counts::default() } else { counts }
}

/// The question which rows, in the order of their key, stand in the table as they are.
struct Look<'a> {
    rows: &'a [&'a Row],
    sql: String,
    keys: Vec<Column<'a>>,
    hashes: Hashes<'a>,
}

/// The rows that do not, each in the order of their key.
struct Found<'a> {
    absent: Vec<&'a Row>,
    /// Or removed.
    different: Vec<&'a Row>,
}

impl<'a> Look<'a> {
    fn at(table: &Table, rows: &'a [&'a Row]) -> Self {
        let (keys, hashes) = (columns(&table.columns[..table.key], rows), Hashes::of(rows));
        Self { rows, sql: statements::look(table), keys, hashes }
    }

    fn params(&self) -> Vec<Param<'_>> {
        let mut params = params(&self.keys);
        params.push((&self.hashes, Type::BYTEA_ARRAY));
        params
    }

    fn found(&self, answer: Vec<Answer>) -> OpResult<Found<'a>> {
        let rows = |column| -> OpResult<Vec<&'a Row>> {
            let places = answer.first().map(|lists| lists.try_get::<_, Option<Vec<i64>>>(column)).transpose()?;
            let mut places = places.flatten().unwrap_or_default();
            // They came in this order, mostly; SQL does not promise it.
            places.sort_unstable();
            Ok(places.into_iter().map(|place| self.rows[place as usize - 1]).collect())
        };
        Ok(Found { absent: rows(0)?, different: rows(1)? })
    }
}

/// Copies rows that were absent a moment ago, with their details. `false`: one of them is there by now, or an owner has
/// a detail twice, and nothing was written.
async fn copy_absent(tx: &Tx<'_>, table: &Table, rows: &[&Row], at: Timestamp) -> OpResult<bool> {
    let into_table = tx.prepare_copy(&statements::copy(table)).await?;
    let mut into_details = Vec::new();
    for (index, detail) in table.details.iter().enumerate() {
        if rows.iter().any(|row| !row.details[index].is_empty()) {
            into_details.push((index, detail, tx.prepare_copy(&statements::copy_detail(detail)).await?));
        }
    }
    let copying = async {
        let pieces = copy::pieces(rows.iter(), table.columns.len() + 2, |row, out| {
            row.cells.iter().for_each(|cell| cells::put(cell, out));
            cells::put_bytes(&row.hash, out);
            cells::put_time(at, out);
        });
        tx.copy_in(&into_table, pieces).await?;
        for (index, detail, statement) in into_details {
            let details = rows.iter().flat_map(|row| &row.details[index]);
            let pieces = copy::pieces(details, detail.columns.len(), |cells, out| {
                cells.iter().for_each(|cell| cells::put(cell, out));
            });
            tx.copy_in(&statement, pieces).await?;
        }
        Ok(())
    };
    // Both are under way before the first is answered.
    match future::try_join(tx.run(SAVEPOINT), copying).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_unique_violation() => {
            tx.run(ROLL_BACK).await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Writes rows that are absent or different, and their details anew. Answers how many were inserted and updated; the
/// others are by now as they should be.
async fn upsert(tx: &Tx<'_>, table: &Table, rows: &[&Row], at: Timestamp) -> OpResult<(u64, u64)> {
    let (cells, hashes, at) = (columns(table.columns, rows), Hashes::of(rows), Instant(at));
    let mut params = params(&cells);
    params.extend([(&hashes as _, Type::BYTEA_ARRAY), (&at as _, Type::TIMESTAMPTZ)]);
    let answer = tx.query(&statements::upsert(table), &params).await?;
    let written = |column| answer.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column)).map(|n| n as u64);
    let (inserted, updated) = (written(0)?, written(1)?);
    // The rows are locked from here on, and with them their details.
    for (index, detail) in table.details.iter().enumerate() {
        let owners = columns(&table.columns[..table.key], rows);
        tx.execute_planned(&statements::delete_details(detail), &self::params(&owners)).await?;
        let details = rows.iter().flat_map(|row| row.details[index].iter().rev()).map(Vec::as_slice);
        insert_details(tx, detail, details.collect()).await?;
    }
    Ok((inserted, updated))
}

/// Of two with one key the first of `rows` wins.
async fn insert_details(tx: &Tx<'_>, detail: &Detail, rows: Vec<&[Cell]>) -> OpResult<()> {
    for slice in rows.chunks(SLICE) {
        let columns = detail.columns.iter().enumerate();
        let columns: Vec<Column<'_>> =
            columns.map(|(index, column)| Column::new(column.kind, slice.iter().map(|row| &row[index]))).collect();
        tx.execute(&statements::insert_details(detail), &params(&columns)).await?;
    }
    Ok(())
}

/// The first of the cells of each row, column by column.
fn columns<'a>(columns: &[table::Column], rows: &[&'a Row]) -> Vec<Column<'a>> {
    let columns = columns.iter().enumerate();
    columns.map(|(index, column)| Column::new(column.kind, rows.iter().map(|row| &row.cells[index]))).collect()
}

fn params<'a>(columns: &'a [Column<'_>]) -> Vec<Param<'a>> {
    columns.iter().map(|column| (column as _, column.array())).collect()
}
