//! Time as an input.
//!
//! Ledger rows hold wall-clock instants in milliseconds; deadlines inside the process use tokio's clock. A [`Clock`]
//! gives the first, and in tests it follows the second, so that a paused tokio clock moves both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Where "now" comes from.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Option<(Timestamp, tokio::time::Instant)>,
}

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self { origin: None }
    }

    /// Starts at `start` and moves with tokio's clock, which a test can pause and advance.
    pub fn following_tokio(start: Timestamp) -> Self {
        Self { origin: Some((start, tokio::time::Instant::now())) }
    }

    pub fn now(&self) -> Timestamp {
        match self.origin {
            Some((start, since)) => start.plus(since.elapsed()),
            None => {
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(0).plus(elapsed)
            }
        }
    }

    /// The instant of tokio's clock at which this clock will read `at`.
    pub fn instant_at(&self, at: Timestamp) -> tokio::time::Instant {
        tokio::time::Instant::now() + at.since(self.now())
    }
}
