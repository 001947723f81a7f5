//! How far a job has come: which of its pages are committed, and what they did.
//!
//! Pages run concurrently, so page 7 may be committed before page 5. The checkpoint keeps the contiguous prefix and
//! the few pages beyond it; both change in the very transaction that writes the page's rows. A job that is cut off
//! resumes at `prefix`, skips what stands in `beyond`, and its counts stay exact.
//!
//! ```text
//! pages   0 1 2 3 4 5 6 7      prefix = 4   (0..=3 are committed)
//!         █ █ █ █ · · █ ·      beyond = {6} (committed out of order)
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of the records of a page, a job, or a family of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records the upstream sent, duplicates and bad ones included.
    pub received: u64,
    pub inserted: u64,
    pub updated: u64,
    /// The same as what the table holds: not written.
    pub unchanged: u64,
    /// Marked `removed_at`.
    pub removed: u64,
    /// Put among the rejects.
    pub rejected: u64,
    /// Came once more within the same page, or in one that was written with it; the last one counts.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        let Counts { received, inserted, updated, unchanged, removed, rejected, repeated } = other;
        self.received += received;
        self.inserted += inserted;
        self.updated += updated;
        self.unchanged += unchanged;
        self.removed += removed;
        self.rejected += rejected;
        self.repeated += repeated;
    }

    /// Takes back what was added before.
    pub fn subtract(&mut self, other: &Counts) {
        let Counts { received, inserted, updated, unchanged, removed, rejected, repeated } = other;
        self.received = self.received.saturating_sub(*received);
        self.inserted = self.inserted.saturating_sub(*inserted);
        self.updated = self.updated.saturating_sub(*updated);
        self.unchanged = self.unchanged.saturating_sub(*unchanged);
        self.removed = self.removed.saturating_sub(*removed);
        self.rejected = self.rejected.saturating_sub(*rejected);
        self.repeated = self.repeated.saturating_sub(*repeated);
    }

    pub fn is_zero(&self) -> bool {
        *self == Counts::default()
    }
}

/// Which part of a job a commit settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The plan's own children were asked for.
    Plan,
    /// One page, counted from 0.
    Page(u32),
    /// What comes once all pages are in, such as marking the vanished rows.
    Closing,
}

/// Stored as JSON in the job's row; the empty checkpoint is stored as NULL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// Pages `0..prefix` are committed.
    pub prefix: u32,
    /// Committed pages past the prefix, each with the request that follows it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub beyond: BTreeMap<u32, Option<Value>>,
    /// The request of page `prefix`, when it is known: where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// Records that the upstream says there are in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Pages that were rejected as a whole: what the others hold is not all there is.
    #[serde(skip_serializing_if = "is_zero")]
    pub gaps: u32,
    #[serde(skip_serializing_if = "Counts::is_zero")]
    pub counts: Counts,
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

impl Checkpoint {
    /// Whether `part` stands committed already.
    pub fn holds(&self, part: Part) -> bool {
        match part {
            Part::Plan => self.planned,
            Part::Page(page) => page < self.prefix || self.beyond.contains_key(&page),
            Part::Closing => self.closed,
        }
    }

    /// Takes in a committed part; `following` is the request after it, as far as it is known.
    /// A part that is held already changes nothing and answers `false`.
    pub fn merge(&mut self, part: Part, following: Option<Value>, total: Option<u64>, counts: &Counts) -> bool {
        if self.holds(part) {
            return false;
        }
        self.counts.add(counts);
        if total.is_some() {
            self.total = total;
        }
        match part {
            Part::Plan => self.planned = true,
            Part::Closing => self.closed = true,
            Part::Page(page) => {
                // A bad record is received and rejected; a page that is rejected as a whole was not received.
                self.gaps += u32::from(counts.rejected > counts.received);
                self.beyond.insert(page, following);
                while let Some(following) = self.beyond.remove(&self.prefix) {
                    self.prefix += 1;
                    self.resume = following;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_page_out_of_order_waits_for_its_turn() {
        let mut checkpoint = Checkpoint::default();
        let one = Counts { received: 1, ..Counts::default() };
        assert!(checkpoint.merge(Part::Page(1), Some(json!(2)), None, &one));
        assert_eq!((checkpoint.prefix, checkpoint.resume.clone()), (0, None));
        assert!(checkpoint.merge(Part::Page(0), Some(json!(1)), Some(9), &one));
        assert_eq!((checkpoint.prefix, checkpoint.resume.clone()), (2, Some(json!(2))));
        assert!(checkpoint.beyond.is_empty());
        assert_eq!(checkpoint.total, Some(9));
    }

    proptest! {
        /// Whatever the order and however often a page is told, each counts once and the prefix is the first gap.
        #[test]
        fn any_order_gives_the_same_checkpoint(pages in proptest::collection::vec(0u32..40, 0..120)) {
            let mut checkpoint = Checkpoint::default();
            let mut seen = std::collections::BTreeSet::new();
            for page in pages {
                let one = Counts { inserted: 1, ..Counts::default() };
                let fresh = checkpoint.merge(Part::Page(page), Some(json!(page + 1)), None, &one);
                prop_assert_eq!(fresh, seen.insert(page));
                let prefix = (0..).find(|page| !seen.contains(page)).unwrap_or(0);
                prop_assert_eq!(checkpoint.prefix, prefix);
                prop_assert_eq!(checkpoint.counts.inserted, seen.len() as u64);
                prop_assert!((0..41).all(|page| checkpoint.holds(Part::Page(page)) == seen.contains(&page)));
                if prefix > 0 {
                    prop_assert_eq!(&checkpoint.resume, &Some(json!(prefix)));
                }
            }
            let text = serde_json::to_string(&checkpoint).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str::<Checkpoint>(&text).ok(), Some(checkpoint));
        }
    }
}
