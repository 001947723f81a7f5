//! Rows on their way into the store.

use rust_decimal::Decimal;

use longshore_actors::clock::Timestamp;

use crate::store::table::Table;

/// One value; its kind fits its column, which [`Rows::push`] checks in debug builds.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Decimal(Decimal),
    Json(String),
    Time(Timestamp),
}

/// Rows of one table, one per key: of two with the same key the last one wins.
#[derive(Debug)]
pub struct Rows {
    pub table: &'static Table,
    pub rows: Vec<Row>,
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
        Self { table, rows: Vec::new() }
    }

    /// Placeholder.
    pub fn push(&mut self, cells: Vec<Cell>, details: Vec<Vec<Vec<Cell>>>) {
        let key = self.table.key;
        self.rows.retain(|row| row.cells[..key] != cells[..key]);
        let hash = blake3::hash(format!("{cells:?}{details:?}").as_bytes());
        let hash = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        self.rows.push(Row { cells, details, hash });
    }
}

/// What transform hands to upload for a store target.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Rows>,
    /// Keys that this page of a snapshot holds, rejected records included as far as their key is known. Kept in the
    /// store for the job until it ends.
    pub seen: Vec<String>,
    /// The closing act of a snapshot.
    pub removal: Option<Removal>,
}

/// Marks the rows of `table` that lie in `scope` and were not seen by this job, if the snapshot is complete
/// (as many different keys seen as `expected`) and the guard allows it.
#[derive(Debug)]
pub struct Removal {
    pub table: &'static Table,
    /// Column and value that bound the snapshot, such as `("group_name", "Standard Fixed")`.
    pub scope: (&'static str, String),
    /// The key column that `seen` speaks of.
    pub key: &'static str,
    /// Records in the snapshot, as the upstream says. Fewer seen: nothing is removed, and the job says so.
    pub expected: u64,
    pub guard: Guard,
    /// A table whose rows are removed with the last row of `table` that names them: table and its key column.
    pub orphans: Option<(&'static Table, &'static str)>,
}

/// How much may vanish at once: `max(rows, ratio × rows in scope)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    pub rows: u64,
    pub ratio: f64,
    /// An operator said yes to more.
    pub lifted: bool,
}
