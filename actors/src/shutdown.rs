//! The end: quiet, drain, stop, in that order and within a deadline.
//!
//! ```text
//! quiet   nobody claims or fires anything new
//! drain   what is in flight is finished; waits for limits and backoffs are cut short     most of the grace
//! stop    what is left is given back to the ledger, children end in reverse order        the rest of it
//! ```
//!
//! Invariants: a phase only ever grows. The whole takes no longer than its grace, whatever hangs. Ending twice, or
//! before anything runs, is harmless; a second call with a shorter grace shortens the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::child::RunningChild;
use crate::events::{Event, Events};

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

/// Longer than anybody waits; an instant beyond what the clock can count would be a panic.
const GRACE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Until when the end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    drain: Instant,
    stop: Instant,
}

impl Deadline {
    pub(crate) fn after(grace: Duration) -> Self {
        let stop = Instant::now() + grace.min(GRACE_MAX);
        // Kept for giving work back and ending threads.
        let kept = (grace / 5).min(Duration::from_secs(3));
        Self { drain: stop - kept, stop }
    }

    /// The earlier of both.
    pub(crate) fn no_later_than(self, other: Deadline) -> Self {
        Self { drain: self.drain.min(other.drain), stop: self.stop.min(other.stop) }
    }
}

/// Waits for `end`, no longer than the deadline says, which may become shorter meanwhile.
async fn in_time(
    end: impl Future<Output = ()>,
    mut deadline: watch::Receiver<Deadline>,
    until: impl Fn(Deadline) -> Instant,
) -> bool {
    let mut end = std::pin::pin!(end);
    loop {
        let at = until(*deadline.borrow_and_update());
        tokio::select! {
            biased;
            () = &mut end => return true,
            () = tokio::time::sleep_until(at) => return false,
            Ok(()) = deadline.changed() => {}
        }
    }
}

pub(crate) async fn sequence(
    children: Vec<(String, Box<dyn RunningChild>)>,
    phases: Phases,
    events: Events,
    deadline: watch::Receiver<Deadline>,
) -> Ending {
    let enter = |phase| {
        phases.enter(phase);
        events.tell(|| Event::Phase { phase });
    };
    let mut ending = Ending::default();
    enter(Phase::Quiet);
    enter(Phase::Drain);
    let drained = children.iter().map(|(name, child)| {
        let drained = in_time(child.drained(), deadline.clone(), |deadline| deadline.drain);
        async move { (!drained.await).then(|| name.clone()) }
    });
    ending.interrupted = futures::future::join_all(drained).await.into_iter().flatten().collect();
    enter(Phase::Stop);
    let mut left = children.len();
    for (name, child) in children.into_iter().rev() {
        left -= 1;
        // One that hangs leaves half of the time that is left to those after it.
        let now = Instant::now();
        let share = |deadline: Deadline| match left {
            0 => deadline.stop,
            _ => now + deadline.stop.saturating_duration_since(now) / 2,
        };
        if !in_time(child.stop(), deadline.clone(), share).await {
            tracing::warn!(child = %name, "did not end within the grace");
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
