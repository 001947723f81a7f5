//! Which fires are to be made now: a pure function from what was considered, the time, and the policy.
//!
//! ```text
//!   considered ─────●─────●─────●───── now            ● instants of the schedule
//!                   └─────┴─────┘
//!                   missed  late or on time           skip: the last, if on time   once: the last   all: each
//! ```
//!
//! Nothing here keeps a fire from being made twice: the store does, by one row for each instant. So when in doubt
//! about the clock this errs towards asking again.

use std::time::Duration;

use longshore_actors::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::schedule::when::When;

/// A fire later than this was missed. Longer than the scheduler ever sleeps, so that a machine that was suspended,
/// or a store that hiccuped, does not turn a fire into a missed one.
pub const ON_TIME: Duration = Duration::from_secs(60);

/// More fires at once than this would be a flood; what is older is left out.
pub const ALL_MAX: u32 = 1000;

/// What becomes of fires whose instant went by while nobody was there to make them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    Skip,
    /// One fire stands for all of them.
    #[default]
    Once,
    /// Each, oldest first; of more than `max` (at most [`ALL_MAX`]) the newest `max`.
    All {
        max: u32,
    },
}

/// The fires to make now, oldest first. `considered` is the instant up to which everything was decided: the last
/// fire, or when the schedule was first seen, so that nothing is fired for the time before. If it lies ahead of
/// `now`, the clock went back and there is nothing to make up for.
pub fn due(considered: Timestamp, now: Timestamp, when: &When, missed: Missed) -> Vec<Timestamp> {
    let most = match missed {
        Missed::Skip | Missed::Once => 1,
        Missed::All { max } => max.clamp(1, ALL_MAX) as usize,
    };
    let mut fires = Vec::new();
    let mut until = now;
    while let Some(at) = when.last_until(until)
        && at > considered
        && fires.len() < most
    {
        fires.push(at);
        until = Timestamp(at.0.saturating_sub(1));
    }
    fires.reverse();
    if missed == Missed::Skip {
        fires.retain(|at| now.since(*at) <= ON_TIME);
    }
    fires
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const MINUTE: i64 = 60_000;
    const NONE: [i64; 0] = [];

    fn five_minutes() -> When {
        When::cron("*/5 * * * *", "UTC").unwrap()
    }

    fn decide(considered: i64, now: i64, missed: Missed) -> Vec<i64> {
        let fires = due(Timestamp(considered * MINUTE), Timestamp(now * MINUTE + 7), &five_minutes(), missed);
        fires.iter().map(|at| at.0 / MINUTE).collect()
    }

    #[test]
    fn each_policy_after_a_gap() {
        assert_eq!(decide(5, 23, Missed::Skip), NONE);
        assert_eq!(decide(5, 20, Missed::Skip), [20]);
        assert_eq!(decide(5, 23, Missed::Once), [20]);
        assert_eq!(decide(5, 23, Missed::All { max: 10 }), [10, 15, 20]);
        assert_eq!(decide(5, 23, Missed::All { max: 2 }), [15, 20]);
    }

    #[test]
    fn what_was_considered_is_not_made_again() {
        for missed in [Missed::Skip, Missed::Once, Missed::All { max: 10 }] {
            assert_eq!(decide(5, 5, missed), NONE);
            assert_eq!(decide(5, 9, missed), NONE);
            assert_eq!(decide(60, 5, missed), NONE, "the clock went back");
        }
    }

    #[test]
    fn a_flood_is_bounded() {
        let when = When::every(Duration::from_secs(1)).unwrap();
        let year = Timestamp(365 * 24 * 3600 * 1000);
        assert_eq!(due(Timestamp(0), year, &when, Missed::All { max: u32::MAX }).len(), ALL_MAX as usize);
        assert_eq!(due(Timestamp(0), year, &when, Missed::Once), [year]);
    }

    /// One look at the clock. A restart forgets all but the newest row.
    #[derive(Clone, Debug)]
    enum Step {
        /// The next look is this many seconds later; negative: the clock was set back.
        Look(i64),
        Restart(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1i64..600).prop_map(Step::Look),
            1 => (600i64..20_000).prop_map(Step::Look),
            1 => (-4000i64..0).prop_map(Step::Look),
            1 => (1i64..20_000).prop_map(Step::Restart),
            1 => (-4000i64..0).prop_map(Step::Restart),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// Over looks, restarts and clock changes: no instant is asked for twice unless the clock went back over it,
        /// `all` loses none, and `once` makes the last one of every gap.
        #[test]
        fn nothing_twice_and_nothing_lost(steps in steps(), every in prop::sample::select(vec![60u64, 300, 3600])) {
            let when = When::every(Duration::from_secs(every)).unwrap();
            let period = every as i64 * 1000;
            for missed in [Missed::All { max: ALL_MAX }, Missed::Once] {
                let start = Timestamp(1_000_000_000);
                let (mut now, mut considered, mut furthest) = (start, start, start);
                // What the store holds: one row for each instant.
                let mut rows: BTreeSet<Timestamp> = BTreeSet::new();
                for step in &steps {
                    let seconds = match step {
                        Step::Look(seconds) => *seconds,
                        Step::Restart(seconds) => {
                            considered = rows.last().copied().unwrap_or(considered);
                            *seconds
                        }
                    };
                    now = Timestamp(now.0 + seconds * 1000);
                    for at in due(considered, now, &when, missed) {
                        prop_assert!(at <= now && at > considered);
                        let fresh = rows.insert(at);
                        prop_assert!(fresh || at <= furthest, "{:?} was asked for twice", at);
                    }
                    if now > considered {
                        let last = when.last_until(now).filter(|at| *at > considered);
                        prop_assert!(last.is_none_or(|at| rows.contains(&at)), "the last one of the gap is lost");
                    }
                    considered = now;
                    furthest = furthest.max(now);
                    if matches!(missed, Missed::All { .. }) {
                        let first = start.0.div_euclid(period) + 1;
                        let lost = (first..=furthest.0.div_euclid(period)).find(|n| !rows.contains(&Timestamp(n * period)));
                        prop_assert_eq!(lost, None);
                    }
                }
            }
        }
    }
}
