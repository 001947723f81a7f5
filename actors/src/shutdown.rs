//! The phases of the end: quiet, drain, stop. Placeholder for the sequence itself; the words are final.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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
