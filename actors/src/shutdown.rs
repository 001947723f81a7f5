//! The end: quiet, drain, stop, in that order and within a deadline.
//!
//! ```text
//! quiet   nobody claims or fires anything new
//! drain   what is in flight is finished; waits for limits and backoffs are cut short     most of the grace
//! stop    what is left is given back to the ledger, children end in reverse order        the rest of it
//! ```
//!
//! Invariants: a phase only ever grows. The whole takes no longer than its grace, whatever hangs. Ending twice, or
//! before anything runs, is harmless.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::child::RunningChild;

/// Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Running,
    /// Claims and fires nothing new.
    Quiet,
    /// Finishes what runs; every wait for a limit or a backoff is cut short.
    Drain,
    /// Gives back what is left and ends.
    Stop,
}

/// The service's phase, as every part can read and await it.
#[derive(Clone, Debug)]
pub struct Phases {
    sender: watch::Sender<Phase>,
}

impl Default for Phases {
    fn default() -> Self {
        Self { sender: watch::Sender::new(Phase::Running) }
    }
}

impl Phases {
    pub fn now(&self) -> Phase {
        *self.sender.borrow()
    }

    /// Moves on to `phase`; going back, or to where it is, changes nothing.
    pub fn enter(&self, phase: Phase) {
        self.sender.send_if_modified(|now| {
            let later = phase > *now;
            *now = (*now).max(phase);
            later
        });
    }

    /// Completes once the phase is `phase` or later.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.sender.subscribe().wait_for(|now| *now >= phase).await;
    }
}

/// How the end went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Children that still had work in flight when the drain was over; it was given back.
    pub interrupted: Vec<String>,
    /// Children that had not ended at the deadline and were left behind.
    pub hanging: Vec<String>,
}

/// The part of the grace that is kept for giving work back and ending threads.
fn kept_for_stop(grace: Duration) -> Duration {
    (grace / 5).min(Duration::from_secs(3))
}

pub(crate) async fn sequence(
    children: Vec<(String, Box<dyn RunningChild>)>,
    phases: Phases,
    grace: Duration,
) -> Ending {
    let deadline = Instant::now() + grace;
    let mut ending = Ending::default();
    phases.enter(Phase::Quiet);
    phases.enter(Phase::Drain);
    let drained = children.iter().map(|(name, child)| {
        let (name, drained) = (name.clone(), child.drained());
        async move { timeout_at(deadline - kept_for_stop(grace), drained).await.err().map(|_elapsed| name) }
    });
    ending.interrupted = futures::future::join_all(drained).await.into_iter().flatten().collect();
    phases.enter(Phase::Stop);
    for (name, child) in children.into_iter().rev() {
        if timeout_at(deadline, child.stop()).await.is_err() {
            tracing::warn!(child = name, "did not end within the grace");
            ending.hanging.push(name);
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_only_grows() {
        let phases = Phases::default();
        phases.enter(Phase::Drain);
        phases.enter(Phase::Quiet);
        assert_eq!(phases.now(), Phase::Drain);
        phases.reached(Phase::Quiet).await;
        phases.reached(Phase::Drain).await;
    }
}
