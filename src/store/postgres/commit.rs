//! Settles parts of a job: rows, checkpoint, children and rejects in one transaction, under the job's lease.
//!
//! ```text
//! look: is it stale, which parts are held? ─▶ rows ─▶ lock the job, look again ─▶ checkpoint, children ─▶ COMMIT
//! ```
//!
//! The job's row is locked last, so that pages of one job are written beside each other, by workers with connections of
//! their own. What the first look could not know (the lease was taken away, or the same part was committed meanwhile)
//! the second one finds, and everything is rolled back.
//!
//! From that lock to the end of the transaction the pages of a job wait for each other, and for the disk. So pages that
//! wait together are settled together, and the rows of a table are written as if they had come in one page.
//!
//! A commit whose answer is lost may have been made. The next try of the same part finds it in the checkpoint.

use std::borrow::Cow;

use longshore_actors::checkpoint::{Checkpoint, Counts, Part};
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{JobId, Lease};
use longshore_actors::ledger::{LedgerError, Receipt, Reject};
use tokio_postgres::types::Type;

use crate::store::Committed;
use crate::store::batch::{Batch, Rows};
use crate::store::draft::{self, Draft};
use crate::store::head;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::enqueue;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::head::Head;
use crate::store::postgres::removal::{self, Removed};
use crate::store::postgres::rows::{self, Expected};
use crate::store::postgres::session::Tx;
use crate::store::postgres::work::Work;
use crate::store::removal::{joined, nameless};
use crate::store::table::Table;
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
        let part = Settled { receipt: self.receipt, drafts: self.drafts, counts: &self.counts };
        settle(tx, held, &[part], self.now, effects).await
    }
}

/// Rows and receipts of one lease together. A part that is held already writes nothing and counts nothing.
#[derive(Debug)]
pub struct Deliver<'a> {
    pub pages: &'a [Page<'a>],
    pub expected: &'a Expected,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct Page<'a> {
    delivery: &'a Delivery<Batch>,
    drafts: Vec<Draft>,
}

impl<'a> Page<'a> {
    pub fn of(delivery: &'a Delivery<Batch>) -> Self {
        Self { delivery, drafts: draft::drafts(&delivery.receipt.children) }
    }
}

impl Work for Deliver<'_> {
    /// One answer a page. `None`: one of them was committed while these were written, which must be undone.
    type Answer = Option<Vec<Committed>>;

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<Option<Vec<Committed>>> {
        let Deliver { pages, expected, now } = *self;
        let Some(lease) = pages.first().map(|page| page.delivery.receipt.lease) else { return Ok(Some(Vec::new())) };
        if pages.iter().any(|page| page.delivery.receipt.lease != lease) {
            return Err(LedgerError::Refused("pages of several leases cannot be settled together".to_owned()).into());
        }
        let head = Head::look(tx, lease.job).await?.filter(|head| head.holds(lease));
        let checkpoint = head.ok_or(LedgerError::Stale(lease))?.checkpoint()?;
        let is_open = |page: &Page<'_>| !checkpoint.holds(page.delivery.receipt.part);
        let open: Vec<&Page<'_>> = pages.iter().filter(|page| is_open(page)).collect();
        let mut written = Vec::new();
        if !open.is_empty() {
            written = write(tx, &open, lease.job, expected.of(lease.job), now).await?;
            let held = Held::of(tx, lease).await?;
            if open.iter().any(|page| held.checkpoint.holds(page.delivery.receipt.part)) {
                return Ok(None);
            }
            let parts = open.iter().zip(&written).map(|(page, committed)| Settled {
                receipt: &page.delivery.receipt,
                drafts: &page.drafts,
                counts: &committed.counts,
            });
            settle(tx, held, &parts.collect::<Vec<_>>(), now, effects).await?;
        }
        let mut written = written.into_iter();
        let answer = |page| if is_open(page) { written.next().unwrap_or_default() } else { Committed::default() };
        Ok(Some(pages.iter().map(answer).collect()))
    }

    fn is_to_be_undone(&self, answer: &Self::Answer) -> bool {
        answer.is_none()
    }
}

/// Writes what pages hold; for each what became of it. Of rows that are written together the first page tells.
async fn write(
    tx: &Tx<'_>,
    pages: &[&Page<'_>],
    job: JobId,
    expected: &Expected,
    now: Timestamp,
) -> OpResult<Vec<Committed>> {
    let mut tables: Vec<(&'static Table, Vec<&Rows>)> = Vec::new();
    for rows in pages.iter().flat_map(|page| &page.delivery.batch.rows) {
        match tables.iter_mut().find(|(table, _)| table.name == rows.table.name) {
            Some((_, batches)) => batches.push(rows),
            None => tables.push((rows.table, vec![rows])),
        }
    }
    let mut of_rows = Counts::default();
    for (table, batches) in tables {
        of_rows.add(&rows::write(tx, table, &batches, expected, now).await?);
    }
    let seen: Vec<&str> = pages.iter().flat_map(|page| &page.delivery.batch.seen).map(String::as_str).collect();
    removal::see(tx, job, &seen).await?;
    // Those of these pages are put in with their receipts, later.
    let nameless = pages.iter().map(|page| nameless(&page.delivery.receipt.rejects)).sum();
    let mut written = Vec::with_capacity(pages.len());
    for page in pages {
        let Delivery { batch, receipt, received } = page.delivery;
        let rejected = receipt.rejects.len() as u64;
        let mut counts = Counts { received: *received, rejected, ..std::mem::take(&mut of_rows) };
        let mut notes = Vec::new();
        for removal in &batch.removals {
            match removal::remove(tx, removal, job, nameless, now).await? {
                Removed::Rows(removed) => counts.removed += removed,
                Removed::Nothing { note } => notes.push(note),
            }
        }
        written.push(Committed { counts, note: joined(&notes) });
    }
    Ok(written)
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

/// A part, and what became of its records.
struct Settled<'a> {
    receipt: &'a Receipt,
    drafts: &'a [Draft],
    counts: &'a Counts,
}

async fn settle(
    tx: &Tx<'_>,
    mut held: Held,
    parts: &[Settled<'_>],
    now: Timestamp,
    effects: &mut Effects,
) -> OpResult<()> {
    let rejects: Vec<&Reject> = parts.iter().flat_map(|part| &part.receipt.rejects).collect();
    put_rejects(tx, &held, &rejects, now).await?;
    if parts.iter().any(|part| part.receipt.part == Part::Closing) {
        removal::forget(tx, held.id).await?;
    }
    for Settled { receipt, counts, .. } in parts {
        held.checkpoint.merge(receipt.part, receipt.following.clone(), receipt.total, counts);
    }
    let text = head::json_text(&held.checkpoint)?;
    tx.execute(CHECKPOINT, &[(&held.id.0, Type::INT8), (&text, Type::TEXT)]).await?;
    let drafts: Vec<&Draft> = parts.iter().flat_map(|part| part.drafts).collect();
    enqueue::children(tx, &drafts, held.id, now, effects).await
}

async fn put_rejects(tx: &Tx<'_>, held: &Held, rejects: &[&Reject], now: Timestamp) -> OpResult<()> {
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
