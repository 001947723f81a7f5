//! What a breaker decides: a pure function of the reports and their instants. It knows no clock, lock or listener.

use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{BreakerCounts, BreakerPolicy, BreakerState, Refusal};

#[derive(Debug)]
pub(super) struct Core {
    policy: BreakerPolicy,
    /// `None` is closed; half-open once the instant is reached.
    pub(super) open_until: Option<Instant>,
    pub(super) failures_in_row: u32,
    /// Times it opened without a success in between.
    trips: u32,
    /// Calls that are out while half-open.
    probes: u32,
    /// Grows whenever it opens or closes; a pass of an older one has no say.
    pub(super) generation: u64,
    pub(super) last_failure: Option<String>,
    pub(super) counts: BreakerCounts,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// A place to probe is free again.
    Freed,
    Closed,
    Opened(Duration),
}

impl Core {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            open_until: None,
            failures_in_row: 0,
            trips: 0,
            probes: 0,
            generation: 0,
            last_failure: None,
            counts: BreakerCounts::default(),
        }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// The generation of the pass.
    pub(super) fn try_pass(&mut self, now: Instant) -> Result<u64, Refusal> {
        match self.state(now) {
            BreakerState::Closed => {}
            BreakerState::Open => return Err(self.refuse(now)),
            BreakerState::HalfOpen if self.probes >= self.policy.half_open_max.max(1) => return Err(self.refuse(now)),
            BreakerState::HalfOpen => self.probes += 1,
        }
        self.counts.passed += 1;
        Ok(self.generation)
    }

    pub(super) fn refuse(&mut self, now: Instant) -> Refusal {
        self.counts.refused += 1;
        let retry_in = self.open_until.map(|until| until - now).unwrap_or_default();
        let last = self.last_failure.as_deref().unwrap_or("no reason given");
        let what = if retry_in.is_zero() { "half-open and being probed" } else { "open" };
        Refusal { retry_in, reason: format!("breaker {what} after: {last}") }
    }

    pub(super) fn succeeded(&mut self, generation: u64) -> Change {
        self.counts.succeeded += 1;
        if generation != self.generation {
            return Change::None;
        }
        self.failures_in_row = 0;
        if self.open_until.is_none() {
            return Change::None;
        }
        self.open_until = None;
        self.trips = 0;
        self.turn();
        Change::Closed
    }

    pub(super) fn failed(&mut self, generation: u64, now: Instant, reason: &str) -> Change {
        self.counts.failed += 1;
        self.last_failure = Some(reason.to_owned());
        if generation != self.generation {
            return Change::None;
        }
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        if self.open_until.is_none() && self.failures_in_row < self.policy.failures {
            return Change::None;
        }
        self.trips = self.trips.saturating_add(1);
        let open_for = self.policy.open_for(self.trips);
        self.open_until = Some(now + open_for);
        self.counts.opened += 1;
        self.turn();
        Change::Opened(open_for)
    }

    pub(super) fn dropped(&mut self, generation: u64) -> Change {
        if generation != self.generation || self.open_until.is_none() {
            return Change::None;
        }
        self.probes = self.probes.saturating_sub(1);
        Change::Freed
    }

    fn turn(&mut self) {
        self.generation += 1;
        self.probes = 0;
    }
}
