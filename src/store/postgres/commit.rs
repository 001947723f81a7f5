//! Settles one part of a job: rows, checkpoint, children and rejects in one transaction, under the job's lease.
//!
//! ```text
//! look: is it stale, is the part held already? ─▶ rows ─▶ lock the job, look again ─▶ checkpoint, children ─▶ COMMIT
//! ```
//!
//! The job's row is locked last, so that pages of one job are written beside each other, by workers with connections of
//! their own. What the first look could not know (the lease was taken away, or the same part was committed meanwhile)
//! the second one finds, and everything is rolled back.
//!
//! A commit whose answer is lost may have been made. The next try of the same part finds it in the checkpoint.

use std::borrow::Cow;

use longshore_actors::checkpoint::{Checkpoint, Counts, Part};
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Lease};
use longshore_actors::ledger::{LedgerError, Receipt, Reject};
use tokio_postgres::types::Type;

use crate::store::Committed;
use crate::store::batch::Batch;
use crate::store::draft::Draft;
use crate::store::head;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::enqueue;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::head::Head;
use crate::store::postgres::removal::{self, Removed};
use crate::store::postgres::rows;
use crate::store::postgres::session::Tx;
use crate::store::postgres::work::Work;
use crate::store::text;

const REJECT: &str = "
INSERT INTO rejected_records (domain, kind, key, reason, raw, job, at)
SELECT $1, $2, key, reason, raw, $3, $4 FROM unnest($5::text[], $6::text[], $7::text[]) AS rejected(key, reason, raw)";

/// The lease, the checkpoint, and the lock on both until the end of the transaction. For `|| ''` see
/// [`crate::store::postgres::record`].
const HOLD: &str = "
SELECT domain, kind, checkpoint FROM jobs
WHERE id = $1 AND fence = $2 AND state || '' = 'active' AND owner IS NOT NULL FOR UPDATE";

pub(super) const CHECKPOINT: &str = "UPDATE jobs SET checkpoint = $2 WHERE id = $1";

/// The ledger's half alone: the rows went to another target, which counted them.
#[derive(Debug)]
pub struct Settle<'a> {
    pub receipt: &'a Receipt,
    pub drafts: &'a [Draft],
    pub counts: Counts,
    pub now: Timestamp,
}

impl Work for Settle<'_> {
    type Answer = ();

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<()> {
        let held = Held::of(tx, self.receipt.lease).await?;
        if held.checkpoint.holds(self.receipt.part) {
            return Ok(());
        }
        settle(tx, held, self.receipt, self.drafts, &self.counts, self.now, effects).await
    }
}

/// Rows and receipt together. A part that is held already writes nothing and counts nothing.
#[derive(Debug)]
pub struct Deliver<'a> {
    pub batch: &'a Batch,
    pub receipt: &'a Receipt,
    pub received: u64,
    pub drafts: &'a [Draft],
    pub now: Timestamp,
}

impl Work for Deliver<'_> {
    /// `None`: the same part was committed while this one was written, which must be undone.
    type Answer = Option<Committed>;

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<Option<Committed>> {
        let Deliver { batch, receipt, received, drafts, now } = self;
        let lease = receipt.lease;
        let head = Head::look(tx, lease.job).await?.filter(|head| head.holds(lease));
        let head = head.ok_or(LedgerError::Stale(lease))?;
        if head.checkpoint()?.holds(receipt.part) {
            return Ok(Some(Committed::default()));
        }
        let mut counts = Counts { received: *received, rejected: receipt.rejects.len() as u64, ..Counts::default() };
        for rows in &batch.rows {
            counts.add(&rows::write(tx, rows, *now).await?);
        }
        removal::see(tx, head.id, &batch.seen).await?;
        let mut notes = Vec::new();
        for removal in &batch.removals {
            match removal::remove(tx, removal, head.id, *now).await? {
                Removed::Rows(removed) => counts.removed += removed,
                Removed::Nothing { note } => notes.push(note),
            }
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        let held = Held::of(tx, lease).await?;
        if held.checkpoint.holds(receipt.part) {
            return Ok(None);
        }
        settle(tx, held, receipt, drafts, &counts, *now, effects).await?;
        Ok(Some(Committed { counts, note }))
    }

    fn is_to_be_undone(&self, answer: &Self::Answer) -> bool {
        answer.is_none()
    }
}

/// A job under its lease and its lock.
struct Held {
    id: JobId,
    domain: String,
    kind: String,
    checkpoint: Checkpoint,
}

impl Held {
    async fn of(tx: &Tx<'_>, lease: Lease) -> OpResult<Held> {
        let row = tx.query_opt(HOLD, &[(&lease.job.0, Type::INT8), (&lease.fence, Type::INT8)]).await?;
        let row = row.ok_or(LedgerError::Stale(lease))?;
        let checkpoint = head::checkpoint(row.try_get(2)?)
            .map_err(|reason| LedgerError::Broken(format!("job {}: {reason}", lease.job)))?;
        Ok(Held { id: lease.job, domain: row.try_get(0)?, kind: row.try_get(1)?, checkpoint })
    }
}

async fn settle(
    tx: &Tx<'_>,
    held: Held,
    receipt: &Receipt,
    drafts: &[Draft],
    counts: &Counts,
    now: Timestamp,
    effects: &mut Effects,
) -> OpResult<()> {
    put_rejects(tx, &held, &receipt.rejects, now).await?;
    if receipt.part == Part::Closing {
        removal::forget(tx, held.id).await?;
    }
    let Held { id, mut checkpoint, .. } = held;
    checkpoint.merge(receipt.part, receipt.following.clone(), receipt.total, counts);
    let text = head::json_text(&checkpoint)?;
    tx.execute(CHECKPOINT, &[(&id.0, Type::INT8), (&text, Type::TEXT)]).await?;
    enqueue::children(tx, drafts, id, now, effects).await
}

async fn put_rejects(tx: &Tx<'_>, held: &Held, rejects: &[Reject], now: Timestamp) -> OpResult<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    // They are what an upstream sent.
    let clean = text::clean;
    let keys: Vec<Option<Cow<'_, str>>> = rejects.iter().map(|reject| reject.key.as_deref().map(clean)).collect();
    let reasons: Vec<Cow<'_, str>> = rejects.iter().map(|reject| clean(&reject.reason)).collect();
    let raws: Vec<Cow<'_, str>> = rejects.iter().map(|reject| clean(&reject.raw)).collect();
    tx.execute(
        REJECT,
        &[
            (&held.domain, Type::TEXT),
            (&held.kind, Type::TEXT),
            (&held.id.0, Type::INT8),
            (&now.0, Type::INT8),
            (&keys, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&raws, Type::TEXT_ARRAY),
        ],
    )
    .await?;
    Ok(())
}
