//! This node's heartbeat, and whether the silence of others says that they are dead.
//!
//! ```text
//! beat ──▶ a connection of its own ──▶ nodes.heartbeat_at     a pool that is busy does not pass for death
//!   └─ fails ─▶ Outage ─ next beat that comes through ─▶ Until(now + lapse) ─▶ Over
//! ```
//!
//! After an outage each node must have had the time to beat: who came back first would take what all others, and it
//! itself, are at work on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_actors::ledger::LedgerError;
use tokio::time::Instant;

use crate::store::Beat;
use crate::store::postgres::error::OpError;
use crate::store::postgres::nodes;
use crate::store::postgres::session::Session;
use crate::store::postgres::shared::Shared;

#[derive(Debug, Default)]
pub struct Pulse {
    connection: Mutex<Option<Session>>,
    patience: Mutex<Patience>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Patience {
    #[default]
    Over,
    /// This node's own heartbeat did not come through.
    Outage,
    Until(Instant),
}

impl Pulse {
    pub async fn beat(&self, shared: &Shared, name: &str) -> Result<Beat, LedgerError> {
        let lapse = shared.settings.heartbeat_lapse;
        let beat = async {
            let connection = || self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let held = connection().take().filter(|session| !session.client().is_closed());
            // As long as connecting may take anywhere: cut short with each beat, a slow one would never come about.
            let session = match held {
                Some(session) => session,
                None => shared.connect_own().await?,
            };
            // Two more tries must fit in before the others count this node as dead.
            let beat = nodes::beat(&session, name, &shared.settings.process, lapse);
            let beat = tokio::time::timeout(lapse / 3, beat).await.map_err(|_| {
                OpError::Refused(LedgerError::Unavailable(format!("no answer within {:?}", lapse / 3)))
            })??;
            *connection() = Some(session);
            Ok::<_, OpError>(beat)
        };
        let beat = beat.await.map_err(LedgerError::from);
        self.heard(beat.is_ok(), lapse);
        beat
    }

    /// Whether nobody is to be counted as dead yet.
    pub fn is_patient(&self) -> bool {
        match *self.patience.lock().unwrap_or_else(PoisonError::into_inner) {
            Patience::Over => false,
            Patience::Outage => true,
            Patience::Until(end) => Instant::now() < end,
        }
    }

    fn heard(&self, alive: bool, lapse: Duration) {
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        *patience = match (*patience, alive) {
            (_, false) => Patience::Outage,
            (Patience::Outage, true) => Patience::Until(Instant::now() + lapse),
            (patience, true) => patience,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_begins_with_an_outage_and_lasts_a_lapse_after_it() {
        let (pulse, lapse) = (Pulse::default(), Duration::from_secs(15));
        pulse.heard(true, lapse);
        assert!(!pulse.is_patient());
        pulse.heard(false, lapse);
        tokio::time::advance(lapse * 4).await;
        assert!(pulse.is_patient(), "as long as the outage lasts");
        pulse.heard(true, lapse);
        tokio::time::advance(lapse / 2).await;
        pulse.heard(true, lapse);
        assert!(pulse.is_patient(), "the others may be about to beat");
        tokio::time::advance(lapse / 2).await;
        assert!(!pulse.is_patient());
    }
}
