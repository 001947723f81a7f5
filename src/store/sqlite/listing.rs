//! Rows of domain tables read back as they were written, for reports and for whoever compares.

use std::str::FromStr;

use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::LedgerError;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use rust_decimal::Decimal;

use crate::store::batch::{Cell, Row};
use crate::store::sqlite::tx::{OpError, OpResult};
use crate::store::table::{Column, ColumnKind, Table};

/// Live rows after the key `after`, in the order of their key.
pub fn rows(conn: &Connection, table: &Table, after: &[Cell], limit: usize) -> OpResult<Vec<Row>> {
    let key = names(&table.columns[..table.key]);
    let beyond = match after {
        [] => String::new(),
        [..] => format!("AND ({key}) > ({})", vec!["?"; after.len()].join(", ")),
    };
    let sql = format!(
        "SELECT {}, content_hash FROM {} WHERE removed_at IS NULL {beyond} ORDER BY {key} LIMIT {limit}",
        names(table.columns),
        table.name
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(after))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let cells = cells(row, table.columns)?;
        let hash: [u8; 16] = row.get(table.columns.len())?;
        let details = details(conn, table, &cells[..table.key])?;
        rows.push(Row { cells, details, hash });
    }
    Ok(rows)
}

/// See [`crate::store::Store::known`].
pub fn known(conn: &Connection, table: &Table, column: &str, keys: &[Cell]) -> OpResult<Vec<Option<String>>> {
    let key = table.columns[0].name;
    let sql = format!("SELECT {column} FROM {} WHERE {key} = ? AND removed_at IS NULL", table.name);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut known = Vec::with_capacity(keys.len());
    for key in keys {
        let mut key = key.clone();
        key.clean();
        known.push(statement.query_row([key], |row| row.get::<_, Option<String>>(0)).optional()?.flatten());
    }
    Ok(known)
}

fn details(conn: &Connection, table: &Table, owner: &[Cell]) -> OpResult<Vec<Vec<Vec<Cell>>>> {
    let mut details = Vec::with_capacity(table.details.len());
    for detail in table.details {
        let key: Vec<String> =
            detail.columns[..detail.key].iter().map(|column| format!("{} = ?", column.name)).collect();
        let names = names(detail.columns);
        let sql = format!("SELECT {names} FROM {} WHERE {} ORDER BY {names}", detail.name, key.join(" AND "));
        let mut statement = conn.prepare_cached(&sql)?;
        let mut found = statement.query(params_from_iter(owner))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(cells(row, detail.columns)?);
        }
        details.push(rows);
    }
    Ok(details)
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn cells(row: &rusqlite::Row<'_>, columns: &[Column]) -> OpResult<Vec<Cell>> {
    columns.iter().enumerate().map(|(index, column)| cell(row, index, column)).collect()
}

fn cell(row: &rusqlite::Row<'_>, index: usize, column: &Column) -> OpResult<Cell> {
    let text = || row.get::<_, Option<String>>(index);
    let broken = |text: &str| {
        OpError::Ledger(LedgerError::Broken(format!("column {} holds {text:?}, which does not fit", column.name)))
    };
    let cell = match column.kind {
        ColumnKind::Text => text()?.map(Cell::Text),
        ColumnKind::Json => text()?.map(Cell::Json),
        ColumnKind::Int => row.get::<_, Option<i64>>(index)?.map(Cell::Int),
        ColumnKind::Bool => row.get::<_, Option<bool>>(index)?.map(Cell::Bool),
        ColumnKind::Decimal => match text()? {
            None => None,
            Some(text) => Some(Cell::Decimal(Decimal::from_str(&text).map_err(|_| broken(&text))?)),
        },
        ColumnKind::Time => match text()? {
            None => None,
            Some(text) => {
                let at = jiff::Timestamp::from_str(&text).map_err(|_| broken(&text))?;
                Some(Cell::Time(Timestamp(at.as_millisecond())))
            }
        },
    };
    Ok(cell.unwrap_or(Cell::Null))
}
