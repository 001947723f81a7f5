//! How long to wait before the next try: a pure function from the number of tries to a duration.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `jitter` takes up to that fraction off the wait, so that what failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    pub growth: Growth,
    /// The wait before the second try.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
    /// From 0 (none) to 1.
    pub jitter: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Growth {
    Fixed,
    /// Doubles with every try.
    Exponential,
}

impl Backoff {
    pub const fn fixed(base: Duration) -> Self {
        Self { growth: Growth::Fixed, base, cap: base, jitter: 0.0 }
    }

    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self { growth: Growth::Exponential, base, cap, jitter: 0.2 }
    }

    /// The wait after `tries` tries that failed (1 or more); `chance` is from 0 to 1.
    pub fn after(&self, tries: u32, chance: f64) -> Duration {
        let wait = match self.growth {
            Growth::Fixed => self.base,
            Growth::Exponential => {
                let doublings = tries.saturating_sub(1).min(31);
                self.base.saturating_mul(1 << doublings)
            }
        };
        let wait = wait.min(self.cap);
        wait.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
    }
}

/// A number from 0 to 1 that differs from call to call; good enough to spread retries.
pub fn chance() -> f64 {
    // The standard library seeds every `RandomState` anew: a dependency for one number would cost more.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_doubles_up_to_its_cap() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(SECOND, 10 * SECOND) };
        let waits: Vec<u64> = (1..=6).map(|tries| backoff.after(tries, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.after(u32::MAX, 0.0), 10 * SECOND);
    }

    #[test]
    fn fixed_stays_and_jitter_only_shortens() {
        let backoff = Backoff { jitter: 0.5, ..Backoff::fixed(SECOND) };
        assert_eq!(backoff.after(1, 0.0), SECOND);
        assert_eq!(backoff.after(9, 1.0), SECOND / 2);
        assert!((0..100).all(|_| (0.0..1.0).contains(&chance())));
    }
}
