//! The upload stage of every domain whose target is the store itself.
//!
//! ```text
//! Delivery<Batch> ──▶ Store::commit ──▶ rows + receipt in one transaction        (Settled::WithRows)
//!                └──▶ Store::preview ─▶ what would change, nothing written       (Settled::Separately, dry run)
//! ```
//!
//! It owns no connection: the store's writer does, and a delivery told twice counts once there. So a worker of this
//! stage can die at any instant without harm.

use std::sync::Arc;

use longshore_actors::clock::Clock;
use longshore_actors::domain::{Delivery, Settled, Uploaded};
use longshore_actors::job::Fault;
use longshore_actors::ledger::LedgerError;
use longshore_actors::stage::Stage;

use crate::store::Store;
use crate::store::batch::Batch;

/// Where the rows go.
#[derive(Clone)]
pub struct StoreTarget {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    /// Report what would change and write nothing.
    pub dry_run: bool,
}

pub struct StoreUpload {
    target: StoreTarget,
}

impl Stage for StoreUpload {
    type Settings = StoreTarget;
    type Input = Delivery<Batch>;
    type Output = Uploaded;

    async fn open(settings: &StoreTarget) -> Result<Self, Fault> {
        Ok(Self { target: settings.clone() })
    }

    async fn run(&mut self, delivery: Arc<Delivery<Batch>>) -> Result<Uploaded, Fault> {
        let StoreTarget { store, clock, dry_run } = &self.target;
        let (committed, settled) = if *dry_run {
            (store.preview(delivery).await, Settled::Separately)
        } else {
            (store.commit(delivery, clock.now()).await, Settled::WithRows)
        };
        let committed = committed.map_err(fault)?;
        Ok(Uploaded { counts: committed.counts, settled, note: committed.note })
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
    use longshore_actors::job::{JobId, Lease};

    use super::*;

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
