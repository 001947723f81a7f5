//! The SQL of a declared table. Names are the program's own and need no quoting.
//!
//! Rows travel as one array a column, `unnest($1::text[], $2::bigint[], …) AS k (k0, k1, …)`. What is looked up by key
//! is looked up inside `LATERAL (… OFFSET 0)`, which the planner can only run key by key: left to itself it would, by
//! its statistics, read the whole table for a page of it.

use crate::store::postgres::cells;
use crate::store::table::{Column, ColumnKind, Detail, Table};

/// Which rows of a batch are not in the table at all, and which are not there as they are: two lists of their places,
/// from 1. Parameters: the key's columns, the hashes.
pub fn look(table: &Table) -> String {
    let key = &table.columns[..table.key];
    format!(
        "SELECT array_agg(k.n) FILTER (WHERE held.content_hash IS NULL),
            array_agg(k.n) FILTER (WHERE held.content_hash IS NOT NULL)
         FROM unnest({}, ${}::bytea[]) WITH ORDINALITY AS k ({}, content_hash, n)
         LEFT JOIN LATERAL (SELECT content_hash, removed_at FROM {} AS t WHERE {} OFFSET 0) AS held ON true
         WHERE held.content_hash IS DISTINCT FROM k.content_hash OR held.removed_at IS NOT NULL",
        arrays(key),
        key.len() + 1,
        places(key),
        table.name,
        equal(key),
    )
}

/// Puts rows in or overwrites what differs; answers how many of each. Parameters: all columns, the hashes, the instant.
pub fn upsert(table: &Table) -> String {
    let (names, count) = (list(table.columns), table.columns.len());
    let overwritten: Vec<String> = table.columns[table.key..]
        .iter()
        .map(|column| column.name)
        .chain(["content_hash", "changed_at"])
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    // Only a row that was there already was locked before it was written, which its xmax shows.
    format!(
        "WITH written AS (
            INSERT INTO {} AS held ({names}, content_hash, changed_at)
            SELECT k.*, ${}::timestamptz FROM unnest({}, ${}::bytea[]) AS k
            ON CONFLICT ({}) DO UPDATE SET {}, removed_at = NULL
            WHERE held.content_hash IS DISTINCT FROM excluded.content_hash OR held.removed_at IS NOT NULL
            RETURNING xmax = 0 AS fresh)
         SELECT count(*) FILTER (WHERE fresh), count(*) FILTER (WHERE NOT fresh) FROM written",
        table.name,
        count + 2,
        arrays(table.columns),
        count + 1,
        list(&table.columns[..table.key]),
        overwritten.join(", "),
    )
}

/// All columns, the hash, the instant.
pub fn copy(table: &Table) -> String {
    format!("COPY {} ({}, content_hash, changed_at) FROM STDIN (FORMAT binary)", table.name, list(table.columns))
}

pub fn copy_detail(detail: &Detail) -> String {
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", detail.name, list(detail.columns))
}

/// Parameters: the key's columns of the owners.
pub fn delete_details(detail: &Detail) -> String {
    let (name, key) = (detail.name, &detail.columns[..detail.key]);
    format!(
        "DELETE FROM {name} WHERE ctid = ANY (ARRAY(
            SELECT held.ctid FROM unnest({}) AS k ({})
            CROSS JOIN LATERAL (SELECT t.ctid FROM {name} AS t WHERE {} OFFSET 0) AS held))",
        arrays(key),
        places(key),
        equal(key),
    )
}

/// Of rows with one key the first wins. Parameters: all columns.
pub fn insert_details(detail: &Detail) -> String {
    format!(
        "INSERT INTO {} ({}) SELECT * FROM unnest({}) AS k ON CONFLICT DO NOTHING",
        detail.name,
        list(detail.columns),
        arrays(detail.columns)
    )
}

/// The details of owners, those of each in the order of their columns. Parameters: the key's columns of the owners.
pub fn details(detail: &Detail) -> String {
    let key = &detail.columns[..detail.key];
    format!(
        "SELECT k.n, {} FROM unnest({}) WITH ORDINALITY AS k ({}, n)
         CROSS JOIN LATERAL (SELECT * FROM {} AS t WHERE {} OFFSET 0) AS held ORDER BY k.n, {}",
        list(detail.columns),
        arrays(key),
        places(key),
        detail.name,
        equal(key),
        nulls_first(detail.columns),
    )
}

/// Live rows in the order of their key. Parameters, with `after`: a key.
pub fn rows(table: &Table, after: bool, limit: usize) -> String {
    let key = &table.columns[..table.key];
    let places: Vec<String> = (1..=key.len()).map(|place| format!("${place}")).collect();
    let beyond = match after {
        true => format!("AND ({}) > ({})", bytewise(key).join(", "), places.join(", ")),
        false => String::new(),
    };
    format!(
        "SELECT {}, content_hash FROM {} WHERE removed_at IS NULL {beyond} ORDER BY {} LIMIT {limit}",
        list(table.columns),
        table.name,
        bytewise(key).join(", "),
    )
}

/// The text in `column` for each key, in their order. Parameters: the key's first column.
pub fn known(table: &Table, column: &str) -> String {
    let key = &table.columns[..1];
    format!(
        "SELECT held.{column} FROM unnest({}) WITH ORDINALITY AS k (k0, n)
         LEFT JOIN LATERAL (SELECT {column} FROM {} AS t WHERE {} AND removed_at IS NULL LIMIT 1) AS held ON true
         ORDER BY k.n",
        arrays(key),
        table.name,
        equal(key),
    )
}

fn list(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// `$1::text[], $2::bigint[]`
fn arrays(columns: &[Column]) -> String {
    let arrays = columns.iter().enumerate();
    let arrays = arrays.map(|(index, column)| format!("${}::{}[]", index + 1, cells::kind(column.kind).name()));
    arrays.collect::<Vec<_>>().join(", ")
}

/// `k0, k1`
fn places(key: &[Column]) -> String {
    (0..key.len()).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ")
}

/// `t.group_name = k.k0 AND t.bundle_name = k.k1`
fn equal(key: &[Column]) -> String {
    let equal = key.iter().enumerate().map(|(index, column)| format!("t.{} = k.k{index}", column.name));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The columns as they are compared in the embedded store: texts byte by byte, whatever the database's own order.
fn bytewise(columns: &[Column]) -> Vec<String> {
    let compared = columns.iter().map(|Column { name, kind, .. }| match kind {
        ColumnKind::Text => format!("{name} COLLATE \"C\""),
        ColumnKind::Int | ColumnKind::Bool | ColumnKind::Decimal | ColumnKind::Json | ColumnKind::Time => {
            (*name).to_owned()
        }
    });
    compared.collect()
}

fn nulls_first(columns: &[Column]) -> String {
    bytewise(columns).iter().map(|column| format!("{column} NULLS FIRST")).collect::<Vec<_>>().join(", ")
}
