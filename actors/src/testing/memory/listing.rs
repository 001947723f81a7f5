//! What people ask the table in memory: jobs, and how many stand in which state.

use std::collections::BTreeMap;

use crate::job::{JobId, State};
use crate::ledger::{Filter, JobRecord, KindStats, Stats};
use crate::testing::memory::table::Table;

/// Jobs in one listing, unless its filter says otherwise.
const LISTING: usize = 50;

impl Table {
    pub(super) fn jobs(&self, filter: &Filter) -> Vec<JobRecord> {
        let Filter { ids, domain, kind, states, parent, before, limit } = filter;
        let wanted = |job: &JobRecord| {
            (ids.is_empty() || ids.contains(&job.id))
                && domain.as_ref().is_none_or(|domain| job.domain == *domain)
                && kind.as_ref().is_none_or(|kind| job.kind == *kind)
                && (states.is_empty() || states.contains(&job.state))
                && (parent.is_none() || job.parent == *parent)
                && before.is_none_or(|before| job.id < before)
        };
        let limit = if *limit == 0 { LISTING } else { *limit };
        let rows = self.rows.values().rev().filter(|row| wanted(&row.job)).take(limit);
        rows.map(|row| {
            let history = if ids.len() == 1 { row.job.history.clone() } else { Vec::new() };
            let (counts, children) = (row.counts(), self.children(row.job.id));
            JobRecord { counts, children, history, ..row.job.clone() }
        })
        .collect()
    }

    pub(super) fn family(&self, job: JobId) -> Vec<KindStats> {
        let mut kinds: BTreeMap<(&str, &str), KindStats> = BTreeMap::new();
        let mut parents = vec![job];
        while let Some(parent) = parents.pop() {
            for row in self.rows.values().filter(|row| row.job.parent == Some(parent)) {
                kinds.entry((&row.job.domain, &row.job.kind)).or_default().add(row.job.state, 1);
                parents.push(row.job.id);
            }
        }
        let named = |((domain, kind), stats): ((&str, &str), KindStats)| KindStats {
            domain: domain.to_owned(),
            kind: kind.to_owned(),
            ..stats
        };
        kinds.into_iter().map(named).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let mut kinds: BTreeMap<(&str, &str), [u64; State::ALL.len()]> = BTreeMap::new();
        for row in self.rows.values() {
            kinds.entry((&row.job.domain, &row.job.kind)).or_default()[row.job.state as usize] += 1;
        }
        let kinds =
            kinds.into_iter().map(|((domain, kind), [waiting, delayed, active, completed, failed, cancelled])| {
                let (domain, kind) = (domain.to_owned(), kind.to_owned());
                KindStats { domain, kind, waiting, delayed, active, completed, failed, cancelled }
            });
        Stats { kinds: kinds.collect(), stale_writes: self.stale_writes }
    }
}
