//! How many jobs stand in which state: counts, or changes of counts.

use std::collections::HashMap;

use longshore_actors::job::{Name, State};
use longshore_actors::ledger::{KindStats, Stats};

/// Counts, or changes of counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    kinds: HashMap<(Name, Name), [i64; 6]>,
    /// Bytes of params, checkpoint and message of all finished jobs.
    pub finished_bytes: i64,
}

impl Tally {
    pub fn add(&mut self, domain: &Name, kind: &Name, state: State, count: i64) {
        let counts = self.kinds.entry((domain.clone(), kind.clone())).or_default();
        counts[state as usize] += count;
    }

    /// Takes in the changes of a committed group; a kind without jobs is forgotten.
    pub fn apply(&mut self, changes: &Tally) {
        for ((domain, kind), changed) in &changes.kinds {
            let counts = self.kinds.entry((domain.clone(), kind.clone())).or_default();
            for (count, change) in counts.iter_mut().zip(changed) {
                *count += change;
            }
            if counts.iter().all(|count| *count == 0) {
                self.kinds.remove(&(domain.clone(), kind.clone()));
            }
        }
        self.finished_bytes += changes.finished_bytes;
    }

    pub fn total(&self, state: State) -> i64 {
        self.kinds.values().map(|counts| counts[state as usize]).sum()
    }

    pub fn clear(&mut self) {
        self.kinds.clear();
        self.finished_bytes = 0;
    }

    /// In the order of domain and kind.
    pub fn stats(&self, stale_writes: u64) -> Stats {
        let mut kinds: Vec<KindStats> = self
            .kinds
            .iter()
            .map(|((domain, kind), counts)| {
                let count = |state: State| u64::try_from(counts[state as usize]).unwrap_or(0);
                KindStats {
                    domain: domain.to_string(),
                    kind: kind.to_string(),
                    waiting: count(State::Waiting),
                    delayed: count(State::Delayed),
                    active: count(State::Active),
                    completed: count(State::Completed),
                    failed: count(State::Failed),
                    cancelled: count(State::Cancelled),
                }
            })
            .collect();
        kinds.sort_by(|a, b| (&a.domain, &a.kind).cmp(&(&b.domain, &b.kind)));
        Stats { kinds, stale_writes }
    }
}
