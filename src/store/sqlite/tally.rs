//! How many jobs stand in which state, kept in memory so that nobody ever counts the table.
//!
//! Loaded once at open from the indexes; afterwards each committed group adds its changes.

use std::collections::HashMap;

use longshore_actors::job::{Name, State};
use longshore_actors::ledger::{KindStats, Stats};
use rusqlite::Connection;

use crate::store::sqlite::names::{self, Names};

/// One question for each index, so that none reads the table itself. The last two indexes are not in the order of
/// domain and kind: their rows are counted as they come, since to group them SQLite would sort them in memory.
pub(super) const LOAD: &str = "
SELECT domain, kind, 'waiting', count(*), 0 FROM jobs INDEXED BY jobs_ready WHERE state = 'waiting'
GROUP BY domain, kind
UNION ALL
SELECT domain, kind, 'active', count(*), 0 FROM jobs INDEXED BY jobs_active WHERE state = 'active'
GROUP BY domain, kind
UNION ALL
SELECT domain, kind, 'delayed', 1, 0 FROM jobs INDEXED BY jobs_due WHERE state = 'delayed'
UNION ALL
SELECT domain, kind, state, 1, bytes FROM jobs INDEXED BY jobs_finished WHERE finished_at IS NOT NULL";

/// Counts, or changes of counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    kinds: HashMap<(Name, Name), [i64; 6]>,
    /// Bytes of params, checkpoint and message of all finished jobs.
    pub finished_bytes: i64,
}

impl Tally {
    pub fn load(conn: &Connection, names: &mut Names) -> rusqlite::Result<Tally> {
        let mut tally = Tally::default();
        let mut statement = conn.prepare(LOAD)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (domain, kind) = (names.text(row, 0)?, names.text(row, 1)?);
            let state = names::state(row, 2)?;
            tally.add(&domain, &kind, state, row.get(3)?);
            tally.finished_bytes += row.get::<_, i64>(4)?;
        }
        Ok(tally)
    }

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
