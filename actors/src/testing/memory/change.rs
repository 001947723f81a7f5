//! An operator's word on one job of the table in memory.

use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::clock::Timestamp;
use crate::job::{JobId, State};
use crate::ledger::{Change, LedgerError};
use crate::testing::memory::table::Table;

impl Table {
    pub(super) fn change(&mut self, id: JobId, change: Change, now: Timestamp) -> Result<(), LedgerError> {
        let state = self.rows.get(&id).ok_or(LedgerError::Missing(id))?.job.state;
        match (change, state) {
            (Change::Retry, State::Waiting | State::Active) => {
                Err(LedgerError::Refused(format!("job {id} is {state} already")))
            }
            (Change::Retry, State::Delayed | State::Completed | State::Failed | State::Cancelled) => {
                self.retry(id, now)
            }
            (Change::Cancel { reason }, State::Waiting | State::Delayed | State::Active) => {
                self.cancel(id, &reason, now);
                Ok(())
            }
            (Change::Cancel { .. }, State::Completed | State::Failed | State::Cancelled) => {
                Err(LedgerError::Refused(format!("job {id} has ended: it is {state}")))
            }
        }
    }

    fn retry(&mut self, id: JobId, now: Timestamp) -> Result<(), LedgerError> {
        let holder = self.row(id).unique.clone().and_then(|unique| self.holder(&unique.key, now));
        if let Some(holder) = holder.filter(|holder| *holder != id) {
            return Err(LedgerError::Refused(format!("the unique key of job {id} is held by job {holder}")));
        }
        let row = self.row(id);
        if row.job.state == State::Completed {
            row.job.checkpoint = Checkpoint::default();
        } else if row.job.state.is_final() {
            row.job.checkpoint.planned = false;
        }
        row.keyed = row.unique.is_some();
        row.job.attempt = 0;
        row.ran = Duration::ZERO;
        row.job.crashes = 0;
        row.job.message = None;
        row.job.cause = None;
        row.job.finished_at = None;
        self.make_waiting(id);
        self.tell_counts(id);
        Ok(())
    }

    fn cancel(&mut self, id: JobId, reason: &str, now: Timestamp) {
        // The whole family first, from above, so that no parent ends as the result of a child's end.
        let family = self.descendants(id);
        let open: Vec<JobId> = family.into_iter().filter(|id| !self.row(*id).job.state.is_final()).collect();
        for member in &open {
            let row = self.row(*member);
            let revoked = row.job.owner.is_some().then(|| row.job.domain.clone());
            row.note("cancelled", reason, now);
            row.job.fence += 1;
            self.finish(*member, State::Cancelled, None, Some(reason.to_owned()), now);
            if let Some(domain) = revoked {
                self.wakes.revoked(&domain);
            }
        }
        for member in &open {
            self.tell_counts(*member);
        }
        self.settle_parent(id, now);
    }

    /// The job itself, then its children, theirs, and so on; parents stand before their children.
    fn descendants(&self, id: JobId) -> Vec<JobId> {
        let mut family = vec![id];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            let children = self.rows.values().filter(|row| row.job.parent == Some(parent));
            family.extend(children.map(|row| row.job.id));
            next += 1;
        }
        family
    }
}
