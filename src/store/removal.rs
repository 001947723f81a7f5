//! What becomes of a removal, decided from the facts alone and so the same in both dialects.

use longshore_actors::ledger::LedgerError;

use crate::store::batch::Removal;

/// Rows marked, or why none was.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    Rows(u64),
    Nothing { note: String },
}

/// What stands in the store when a snapshot closes.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Rows of the scope that are not removed.
    pub live: u64,
    /// Those of them that the snapshot did not show.
    pub gone: u64,
    /// Rejected records of the job whose key nobody could read.
    pub nameless: u64,
}

/// Why nothing may be removed, before anything is looked up.
pub fn incomplete(removal: &Removal) -> Option<Removed> {
    let missing = removal.missing;
    (missing > 0).then(|| Removed::Nothing {
        note: format!("nothing was removed: the snapshot is incomplete, {missing} records were not received"),
    })
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

/// What a preview says of it.
pub fn not_previewed(removal: &Removal) -> String {
    format!("which rows of {} vanished shows only when all pages are in: not previewed", removal.table.name)
}
