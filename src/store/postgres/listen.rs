//! Hears that there is something to do.
//!
//! ```text
//! other nodes ── NOTIFY ──▶ a connection of its own ─▶ wakes of this process        where a session is kept
//!                           every store.poll ────────▶ wakes of all domains         behind a pooler that keeps none
//! ```
//!
//! A word that is lost costs time and nothing else: coordinators look at the ledger by themselves, only less often.
//! After every new connection everybody looks, since nobody knows what was said meanwhile.

use std::sync::Arc;

use longshore_actors::backoff::{Backoff, chance};

use crate::store::postgres::shared::Shared;
use crate::store::postgres::tell::{CHANNEL, Word};

const AGAIN: Backoff = Backoff::exponential(std::time::Duration::from_millis(200), std::time::Duration::from_secs(15));

/// Until the store closes.
pub async fn run(shared: Arc<Shared>) {
    let hearing = async { if shared.keeps_state() { listen(&shared).await } else { poll(&shared).await } };
    tokio::select! {
        () = shared.closing.cancelled() => {}
        () = hearing => {}
    }
}

async fn poll(shared: &Shared) {
    loop {
        tokio::time::sleep(shared.settings.poll).await;
        shared.wakes.everyone();
    }
}

async fn listen(shared: &Shared) {
    let mut failures = 0;
    loop {
        let ready = || {
            failures = 0;
            shared.wakes.everyone();
        };
        let ended = shared.dial.listen(CHANNEL, ready, |said| hear(shared, said)).await;
        failures += 1;
        // Whoever uses the database tells of its outage; this connection is only for speed.
        tracing::debug!(reason = ended, "other nodes cannot be heard; trying again");
        tokio::time::sleep(AGAIN.after(failures, chance())).await;
    }
}

/// What this process said itself it knows already; what it does not understand is a later program's.
fn hear(shared: &Shared, said: &str) {
    let Some((process, word)) = Word::read(said) else { return };
    if process == &*shared.settings.process {
        return;
    }
    match word {
        Word::Work(domain) => shared.wakes.work(domain),
        Word::Revoked(domain) => shared.wakes.revoked(domain),
        Word::Due => shared.wakes.due().wake(),
    }
}
