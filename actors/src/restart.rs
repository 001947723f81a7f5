//! Whether a dead child is started again, and when: Erlang's restart intensity as a pure function.
//!
//! A child that dies more than `max` times `within` a period is given up and the failure rises to its parent: the
//! coordinator of a worker, the supervisor of a coordinator. Between restarts stands a growing backoff, so that a
//! child that cannot live does not spin.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::backoff::{Backoff, Growth};

/// Restart intensity of one child, in Erlang's sense: `max` restarts `within` a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub max: u32,
    pub within: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max: 5,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }
}

impl RestartPolicy {
    /// The budget of a parent over all its children together. A fault that hits every child at once must not get
    /// `max` tries from each of them, and one bad job that visits many children must not look like many failures.
    pub fn of_parent(self) -> Self {
        Self { max: self.max.saturating_mul(3), ..self }
    }

    fn backoff(&self) -> Backoff {
        Backoff { growth: Growth::Exponential, base: self.backoff_min, cap: self.backoff_max, jitter: 0.2 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this wait; it is the `count`th restart within the period.
    Restart { after: Duration, count: u32 },
    /// The intensity is used up.
    GiveUp { count: u32 },
}

/// The restarts of one child within its period.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    times: VecDeque<Instant>,
}

impl Restarts {
    /// The child died at `now`; `chance` (0 to 1) spreads the backoff.
    pub fn died(&mut self, policy: &RestartPolicy, now: Instant, chance: f64) -> Decision {
        while self.times.front().is_some_and(|&time| now.duration_since(time) >= policy.within) {
            self.times.pop_front();
        }
        let before = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        if before >= policy.max {
            return Decision::GiveUp { count: before };
        }
        self.times.push_back(now);
        Decision::Restart { after: policy.backoff().after(before + 1, chance), count: before + 1 }
    }

    /// Forgets the past, after an operator restarted the child or its cool-down is over.
    pub fn forgive(&mut self) {
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            max: 3,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_grows_until_the_intensity_is_used_up() {
        let mut restarts = Restarts::default();
        // (seconds since the last death, what follows)
        let table = [
            (0, Decision::Restart { after: Duration::from_millis(100), count: 1 }),
            (1, Decision::Restart { after: Duration::from_millis(200), count: 2 }),
            (1, Decision::Restart { after: Duration::from_millis(300), count: 3 }),
            (1, Decision::GiveUp { count: 3 }),
            // 57 s later the first death (60 s ago) no longer counts.
            (57, Decision::Restart { after: Duration::from_millis(300), count: 3 }),
            (600, Decision::Restart { after: Duration::from_millis(100), count: 1 }),
        ];
        for (row, (seconds, expected)) in table.into_iter().enumerate() {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(restarts.died(&policy(), Instant::now(), 0.0), expected, "row {row}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_without_restarts_gives_up_at_once() {
        let policy = RestartPolicy { max: 0, ..policy() };
        assert_eq!(Restarts::default().died(&policy, Instant::now(), 0.0), Decision::GiveUp { count: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn forgiveness_starts_the_count_anew() {
        let mut restarts = Restarts::default();
        for _ in 0..4 {
            restarts.died(&policy(), Instant::now(), 0.0);
        }
        restarts.forgive();
        assert!(matches!(restarts.died(&policy(), Instant::now(), 0.0), Decision::Restart { count: 1, .. }));
    }
}
