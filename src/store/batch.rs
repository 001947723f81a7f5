//! Rows on their way into the store.

use std::collections::HashMap;

use bytes::Bytes;
use rust_decimal::Decimal;

use longshore_actors::clock::Timestamp;

use crate::store::table::{Column, ColumnKind, Table};
use crate::store::text;

/// One value; its kind fits its column, which [`Rows::push`] checks in debug builds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Decimal(Decimal),
    Json(String),
    Time(Timestamp),
}

impl Cell {
    fn fits(&self, column: &Column) -> bool {
        match self {
            Cell::Null => column.nullable,
            Cell::Text(_) => column.kind == ColumnKind::Text,
            Cell::Int(_) => column.kind == ColumnKind::Int,
            Cell::Bool(_) => column.kind == ColumnKind::Bool,
            Cell::Decimal(_) => column.kind == ColumnKind::Decimal,
            Cell::Json(_) => column.kind == ColumnKind::Json,
            Cell::Time(_) => column.kind == ColumnKind::Time,
        }
    }

    /// Makes it one that both databases hold (see [`crate::store::text`]).
    pub fn clean(&mut self) {
        match self {
            Cell::Text(text) => text::clean_text(text),
            Cell::Json(json) => text::clean_json(json),
            Cell::Null | Cell::Int(_) | Cell::Bool(_) | Cell::Decimal(_) | Cell::Time(_) => {}
        }
    }

    /// A tag and, where the length is not given by it, the length: no two different rows give the same bytes.
    fn encode(&self, bytes: &mut Vec<u8>) {
        let mut text = |tag: u8, text: &str| {
            bytes.push(tag);
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        match self {
            Cell::Null => bytes.push(0),
            Cell::Text(value) => text(1, value),
            Cell::Json(value) => text(2, value),
            // 1.5 and 1.50 are the same price.
            Cell::Decimal(value) => {
                bytes.push(3);
                bytes.extend_from_slice(&value.normalize().serialize());
            }
            Cell::Int(value) => {
                bytes.push(4);
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            Cell::Time(value) => {
                bytes.push(5);
                bytes.extend_from_slice(&value.0.to_le_bytes());
            }
            Cell::Bool(value) => bytes.extend_from_slice(&[6, u8::from(*value)]),
        }
    }
}

/// Rows of one table, one per key: of two with the same key the last one wins.
#[derive(Debug)]
pub struct Rows {
    pub table: &'static Table,
    /// Written by [`Rows::push`] alone.
    pub rows: Vec<Row>,
    /// From the encoded key to the place in `rows`.
    places: HashMap<Box<[u8]>, usize>,
    duplicates: u64,
    /// Kept from row to row, so that a push allocates only what it keeps.
    scratch: Vec<u8>,
}

#[derive(Debug)]
pub struct Row {
    /// In the order of the table's columns.
    pub cells: Vec<Cell>,
    /// For each of the table's details, its rows, the owner's key included.
    pub details: Vec<Vec<Vec<Cell>>>,
    /// BLAKE3 of cells and details, first 16 bytes.
    pub hash: [u8; 16],
}

impl Rows {
    pub fn new(table: &'static Table) -> Self {
        Self { table, rows: Vec::new(), places: HashMap::new(), duplicates: 0, scratch: Vec::new() }
    }

    /// Takes a row: `cells` in the order of the table's columns; `details` holds, for each of the table's details,
    /// its rows. A row whose key is here already takes that one's place. What PostgreSQL cannot hold of a text is
    /// taken out of it (see [`crate::store::text`]).
    pub fn push(&mut self, mut cells: Vec<Cell>, mut details: Vec<Vec<Vec<Cell>>>) {
        cells.iter_mut().chain(details.iter_mut().flatten().flatten()).for_each(Cell::clean);
        debug_assert!(fit(&cells, self.table.columns), "cells do not fit {}: {cells:?}", self.table.name);
        debug_assert_eq!(details.len(), self.table.details.len(), "details of {}", self.table.name);
        for (detail, rows) in self.table.details.iter().zip(&details) {
            for row in rows {
                debug_assert!(fit(row, detail.columns), "cells do not fit {}: {row:?}", detail.name);
                debug_assert_eq!(row[..detail.key], cells[..detail.key], "{} belongs to another row", detail.name);
            }
        }
        self.scratch.clear();
        for cell in &cells[..self.table.key] {
            cell.encode(&mut self.scratch);
        }
        let key = self.scratch.as_slice().into();
        let hash = hash(&cells, &details, &mut self.scratch);
        let row = Row { cells, details, hash };
        match self.places.get(&key) {
            Some(place) => {
                self.rows[*place] = row;
                self.duplicates += 1;
            }
            None => {
                self.places.insert(key, self.rows.len());
                self.rows.push(row);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that were pushed and gave way to a later one with their key.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

fn fit(cells: &[Cell], columns: &[Column]) -> bool {
    cells.len() == columns.len() && cells.iter().zip(columns).all(|(cell, column)| cell.fits(column))
}

fn hash(cells: &[Cell], details: &[Vec<Vec<Cell>>], bytes: &mut Vec<u8>) -> [u8; 16] {
    bytes.clear();
    for cell in cells {
        cell.encode(bytes);
    }
    for rows in details {
        bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        for cell in rows.iter().flatten() {
            cell.encode(bytes);
        }
    }
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    first
}

/// What transform hands to upload for a store target.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Rows>,
    /// Keys that this page of a snapshot holds, rejected records included as far as their key is known. Kept in the
    /// store for the job until it ends.
    pub seen: Vec<String>,
    /// What a snapshot ends with, one a table. With the rows of a page that is a whole snapshot they stand or fall with
    /// that page: a guard that refuses leaves nothing of it. After many pages they come in a batch of their own, once
    /// all are in.
    pub removals: Vec<Removal>,
    /// Files that the rows speak of: in the object store before the rows are written.
    pub objects: Vec<Object>,
}

/// A file on its way into the object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Made from the content, so that the same file is put once and a repeat changes nothing.
    pub key: String,
    pub content_type: String,
    pub bytes: Bytes,
}

/// Marks the rows of `table` that lie in `scope` and were not seen by this job, if the snapshot is complete and the
/// guard allows it.
#[derive(Debug)]
pub struct Removal {
    pub table: &'static Table,
    /// Column and value that bound the snapshot, such as `("group_name", "Standard Fixed")`.
    pub scope: (&'static str, String),
    /// The key column that `seen` speaks of.
    pub key: &'static str,
    /// Records that the upstream says there are and that were not received. With any, the snapshot is not complete:
    /// nothing is removed, and the job says so.
    pub missing: u64,
    pub guard: Guard,
    /// A table whose rows are removed with the last row of `table` that names them: table and its key column.
    pub orphans: Option<(&'static Table, &'static str)>,
    /// A key that a live row of this table names, in this column, is kept: it is not gone, whatever the snapshot says.
    pub named_by: Option<(&'static Table, &'static str)>,
    /// Tables whose rows belong to one row of `table`, by this column, and are removed with it.
    pub owned: &'static [(&'static Table, &'static str)],
}

/// How much may vanish at once: `max(rows, ratio × rows in scope)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    pub rows: u64,
    pub ratio: f64,
    /// An operator said yes to more.
    pub lifted: bool,
}

impl Guard {
    /// Whether `vanished` of `live` rows may go.
    pub fn allows(&self, vanished: u64, live: u64) -> bool {
        self.lifted || vanished <= self.rows || vanished as f64 <= self.ratio * live as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Detail;

    const PARTS: Detail = Detail {
        name: "thing_parts",
        key: 1,
        columns: &[Column::new("thing", ColumnKind::Text), Column::new("part", ColumnKind::Text)],
    };
    static THINGS: Table = Table {
        name: "things",
        key: 1,
        columns: &[
            Column::new("name", ColumnKind::Text),
            Column::nullable("colour", ColumnKind::Text),
            Column::nullable("price", ColumnKind::Decimal),
        ],
        details: &[PARTS],
        link: false,
    };

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn hash_of(colour: Cell, price: Cell, parts: &[&str]) -> [u8; 16] {
        let mut rows = Rows::new(&THINGS);
        let parts = parts.iter().map(|part| vec![text("a"), text(part)]).collect();
        rows.push(vec![text("a"), colour, price], vec![parts]);
        rows.rows[0].hash
    }

    #[test]
    fn of_two_rows_with_one_key_the_last_wins_in_the_place_of_the_first() {
        let mut rows = Rows::new(&THINGS);
        assert!(rows.is_empty());
        for (name, colour) in [("a", "red"), ("b", "blue"), ("a", "green")] {
            rows.push(vec![text(name), text(colour), Cell::Null], vec![vec![]]);
        }
        assert_eq!((rows.len(), rows.duplicates()), (2, 1));
        assert_eq!(rows.rows[0].cells[1], text("green"));
        assert_eq!(rows.rows[1].cells[0], text("b"));
    }

    #[test]
    fn the_hash_tells_apart_what_differs_and_only_that() {
        let price = |price: &str| price.parse().map(Cell::Decimal).unwrap_or(Cell::Null);
        let base = hash_of(text("red"), price("1.50"), &["x", "y"]);
        assert_eq!(base, hash_of(text("red"), price("1.5"), &["x", "y"]));
        let others = [
            hash_of(text("red"), price("1.51"), &["x", "y"]),
            hash_of(text("red"), Cell::Null, &["x", "y"]),
            hash_of(Cell::Null, price("1.5"), &["x", "y"]),
            hash_of(text(""), price("1.5"), &["x", "y"]),
            hash_of(text("red"), price("1.5"), &["xy"]),
            hash_of(text("red"), price("1.5"), &["x"]),
            hash_of(text("red"), price("1.5"), &["y", "x"]),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(base, *other);
            assert!(others[..index].iter().all(|earlier| earlier != other));
        }
    }

    #[test]
    fn the_guard_takes_the_wider_of_its_two_bounds() {
        let guard = Guard { rows: 50, ratio: 0.2, lifted: false };
        assert!(guard.allows(50, 60));
        assert!(!guard.allows(51, 60));
        assert!(guard.allows(200, 1000));
        assert!(!guard.allows(201, 1000));
        assert!(Guard { lifted: true, ..guard }.allows(1000, 1000));
    }
}
