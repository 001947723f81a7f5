//! Rows of domain tables read back as they were written, for reports and for whoever compares.

use longshore_actors::ledger::LedgerError;
use tokio_postgres::Row as Answer;
use tokio_postgres::types::FromSql;

use crate::store::batch::{Cell, Row};
use crate::store::postgres::cells::{self, Column};
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::session::{Param, Session};
use crate::store::postgres::statements;
use crate::store::table::{self, Table};

/// Live rows after the key `after`, in the order of their key, with their details.
pub async fn rows(session: &Session, table: &Table, after: &[Cell], limit: usize) -> OpResult<Vec<Row>> {
    let key = &table.columns[..table.key];
    let params: Vec<Param<'_>> =
        after.iter().zip(key).map(|(cell, column)| (cell as _, cells::kind(column.kind))).collect();
    let answer = session.query(&statements::rows(table, !after.is_empty(), limit), &params).await?;
    let mut rows = Vec::with_capacity(answer.len());
    for answer in &answer {
        let cells = cells_of(answer, table.columns, 0)?;
        let hash: &[u8] = get(answer, table.columns.len(), "content_hash")?;
        let hash = hash.try_into().map_err(|_| misfit("content_hash", "it is not of 16 bytes"))?;
        rows.push(Row { cells, details: vec![Vec::new(); table.details.len()], hash });
    }
    for index in 0..table.details.len() {
        put_details(session, table, index, &mut rows).await?;
    }
    Ok(rows)
}

async fn put_details(session: &Session, table: &Table, index: usize, rows: &mut [Row]) -> OpResult<()> {
    let detail = &table.details[index];
    let answer = {
        let owners = table.columns[..table.key].iter().enumerate();
        let owners: Vec<Column<'_>> =
            owners.map(|(at, column)| Column::new(column.kind, rows.iter().map(|row| &row.cells[at]))).collect();
        let params: Vec<Param<'_>> = owners.iter().map(|column| (column as _, column.array())).collect();
        session.query_planned(&statements::details(detail), &params).await?
    };
    for answer in &answer {
        let place: i64 = get(answer, 0, "n")?;
        rows[place as usize - 1].details[index].push(cells_of(answer, detail.columns, 1)?);
    }
    Ok(())
}

/// See [`crate::store::Store::known`].
pub async fn known(session: &Session, table: &Table, column: &str, keys: &[Cell]) -> OpResult<Vec<Option<String>>> {
    let mut keys = keys.to_vec();
    keys.iter_mut().for_each(Cell::clean);
    let keys = Column::new(table.columns[0].kind, keys.iter());
    let answer = session.query_planned(&statements::known(table, column), &[(&keys, keys.array())]).await?;
    answer.iter().map(|row| get(row, 0, column)).collect()
}

/// The cells of these columns, from the place `first` of the answer on.
fn cells_of(answer: &Answer, columns: &[table::Column], first: usize) -> OpResult<Vec<Cell>> {
    columns.iter().enumerate().map(|(index, column)| get(answer, first + index, column.name)).collect()
}

fn get<'a, T: FromSql<'a>>(answer: &'a Answer, index: usize, column: &str) -> OpResult<T> {
    answer.try_get(index).map_err(|error| misfit(column, &error.to_string()))
}

fn misfit(column: &str, why: &str) -> OpError {
    LedgerError::Broken(format!("column {column} holds what does not fit: {why}")).into()
}
