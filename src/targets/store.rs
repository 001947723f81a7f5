//! The upload stage of every domain whose target is the store itself.
//!
//! ```text
//! Delivery<Batch> ──▶ Objects::put ─▶ the files that the rows speak of, before the rows
//!                └──▶ Writer::commit ─▶ rows + receipt in one transaction        (Settled::WithRows)
//!                └──▶ Store::preview ─▶ what would change, nothing written       (Settled::Separately, dry run)
//! ```
//!
//! Deliveries of one job that wait together are committed together, as many as the store gains by. If one of them is
//! refused nothing of them is kept, and they go one by one: it alone fails.
//!
//! Each worker owns its writer, which on PostgreSQL is a connection of its own. One that breaks is dropped and opened
//! anew with the next delivery; a delivery told twice counts once. So a worker of this stage, or its connection, can
//! die at any instant without harm. A store that is out of reach opens its breaker: the domains wait, and burn nothing.

use std::sync::Arc;

use longshore_actors::breaker::Breaker;
use longshore_actors::clock::Clock;
use longshore_actors::domain::{Delivery, Settled, Uploaded};
use longshore_actors::job::Fault;
use longshore_actors::ledger::LedgerError;
use longshore_actors::stage::Stage;
use tokio::time::Instant;

use crate::store::batch::{Batch, Object, Rows};
use crate::store::{Committed, Store, Writer};
use crate::targets::objects::Objects;

/// Where the rows go.
#[derive(Clone)]
pub struct StoreTarget {
    pub store: Arc<dyn Store>,
    /// Of the store, shared by all domains that write to it: while it is open they claim nothing.
    pub breaker: Arc<Breaker>,
    /// Where files go, of a domain that has some.
    pub objects: Option<Objects>,
    pub clock: Clock,
    /// Report what would change and write nothing.
    pub dry_run: bool,
}

/// Rows of deliveries that are committed together, at most: with as many, one gains nothing by company.
const GROUP_ROWS: usize = 20_000;

pub struct StoreUpload {
    target: StoreTarget,
    /// `None` until the first delivery, and after one that found the store out of reach.
    writer: Option<Box<dyn Writer>>,
}

impl Stage for StoreUpload {
    type Settings = StoreTarget;
    type Input = Delivery<Batch>;
    type Output = Uploaded;

    async fn open(settings: &StoreTarget) -> Result<Self, Fault> {
        Ok(Self { target: settings.clone(), writer: None })
    }

    async fn run(&mut self, delivery: Arc<Delivery<Batch>>) -> Result<Uploaded, Fault> {
        if self.target.dry_run {
            let seen = self.target.store.preview(delivery).await.map_err(fault)?;
            return Ok(Uploaded { counts: seen.counts, settled: Settled::Separately, note: seen.note });
        }
        self.put(&delivery.batch.objects).await?;
        let committed = self.commit(&[delivery]).await.map_err(fault)?.pop();
        committed.map(with_rows).ok_or_else(|| Fault::fail("the store did not say what it committed"))
    }

    fn joins(&self, group: &[Arc<Delivery<Batch>>], next: &Delivery<Batch>) -> bool {
        let rows = |delivery: &Delivery<Batch>| delivery.batch.rows.iter().map(Rows::len).sum::<usize>();
        let all = group.iter().map(|delivery| rows(delivery)).sum::<usize>() + rows(next);
        !self.target.dry_run
            && group.len() < self.target.store.group_max()
            && all <= GROUP_ROWS
            && group.iter().all(|delivery| delivery.receipt.lease == next.receipt.lease)
    }

    async fn run_group(&mut self, deliveries: Vec<Arc<Delivery<Batch>>>) -> Option<Vec<Result<Uploaded, Fault>>> {
        if self.target.dry_run {
            return None;
        }
        let same = |fault: Fault| Some(deliveries.iter().map(|_| Err(fault.clone())).collect());
        for delivery in &deliveries {
            match self.put(&delivery.batch.objects).await {
                Ok(()) => {}
                // A file that cannot be put is its own page's trouble; a store that cannot take any is everybody's.
                Err(Fault::Reject { .. } | Fault::Fail { .. }) => return None,
                Err(fault @ (Fault::Unavailable { .. } | Fault::Retry { .. } | Fault::Cancelled)) => {
                    return same(fault);
                }
            }
        }
        match self.commit(&deliveries).await {
            Ok(committed) => Some(committed.into_iter().map(|committed| Ok(with_rows(committed))).collect()),
            // The lease is the same for all of them. Of an outage nobody knows what came through: the try ends, and the
            // next one finds in the checkpoint what did.
            Err(error @ (LedgerError::Unavailable(_) | LedgerError::Stale(_))) => same(fault(error)),
            Err(LedgerError::Guard(_) | LedgerError::Missing(_) | LedgerError::Refused(_) | LedgerError::Broken(_)) => {
                None
            }
        }
    }
}

fn with_rows(committed: Committed) -> Uploaded {
    Uploaded { counts: committed.counts, settled: Settled::WithRows, note: committed.note }
}

impl StoreUpload {
    /// Puts the files. A repeat finds them there, so a death between here and the commit does no harm.
    async fn put(&self, objects: &[Object]) -> Result<(), Fault> {
        for object in objects {
            let Some(target) = &self.target.objects else {
                return Err(Fault::fail("a file is to be stored, and there is no object store"));
            };
            target.put(object).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, deliveries: &[Arc<Delivery<Batch>>]) -> Result<Vec<Committed>, LedgerError> {
        let pass =
            self.target.breaker.try_pass(Instant::now()).map_err(|refusal| LedgerError::Unavailable(refusal.reason))?;
        // Taken out while it works: if this future is dropped, nobody knows how far it came.
        let committed = match self.writer.take() {
            Some(writer) => self.write(writer, deliveries).await,
            None => match self.target.store.writer().await {
                Ok(writer) => self.write(writer, deliveries).await,
                Err(error) => Err(error),
            },
        };
        match &committed {
            Err(LedgerError::Unavailable(reason)) => pass.failed(reason),
            // Every other answer is the store's own.
            Ok(_) | Err(_) => pass.succeeded(),
        }
        committed
    }

    async fn write(
        &mut self,
        mut writer: Box<dyn Writer>,
        deliveries: &[Arc<Delivery<Batch>>],
    ) -> Result<Vec<Committed>, LedgerError> {
        let committed = writer.commit(deliveries, self.target.clock.now()).await;
        if !matches!(committed, Err(LedgerError::Unavailable(_))) {
            self.writer = Some(writer);
        }
        committed
    }
}

/// What a job does about an error of the store.
pub fn fault(error: LedgerError) -> Fault {
    match error {
        // Somebody else has the job by now: whatever this try does no longer counts.
        LedgerError::Stale(_) => Fault::Cancelled,
        LedgerError::Unavailable(reason) => Fault::unavailable("store", reason),
        LedgerError::Guard(reason) => Fault::fail(reason),
        LedgerError::Missing(_) | LedgerError::Refused(_) | LedgerError::Broken(_) => Fault::fail(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use async_trait::async_trait;
    use longshore_actors::breaker::BreakerPolicy;
    use longshore_actors::checkpoint::{Counts, Part};
    use longshore_actors::clock::Timestamp;
    use longshore_actors::job::{JobId, Lease, NewJob};
    use longshore_actors::ledger::{Enqueued, Ledger, Receipt};

    use super::*;
    use crate::store::batch::{Cell, Row};
    use crate::store::table::Table;
    use crate::store::{RejectedRecord, SyncState};

    /// Answers commits with one inserted row and previews with one updated; everything else is out of reach.
    struct Scripted {
        guard: bool,
    }

    struct Pen {
        guard: bool,
    }

    #[async_trait]
    impl Writer for Pen {
        async fn commit(
            &mut self,
            deliveries: &[Arc<Delivery<Batch>>],
            now: Timestamp,
        ) -> Result<Vec<Committed>, LedgerError> {
            assert_eq!(now, Timestamp(7), "the clock's now");
            if self.guard {
                return Err(LedgerError::Guard("60 of 100 rows would go".to_owned()));
            }
            let committed = Committed { counts: Counts { inserted: 1, ..Counts::default() }, note: None };
            Ok(vec![committed; deliveries.len()])
        }
    }

    fn unused<T>() -> Result<T, LedgerError> {
        Err(LedgerError::Broken("an upload asks for nothing else".to_owned()))
    }

    #[async_trait]
    impl Store for Scripted {
        fn ledger(&self) -> Arc<dyn Ledger> {
            panic!("an upload never touches the ledger")
        }

        async fn writer(&self) -> Result<Box<dyn Writer>, LedgerError> {
            Ok(Box::new(Pen { guard: self.guard }))
        }

        async fn preview(&self, _: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError> {
            Ok(Committed { counts: Counts { updated: 1, ..Counts::default() }, note: Some("why".to_owned()) })
        }

        async fn sync_state(&self, _: &str, _: &str) -> Result<Option<SyncState>, LedgerError> {
            unused()
        }

        async fn sync_states(&self) -> Result<Vec<SyncState>, LedgerError> {
            unused()
        }

        async fn rejects(&self, _: Option<&str>, _: usize) -> Result<Vec<RejectedRecord>, LedgerError> {
            unused()
        }

        async fn schedule_since(&self, _: &str, _: &str, now: Timestamp) -> Result<Timestamp, LedgerError> {
            Ok(now)
        }

        async fn rows(&self, _: &'static Table, _: Vec<Cell>, _: usize) -> Result<Vec<Row>, LedgerError> {
            Ok(Vec::new())
        }

        async fn last_fire(&self, _: &str) -> Result<Option<Timestamp>, LedgerError> {
            unused()
        }

        async fn fire(&self, _: &str, _: Timestamp, _: NewJob, _: Timestamp) -> Result<Option<Enqueued>, LedgerError> {
            unused()
        }

        async fn take_quota(&self, _: &str, _: u32, _: u32, _: Timestamp) -> Result<bool, LedgerError> {
            unused()
        }

        async fn note_quota(&self, _: &str, _: u32, _: Timestamp) -> Result<(), LedgerError> {
            unused()
        }

        async fn known(
            &self,
            _: &'static Table,
            _: &'static str,
            _: Vec<Cell>,
        ) -> Result<Vec<Option<String>>, LedgerError> {
            unused()
        }

        async fn probe(&self, _: Timestamp) -> Result<(), LedgerError> {
            unused()
        }

        async fn count_rows(&self, _: &'static Table) -> Result<u64, LedgerError> {
            unused()
        }

        async fn close(&self) {}
    }

    async fn upload(guard: bool, dry_run: bool) -> Result<Uploaded, Fault> {
        let clock = Clock::following_tokio(Timestamp(7));
        let breaker = Arc::new(Breaker::new("store", BreakerPolicy::default()));
        let target = StoreTarget { store: Arc::new(Scripted { guard }), breaker, objects: None, clock, dry_run };
        let receipt = Receipt::new(Lease { job: JobId(1), fence: 1 }, Part::Page(0));
        let delivery = Delivery { batch: Batch::default(), receipt, received: 1 };
        StoreUpload::open(&target).await?.run(Arc::new(delivery)).await
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_committed_with_their_receipt() {
        let uploaded = upload(false, false).await.unwrap();
        assert_eq!((uploaded.counts.inserted, uploaded.settled), (1, Settled::WithRows));
        assert_eq!(upload(true, false).await, Err(Fault::fail("60 of 100 rows would go")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dry_run_only_looks() {
        let uploaded = upload(true, true).await.unwrap();
        assert_eq!((uploaded.counts.updated, uploaded.settled), (1, Settled::Separately));
        assert_eq!(uploaded.note.as_deref(), Some("why"));
    }

    #[test]
    fn an_error_of_the_store_is_a_decision() {
        let text = || "why".to_owned();
        let stale = LedgerError::Stale(Lease { job: JobId(1), fence: 2 });
        assert_eq!(fault(stale), Fault::Cancelled);
        assert_eq!(fault(LedgerError::Guard(text())), Fault::fail("why"));
        assert_eq!(fault(LedgerError::Unavailable(text())), Fault::unavailable("store", "why"));
        for error in [LedgerError::Missing(JobId(1)), LedgerError::Refused(text()), LedgerError::Broken(text())] {
            let told = error.to_string();
            assert_eq!(fault(error), Fault::fail(told));
        }
    }
}
