//! What every part of the tree is handed: the ledger, the clock, the threads, and where to tell what happens.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::events::{Event, Events};
use crate::ledger::Ledger;
use crate::restart::RestartPolicy;
use crate::shutdown::Phases;
use crate::status::Board;
use crate::threads::Threads;

#[derive(Clone)]
pub struct Runtime {
    pub ledger: Arc<dyn Ledger>,
    pub clock: Clock,
    pub board: Board,
    pub events: Events,
    pub phases: Phases,
    pub threads: Threads,
    /// Names this process in leases, different for every start: host, process id, start time.
    pub process: Arc<str>,
}

impl Runtime {
    /// With a board and events of its own, and a process name made from process id and time.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Clock, threads: Threads) -> Self {
        let process = format!("{}-{}", std::process::id(), clock.now().0).into();
        Self {
            ledger,
            board: Board::new(clock.clone()),
            clock,
            events: Events::new(1024),
            phases: Phases::default(),
            threads,
            process,
        }
    }

    /// The one WARN line of a restart, and its event.
    pub(crate) fn tell_restart(
        &self,
        child: &str,
        reason: &str,
        count: u32,
        policy: &RestartPolicy,
        backoff: Duration,
    ) {
        let RestartPolicy { max, within, .. } = *policy;
        let restarts = format_args!("{count}/{max}");
        // Whole milliseconds: nobody reads the digits that the jitter leaves.
        let backoff = Duration::from_millis(backoff.as_millis() as u64);
        tracing::warn!(child = %child, reason, %restarts, within = ?within, backoff = ?backoff, "restart");
        self.events.tell(|| Event::Restarted {
            child: child.to_owned(),
            reason: reason.to_owned(),
            restarts: count,
            max,
            within,
            backoff,
        });
    }
}
