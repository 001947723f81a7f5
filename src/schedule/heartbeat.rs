//! Heartbeat: says that this node lives, and learns how many do.
//!
//! ```text
//! every node.heartbeat ─▶ Store::heartbeat ─┬─ Alive { nodes } ─▶ who shares a provider's rate is told of a change
//!                                           └─ Replaced        ─▶ said once, loudly: the service ends
//! ```
//!
//! It goes on until Stop, so that jobs which finish in the drain are not taken over meanwhile. A store that cannot be
//! reached is tried again at the next beat; should that last too long, the others take this node's jobs, and whatever
//! it still writes is refused by the fence.
//!
//! What it does not do: give back the jobs of dead nodes (upkeep does), or end the service itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_actors::shutdown::{Phase, Phases};
use longshore_actors::status::{Part, PartState};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::store::{Beat, Store};

/// Told how many nodes live, at the first beat and whenever it changes.
pub type OnNodes = Box<dyn Fn(usize) + Send + Sync>;

pub struct Heartbeat {
    store: Arc<dyn Store>,
    every: Duration,
    on_nodes: OnNodes,
    replaced: CancellationToken,
}

impl Heartbeat {
    pub fn new(store: Arc<dyn Store>, every: Duration, on_nodes: OnNodes) -> Self {
        Self { store, every, on_nodes, replaced: CancellationToken::new() }
    }

    /// Cancelled when another process took this node's name.
    pub fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// Runs until `Stop`. May be called again should it have panicked.
    pub async fn run(&self, phases: Phases, part: Arc<Part>) {
        part.set(PartState::Idle);
        tokio::select! {
            biased;
            () = phases.reached(Phase::Stop) => {}
            () = self.beat(&part) => {}
        }
        part.set(PartState::Stopped);
    }

    async fn beat(&self, part: &Part) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = None;
        let mut failing = false;
        loop {
            ticks.tick().await;
            match self.store.heartbeat().await {
                Ok(Beat::Alive { nodes }) => {
                    failing = false;
                    part.done.fetch_add(1, Ordering::Relaxed);
                    part.set(PartState::Idle);
                    if known.replace(nodes) != Some(nodes) {
                        part.say(format!("{nodes} nodes"));
                        info!(nodes, "nodes that share the ledger");
                        (self.on_nodes)(nodes);
                    }
                }
                Ok(Beat::Replaced) if !self.replaced.is_cancelled() => {
                    part.say("replaced");
                    error!("another process took the name of this node: give each its own node.name; ending");
                    self.replaced.cancel();
                }
                Ok(Beat::Replaced) => {}
                Err(reason) => {
                    part.failed.fetch_add(1, Ordering::Relaxed);
                    part.set(PartState::Waiting);
                    part.say(reason.to_string());
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%reason, "heartbeat; trying on");
                    }
                }
            }
        }
    }
}
