//! What of the table in memory may go: by age, by count and by bytes, whichever is reached first.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::job::{JobId, State};
use crate::ledger::{Pruned, Retention};
use crate::testing::memory::table::{Row, Table};

impl Table {
    pub(super) fn prune(&mut self, retention: &Retention, now: Timestamp) -> Pruned {
        let doomed = self.doomed(retention, now);
        let batch = doomed.len().min(retention.batch);
        for id in &doomed[..batch] {
            self.rows.remove(id);
        }
        Pruned { jobs: batch as u64, more: doomed.len() > batch }
    }

    /// Every job that may go, the one that ended first before the others.
    fn doomed(&self, retention: &Retention, now: Timestamp) -> Vec<JobId> {
        let Retention { completed_for, completed_max, failed_for, failed_max, bytes_max, batch: _ } = *retention;
        let mut finished: Vec<(Timestamp, &Row)> =
            self.rows.values().filter_map(|row| Some((row.job.finished_at?, row))).collect();
        finished.sort_by_key(|(at, row)| (*at, row.job.id));

        let completed = finished.iter().filter(|(_, row)| row.job.state == State::Completed).count() as u64;
        let failed = finished.len() as u64 - completed;
        let mut surplus_completed = completed.saturating_sub(completed_max);
        let mut surplus_failed = failed.saturating_sub(failed_max);
        let mut bytes: u64 = finished.iter().map(|(_, row)| size(row)).sum();

        let mut doomed = BTreeSet::new();
        for (at, row) in finished.iter().filter(|(_, row)| !self.has_open_family(row)) {
            let (span, surplus) = match row.job.state == State::Completed {
                true => (completed_for, &mut surplus_completed),
                false => (failed_for, &mut surplus_failed),
            };
            if at.plus(span) < now || *surplus > 0 {
                *surplus = surplus.saturating_sub(1);
                bytes -= size(row);
                doomed.insert((*at, row.job.id));
            }
        }
        for (at, row) in finished.iter().filter(|(_, row)| !self.has_open_family(row)) {
            if bytes > bytes_max && doomed.insert((*at, row.job.id)) {
                bytes -= size(row);
            }
        }
        doomed.into_iter().map(|(_, id)| id).collect()
    }

    fn has_open_family(&self, row: &Row) -> bool {
        let parent = row.job.parent.and_then(|parent| self.rows.get(&parent));
        let mut children = self.rows.values().filter(|child| child.job.parent == Some(row.job.id));
        parent.is_some_and(|parent| !parent.job.state.is_final()) || children.any(|child| !child.job.state.is_final())
    }
}

fn size(row: &Row) -> u64 {
    let checkpoint = match row.job.checkpoint == Default::default() {
        true => 0,
        false => serde_json::to_string(&row.job.checkpoint).map_or(0, |text| text.len()),
    };
    let message = row.job.message.as_ref().map_or(0, String::len);
    (row.job.params.to_string().len() + checkpoint + message) as u64
}
