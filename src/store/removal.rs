//! What becomes of a removal, decided from the facts alone and so the same in both dialects.
//!
//! ```text
//! commit:  rows are in ─▶ what is live, what was seen ─▶ Facts ─decide─▶ marked, or a note, or an error: all is undone
//! preview: what is live, what the page would put in ───▶ Facts ─decide─▶ counted, or a note, or the same error
//! ```

use std::borrow::Cow;
use std::collections::HashSet;

use longshore_actors::checkpoint::Part;
use longshore_actors::ledger::{LedgerError, Receipt, Reject};

use crate::store::batch::{Batch, Cell, Removal};
use crate::store::table::Table;
use crate::store::text;

/// Rows marked, or why none was.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    Rows(u64),
    Nothing { note: String },
}

/// What stands in the store once all that the snapshot shows is in.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Rows of the scope that are not removed.
    pub live: u64,
    /// Those of them that the snapshot did not show.
    pub gone: u64,
    /// Rejected records of the job whose key nobody could read.
    pub nameless: u64,
}

/// Records that were put aside and whose key nobody could read.
pub fn nameless(rejects: &[Reject]) -> u64 {
    rejects.iter().filter(|reject| reject.key.is_none()).count() as u64
}

/// Why nothing may be removed, before anything is looked up.
pub fn incomplete(removal: &Removal) -> Option<Removed> {
    let missing = removal.missing;
    (missing > 0).then(|| Removed::Nothing {
        note: format!("nothing was removed: the snapshot is incomplete, {missing} records were not received"),
    })
}

/// Why nothing was removed, in one text.
pub fn joined(notes: &[String]) -> Option<String> {
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// `None`: what is gone may be marked. An error stops the job: the guard wants an operator's word.
pub fn decide(removal: &Removal, facts: Facts) -> Result<Option<Removed>, LedgerError> {
    let Removal { table, scope: (column, value), guard, .. } = removal;
    let Facts { live, gone, nameless } = facts;
    if gone > 0 && nameless >= gone && !guard.lifted {
        let note = format!(
            "nothing was removed: {nameless} records came without a readable key and may be the {gone} that are missing"
        );
        return Ok(Some(Removed::Nothing { note }));
    }
    if !guard.allows(gone, live) {
        let (name, ratio, rows) = (table.name, guard.ratio * 100.0, guard.rows);
        return Err(LedgerError::Guard(format!(
            "{gone} of {live} rows of {name} in {column} {value:?} would be removed, more than the guard allows \
             ({ratio:.0} % or {rows} rows): check the upstream, then run it again with allow_removal=true"
        )));
    }
    Ok(None)
}

/// Whether a preview can tell what a batch removes: not what earlier pages have shown, since it keeps none of them.
pub fn is_foreseen(receipt: &Receipt, batch: &Batch) -> bool {
    match receipt.part {
        // Orphans hang on rows outside the snapshot; no page removes any.
        Part::Page(_) => batch.removals.iter().all(|removal| removal.orphans.is_none()),
        Part::Plan | Part::Closing => false,
    }
}

/// What a preview says of a removal that it cannot tell.
pub fn not_previewed(removal: &Removal) -> String {
    format!("which rows of {} vanished shows only when all pages are in: not previewed", removal.table.name)
}

/// What the removals of one page would do, one after the other.
#[derive(Debug)]
pub struct Foresight<'a> {
    batch: &'a Batch,
    nameless: u64,
    marks: Vec<Mark>,
    removed: u64,
    notes: Vec<String>,
}

/// Rows that would be marked by now, and so are not live for the removals that follow.
#[derive(Debug)]
pub struct Mark {
    table: &'static Table,
    pub column: &'static str,
    pub keys: Vec<String>,
}

impl<'a> Foresight<'a> {
    pub fn new(batch: &'a Batch, rejects: &[Reject]) -> Self {
        Self { batch, nameless: nameless(rejects), marks: Vec::new(), removed: 0, notes: Vec::new() }
    }

    /// The keys that may go once the page's rows are in; `held` are those of the scope that are live before, and
    /// `named` those that are kept because a live row names them. `None`: nothing may.
    pub fn gone(
        &mut self,
        removal: &Removal,
        held: Vec<String>,
        named: &HashSet<String>,
    ) -> Result<Option<Vec<String>>, LedgerError> {
        let mut live: HashSet<String> = held.into_iter().collect();
        live.extend(put_in(removal, self.batch));
        let seen: HashSet<Cow<'_, str>> = self.batch.seen.iter().map(|key| text::clean(key)).collect();
        let all = live.len() as u64;
        let is_gone = |key: &String| !seen.contains(key.as_str()) && !named.contains(key);
        let gone: Vec<String> = live.into_iter().filter(is_gone).collect();
        let facts = Facts { live: all, gone: gone.len() as u64, nameless: self.nameless };
        let nothing = match incomplete(removal) {
            Some(nothing) => Some(nothing),
            None => decide(removal, facts)?,
        };
        if let Some(Removed::Nothing { note }) = nothing {
            self.notes.push(note);
            return Ok(None);
        }
        Ok(Some(gone))
    }

    /// Counts rows of a table that would be marked by these keys.
    pub fn mark(&mut self, table: &'static Table, column: &'static str, keys: Vec<String>, rows: u64) {
        // Rows that only tie others together are no records.
        self.removed += if table.link { 0 } else { rows };
        self.marks.push(Mark { table, column, keys });
    }

    pub fn marks_of(&self, table: &'static Table) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(move |mark| mark.table == table)
    }

    /// Rows that would be removed, and why others would not.
    pub fn told(self) -> (u64, Option<String>) {
        (self.removed, joined(&self.notes))
    }
}

/// Keys of the scope that the batch writes.
fn put_in(removal: &Removal, batch: &Batch) -> Vec<String> {
    let Removal { table, scope: (column, value), key, .. } = removal;
    let place = |name: &str| table.columns.iter().position(|column| column.name == name);
    let (Some(scope), Some(key)) = (place(column), place(key)) else { return Vec::new() };
    let value = Cell::Text(text::clean(value).into_owned());
    let rows = batch.rows.iter().filter(|rows| rows.table == *table).flat_map(|rows| &rows.rows);
    let keys = rows.filter(|row| row.cells[scope] == value).filter_map(|row| match &row.cells[key] {
        Cell::Text(key) => Some(key.clone()),
        Cell::Int(key) => Some(key.to_string()),
        Cell::Null | Cell::Bool(_) | Cell::Decimal(_) | Cell::Json(_) | Cell::Time(_) => None,
    });
    keys.collect()
}
