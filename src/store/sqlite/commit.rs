//! Settles one part of a job: rows, checkpoint, children and rejects in one transaction, under the job's lease.

use longshore_actors::checkpoint::{Checkpoint, Counts, Part};
use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::{Receipt, Reject};
use rusqlite::params;

use crate::store::Committed;
use crate::store::batch::Batch;
use crate::store::draft::Draft;
use crate::store::head;
use crate::store::removal::{joined, nameless};
use crate::store::sqlite::enqueue;
use crate::store::sqlite::head::Head;
use crate::store::sqlite::removal::{self, Removed};
use crate::store::sqlite::rows;
use crate::store::sqlite::tx::{OpResult, Tx};

const REJECT: &str = "
INSERT INTO rejected_records (domain, kind, key, reason, raw, job, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub(super) const CHECKPOINT: &str = "UPDATE jobs SET checkpoint = ?2 WHERE id = ?1";

/// The ledger's half alone: the rows went to another target, which counted them.
pub fn receipt(tx: &mut Tx<'_>, receipt: &Receipt, drafts: &[Draft], counts: Counts, now: Timestamp) -> OpResult<()> {
    let head = Head::leased(tx, receipt.lease)?;
    let checkpoint = head.checkpoint()?;
    if checkpoint.holds(receipt.part) {
        return Ok(());
    }
    settle(tx, &head, checkpoint, receipt, drafts, &counts, now)
}

/// Rows and receipt together. A part that is held already writes nothing and counts nothing.
pub fn delivery(
    tx: &mut Tx<'_>,
    batch: &Batch,
    receipt: &Receipt,
    received: u64,
    drafts: &[Draft],
    now: Timestamp,
) -> OpResult<Committed> {
    let head = Head::leased(tx, receipt.lease)?;
    let checkpoint = head.checkpoint()?;
    if checkpoint.holds(receipt.part) {
        return Ok(Committed::default());
    }
    let at = rows::iso(now);
    let mut counts = Counts { received, rejected: receipt.rejects.len() as u64, ..Counts::default() };
    for rows in &batch.rows {
        counts.add(&rows::write(tx, rows, &at)?);
    }
    removal::see(tx, head.id, &batch.seen)?;
    let mut notes = Vec::new();
    // Those of this part are put in with its receipt, below.
    let nameless = nameless(&receipt.rejects);
    for removal in &batch.removals {
        match removal::remove(tx, removal, head.id, nameless, &at)? {
            Removed::Rows(removed) => counts.removed += removed,
            Removed::Nothing { note } => notes.push(note),
        }
    }
    let note = joined(&notes);
    settle(tx, &head, checkpoint, receipt, drafts, &counts, now)?;
    Ok(Committed { counts, note })
}

fn settle(
    tx: &mut Tx<'_>,
    head: &Head,
    mut checkpoint: Checkpoint,
    receipt: &Receipt,
    drafts: &[Draft],
    counts: &Counts,
    now: Timestamp,
) -> OpResult<()> {
    put_rejects(tx, head, &receipt.rejects, now)?;
    if receipt.part == Part::Closing {
        removal::forget(tx, head.id)?;
    }
    checkpoint.merge(receipt.part, receipt.following.clone(), receipt.total, counts);
    tx.execute(CHECKPOINT, params![head.id.0, head::json_text(&checkpoint)?])?;
    enqueue::children(tx, drafts, head.id, now)
}

fn put_rejects(tx: &Tx<'_>, head: &Head, rejects: &[Reject], now: Timestamp) -> OpResult<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let mut statement = tx.prepare(REJECT)?;
    for Reject { key, reason, raw } in rejects {
        statement.execute(params![&*head.domain, &*head.kind, key, reason, raw, head.id.0, now.0])?;
    }
    Ok(())
}
